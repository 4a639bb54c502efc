//! Computes with the native histograms of the recorded test scripts, without the engine: what single operations, functions and
//! aggregations make of the series of a script, exactly as recorded from Prometheus 3.14.0 and 3.5.3.
//!
//! The scripts are read from `$PROMQL_TESTDATA`, by default `shared/golden/promql` beside the workspace. Without them the test
//! says so and passes. Queries that need labels, matching or subqueries are the engine's and left out here.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and prints what it counted"
)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promql::SignedDuration;
use promql::histogram::window::{self, Change, InstantChange, InstantSample, Window};
use promql::histogram::{
    FloatHistogram, HistogramAverage, HistogramSteps, HistogramSum, as_stored, fraction, quantile,
};
use promql::parser::{
    AggregateOp, BinaryOp, Compat, DurationValue, Expr, ExtendedRange, MatchOp, NodeId, NodeKind,
    ParserOptions, SeriesItem, Sign, parse, parse_series,
};
use serde_json::Value as Json;

const SCRIPTS: [&str; 5] = [
    "native_histograms.test",
    "histograms.test",
    "extended_vectors.test",
    "functions.test",
    "aggregators.test",
];
const LOOKBACK: i64 = 300_000;

/// 3.5 adds plainly, so a sum of 3.1, 1e100, -1e100 and 1.3 depends on the order of series, which is the storage's secret.
const DEPEND_ON_ORDER: [(&str, u64, Compat); 2] = [
    ("native_histograms.test", 1204, Compat::V3_5),
    ("native_histograms.test", 1225, Compat::V3_5),
];

#[test]
fn single_operations_on_recorded_histograms_are_exact() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/promql");
    let root = std::env::var_os("PROMQL_TESTDATA").map_or(default, PathBuf::from);
    let Ok(results) = std::fs::read_to_string(root.join("eval-results.jsonl")) else {
        println!("SKIPPED: no recorded results; set PROMQL_TESTDATA");
        return;
    };
    let results: HashMap<(String, u64), Json> = results
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap())
        .map(|case| {
            let file = case["file"].as_str().unwrap().to_owned();
            ((file, case["line"].as_u64().unwrap()), case)
        })
        .collect();
    for compat in [Compat::V3_14, Compat::V3_5] {
        let (mut checked, mut left_out, mut wrong) = (0, 0, 0);
        for script in SCRIPTS {
            let text = std::fs::read_to_string(root.join("testdata/prometheus").join(script));
            for (line, time, query, data) in instant_queries(&text.unwrap(), compat) {
                let case = &results[&(script.to_owned(), line)];
                if case["unstable"] == true || DEPEND_ON_ORDER.contains(&(script, line, compat)) {
                    left_out += 1;
                    continue;
                }
                let recorded = match compat {
                    Compat::V3_14 => &case["r"],
                    Compat::V3_5 => case.pointer("/v353/r").unwrap_or(&case["r"]),
                };
                let expected = recorded.pointer("/value/vector").and_then(Json::as_array);
                let options = ParserOptions::v3_14().with_all_features();
                let parsed = parse(&query, &options);
                let (Some(expected), Ok(expr)) = (expected, parsed) else {
                    left_out += 1;
                    continue;
                };
                let context = Context {
                    expr: &expr,
                    data: &data,
                    time,
                    compat,
                };
                let Some(values) = context.vector(expr.root_id()) else {
                    left_out += 1;
                    continue;
                };
                let mut got: Vec<String> = values.iter().map(Value::text).collect();
                let mut expected: Vec<String> = expected
                    .iter()
                    .map(|element| (element.get("h").or(element.get("v"))).unwrap())
                    .map(|value| value.as_str().unwrap().to_owned())
                    .collect();
                got.sort();
                expected.sort();
                checked += 1;
                if got != expected {
                    wrong += 1;
                    println!(
                        "{script}:{line} ({compat:?}): {query}\n  expected {expected:?}\n  got      {got:?}"
                    );
                }
            }
        }
        println!(
            "{compat:?}: {checked} queries checked, {left_out} left to the engine, {wrong} wrong"
        );
        assert_eq!(wrong, 0);
        assert!(checked > 200, "{checked}");
    }
}

/// A value of a sample or a result.
#[derive(Clone)]
enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Value {
    fn text(&self) -> String {
        match self {
            Self::Float(value) => promql::format::general(*value),
            Self::Histogram(histogram) => histogram.to_test_notation(),
        }
    }
}

/// Series by name: labels in order, and samples.
type Data = BTreeMap<String, Vec<Vec<(i64, Value)>>>;

