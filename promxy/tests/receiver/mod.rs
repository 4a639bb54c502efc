//! A real Prometheus server that holds what is written to it remotely.

use std::{fs, path::Path, process::Command};

use promql::histogram::{CounterResetHint, FloatHistogram, Span};
use promxy::remote::{
    encode,
    messages::{BucketSpan, Histogram, TimeSeries, WriteRequest},
};
use shared::testing::{process::Program, wire::free_tcp_port};
use tempfile::TempDir;

use crate::support::{LONG, bytes_of, client::request_within, eventually_long};

/// A server with its data in a folder of its own. Killed when dropped.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    _folder: TempDir,
    _program: Program,
}

impl Receiver {
    #[track_caller]
    pub(crate) fn start(binary: &Path, config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let port = free_tcp_port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let program = Program::spawn(
            Command::new(binary)
                .arg(format!("--config.file={}", path("prometheus.yml")))
                .arg(format!("--storage.tsdb.path={}", path("data")))
                .arg("--storage.tsdb.retention.time=100y")
                .arg("--web.enable-remote-write-receiver")
                .arg("--enable-feature=native-histograms")
                .arg(format!("--web.listen-address=127.0.0.1:{port}")),
        );
        eventually_long("a ready Prometheus", || {
            let ready = request_within(port, &bytes_of("GET", "/-/ready", &[], b""), LONG);
            ready.filter(|ready| ready.status == 200)
        });
        Self {
            port,
            _folder: folder,
            _program: program,
        }
    }

    #[track_caller]
    pub(crate) fn write(&self, timeseries: Vec<TimeSeries>) {
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        let body = encode(&WriteRequest { timeseries });
        let bytes = bytes_of("POST", "/api/v1/write", &headers, &body);
        let answer = request_within(self.port, &bytes, LONG).unwrap();
        assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
    }
}

/// What the counts of a histogram are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    Integers,
    #[allow(dead_code, reason = "not every test writes such")]
    Floats,
}

/// Writes a histogram as a message.
pub(crate) fn message(histogram: &FloatHistogram, timestamp: i64, counts: Counts) -> Histogram {
    let parts = histogram.to_parts();
    let deltas = |counts: &[f64]| {
        let mut before = 0;
        let deltas = counts.iter().map(|count| {
            let delta = *count as i64 - before;
            before = *count as i64;
            delta
        });
        deltas.collect()
    };
    let spans = |spans: &[Span]| {
        let spans = spans.iter().map(|span| BucketSpan {
            offset: span.offset,
            length: span.length,
        });
        spans.collect()
    };
    let common = Histogram {
        sum: parts.sum,
        schema: parts.schema,
        zero_threshold: parts.zero_threshold,
        positive_spans: spans(&parts.positive_spans),
        negative_spans: spans(&parts.negative_spans),
        custom_values: parts.custom_values,
        reset_hint: match parts.hint {
            CounterResetHint::Gauge => 3,
            _ => 0,
        },
        timestamp,
        ..Histogram::default()
    };
    if counts == Counts::Integers {
        Histogram {
            count_int: Some(parts.count as u64),
            zero_count_int: Some(parts.zero_count as u64),
            positive_deltas: deltas(&parts.positive_counts),
            negative_deltas: deltas(&parts.negative_counts),
            ..common
        }
    } else {
        Histogram {
            count_float: Some(parts.count),
            zero_count_float: Some(parts.zero_count),
            positive_counts: parts.positive_counts,
            negative_counts: parts.negative_counts,
            ..common
        }
    }
}
