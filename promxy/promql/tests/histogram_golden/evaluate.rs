//! Evaluates what takes no engine: single operations on the series of a script.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use promql::SignedDuration;
use promql::histogram::window::{self, Change, InstantChange, InstantSample, Window};
use promql::histogram::{
    Fact, Facts, FloatHistogram, HistogramAverage, HistogramSum, Incompatible, Operation, fraction,
    quantile,
};
use promql::parser::{
    AggregateOp, BinaryOp, Compat, DurationValue, Expr, ExtendedRange, MatchOp, NodeId, NodeKind,
    Sign,
};

use crate::script::{Data, Value};

/// How far back an instant selector looks, in milliseconds.
const LOOKBACK: i64 = 300_000;

/// What a query is evaluated with.
pub(crate) struct Context<'a> {
    pub(crate) expr: &'a Expr,
    pub(crate) data: &'a Data,
    pub(crate) time: i64,
    pub(crate) compat: Compat,
    /// Whether only counts and sums are wanted.
    pub(crate) only_counts_and_sums: Cell<bool>,
    /// What the user would be told, in words that only one annotation has.
    pub(crate) told: RefCell<BTreeSet<&'static str>>,
}

/// Words of all annotations about histograms.
pub(crate) const ANNOTATIONS: [&str; 14] = [
    "incompatible bucket layout encountered",
    "is not a counter",
    "is not a gauge",
    "mix of histograms with exponential and custom buckets",
    "incompatible custom buckets",
    "conflicting counter resets during histogram addition",
    "conflicting counter resets during histogram subtraction",
    "conflicting counter resets during histogram aggregation",
    "reconciled during addition",
    "reconciled during subtraction",
    "reconciled during aggregation",
    "has NaN observations, result is NaN",
    "has NaN observations, result is skewed higher",
    "which are excluded from all fractions",
];

/// Returns the words of the annotation about a fact.
fn words(fact: Fact) -> &'static str {
    let of = |operation, [addition, subtraction, aggregation]: [usize; 3]| match operation {
        Operation::Addition => ANNOTATIONS[addition],
        Operation::Subtraction => ANNOTATIONS[subtraction],
        Operation::Aggregation => ANNOTATIONS[aggregation],
    };
    match fact {
        Fact::NotACounter => ANNOTATIONS[1],
        Fact::NotAGauge => ANNOTATIONS[2],
        Fact::MixedSchemas => ANNOTATIONS[3],
        Fact::IncompatibleBounds => ANNOTATIONS[4],
        Fact::ConflictingResets(operation) => of(operation, [5, 6, 7]),
        Fact::BoundsReconciled(operation) => of(operation, [8, 9, 10]),
        Fact::QuantileIsNan => ANNOTATIONS[11],
        Fact::QuantileSkewedByNan => ANNOTATIONS[12],
        Fact::NansInNoFraction => ANNOTATIONS[13],
        Fact::StartTimesOverlap => "overlap",
    }
}