/// Returns the line, time and text of the instant queries of a script, with what is loaded then.
fn instant_queries(script: &str, compat: Compat) -> Vec<(u64, i64, String, Arc<Data>)> {
    let mut found = Vec::new();
    let mut data = Arc::new(Data::new());
    let mut step: Option<i64> = None;
    for (line, text) in (1..).zip(script.lines().map(str::trim)) {
        let mut words = text.split_whitespace();
        match words.next() {
            None => step = None,
            Some(word) if word.starts_with('#') => {}
            Some("clear") => data = Arc::default(),
            Some("load") => step = words.next().map(milliseconds),
            // Series of another kind: nothing here uses their names.
            Some("load_with_nhcb") => step = None,
            Some("eval") if text.starts_with("eval instant at ") => {
                let rest = text.trim_start_matches("eval instant at ");
                let (time, query) = rest.split_once(char::is_whitespace).unwrap();
                let query = query.trim().to_owned();
                found.push((line, milliseconds(time), query, Arc::clone(&data)));
            }
            Some(_) => {
                if let Some(step) = step {
                    load(Arc::make_mut(&mut data), text, step, compat);
                }
            }
        }
    }
    found
}

fn load(data: &mut Data, text: &str, step: i64, compat: Compat) {
    let series = parse_series(text).unwrap();
    let name = series
        .labels
        .iter()
        .find(|(name, _)| *name == "__name__")
        .map_or_else(String::new, |(_, value)| value.to_string());
    let mut samples: Vec<(i64, Option<FloatHistogram>)> = Vec::new();
    let mut floats: Vec<f64> = Vec::new();
    let mut time = 0;
    for item in &series.items {
        match item {
            SeriesItem::Gap { steps } => time += step * *steps as i64,
            SeriesItem::Stale => {
                samples.push((time, None));
                floats.push(f64::from_bits(0x7ff0_0000_0000_0002));
                time += step;
            }
            SeriesItem::Floats {
                first,
                increment,
                steps,
            } => {
                let mut value = *first;
                for _ in 0..*steps {
                    samples.push((time, None));
                    floats.push(value);
                    value += increment;
                    time += step;
                }
            }
            SeriesItem::Histograms {
                first,
                change,
                steps,
            } => {
                for histogram in
                    HistogramSteps::new(first, change.as_ref(), *steps, compat).unwrap()
                {
                    samples.push((time, Some(histogram.unwrap())));
                    time += step;
                }
            }
        }
    }
    as_stored(&mut samples);
    let mut floats = floats.into_iter();
    let samples = samples.into_iter().map(|(time, histogram)| {
        let value = match histogram {
            Some(histogram) => Value::Histogram(Arc::new(histogram)),
            None => Value::Float(floats.next().unwrap()),
        };
        (time, value)
    });
    data.entry(name).or_default().push(samples.collect());
}

/// `1h30m` or seconds, in milliseconds.
fn milliseconds(text: &str) -> i64 {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds * 1000.0) as i64;
    }
    let options = ParserOptions::v3_14();
    let expr = parse(text, &options).unwrap();
    let NodeKind::Number(number) = &expr.root().kind else {
        panic!("{text} is no duration");
    };
    (number.value * 1000.0) as i64
}

/// What a query is evaluated with.
struct Context<'a> {
    expr: &'a Expr,
    data: &'a Data,
    time: i64,
    compat: Compat,
}

