//! Server groups in memory: each replica has a storage and answers queries with the engine, as a Prometheus server would.

#![allow(dead_code, reason = "not every test uses all of it")]

pub(crate) mod comparison;
pub(crate) mod oracle;
pub(crate) mod watched;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use promql::{
    CancelToken, Engine, EngineOptions,
    labels::LabelMatcher,
    parser::{Matcher, ParserOptions},
    storage::SeriesData,
    testing::{MemoryStorage, block_on},
    value::{SampleValue, Value},
};
use promxy::{
    config::Groups,
    labels::{
        self, Labels, LabelsBuilder,
        metric_relabel::{self, MetricRule},
    },
    merge::{self, Options},
    plan::{TargetRules, for_target},
    query::{Limits, Outcome, Params, Queries, QueryFailure, Settings, Source},
    series::{Column, Native, Samples, Series},
    servergroup::{decode::Annotations, time_range::Grid},
    upstream::{
        Answer, Asked, Asker, Asking, Exemplars, FailureKind, Metadata, Part, Upstream,
        UpstreamError,
    },
};
use tokio::runtime::Runtime;

use comparison::prepared;

/// A group: replicas and the labels that their series get.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) labels: Labels,
    pub(crate) replicas: Vec<MemoryStorage>,
}

/// All groups.
pub(crate) struct Servers {
    pub(crate) groups: Vec<Group>,
    /// What becomes of the labels of each group's series, where something does.
    pub(crate) relabel: Vec<Vec<MetricRule>>,
    pub(crate) engine: Engine,
}

/// How replicas are merged unless something else is configured.
const REPLICAS: Options = Options {
    buffer_ms: 10_000,
    ..Options::GROUPS
};

impl Servers {
    pub(crate) fn new(groups: Vec<Group>, parser: ParserOptions) -> Self {
        let engine = Engine::new(EngineOptions::new(parser));
        let relabel = vec![Vec::new(); groups.len()];
        Self {
            groups,
            relabel,
            engine,
        }
    }

    fn rules(&self, number: usize) -> TargetRules<'_> {
        TargetRules {
            added: &self.groups[number].labels,
            metrics_relabel: &self.relabel[number],
            injected: &[],
            filter: None,
        }
    }

    /// Gives series the labels that they have behind the proxy.
    fn relabelled<D>(&self, series: Vec<Series<D>>, number: usize) -> Vec<Series<D>> {
        let added = &self.groups[number].labels;
        let series = series.into_iter().map(|series| Series {
            labels: forwarded(&labels::with(&series.labels, added), &self.relabel[number]),
            data: series.data,
        });
        series.collect()
    }

    fn evaluate(
        &self,
        storage: &MemoryStorage,
        text: &str,
        grid: Grid,
        asker: &Asker,
    ) -> Result<Answer<Vec<Series<Column<Native>>>>, UpstreamError> {
        let query = prepared(&self.engine, text, grid);
        let outcome = query.and_then(|query| {
            let query = match asker.lookback_ms {
                Some(lookback) => query.with_lookback(lookback),
                None => query,
            };
            let outcome = block_on(query.run(storage, &CancelToken::default()));
            Ok((outcome.value?, outcome.annotations))
        });
        let (value, said) = outcome.map_err(|error| UpstreamError {
            kind: FailureKind::Execution,
            message: format!("{}: {error}", error.http().1),
        })?;
        let mut annotations = Annotations::default();
        annotations.add_warnings(said.warnings(text));
        annotations.add_infos(said.infos(text));
        Ok(Answer {
            data: columns(value, grid),
            annotations,
        })
    }

    fn query(
        &self,
        text: &str,
        grid: Grid,
        asker: &Asker,
    ) -> Result<Answer<Vec<Part<Column<Native>>>>, UpstreamError> {
        let mut answer = Answer::<Vec<Part<Column<Native>>>>::default();
        for (number, group) in self.groups.iter().enumerate() {
            let mut members = Vec::new();
            if let Some(text) = for_target(text, self.rules(number)) {
                for replica in &group.replicas {
                    let answered = self.evaluate(replica, &text, grid, asker)?;
                    answer.annotations.merge(answered.annotations);
                    members.push(self.relabelled(answered.data, number));
                }
            }
            answer.data.push(Part {
                group: number,
                series: merge::sets(members, REPLICAS, &grid),
            });
        }
        Ok(answer)
    }

    fn raw(&self, matchers: &[Matcher], start: i64, end: i64) -> Vec<Part<Samples<Native>>> {
        let part = |(number, group): (usize, &Group)| {
            let mut members = Vec::new();
            if let Some(left) = self.rules(number).list(matchers) {
                let left: Vec<LabelMatcher> = left
                    .iter()
                    .map(|matcher| LabelMatcher::new(matcher).unwrap())
                    .collect();
                for replica in &group.replicas {
                    let found = replica
                        .series()
                        .iter()
                        .filter(|series| left.iter().all(|m| m.matches_labels(&series.labels)));
                    let series = found.map(|series| samples(series, start, end));
                    let with_samples = series
                        .filter(|s| !s.data.floats.is_empty() || !s.data.histograms.is_empty());
                    members.push(self.relabelled(with_samples.collect(), number));
                }
            }
            Part {
                group: number,
                series: merge::sets(members, REPLICAS, &()),
            }
        };
        self.groups.iter().enumerate().map(part).collect()
    }
}

