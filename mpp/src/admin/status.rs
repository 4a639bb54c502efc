//! The status page, and the same as JSON.
//!
//! One page without anything from elsewhere: it has to work in a closed network, on a phone, and when everything else is down.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use askama::Template;
use serde::Serialize;
use shared::config::duration::format_nanos;

use super::metrics::Metrics;
use crate::{backend::Failure, flags::version, select::strategy::Candidate};

/// What does not change while the process lives.
#[derive(Debug, Clone)]
pub struct Status {
    pub(crate) started: Instant,
    pub(crate) strategy: String,
    pub(crate) interval: Duration,
    pub(crate) affinity: String,
}

/// What both pages show.
#[derive(Debug, Template, Serialize)]
#[template(path = "status.html")]
struct View {
    runtime: Runtime,
    build: Build,
    selection: SelectionView,
    backends: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Runtime {
    uptime: String,
    strategy: String,
    comparison: String,
    interval: String,
    affinity: String,
}

#[derive(Debug, Serialize)]
struct Build {
    version: &'static str,
    go_version: &'static str,
}

#[derive(Debug, Serialize)]
struct SelectionView {
    rounds: u64,
    age_seconds: Option<f64>,
    ended_unix: Option<u64>,
    selected: usize,
    /// Whether the last round found nobody, so that an earlier selection is in force.
    stale: bool,
    in_force: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    address: String,
    selected: bool,
    state: &'static str,
    reason: String,
    uptime: Option<String>,
    version: Option<String>,
    value: String,
    samples: Option<f64>,
    history_seconds: Option<f64>,
    history: Option<String>,
    in_flight: usize,
    requests: u64,
    errors: u64,
    retries: u64,
    ejections: u64,
    latency_seconds: Latency,
    latency: String,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
}

impl Status {
    /// Returns the page.
    pub(super) fn html(&self, metrics: &Metrics) -> String {
        self.view(metrics)
            .render()
            .unwrap_or_else(|reason| format!("cannot render the page: {reason}"))
    }

    /// Returns the JSON.
    pub(super) fn json(&self, metrics: &Metrics) -> String {
        serde_json::to_string_pretty(&self.view(metrics))
            .unwrap_or_else(|reason| format!("{{\"error\":{:?}}}", reason.to_string()))
    }

    fn view(&self, metrics: &Metrics) -> View {
        let selection = metrics.selector.current();
        let nanos =
            |time: Duration| format_nanos(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
        View {
            runtime: Runtime {
                uptime: nanos(self.started.elapsed()),
                strategy: self.strategy.clone(),
                comparison: selection.comparison.clone(),
                interval: nanos(self.interval),
                affinity: self.affinity.clone(),
            },
            build: Build {
                version: version(),
                go_version: "none: Rust",
            },
            selection: SelectionView {
                rounds: selection.rounds,
                age_seconds: selection
                    .ended
                    .map(|(ended, _)| (ended.elapsed().as_secs_f64() * 10.0).round() / 10.0),
                ended_unix: selection.ended.and_then(|(_, ended)| unix(ended)),
                selected: selection.selected,
                stale: selection.selected == 0 && !selection.targets.is_empty(),
                in_force: selection
                    .targets
                    .iter()
                    .map(|target| target.endpoint.address().to_owned())
                    .collect(),
            },
            backends: selection.candidates.iter().map(row).collect(),
        }
    }
}

fn row(candidate: &Candidate) -> Row {
    let backend = &candidate.backend;
    let traffic = &backend.traffic;
    let (state, reason) = match backend.ejected_because() {
        Some(why) => (
            "ejected",
            format!("ejected: {}; {}", in_words(why), candidate.reason),
        ),
        None if candidate.selected => ("selected", candidate.reason.clone()),
        None if candidate.viable => ("standby", candidate.reason.clone()),
        None => ("down", candidate.reason.clone()),
    };
    let quantile = |quantile: f64| traffic.quantile(quantile);
    let latency_seconds = Latency {
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
    };
    Row {
        address: backend.endpoint.address().to_owned(),
        selected: candidate.selected,
        state,
        reason,
        // As the original shows it: whole seconds, and nothing for none.
        uptime: candidate
            .uptime
            .filter(|seconds| *seconds != 0)
            .map(|seconds| format_nanos(seconds.saturating_mul(1_000_000_000))),
        version: candidate.version.clone(),
        value: candidate.value.clone(),
        samples: candidate.samples,
        history_seconds: candidate.history,
        history: candidate.history.map(in_days),
        in_flight: traffic.in_flight.load(Relaxed),
        requests: traffic.attempts.load(Relaxed),
        errors: traffic.failed(),
        retries: traffic.retried(),
        ejections: backend.ejections(),
        latency: match (
            latency_seconds.p50,
            latency_seconds.p90,
            latency_seconds.p99,
        ) {
            (Some(p50), Some(p90), Some(p99)) => {
                format!("{} / {} / {}", millis(p50), millis(p90), millis(p99))
            }
            _ => String::new(),
        },
        latency_seconds,
    }
}

fn in_words(why: Failure) -> &'static str {
    match why {
        Failure::Connect => "no connection",
        Failure::Reset => "it resets connections",
        Failure::Hang => "it hangs",
        Failure::NotHttp => "it does not speak HTTP",
        Failure::BadGateway => "it answers 502",
        Failure::NotReady => "it is not ready",
        Failure::GatewayTimeout => "it answers 504",
        Failure::Cut => "its answers break off",
    }
}

fn unix(time: SystemTime) -> Option<u64> {
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

fn millis(seconds: f64) -> String {
    let millis = seconds * 1000.0;
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else if millis < 10_000.0 {
        format!("{millis:.0} ms")
    } else {
        format!("{seconds:.0} s")
    }
}

fn in_days(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_to_read() {
        assert_eq!(millis(0.0004), "0.4 ms");
        assert_eq!(millis(0.25), "250 ms");
        assert_eq!(millis(30.0), "30 s");
        assert_eq!(in_days(90.0), "90 s");
        assert_eq!(in_days(5400.0), "90 min");
        assert_eq!(in_days(864_000.0), "10.0 d");
    }
}