impl Context<'_> {
    /// Evaluates a vector; `None` if that takes an engine.
    fn vector(&self, id: NodeId) -> Option<Vec<Value>> {
        let compat = self.compat;
        match &self.expr[id].kind {
            NodeKind::Paren(inner) => self.vector(*inner),
            NodeKind::Vector(selector) if selector.extended.is_none() => {
                let series = self.series(id)?;
                let newest = series.iter().map(|samples| {
                    let samples = samples.iter().rev();
                    let mut inside = samples
                        .filter(|(time, _)| *time <= self.time && *time > self.time - LOOKBACK);
                    inside.next().map(|(_, value)| value.clone())
                });
                let newest: Vec<Value> = newest.flatten().collect();
                let floats = newest.iter().any(|value| matches!(value, Value::Float(_)));
                (!floats).then_some(newest)
            }
            NodeKind::Unary {
                op: Sign::Minus,
                operand,
            } => {
                let operand = self.vector(*operand)?;
                let negated = operand.into_iter().map(|value| match value {
                    Value::Float(value) => Value::Float(-value),
                    Value::Histogram(histogram) => {
                        Value::Histogram(Arc::new(histogram.negated(compat)))
                    }
                });
                Some(negated.collect())
            }
            NodeKind::Binary(binary) => {
                if binary
                    .matching
                    .as_ref()
                    .is_some_and(|matching| matching.grouping.is_some())
                    || binary.return_bool
                {
                    return None;
                }
                match (self.scalar(binary.lhs), self.scalar(binary.rhs)) {
                    (None, None) => {
                        let (lhs, rhs) = (self.vector(binary.lhs)?, self.vector(binary.rhs)?);
                        let ([Value::Histogram(lhs)], [Value::Histogram(rhs)]) =
                            (lhs.as_slice(), rhs.as_slice())
                        else {
                            return None;
                        };
                        operate(binary.op, lhs, rhs, compat)
                    }
                    (None, Some(scalar)) => {
                        let vector = self.vector(binary.lhs)?;
                        let results = vector.into_iter().map(|value| match value {
                            Value::Histogram(histogram) => {
                                with_scalar(binary.op, &histogram, scalar, compat)
                            }
                            Value::Float(_) => None,
                        });
                        results.collect()
                    }
                    (Some(scalar), None) if binary.op == BinaryOp::Mul => {
                        let vector = self.vector(binary.rhs)?;
                        let results = vector.into_iter().map(|value| match value {
                            Value::Histogram(histogram) => {
                                with_scalar(binary.op, &histogram, scalar, compat)
                            }
                            Value::Float(_) => None,
                        });
                        results.collect()
                    }
                    _ => None,
                }
            }
            NodeKind::Aggregate(aggregate) => {
                if aggregate.grouping.is_some() {
                    return None;
                }
                self.aggregate(aggregate.op, &self.histograms(aggregate.expr)?)
            }
            NodeKind::Call(call) => self.call(call.function.name, &call.args),
            _ => None,
        }
    }

    fn aggregate(&self, op: AggregateOp, histograms: &[Arc<FloatHistogram>]) -> Option<Vec<Value>> {
        let Some((first, rest)) = histograms.split_first() else {
            return Some(Vec::new());
        };
        let result = match op {
            AggregateOp::Sum => {
                let mut sum = HistogramSum::new(first, self.compat);
                let all = rest.iter().try_for_each(|histogram| sum.add(histogram));
                all.ok().map(|()| sum.finish())
            }
            AggregateOp::Avg => {
                let mut average = HistogramAverage::new(first, self.compat);
                let all = rest.iter().try_for_each(|histogram| average.add(histogram));
                all.ok().map(|()| average.finish())
            }
            _ => return None,
        };
        Some(Vec::from_iter(result.map(|mut result| {
            result.compact();
            Value::Histogram(Arc::new(result))
        })))
    }

    fn call(&self, function: &str, args: &[NodeId]) -> Option<Vec<Value>> {
        let compat = self.compat;
        let number = |i: usize| args.get(i).and_then(|arg| self.scalar(*arg));
        let map = |i: usize, f: &dyn Fn(&FloatHistogram) -> f64| {
            let histograms = self.histograms(*args.get(i)?)?;
            Some(
                histograms
                    .iter()
                    .map(|histogram| Value::Float(f(histogram)))
                    .collect(),
            )
        };
        match function {
            "histogram_count" => map(0, &|histogram| histogram.count),
            "histogram_sum" => map(0, &|histogram| histogram.sum),
            "histogram_avg" => map(0, &FloatHistogram::average),
            "histogram_stddev" => map(0, &FloatHistogram::standard_deviation),
            "histogram_stdvar" => map(0, &FloatHistogram::variance),
            "histogram_quantile" => {
                let q = number(0)?;
                map(1, &|histogram| quantile(q, histogram).0)
            }
            "histogram_fraction" => {
                let (lower, upper) = (number(0)?, number(1)?);
                map(2, &|histogram| fraction(lower, upper, histogram, compat).0)
            }
            _ => self.over_time(function, args),
        }
    }

    /// Range functions of a plain selector.
    fn over_time(&self, function: &str, args: &[NodeId]) -> Option<Vec<Value>> {
        let [arg] = args else { return None };
        let NodeKind::Matrix(matrix) = &self.expr[*arg].kind else {
            return None;
        };
        let DurationValue::Fixed(range) = matrix.range else {
            return None;
        };
        let NodeKind::Vector(selector) = &self.expr[matrix.selector].kind else {
            return None;
        };
        let extended = selector.extended;
        let seconds = SignedDuration::as_secs_f64(range);
        let after = self.time - (seconds * 1000.0) as i64;
        let mut results = Vec::new();
        for samples in self.series(matrix.selector)? {
            // Extended ranges look beyond the edges.
            let beyond = |kind| if extended == Some(kind) { LOOKBACK } else { 0 };
            let right = beyond(ExtendedRange::Smoothed);
            let left = right + beyond(ExtendedRange::Anchored);
            let inside = samples
                .iter()
                .filter(|(time, _)| *time > after - left && *time <= self.time + right);
            let (times, values): (Vec<i64>, Vec<Value>) = inside.cloned().unzip();
            let histograms = histograms(values)?;
            let resets = window::resets(&histograms, self.compat);
            let window = Window {
                times: &times,
                histograms: &histograms,
                resets: &resets,
                starts: &[],
                after,
                until: self.time,
            };
            let change = |change| match extended {
                Some(kind) => window::extended_change(&window, kind, change).0,
                None => window::extrapolated_change(&window, change, self.compat).0,
            };
            let result = match function {
                "rate" => change(Change::Rate { seconds }),
                "increase" => change(Change::Increase),
                "delta" => change(Change::Delta),
                "sum_over_time" => window::sum(&histograms, self.compat).0,
                "avg_over_time" => window::average(&histograms, self.compat).0,
                "irate" => self.instant(&window, InstantChange::Rate),
                "idelta" => self.instant(&window, InstantChange::Delta),
                _ => return None,
            };
            results.extend(result.map(|result| Value::Histogram(Arc::new(result))));
        }
        Some(results)
    }

    fn instant(&self, window: &Window<'_>, change: InstantChange) -> Option<FloatHistogram> {
        let ([.., first_time, last_time], [.., first, last], [.., was_reset]) =
            (window.times, window.histograms, window.resets)
        else {
            return None;
        };
        let sample = |time: &i64, histogram| InstantSample {
            time: *time,
            histogram,
        };
        let (first, last) = (sample(first_time, first), sample(last_time, last));
        window::instant_change(first, last, *was_reset, change, self.compat).0
    }

    fn histograms(&self, id: NodeId) -> Option<Vec<Arc<FloatHistogram>>> {
        histograms(self.vector(id)?)
    }

    fn scalar(&self, id: NodeId) -> Option<f64> {
        match &self.expr[id].kind {
            NodeKind::Number(number) => Some(number.value),
            NodeKind::Paren(inner) => self.scalar(*inner),
            NodeKind::Unary { op, operand } => {
                let value = self.scalar(*operand)?;
                Some(if *op == Sign::Minus { -value } else { value })
            }
            _ => None,
        }
    }

    /// Returns the series of a selector that consists of a name.
    fn series(&self, id: NodeId) -> Option<&[Vec<(i64, Value)>]> {
        let NodeKind::Vector(selector) = &self.expr[id].kind else {
            return None;
        };
        let [matcher] = selector.matchers.as_slice() else {
            return None;
        };
        let plain = matcher.op == MatchOp::Equal
            && selector.shift.at.is_none()
            && selector.shift.offset.is_zero();
        if !plain {
            return None;
        }
        Some(self.data.get(&selector.name)?.as_slice())
    }
}