/// Returns what rules make of labels.
pub(crate) fn forwarded(labels: &Labels, rules: &[MetricRule]) -> Labels {
    let mut builder = LabelsBuilder::new(labels);
    metric_relabel::forward(rules, &mut builder);
    builder.build()
}

fn samples(series: &SeriesData, start: i64, end: i64) -> Series<Samples<Native>> {
    let is_inside = |time: &i64| (start..=end).contains(time);
    let samples = &series.samples;
    let floats = samples.timestamps.iter().copied().zip(&samples.values);
    let histograms = samples.histogram_timestamps.iter().copied();
    Series {
        labels: series.labels.clone(),
        data: Samples {
            floats: floats
                .filter(|(time, _)| is_inside(time))
                .map(|(time, value)| (time, *value))
                .collect(),
            histograms: histograms
                .zip(samples.histograms.iter().cloned())
                .filter(|(time, _)| is_inside(time))
                .collect(),
        },
    }
}

/// Puts the value of a query onto its grid.
pub(crate) fn columns(value: Value, grid: Grid) -> Vec<Series<Column<Native>>> {
    let single = |labels: Labels, value: SampleValue| {
        let mut data = Column::empty(1);
        match value {
            SampleValue::Float(value) => data.set(0, value),
            SampleValue::Histogram(histogram) => data.set_histogram(0, histogram),
        }
        Series { labels, data }
    };
    match value {
        Value::Scalar { value, .. } => vec![single(Labels::empty(), SampleValue::Float(value))],
        Value::String { .. } => Vec::new(),
        Value::Vector(vector) => vector
            .into_iter()
            .map(|sample| single(sample.labels, sample.value))
            .collect(),
        Value::Matrix(matrix) => matrix
            .iter()
            .map(|series| {
                let mut data = Column::empty(grid.len());
                for (time, value) in series.floats() {
                    data.set(grid.index(time).unwrap(), value);
                }
                for (time, histogram) in series.histograms() {
                    data.set_histogram(grid.index(time).unwrap(), histogram.clone());
                }
                let labels = series.labels.clone();
                Series { labels, data }
            })
            .collect(),
    }
}

fn ready<'a, T: Send + 'a>(answer: Result<T, UpstreamError>) -> Asking<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl Upstream for Servers {
    fn query<'a>(
        &'a self,
        text: &'a str,
        grid: Grid,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Column<Native>>>>> {
        ready(self.query(text, grid, asker))
    }

    fn raw<'a>(
        &'a self,
        matchers: &'a [Matcher],
        start: i64,
        end: i64,
        _: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Samples<Native>>>>> {
        ready(Ok(Answer {
            data: self.raw(matchers, start, end),
            annotations: Annotations::default(),
        }))
    }

    fn series<'a>(&'a self, _: &'a Asked, _: &'a Asker) -> Asking<'a, Answer<Vec<Labels>>> {
        ready(Ok(Answer::default()))
    }

    fn label_names<'a>(&'a self, _: &'a Asked, _: &'a Asker) -> Asking<'a, Answer<Vec<String>>> {
        ready(Ok(Answer::default()))
    }

    fn label_values<'a>(
        &'a self,
        _: &'a str,
        _: &'a Asked,
        _: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>> {
        ready(Ok(Answer::default()))
    }

    fn metadata<'a>(
        &'a self,
        _: &'a str,
        _: Option<u64>,
        _: &'a Asker,
    ) -> Asking<'a, Vec<(String, Vec<Metadata>)>> {
        ready(Ok(Vec::new()))
    }

    fn exemplars<'a>(&'a self, _: &'a Asked, _: &'a Asker) -> Asking<'a, Vec<Exemplars>> {
        ready(Ok(Vec::new()))
    }

    fn loses_labels(&self) -> bool {
        let mut rules = self.relabel.iter();
        rules.any(|rules| !metric_relabel::lost(rules).is_empty())
    }

    fn changes_label(&self, name: &str) -> bool {
        let mut groups = self.groups.iter().zip(&self.relabel);
        groups.any(|(group, rules)| {
            metric_relabel::concerns(rules, name) || group.labels.iter().any(|l| l.0 == name)
        })
    }

    fn is_histogram(&self, _: &str) -> bool {
        false
    }

    fn lossy_groups(&self, _: &[&[Matcher]]) -> Vec<usize> {
        Vec::new()
    }
}

