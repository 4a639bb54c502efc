//! Random expressions over random series: a range is its instants, a cancelled query ends, a small budget is kept.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it compared"
)]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use promql::annotations::Severity;
use promql::parser::ParserOptions;
use promql::testing::{EngineSubject, Evaluation, Script, Subject, block_on, run};
use promql::value::{SampleValue, Value};
use promql::{CancelToken, Engine, EngineOptions, QueryError};

mod random_queries;

use random_queries::Writer;

const SERIES: &str = r#"
load 15s
  a{g="x", i="1"} 0+3x40 stale 5 7 _x10 1+1x30
  a{g="x", i="2"} 10 20 _ _ 5 NaN -3 Inf 2+2x60
  a{g="y", i="1"} 1x20 0x20 4x40
  b{g="x", i="1"} 5-1x80
  b{g="y", i="1"} _x20 7+0.5x50
  h_bucket{g="x", le="1"} 0+1x80
  h_bucket{g="x", le="5"} 0+2x80
  h_bucket{g="x", le="+Inf"} 0+3x80
  n{g="x"} {{schema:1 count:3 sum:4 buckets:[1 2]}}+{{schema:1 count:3 sum:4 buckets:[1 2]}}x40 _x5 {{schema:1 count:1 sum:1 buckets:[1]}}x10
"#;

/// Writes random expressions.
impl Writer {
    fn scalar(&mut self) -> String {
        match self.0.u8(..4) {
            0 => "time()".to_owned(),
            1 => format!(
                "scalar({})",
                self.pick(&["b{g=\"y\"}", "a{i=\"2\"}", "none"])
            ),
            _ => self.pick(&["2", "-1", "0.5", "0", "1e3"]).to_owned(),
        }
    }

    fn range(&mut self, depth: u8) -> String {
        let window = self.pick(&["30s", "1m", "2m30s", "5m", "7m"]);
        let offset = self.pick(&["", "", " offset 1m", " offset -30s", " @ 300", " @ end()"]);
        if depth > 0 && self.0.u8(..3) == 0 {
            let step = self.pick(&["", "20s", "1m"]);
            format!("({})[{window}:{step}]{offset}", self.vector(depth - 1))
        } else {
            format!(
                "{}[{window}]{offset}",
                self.pick(&["a", "b", "n", "{g=\"x\"}"])
            )
        }
    }

    fn vector(&mut self, depth: u8) -> String {
        if depth == 0 {
            let selectors = [
                "a",
                "b",
                "n",
                "a{i=\"1\"}",
                "h_bucket",
                "b offset 30s",
                "a @ 400",
                "none",
            ];
            return self.pick(&selectors).to_owned();
        }
        let inner = depth - 1;
        match self.0.u8(..9) {
            0 => {
                let range = self.range(inner);
                self.over_time(&range)
            }
            1 => format!(
                "quantile_over_time({}, {})",
                self.scalar(),
                self.range(inner)
            ),
            2 => {
                let functions = [
                    "abs",
                    "-",
                    "timestamp",
                    "ceil",
                    "day_of_week",
                    "sgn",
                    "histogram_count",
                    "absent",
                    "+",
                ];
                format!("{}({})", self.pick(&functions), self.vector(inner))
            }
            3 | 4 => {
                let op = self.pick(&[
                    "sum",
                    "avg",
                    "min",
                    "max",
                    "count",
                    "stddev",
                    "group",
                    "quantile(0.3,",
                    "limitk(2,",
                ]);
                let by = self.pick(&["", " by (g)", " without (i)"]);
                match op.strip_suffix(',') {
                    Some(with_param) => format!("{with_param}, {}){by}", self.vector(inner)),
                    None => format!("{op}{by} ({})", self.vector(inner)),
                }
            }
            5 => {
                let op = self.pick(&[
                    "+", "-", "*", "/", ">", "<= bool", "==", "and", "or", "unless", "%",
                ]);
                let matching = self.pick(&[" on (g, i)", " ignoring (le)", ""]);
                format!(
                    "({}) {op}{matching} ({})",
                    self.vector(inner),
                    self.vector(inner)
                )
            }
            6 => format!(
                "({}) {} {}",
                self.vector(inner),
                self.pick(&["*", ">", "-"]),
                self.scalar()
            ),
            7 => format!(
                "histogram_quantile({}, {})",
                self.scalar(),
                self.vector(inner)
            ),
            _ => format!(
                "label_replace({}, \"z\", \"$1\", \"g\", \"(.*)\")",
                self.vector(inner)
            ),
        }
    }
}

fn subject(options: EngineOptions) -> EngineSubject {
    let mut subject = EngineSubject::new(Engine::new(options));
    assert!(run(&Script::parse(SERIES).unwrap(), &mut subject).is_empty());
    subject
}

