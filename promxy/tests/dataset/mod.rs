//! Series of regions, each of which a server group holds: counters, gauges, a classic histogram, as OpenMetrics text.

#![allow(dead_code, reason = "each test uses its part")]

use std::fmt::Write as _;

use jiff::Timestamp;

/// When there are samples.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// Seconds since 1970.
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) step: i64,
}

impl Times {
    /// Returns times around now, in whole steps.
    pub(crate) fn around_now(before: i64, after: i64, step: i64) -> Self {
        let now = Timestamp::now().as_second() / step * step;
        Self {
            first: now - before,
            last: now + after,
            step,
        }
    }
}

/// Writes the series of regions as OpenMetrics text. `label` says whether the region is a label of theirs.
pub(crate) fn series(regions: &[&str], times: Times, label: RegionLabel) -> String {
    let mut out = String::new();
    let families: [(&str, &str); 3] = [
        ("http_requests", "counter"),
        ("temperature_celsius", "gauge"),
        ("request_seconds", "histogram"),
    ];
    for (family, kind) in families {
        writeln!(out, "# TYPE {family} {kind}").unwrap();
        for region in regions {
            let dc = match label {
                RegionLabel::Written => format!(",dc=\"{region}\""),
                RegionLabel::LeftToPromxy => String::new(),
            };
            family_of(&mut out, family, region, &dc, times);
        }
    }
    out.push_str("# EOF\n");
    out
}

/// Whether series have the label that promxy adds to the series of a group.
#[derive(Clone, Copy)]
pub(crate) enum RegionLabel {
    /// They have.
    Written,
    /// promxy adds it.
    LeftToPromxy,
}

fn family_of(out: &mut String, family: &str, region: &str, dc: &str, times: Times) {
    let Times { first, last, step } = times;
    let seed = region.bytes().map(i64::from).sum::<i64>();
    for instance in 0..3 {
        let host = format!("instance=\"{region}{instance}:80\"{dc}");
        let weight = seed % 7 + instance + 1;
        for time in (first..=last).step_by(step as usize) {
            let age = (time - first) / step;
            match family {
                "http_requests" => {
                    for (code, share) in [("200", 3), ("500", 1)] {
                        let value = age * weight * share;
                        writeln!(out, "http_requests_total{{job=\"api\",code=\"{code}\",{host}}} {value} {time}").unwrap();
                    }
                }
                "temperature_celsius" => {
                    let value = (age % 17 * weight) as f64 / 8.0 - 3.5;
                    writeln!(
                        out,
                        "temperature_celsius{{job=\"room\",{host}}} {value} {time}"
                    )
                    .unwrap();
                }
                _ => {
                    for (place, bound) in ["0.1", "1.0", "10.0", "+Inf"].iter().enumerate() {
                        let value = age * (place as i64 + weight);
                        writeln!(out, "request_seconds_bucket{{job=\"api\",le=\"{bound}\",{host}}} {value} {time}").unwrap();
                    }
                    let count = age * (3 + weight);
                    writeln!(
                        out,
                        "request_seconds_count{{job=\"api\",{host}}} {count} {time}"
                    )
                    .unwrap();
                    writeln!(
                        out,
                        "request_seconds_sum{{job=\"api\",{host}}} {count}.25 {time}"
                    )
                    .unwrap();
                }
            }
        }
    }
}