/// Limits that nothing here reaches.
pub(crate) const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(600),
    max_samples: 50_000_000,
    max_bytes: u64::MAX,
    max_concurrency: None,
};

/// Returns what evaluates queries over groups, as a server without flags does.
pub(crate) fn queries(
    upstream: Arc<dyn Upstream>,
    groups: Groups,
    parser: ParserOptions,
) -> Queries {
    let settings = Settings {
        parser,
        lookback: Duration::from_secs(300),
        limits: LIMITS,
    };
    Queries::new(settings, source(upstream, groups))
}

pub(crate) fn source(upstream: Arc<dyn Upstream>, groups: Groups) -> Source {
    Source {
        upstream,
        groups,
        default_step: Duration::from_secs(60),
    }
}

/// Evaluates a query at the times of a grid and waits for it.
pub(crate) fn ask(
    runtime: &Runtime,
    queries: &Queries,
    text: &str,
    grid: Grid,
) -> Result<Outcome, QueryFailure> {
    let params = Params::default();
    runtime.block_on(async {
        if grid.is_instant() {
            queries.instant(text, grid.start, &params).await
        } else {
            let Grid { start, end, step } = grid;
            queries.range(text, start, end, step, &params).await
        }
    })
}

/// A value to be compared: by labels and time, numbers and histograms.
pub(crate) type Points = BTreeMap<(String, i64), Point>;

/// What is at one time.
#[derive(Clone, Debug)]
pub(crate) enum Point {
    /// A number.
    Float(f64),
    /// A histogram in the notation of test scripts, a text.
    Text(String),
}

/// How two points compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Likeness {
    /// To the last bit.
    Equal,
    /// But for the last digits.
    Close,
    /// Not at all.
    Different,
}

pub(crate) fn points(value: &Value) -> Points {
    let point = |value: &SampleValue| match value {
        SampleValue::Float(value) => Point::Float(*value),
        SampleValue::Histogram(histogram) => Point::Text(histogram.to_test_notation()),
    };
    match value {
        Value::Scalar { timestamp, value } => {
            [((String::new(), *timestamp), Point::Float(*value))].into()
        }
        Value::String { timestamp, value } => {
            [((String::new(), *timestamp), Point::Text(value.to_string()))].into()
        }
        Value::Vector(vector) => vector
            .iter()
            .map(|s| ((s.labels.to_string(), s.timestamp), point(&s.value)))
            .collect(),
        Value::Matrix(matrix) => {
            let mut points = Points::new();
            for series in matrix {
                let labels = series.labels.to_string();
                for (time, value) in series.floats() {
                    points.insert((labels.clone(), time), Point::Float(value));
                }
                for (time, histogram) in series.histograms() {
                    let text = Point::Text(histogram.to_test_notation());
                    points.insert((labels.clone(), time), text);
                }
            }
            points
        }
    }
}

/// Compares all points and returns the worst likeness.
pub(crate) fn likeness(a: &Points, b: &Points) -> Likeness {
    if a.len() != b.len() || a.keys().ne(b.keys()) {
        return Likeness::Different;
    }
    let pairs = a.values().zip(b.values());
    pairs
        .map(|(a, b)| a.likeness(b))
        .max()
        .unwrap_or(Likeness::Equal)
}

impl Point {
    fn likeness(&self, other: &Self) -> Likeness {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) if a == b => Likeness::Equal,
            (Self::Float(a), Self::Float(b)) => {
                if a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() {
                    Likeness::Equal
                } else if a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) {
                    Likeness::Close
                } else {
                    Likeness::Different
                }
            }
            _ => Likeness::Different,
        }
    }
}
