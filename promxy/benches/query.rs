//! From the answers of groups to the value of a query: planning, merging and evaluating, without the network.

#![allow(
    clippy::unwrap_used,
    reason = "a bench is of no use if its data is wrong"
)]

use std::{sync::Arc, time::Duration};

use divan::{Bencher, black_box};
use promql::{
    parser::{Matcher, ParserOptions, parse},
    storage::BoxFuture,
};
use promxy::{
    config::Groups,
    labels::Labels,
    plan,
    query::{Limits, Params, Queries, Settings, Source},
    series::{Column, Native, Samples, Series},
    servergroup::time_range::Grid,
    upstream::{Answer, Asked, Asker, Asking, Exemplars, Metadata, Part, Upstream, UpstreamError},
};
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// Answers every query with the same series of two groups.
struct Same {
    series: usize,
}

const RANGE: Grid = Grid {
    start: 1_700_000_000_000,
    end: 1_700_003_600_000 - 15_000,
    step: 15_000,
};

fn ready<'a, T: Send + 'a>(data: T) -> BoxFuture<'a, Result<T, UpstreamError>> {
    Box::pin(std::future::ready(Ok(data)))
}

impl Upstream for Same {
    fn query<'a>(
        &'a self,
        text: &'a str,
        grid: Grid,
        _: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Column<Native>>>>> {
        let part = |group: usize| {
            let count = if text.starts_with("sum") || text.starts_with("count") {
                self.series / 10
            } else {
                self.series
            };
            let series = (0..count).map(|number| {
                let labels: Labels = [
                    ("az", group.to_string()),
                    (
                        "instance",
                        format!("10.0.{}.{}:9100", number / 250, number % 250),
                    ),
                    ("job", "node".to_owned()),
                ]
                .into_iter()
                .collect();
                let mut data = Column::empty(grid.len());
                for step in 0..grid.len() {
                    data.set(step, (number * step) as f64);
                }
                Series { labels, data }
            });
            let series = series.collect();
            Part { group, series }
        };
        ready(Answer {
            data: (0..2).map(part).collect(),
            ..Answer::default()
        })
    }

    fn raw<'a>(
        &'a self,
        _: &'a [Matcher],
        _: i64,
        _: i64,
        _: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Samples<Native>>>>> {
        ready(Answer::default())
    }

    fn series<'a>(&'a self, _: &'a Asked, _: &'a Asker) -> Asking<'a, Answer<Vec<Labels>>> {
        ready(Answer::default())
    }

    fn label_names<'a>(&'a self, _: &'a Asked, _: &'a Asker) -> Asking<'a, Answer<Vec<String>>> {
        ready(Answer::default())
    }

    fn label_values<'a>(
        &'a self,
        _: &'a str,
        _: &'a Asked,
        _: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>> {
        ready(Answer::default())
    }

    fn metadata<'a>(
        &'a self,
        _: &'a str,
        _: Option<u64>,
        _: &'a Asker,
    ) -> Asking<'a, Vec<(String, Vec<Metadata>)>> {
        ready(Vec::new())
    }

    fn exemplars<'a>(&'a self, _: &'a Asked, _: &'a Asker) -> Asking<'a, Vec<Exemplars>> {
        ready(Vec::new())
    }

    fn is_histogram(&self, _: &str) -> bool {
        false
    }

    fn lossy_groups(&self, _: &[&[Matcher]]) -> Vec<usize> {
        Vec::new()
    }
}

/// Panels of dashboards.
const PANELS: [&str; 6] = [
    "up",
    "rate(node_network_receive_bytes_total[5m])",
    "sum by (job) (rate(http_requests_total[5m]))",
    "100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m])))",
    "node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.1",
    "histogram_quantile(0.99, sum by (le, job) (rate(request_duration_seconds_bucket[5m])))",
];

fn queries(series: usize) -> Queries {
    let limits = Limits {
        timeout: Duration::from_secs(120),
        max_samples: 50_000_000,
        max_bytes: u64::MAX,
        max_concurrency: None,
    };
    let settings = Settings {
        parser: ParserOptions::v3_5(),
        lookback: Duration::from_secs(300),
        limits,
    };
    let source = Source {
        upstream: Arc::new(Same { series }),
        groups: Groups::Overlapping,
        default_step: Duration::from_secs(60),
    };
    Queries::new(settings, source)
}

/// One time, ten series of each group.
#[divan::bench(args = PANELS)]
fn instant(bencher: Bencher<'_, '_>, panel: &str) {
    let (queries, runtime) = (queries(10), Runtime::new().unwrap());
    let params = Params::default();
    bencher.bench(|| {
        runtime
            .block_on(queries.instant(black_box(panel), RANGE.start, &params))
            .unwrap()
    });
}

/// 240 times, 500 series of each group; making the answers is part of what is measured.
#[divan::bench(args = PANELS)]
fn range(bencher: Bencher<'_, '_>, panel: &str) {
    let (queries, runtime) = (queries(500), Runtime::new().unwrap());
    let params = Params::default();
    let Grid { start, end, step } = RANGE;
    bencher.bench(|| {
        runtime
            .block_on(queries.range(black_box(panel), start, end, step, &params))
            .unwrap()
    });
}

/// The plan alone.
#[divan::bench(args = PANELS)]
fn planning(bencher: Bencher<'_, '_>, panel: &str) {
    let expr = parse(panel, &ParserOptions::v3_5()).unwrap();
    let settings = plan::Settings {
        default_step_ms: 60_000,
        groups: Groups::Overlapping,
        loses_labels: false,
        is_histogram: &|_| false,
    };
    bencher.bench_local(|| plan::plan(black_box(&expr), RANGE, settings));
}
