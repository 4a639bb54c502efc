//! Reads the few samples that matter out of a metrics page, chunk by chunk: pages of big servers have megabytes.

/// The longest line that is looked at; what is longer is none of ours.
const LONGEST_LINE: usize = 16 << 10;

/// When the process started.
pub const START_TIME: &str = "process_start_time_seconds";
/// Samples ingested, of Prometheus 1.x.
pub const INGESTED: &str = "prometheus_local_storage_ingested_samples_total";
/// Samples ingested, of Prometheus 2.x and 3.x; one series per type of sample.
pub const APPENDED: &str = "prometheus_tsdb_head_samples_appended_total";
/// Samples ingested out of order, counted apart.
pub const APPENDED_OUT_OF_ORDER: &str = "prometheus_tsdb_head_out_of_order_samples_appended_total";
/// The build.
pub const BUILD_INFO: &str = "prometheus_build_info";
/// The time of the oldest sample.
pub const LOWEST_TIMESTAMP: &str = "prometheus_tsdb_lowest_timestamp_seconds";

/// What a metrics page says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// When the process started, in seconds.
    pub start_time: Option<f64>,
    /// Samples ingested since then.
    pub samples: Samples,
    /// The sample of the build, as printed but for its value.
    pub build_info: Option<String>,
    /// The version in it.
    pub version: Option<String>,
    /// The time of the oldest sample, in seconds.
    pub lowest_timestamp: Option<f64>,
}

/// How many samples a server has ingested.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Samples {
    /// It has no such metric.
    #[default]
    Unknown,
    /// So many, by the metric of this name.
    Counted(&'static str, f64),
    /// The metric's value is not a count.
    Invalid(String),
}

/// A scan over a page that comes in chunks.
#[derive(Debug, Default)]
pub struct Scanner {
    page: Page,
    appended: Option<f64>,
    rest: Vec<u8>,
    skipping: bool,
}

impl Scanner {
    /// Takes the next bytes.
    pub fn feed(&mut self, mut chunk: &[u8]) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (line, after) = chunk.split_at(end);
            chunk = &after[1..];
            if self.skipping {
                self.skipping = false;
            } else if self.rest.is_empty() {
                self.line(line);
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.line(&whole);
                whole.clear();
                self.rest = whole;
            }
        }
        if self.skipping {
            return;
        }
        if self.rest.len() + chunk.len() > LONGEST_LINE {
            self.rest.clear();
            self.skipping = true;
        } else {
            self.rest.extend_from_slice(chunk);
        }
    }

    /// Returns what was found.
    pub fn finish(mut self) -> Page {
        let last = std::mem::take(&mut self.rest);
        if !self.skipping {
            self.line(&last);
        }
        if self.page.samples == Samples::Unknown
            && let Some(count) = self.appended
        {
            self.page.samples = Samples::Counted(APPENDED, count);
        }
        self.page
    }

    fn line(&mut self, line: &[u8]) {
        // Cheap for the thousands of lines that are none of ours.
        if !(line.starts_with(b"pro")) {
            return;
        }
        let Ok(line) = str::from_utf8(line) else {
            return;
        };
        let Some(sample) = Sample::parse(line) else {
            return;
        };
        match sample.name {
            START_TIME if self.page.start_time.is_none() => {
                self.page.start_time = sample.finite();
            }
            INGESTED if self.page.samples == Samples::Unknown => {
                self.page.samples = sample.finite().map_or_else(
                    || Samples::Invalid(format!("{INGESTED} {}", sample.value)),
                    |count| Samples::Counted(INGESTED, count),
                );
            }
            APPENDED | APPENDED_OUT_OF_ORDER => {
                if let Some(count) = sample.finite() {
                    *self.appended.get_or_insert(0.0) += count;
                }
            }
            BUILD_INFO if self.page.build_info.is_none() => {
                self.page.version = sample.label("version");
                self.page.build_info = Some(format!("{}{}", sample.name, sample.labels));
            }
            LOWEST_TIMESTAMP if self.page.lowest_timestamp.is_none() => {
                self.page.lowest_timestamp = sample.finite();
            }
            _ => {}
        }
    }
}