/// The values, if all are histograms.
fn histograms(values: Vec<Value>) -> Option<Vec<Arc<FloatHistogram>>> {
    let histograms = values.into_iter().map(|value| match value {
        Value::Histogram(histogram) => Some(histogram),
        Value::Float(_) => None,
    });
    histograms.collect()
}

/// `lhs op rhs`: one element, none, or nothing that this test knows.
fn operate(
    op: BinaryOp,
    lhs: &Arc<FloatHistogram>,
    rhs: &Arc<FloatHistogram>,
    compat: Compat,
) -> Option<Vec<Value>> {
    let made = |(result, _)| Value::Histogram(Arc::new(result));
    let same = || Value::Histogram(Arc::clone(lhs));
    let result = match op {
        BinaryOp::Add => lhs.plus(rhs, compat).ok().map(made),
        BinaryOp::Sub => lhs.minus(rhs, compat).ok().map(made),
        BinaryOp::Eq => lhs.equals(rhs).then(same),
        BinaryOp::NotEq => (!lhs.equals(rhs)).then(same),
        _ => return None,
    };
    Some(Vec::from_iter(result))
}

/// `histogram op scalar`
fn with_scalar(
    op: BinaryOp,
    histogram: &FloatHistogram,
    scalar: f64,
    compat: Compat,
) -> Option<Value> {
    let result = match op {
        BinaryOp::Mul => histogram.times(scalar, compat),
        BinaryOp::Div => histogram.divided_by(scalar, compat),
        BinaryOp::TrimUpper => histogram.keep_below(scalar),
        BinaryOp::TrimLower => histogram.keep_above(scalar),
        _ => return None,
    };
    Some(Value::Histogram(Arc::new(result)))
}