fn options(delayed_name_removal: bool) -> EngineOptions {
    EngineOptions {
        delayed_name_removal,
        ..EngineOptions::new(ParserOptions::v3_14().with_all_features())
    }
}

/// Writes values by labels; those of a histogram as its text.
fn written(value: &Value, time: i64) -> BTreeMap<String, String> {
    let text = |value: &SampleValue| match value {
        SampleValue::Float(value) if value.is_nan() => "NaN".to_owned(),
        SampleValue::Float(value) => format!("{:016x}", value.to_bits()),
        SampleValue::Histogram(histogram) => histogram.to_test_notation(),
    };
    match value {
        Value::Vector(vector) => vector
            .iter()
            .map(|s| (s.labels.to_string(), text(&s.value)))
            .collect(),
        Value::Matrix(matrix) => {
            let mut written = BTreeMap::new();
            for series in matrix {
                let floats = series
                    .floats()
                    .map(|(at, value)| (at, SampleValue::Float(value)));
                let histograms = series
                    .histograms()
                    .map(|(at, h)| (at, SampleValue::Histogram(h)));
                for (at, value) in floats.chain(histograms).filter(|(at, _)| *at == time) {
                    assert_eq!(at, time);
                    written.insert(series.labels.to_string(), text(&value));
                }
            }
            written
        }
        _ => BTreeMap::new(),
    }
}

#[test]
fn a_range_is_its_instants() {
    let mut writer = Writer(fastrand::Rng::with_seed(20_261));
    let (mut compared, mut failed) = (0, 0);
    for delayed in [false, true] {
        let mut subject = subject(options(delayed));
        for _ in 0..1_500 {
            let query = writer.vector(3);
            // These say themselves that they depend on the end of the query.
            if query.contains("@ end()") {
                continue;
            }
            let (start, end, step) = (60_000, 1_260_000, 150_000);
            let range = subject.evaluate(&query, Evaluation::Range { start, end, step });
            for time in (start..=end).step_by(step as usize) {
                let instant = subject.evaluate(&query, Evaluation::Instant { time });
                match (&range.value, &instant.value) {
                    (Ok(range), Ok(instant)) => {
                        assert_eq!(
                            written(range, time),
                            written(instant, time),
                            "{query} at {time}"
                        );
                        compared += 1;
                    }
                    (Err(_), _) => failed += 1,
                    (Ok(_), Err(error)) => panic!("{query} at {time} alone: {error}"),
                }
            }
        }
    }
    println!("{compared} instants agree, {failed} are of queries that fail");
    assert!(compared > 5_000);
}

/// Returns many series, so that several threads have work at a time.
fn crowd() -> EngineSubject {
    let series = (0..70).flat_map(|i| {
        let labels = format!("g=\"{}\", i=\"{i}\"", ["x", "y", "z"][i % 3]);
        let resets = i % 7 + 5;
        let histogram = format!("{{{{schema:1 count:3 sum:{i} buckets:[1 2]}}}}");
        [
            format!("  a{{{labels}}} 0+{i}x{resets} {i} _x3 0+0.{i}x60"),
            format!("  b{{{labels}}} _x{resets} {i}-0.{i}x70"),
            format!("  n{{{labels}}} {histogram}+{histogram}x40 _x{resets} {histogram}"),
            format!("  h_bucket{{{labels}, le=\"1\"}} 0+1x80"),
            format!("  h_bucket{{{labels}, le=\"+Inf\"}} 0+{i}x80"),
        ]
    });
    let lines: Vec<String> = std::iter::once("load 15s".to_owned())
        .chain(series)
        .collect();
    let script = lines.join("\n");
    let mut subject = EngineSubject::new(Engine::new(options(false)));
    assert!(run(&Script::parse(&script).unwrap(), &mut subject).is_empty());
    subject
}

#[test]
fn on_any_number_of_threads_the_outcome_is_the_same() {
    let mut writer = Writer(fastrand::Rng::with_seed(20_263));
    let subject = crowd();
    let (mut values, mut errors) = (0, 0);
    for round in 0..600 {
        let query = writer.vector(3);
        let outcome = |threads: usize| {
            let query = subject
                .engine
                .range_query(&query, 60_000, 1_260_000, 60_000);
            let cancel = CancelToken::default();
            let prepared = block_on(query.unwrap().prepare(&subject.storage, None, &cancel));
            let threads = NonZeroUsize::new(threads).unwrap();
            prepared.unwrap().evaluate_on(threads, &cancel)
        };
        let alone = outcome(1);
        // Debug writes every number so that it can be told from all others.
        let expected = format!("{alone:?}");
        assert_eq!(format!("{:?}", outcome(2 + round % 4)), expected, "{query}");
        match alone.value {
            Ok(_) => values += 1,
            Err(_) => errors += 1,
        }
    }
    println!("{values} values and {errors} errors are the same on one thread and several");
    assert!(values > 300);
}

