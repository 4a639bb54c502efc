//! Evaluates what takes no engine: single operations on the series of a script.

use std::sync::Arc;

use promql::SignedDuration;
use promql::histogram::window::{self, Change, InstantChange, InstantSample, Window};
use promql::histogram::{FloatHistogram, HistogramAverage, HistogramSum, fraction, quantile};
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
}

impl Context<'_> {
    /// Evaluates a vector; `None` if that takes an engine.
    pub(crate) fn vector(&self, id: NodeId) -> Option<Vec<Value>> {
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