impl Context<'_> {
    /// Notes what comes with a result.
    fn tell<T>(&self, (result, facts): (T, Facts)) -> T {
        self.told.borrow_mut().extend(facts.iter().map(words));
        result
    }

    /// Evaluates a vector; `None` if that takes an engine.
    pub(crate) fn vector(&self, id: NodeId) -> Option<Vec<Value>> {
        let compat = self.compat;
        match &self.expr[id].kind {
            NodeKind::Paren(inner) => self.vector(*inner),
            NodeKind::Vector(selector) if selector.extended.is_none() => {
                let series = self.series(id)?;
                let newest = series.iter().map(|samples| {
                    let samples = self.between(samples, self.time - LOOKBACK, self.time);
                    samples.last().map(|(_, value)| value.clone())
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
                // Trimming needs the buckets.
                if matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
                    self.only_counts_and_sums.set(false);
                }
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
                        self.operate(binary.op, lhs, rhs)
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

    /// Returns the samples of a series after one time and until another, reduced to count and sum if no more is wanted.
    fn between(&self, samples: &[(i64, Value)], after: i64, until: i64) -> Vec<(i64, Value)> {
        let samples = samples.iter();
        let inside: Vec<(i64, Value)> = samples
            .filter(|(time, _)| *time > after && *time <= until)
            .cloned()
            .collect();
        let (times, values): (Vec<i64>, Vec<Value>) = inside.iter().cloned().unzip();
        let Some(histograms) = histograms(values).filter(|_| self.only_counts_and_sums.get())
        else {
            return inside;
        };
        let reduced = window::counts_and_sums_only(&histograms, |_| false, self.compat);
        times
            .into_iter()
            .zip(reduced.into_iter().map(Value::Histogram))
            .collect()
    }

    /// Returns what there is, or notes why it is not.
    fn or_tell<T>(&self, result: Result<T, Incompatible>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(incompatible) => self.tell((None, incompatible.fact().into())),
        }
    }

    /// `lhs op rhs`: one element, none, or nothing that this test knows.
    fn operate(
        &self,
        op: BinaryOp,
        lhs: &Arc<FloatHistogram>,
        rhs: &Arc<FloatHistogram>,
    ) -> Option<Vec<Value>> {
        let made = |result: Result<(FloatHistogram, Facts), Incompatible>| {
            if result.is_err() {
                self.told.borrow_mut().insert(ANNOTATIONS[0]);
            }
            let result = result.ok().map(|result| self.tell(result));
            result.map(|result| Value::Histogram(Arc::new(result)))
        };
        let same = || Value::Histogram(Arc::clone(lhs));
        let result = match op {
            BinaryOp::Add => made(lhs.plus(rhs, self.compat)),
            BinaryOp::Sub => made(lhs.minus(rhs, self.compat)),
            BinaryOp::Eq => lhs.equals(rhs).then(same),
            BinaryOp::NotEq => (!lhs.equals(rhs)).then(same),
            _ => return None,
        };
        Some(Vec::from_iter(result))
    }

    fn aggregate(&self, op: AggregateOp, histograms: &[Arc<FloatHistogram>]) -> Option<Vec<Value>> {
        let Some((first, rest)) = histograms.split_first() else {
            return Some(Vec::new());
        };
        let result = match op {
            AggregateOp::Sum => {
                let mut sum = HistogramSum::new(first, self.compat);
                let all = rest.iter().try_for_each(|histogram| sum.add(histogram));
                self.tell(((), sum.facts()));
                self.or_tell(all).map(|()| sum.finish())
            }
            AggregateOp::Avg => {
                let mut average = HistogramAverage::new(first, self.compat);
                let all = rest.iter().try_for_each(|histogram| average.add(histogram));
                self.tell(((), average.facts()));
                self.or_tell(all).map(|()| average.finish())
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
        let only_counts_and_sums = ["histogram_count", "histogram_sum", "histogram_avg"];
        // 3.5 overlooks the function that is the whole query.
        if only_counts_and_sums.contains(&function) && self.compat != Compat::V3_5 {
            self.only_counts_and_sums.set(true);
        }
        match function {
            "histogram_count" => map(0, &|histogram| histogram.count),
            "histogram_sum" => map(0, &|histogram| histogram.sum),
            "histogram_avg" => map(0, &FloatHistogram::average),
            "histogram_stddev" => map(0, &FloatHistogram::standard_deviation),
            "histogram_stdvar" => map(0, &FloatHistogram::variance),
            "histogram_quantile" => {
                self.only_counts_and_sums.set(false);
                let q = number(0)?;
                map(1, &|histogram| self.tell(quantile(q, histogram)))
            }
            "histogram_fraction" => {
                self.only_counts_and_sums.set(false);
                let (lower, upper) = (number(0)?, number(1)?);
                map(2, &|histogram| {
                    self.tell(fraction(lower, upper, histogram, compat))
                })
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
            let inside = self.between(samples, after - left, self.time + right);
            let (times, values): (Vec<i64>, Vec<Value>) = inside.into_iter().unzip();
            let histograms = histograms(values)?;
            let resets = window::resets(&histograms, self.compat);
            let window = Window {
                times: &times,
                histograms: &histograms,
                resets: &resets,
                uniform_counters: window::are_uniform_counters(&histograms),
                starts: &[],
                after,
                until: self.time,
            };
            let change = |change| match extended {
                Some(kind) => self.tell(window::extended_change(&window, kind, change)),
                None => self.tell(window::extrapolated_change(&window, change, self.compat)),
            };
            let result = match function {
                "rate" => change(Change::Rate { seconds }),
                "increase" => change(Change::Increase),
                "delta" => change(Change::Delta),
                "sum_over_time" => self.tell(window::sum(&histograms, self.compat)),
                "avg_over_time" => self.tell(window::average(&histograms, self.compat)),
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
        self.tell(window::instant_change(
            first,
            last,
            *was_reset,
            change,
            self.compat,
        ))
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
