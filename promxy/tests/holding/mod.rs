//! Series in memory that answer the requests of the API as a Prometheus server does.

use promql::{
    CancelToken, Engine, EngineOptions, QueryError,
    labels::LabelMatcher,
    parser::{MatchOp, Matcher, ParserOptions, parse_selector},
    storage::SeriesData,
    testing::{MemoryStorage, block_on, parse_open_metrics},
};
use promxy::{
    api::write_json,
    labels::Labels,
    remote::{
        self,
        messages::{Label, QueryResult, ReadRequest, ReadResponse, Sample, TimeSeries},
    },
    servergroup::decode::Annotations,
};
use serde_json::{Value, json};

const PARSER: ParserOptions = ParserOptions::v3_5();

/// Series, and what evaluates queries of them.
pub(crate) struct Holding {
    storage: MemoryStorage,
    engine: Engine,
}

impl Holding {
    /// Takes series from OpenMetrics text.
    pub(crate) fn of(text: &str) -> Self {
        let mut series = parse_open_metrics(text).unwrap();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Self {
            storage: MemoryStorage::of_series(series),
            engine: Engine::new(EngineOptions::new(PARSER)),
        }
    }

    /// Answers a request with a body of JSON.
    pub(crate) fn answer(&self, path: &str, params: &[(String, String)]) -> String {
        let all = |name: &str| {
            let named = params.iter().filter(move |(other, _)| other == name);
            named
                .map(|(_, value)| value.clone())
                .collect::<Vec<String>>()
        };
        let time = |name: &str| (all(name)[0].parse::<f64>().unwrap() * 1000.0).round() as i64;
        let words: Vec<&str> = path.trim_start_matches("/api/v1/").split('/').collect();
        let list = |words: Vec<String>| json!({"status": "success", "data": words}).to_string();
        match words.as_slice() {
            ["query"] => self.evaluate(self.engine.instant_query(&all("query")[0], time("time"))),
            ["query_range"] => {
                let query = &all("query")[0];
                self.evaluate(self.engine.range_query(
                    query,
                    time("start"),
                    time("end"),
                    time("step"),
                ))
            }
            ["series"] => {
                let found = self.selected(&all("match[]"));
                let found: Vec<Value> = found.iter().map(|series| object(&series.labels)).collect();
                json!({"status": "success", "data": found}).to_string()
            }
            ["labels"] => {
                let found = self.selected(&all("match[]"));
                let names = found.iter().flat_map(|series| series.labels.iter());
                list(unique(names.map(|(name, _)| name)))
            }
            ["label", name, "values"] => {
                let found = self.selected(&all("match[]"));
                let values = found.iter().filter_map(|series| series.labels.get(name));
                list(unique(values))
            }
            _ => json!({"status": "success", "data": {}}).to_string(),
        }
    }

    fn evaluate(&self, query: Result<promql::Query, QueryError>) -> String {
        let outcome =
            query.map(|query| block_on(query.run(&self.storage, &CancelToken::default())));
        let none = Annotations::default();
        match outcome.and_then(|outcome| outcome.value) {
            Ok(value) => write_json::success(&write_json::value(&value), &none),
            Err(error) => write_json::error(error.http().1, &error.to_string(), &none),
        }
    }

    /// Answers a remote read with samples.
    pub(crate) fn read(&self, request: &[u8]) -> Vec<u8> {
        let asked: ReadRequest = remote::decode(request, 1 << 20).unwrap();
        let results = asked.queries.iter().map(|query| {
            let matcher = |one: &remote::messages::LabelMatcher| {
                let ops = [
                    MatchOp::Equal,
                    MatchOp::NotEqual,
                    MatchOp::Regex,
                    MatchOp::NotRegex,
                ];
                let (name, value) = (one.name.as_str().into(), one.value.as_str().into());
                let op = ops[one.kind as usize];
                LabelMatcher::new(&Matcher { name, op, value }).unwrap()
            };
            let matchers: Vec<LabelMatcher> = query.matchers.iter().map(matcher).collect();
            let series = self.storage.series().iter();
            let found = series.filter(|series| {
                matchers
                    .iter()
                    .all(|one| one.matches_labels(&series.labels))
            });
            let span = query.start_timestamp_ms..=query.end_timestamp_ms;
            let timeseries = found.map(|series| time_series(series, &span)).collect();
            QueryResult { timeseries }
        });
        let results = results.collect();
        remote::encode(&ReadResponse { results })
    }

    /// Returns the series that fulfil any of the selectors, or all if there is none.
    fn selected(&self, selectors: &[String]) -> Vec<&SeriesData> {
        let selectors: Vec<Vec<LabelMatcher>> = selectors
            .iter()
            .map(|text| {
                let matchers = parse_selector(text, &PARSER).unwrap();
                matchers
                    .iter()
                    .map(|one| LabelMatcher::new(one).unwrap())
                    .collect()
            })
            .collect();
        let is_selected = |series: &&SeriesData| {
            let fulfils = |matchers: &Vec<LabelMatcher>| {
                matchers
                    .iter()
                    .all(|one| one.matches_labels(&series.labels))
            };
            selectors.is_empty() || selectors.iter().any(fulfils)
        };
        self.storage.series().iter().filter(is_selected).collect()
    }
}

fn time_series(series: &SeriesData, span: &std::ops::RangeInclusive<i64>) -> TimeSeries {
    let label = |(name, value): (&str, &str)| Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let samples = series.samples.timestamps.iter().zip(&series.samples.values);
    let samples = samples.filter(|(time, _)| span.contains(time));
    let sample = |(timestamp, value): (&i64, &f64)| Sample {
        value: *value,
        timestamp: *timestamp,
    };
    TimeSeries {
        labels: series.labels.iter().map(label).collect(),
        samples: samples.map(sample).collect(),
        histograms: Vec::new(),
    }
}

fn object(labels: &Labels) -> Value {
    let pairs = labels
        .iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)));
    Value::Object(pairs.collect())
}

fn unique<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let words: std::collections::BTreeSet<&str> = words.collect();
    words.into_iter().map(str::to_owned).collect()
}