#[test]
fn a_cancelled_query_ends_with_the_references_words() {
    let subject = subject(options(false));
    let cancel = CancelToken::default();
    cancel.time_out();
    let query = subject.engine.instant_query("sum(a)", 0).unwrap();
    let outcome = block_on(query.run(&subject.storage, &cancel));
    assert_eq!(
        outcome.value.unwrap_err().to_string(),
        "query timed out in query execution"
    );
    let query = subject.engine.instant_query("sum(a)", 0).unwrap();
    let prepared =
        block_on(query.prepare(&subject.storage, None, &CancelToken::default())).unwrap();
    let cancel = CancelToken::default();
    cancel.cancel();
    assert_eq!(
        prepared.evaluate(&cancel).value.unwrap_err().to_string(),
        "query was canceled in expression evaluation"
    );
}

#[test]
fn a_query_over_its_budget_fails() {
    let mut subject = subject(EngineOptions {
        max_samples: 5,
        ..options(false)
    });
    let error = |subject: &mut EngineSubject, query: &str| {
        subject
            .evaluate(query, Evaluation::Instant { time: 600_000 })
            .value
            .err()
    };
    assert_eq!(error(&mut subject, "a"), None);
    assert_eq!(
        error(&mut subject, "a[5m]"),
        Some(QueryError::TooManySamples)
    );
    assert_eq!(
        error(&mut subject, "sum(rate(a[5m]))"),
        Some(QueryError::TooManySamples)
    );
}

#[test]
fn annotations_point_at_parentheses_around_what_is_evaluated_once() {
    let mut subject = subject(options(false));
    let mut f = |query: &str, column: usize| {
        let outcome = subject.evaluate(query, Evaluation::Instant { time: 600_000 });
        let texts = outcome.annotations.texts(Severity::Warning, query);
        let place = format!("(1:{column})");
        assert!(
            texts.iter().any(|text| text.ends_with(&place)),
            "{query}: {texts:?}"
        );
    };
    f("histogram_quantile((5), h_bucket)", 20);
    f("histogram_quantile(((2+3)), h_bucket)", 20);
    // What changes from step to step loses its parentheses.
    f("histogram_quantile(((time())), h_bucket)", 22);
    // So does everything in what is evaluated once as a whole.
    f("histogram_quantile((2+3), (h_bucket @ 300))", 21);
    f("histogram_quantile(time(), (b @ 300))", 28);
    f("quantile_over_time((5), a[5m])", 20);
    f("quantile((5), a)", 11);
    f("quantile(((time())), a)", 12);
}

#[test]
fn deep_and_long_queries_do_not_overflow_the_stack() {
    let mut subject = subject(options(false));
    let evaluate = |subject: &mut EngineSubject, query: &str| {
        subject
            .evaluate(query, Evaluation::Instant { time: 600_000 })
            .value
            .unwrap()
    };
    let deep = format!("{}1{}", "(".repeat(200_000), ")".repeat(200_000));
    assert!(matches!(
        evaluate(&mut subject, &deep),
        Value::Scalar { .. }
    ));
    let signs = format!("{}a", "-".repeat(20_000));
    assert!(matches!(evaluate(&mut subject, &signs), Value::Vector(_)));
    let long = format!("1{}", " + 1".repeat(200_000));
    assert!(
        matches!(evaluate(&mut subject, &long), Value::Scalar { value, .. } if value == 200_001.0)
    );
    let calls = format!("{}a{}", "abs(".repeat(20_000), ")".repeat(20_000));
    assert!(matches!(evaluate(&mut subject, &calls), Value::Vector(_)));
}

#[test]
fn times_at_the_ends_of_the_world_are_no_trouble() {
    let mut subject = subject(options(false));
    let queries = [
        "a @ 9223372036854775",
        "a @ -9223372036854775",
        "rate(a[5m] @ -9223372036854775 offset 292y)",
        "rate(a[292y] offset 292y)",
        "max_over_time(a[5m:1m] @ 9223372036854775 offset -292y)",
        "sum_over_time(a[292y:292y])",
        "timestamp(a @ -9223372036854775)",
        "info(a @ 9223372036854775 offset -292y)",
        "year(vector(9e18)) + year(vector(NaN))",
    ];
    for query in queries {
        for time in [0, 600_000, i64::MAX / 4, i64::MIN / 4] {
            let outcome = subject.evaluate(query, Evaluation::Instant { time });
            assert!(
                outcome.value.is_ok(),
                "{query} at {time}: {:?}",
                outcome.value
            );
        }
    }
    let endless = subject.evaluate(
        "sum_over_time(a[100y:1ms])",
        Evaluation::Instant { time: 0 },
    );
    assert_eq!(endless.value.err(), Some(QueryError::TooManySamples));
}