struct Sample<'a> {
    name: &'a str,
    /// With its braces; empty if there are none.
    labels: &'a str,
    value: &'a str,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let name_end = line.find(['{', ' ', '\t'])?;
        let (name, rest) = line.split_at_checked(name_end)?;
        let labels_end = if rest.starts_with('{') {
            closing_brace(rest)? + 1
        } else {
            0
        };
        let (labels, rest) = rest.split_at_checked(labels_end)?;
        let value = rest.split_ascii_whitespace().next()?;
        Some(Self {
            name,
            labels,
            value,
        })
    }

    fn finite(&self) -> Option<f64> {
        self.value
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
    }

    fn label(&self, name: &str) -> Option<String> {
        let start = format!("{name}=\"");
        let at = ["{", ","]
            .iter()
            .find_map(|before| Some(self.labels.find(&format!("{before}{start}"))? + 1))?;
        let value = self.labels.get(at + start.len()..)?;
        value.get(..closing_quote(value)?).map(str::to_owned)
    }
}

/// Where the brace that opens `text` is closed, quotes respected.
fn closing_brace(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Page {
        let mut scanner = Scanner::default();
        scanner.feed(text.as_bytes());
        scanner.finish()
    }

    #[test]
    fn both_generations_of_the_counter_are_read() {
        let f = |text: &str, expected: Samples| assert_eq!(scan(text).samples, expected, "{text}");
        f(
            "prometheus_local_storage_ingested_samples_total 3000\n",
            Samples::Counted(INGESTED, 3000.0),
        );
        f(
            "prometheus_local_storage_ingested_samples_total\t1.5e+03 1700000000",
            Samples::Counted(INGESTED, 1500.0),
        );
        f(
            "prometheus_local_storage_ingested_samples_total{a=\"b c\"} 4\n",
            Samples::Counted(INGESTED, 4.0),
        );
        f(
            "prometheus_local_storage_ingested_samples_total NaN\n",
            Samples::Invalid(format!("{INGESTED} NaN")),
        );
        f(
            "prometheus_local_storage_ingested_samples_total_more 3\n",
            Samples::Unknown,
        );
        f(
            "prometheus_tsdb_head_samples_appended_total{type=\"float\"} 498\nprometheus_tsdb_head_samples_appended_total{type=\"histogram\"} 2\nprometheus_tsdb_head_out_of_order_samples_appended_total 5\n",
            Samples::Counted(APPENDED, 505.0),
        );
        f(
            "# HELP prometheus_tsdb_head_samples_appended_total 5\n",
            Samples::Unknown,
        );
    }

    #[test]
    fn the_version_is_found_among_the_labels() {
        let page = scan(
            "prometheus_build_info{branch=\"x y\",goversion=\"go1\",version=\"2.42.0+ds\"} 1\n",
        );
        assert_eq!(page.version.as_deref(), Some("2.42.0+ds"));
        assert_eq!(
            page.build_info.as_deref(),
            Some("prometheus_build_info{branch=\"x y\",goversion=\"go1\",version=\"2.42.0+ds\"}")
        );
    }

    #[test]
    fn chunks_may_end_anywhere_and_endless_lines_cost_nothing() {
        let text = format!(
            "{}\nprocess_start_time_seconds 1.5e9\n",
            "x".repeat(3 * LONGEST_LINE)
        );
        let mut scanner = Scanner::default();
        for chunk in text.as_bytes().chunks(7) {
            scanner.feed(chunk);
            assert!(scanner.rest.len() <= LONGEST_LINE);
        }
        assert_eq!(scanner.finish().start_time, Some(1.5e9));
    }
}
