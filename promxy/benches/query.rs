//! From the answers of groups to the value of a query: planning, merging and evaluating, without the network.

#![allow(
    clippy::unwrap_used,
    reason = "a bench is of no use if its data is wrong"
)]

use std::{sync::Arc, time::Duration};

use divan::{Bencher, black_box, counter::ItemsCount};
use parking_lot::Mutex;
use promql::{
    parser::{Matcher, ParserOptions, parse},
    storage::BoxFuture,
    value::Value,
};
use promxy::{
    config,
    labels::Labels,
    plan,
    query::{Limits, Params, Queries, Settings, Source},
    series::{Column, Native, Samples, Series},
    servergroup::{decode::Annotations, time_range::Grid},
    upstream::{Answer, Asked, Asker, Asking, Exemplars, Metadata, Part, Upstream, UpstreamError},
};
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// What groups have answered to a query at the times of a grid.
type Known = Vec<(String, Grid, Vec<Part<Column<Native>>>)>;

/// Two groups with series of so many instances each. What they answer is made once.
struct Groups {
    instances: usize,
    known: Mutex<Known>,
}

/// The buckets of classic histograms.
const BOUNDS: [&str; 6] = ["0.01", "0.1", "0.5", "1", "5", "+Inf"];
const JOBS: usize = 5;

const RANGE: Grid = Grid {
    start: 1_700_000_000_000,
    end: 1_700_003_600_000 - 15_000,
    step: 15_000,
};

fn ready<'a, T: Send + 'a>(data: T) -> BoxFuture<'a, Result<T, UpstreamError>> {
    Box::pin(std::future::ready(Ok(data)))
}

impl Groups {
    fn new(instances: usize) -> Self {
        let known = Mutex::default();
        Self { instances, known }
    }

    /// The answer to a query, whose text says by which labels it aggregates, if it does.
    fn answer(&self, text: &str, grid: Grid) -> Vec<Part<Column<Native>>> {
        let mut known = self.known.lock();
        let found = known.iter().find(|one| one.0 == text && one.1 == grid);
        if let Some((.., parts)) = found {
            return parts.clone();
        }
        let group = |group: usize| Part {
            group,
            series: self.series(text, group, grid),
        };
        let parts: Vec<_> = (0..2).map(group).collect();
        known.push((text.to_owned(), grid, parts.clone()));
        parts
    }

    fn series(&self, text: &str, group: usize, grid: Grid) -> Vec<Series<Column<Native>>> {
        let by = text
            .split_once(" by (")
            .and_then(|(_, rest)| rest.split_once(')'));
        let by = by.map_or("instance, job", |(names, _)| names);
        let has = |name: &str| by.split(", ").any(|other| other == name);
        let instances = if has("instance") { self.instances } else { 1 };
        let jobs = if has("job") && !has("instance") {
            JOBS
        } else {
            1
        };
        let bounds = if has("le") { BOUNDS.len() } else { 1 };
        let numbers = 0..instances * jobs * bounds;
        let series = numbers.map(|number| {
            let (place, bound) = (number / bounds, number % bounds);
            let mut labels = vec![("az", group.to_string())];
            if has("instance") {
                let instance = format!("10.0.{}.{}:9100", place / 250, place % 250);
                labels.push(("instance", instance));
            }
            if has("job") {
                labels.push(("job", format!("job-{}", place % JOBS)));
            }
            if has("le") {
                labels.push(("le", BOUNDS[bound].to_owned()));
            }
            // A tenth of the file systems are nearly full.
            let is_full = text.contains("avail") && place % 10 == 0;
            let share = if is_full { 0.05 } else { 0.5 };
            let mut data = Column::empty(grid.len());
            for step in 0..grid.len() {
                // Upper buckets have more.
                let value = ((step + place) % 97 + 1) * (bound + 1);
                data.set(step, value as f64 * share);
            }
            let labels: Labels = labels.into_iter().collect();
            Series { labels, data }
        });
        series.collect()
    }

    /// How many numbers were in all answers.
    fn numbers(&self) -> usize {
        let known = self.known.lock();
        let parts = known.iter().flat_map(|(.., parts)| parts);
        let series = parts.flat_map(|part| &part.series);
        series.map(|series| series.data.count()).sum()
    }
}

impl Upstream for Groups {
    fn query<'a>(
        &'a self,
        text: &'a str,
        grid: Grid,
        _: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Column<Native>>>>> {
        ready(Answer {
            data: self.answer(text, grid),
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

fn queries(upstream: Arc<Groups>) -> Queries {
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
        upstream,
        groups: config::Groups::Overlapping,
        default_step: Duration::from_secs(60),
    };
    Queries::new(settings, source)
}

/// Evaluates a panel over groups of so many instances, and counts the numbers that they answer with.
fn evaluate(bencher: Bencher<'_, '_>, panel: &str, instances: usize, grid: Grid) {
    let groups = Arc::new(Groups::new(instances));
    let (queries, runtime) = (queries(Arc::clone(&groups)), Runtime::new().unwrap());
    let params = Params::default();
    let ask = || {
        runtime.block_on(async {
            let panel = black_box(panel);
            let Grid { start, end, step } = grid;
            let outcome = if grid.is_instant() {
                queries.instant(panel, start, &params).await
            } else {
                queries.range(panel, start, end, step, &params).await
            };
            outcome.unwrap()
        })
    };
    let first = ask();
    assert_eq!(first.annotations, Annotations::default(), "{panel}");
    let is_empty = match &first.value {
        Value::Vector(elements) => elements.is_empty(),
        Value::Matrix(series) => series.is_empty(),
        _ => false,
    };
    assert!(!is_empty, "{panel}");
    bencher
        .counter(ItemsCount::new(groups.numbers()))
        .bench_local(ask);
}

/// One time, ten instances of each group.
#[divan::bench(args = PANELS)]
fn instant(bencher: Bencher<'_, '_>, panel: &str) {
    evaluate(bencher, panel, 10, Grid::instant(RANGE.start));
}

/// 240 times, 500 instances of each group; copying the answers is part of what is measured.
#[divan::bench(args = PANELS)]
fn range(bencher: Bencher<'_, '_>, panel: &str) {
    evaluate(bencher, panel, 500, RANGE);
}

/// The plan alone.
#[divan::bench(args = PANELS)]
fn planning(bencher: Bencher<'_, '_>, panel: &str) {
    let expr = parse(panel, &ParserOptions::v3_5()).unwrap();
    let settings = plan::Settings {
        default_step_ms: 60_000,
        groups: config::Groups::Overlapping,
        loses_labels: false,
        is_histogram: &|_| false,
    };
    bencher.bench_local(|| plan::plan(black_box(&expr), RANGE, settings));
}
