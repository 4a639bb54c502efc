//! Operators on two values: numbers, columns of numbers, histograms.
//!
//! Follows `scalarBinop` and `vectorElemBinop` in `promql/engine.go`; pinned by `operators.test` and `native_histograms.test`.

use super::{Bitmap, CancelToken, Column, Packing, Sample, StepHistograms};
use crate::annotations::Remark;
use crate::error::{QueryError, Stage};
use crate::gomath;
use crate::histogram::FloatHistogram;
use crate::parser::{BinaryOp, Compat};

/// Returns what an arithmetic operator computes, if it is one.
pub(super) fn arithmetic(op: BinaryOp) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        BinaryOp::Add => |x, y| x + y,
        BinaryOp::Sub => |x, y| x - y,
        BinaryOp::Mul => |x, y| x * y,
        BinaryOp::Div => |x, y| x / y,
        BinaryOp::Mod => gomath::modulo,
        BinaryOp::Pow => gomath::pow,
        BinaryOp::Atan2 => gomath::atan2,
        _ => return None,
    })
}

/// Whether a comparison holds.
pub(super) fn compares(op: BinaryOp, x: f64, y: f64) -> bool {
    match op {
        BinaryOp::Eq => x == y,
        BinaryOp::NotEq => x != y,
        BinaryOp::Less => x < y,
        BinaryOp::LessEq => x <= y,
        BinaryOp::Greater => x > y,
        BinaryOp::GreaterEq => x >= y,
        _ => false,
    }
}

/// Returns the value of an operator between two scalars, where comparisons yield 0 and 1.
pub(super) fn scalars(op: BinaryOp, x: f64, y: f64) -> f64 {
    match arithmetic(op) {
        Some(f) => f(x, y),
        None => f64::from(u8::from(compares(op, x, y))),
    }
}

/// Writes `f` of two columns of numbers. The loops of the four common operators are the compiler's to vectorise.
fn combine_floats(
    op: BinaryOp,
    left: &[f64],
    right: &[f64],
    cancel: &CancelToken,
) -> Result<Vec<f64>, QueryError> {
    fn zip(left: &[f64], right: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        left.iter().zip(right).map(|(x, y)| f(*x, *y)).collect()
    }
    Ok(match op {
        BinaryOp::Add => zip(left, right, |x, y| x + y),
        BinaryOp::Sub => zip(left, right, |x, y| x - y),
        BinaryOp::Mul => zip(left, right, |x, y| x * y),
        BinaryOp::Div => zip(left, right, |x, y| x / y),
        _ => match arithmetic(op) {
            Some(f) => {
                let mut values = Vec::with_capacity(left.len().min(right.len()));
                for (step, (x, y)) in left.iter().zip(right).enumerate() {
                    cancel.check_at(step)?;
                    values.push(f(*x, *y));
                }
                values
            }
            None => left.to_vec(),
        },
    })
}

/// Returns the steps of `steps` at which a comparison of two columns of numbers holds.
fn compare_floats(op: BinaryOp, left: &[f64], right: &[f64], steps: &Bitmap) -> Bitmap {
    fn zip(
        left: &[f64],
        right: &[f64],
        steps: &Bitmap,
        holds: impl Fn(f64, f64) -> bool,
    ) -> Bitmap {
        let mut kept = steps.clone();
        let chunks = left.chunks(64).zip(right.chunks(64));
        for (word, (left, right)) in kept.words_mut().zip(chunks) {
            let mut bits = 0;
            for (bit, (x, y)) in left.iter().zip(right).enumerate() {
                bits |= u64::from(holds(*x, *y)) << bit;
            }
            *word &= bits;
        }
        kept
    }
    match op {
        BinaryOp::Eq => zip(left, right, steps, |x, y| x == y),
        BinaryOp::NotEq => zip(left, right, steps, |x, y| x != y),
        BinaryOp::Less => zip(left, right, steps, |x, y| x < y),
        BinaryOp::LessEq => zip(left, right, steps, |x, y| x <= y),
        BinaryOp::Greater => zip(left, right, steps, |x, y| x > y),
        _ => zip(left, right, steps, |x, y| x >= y),
    }
}

/// What became of two elements.
pub(super) struct Combined {
    /// Nothing if they do not go together.
    pub(super) value: Option<Sample>,
    /// Whether a comparison holds; arithmetic always does.
    pub(super) keep: bool,
    /// What to say about it.
    pub(super) remark: Option<Remark>,
}

impl Combined {
    fn kept(value: Sample) -> Self {
        Self {
            value: Some(value),
            keep: true,
            remark: None,
        }
    }

    fn compared(value: Sample, keep: bool) -> Self {
        Self {
            keep,
            ..Self::kept(value)
        }
    }

    fn impossible(remark: Remark) -> Self {
        Self {
            value: None,
            keep: false,
            remark: Some(remark),
        }
    }
}

/// Applies an operator to two elements of vectors.
pub(super) fn elements(op: BinaryOp, left: &Sample, right: &Sample, compat: Compat) -> Combined {
    let incompatible = || {
        let kind = |sample: &Sample| match sample {
            Sample::Float(_) => "float",
            Sample::Histogram(_) => "histogram",
        };
        Combined::impossible(Remark::incompatible_types(
            kind(left),
            op.as_str(),
            kind(right),
        ))
    };
    let histogram = |histogram: FloatHistogram| Combined::kept(Sample::Histogram(histogram.into()));
    match (left, right) {
        (Sample::Float(x), Sample::Float(y)) => match arithmetic(op) {
            Some(f) => Combined::kept(Sample::Float(f(*x, *y))),
            None if op.is_comparison() => {
                Combined::compared(Sample::Float(*x), compares(op, *x, *y))
            }
            None => incompatible(),
        },
        (Sample::Float(factor), Sample::Histogram(h)) => match op {
            BinaryOp::Mul => histogram(h.times(*factor, compat)),
            _ => incompatible(),
        },
        (Sample::Histogram(h), Sample::Float(y)) => match op {
            BinaryOp::Mul => histogram(h.times(*y, compat)),
            BinaryOp::Div => histogram(h.divided_by(*y, compat)),
            BinaryOp::TrimUpper => histogram(h.keep_below(*y)),
            BinaryOp::TrimLower => histogram(h.keep_above(*y)),
            _ => incompatible(),
        },
        (Sample::Histogram(x), Sample::Histogram(y)) => {
            let result = match op {
                BinaryOp::Add => x.plus(y, compat),
                BinaryOp::Sub => x.minus(y, compat),
                BinaryOp::Eq => return Combined::compared(left.clone(), x.equals(y)),
                BinaryOp::NotEq => return Combined::compared(left.clone(), !x.equals(y)),
                _ => return incompatible(),
            };
            match result {
                Ok((value, facts)) => {
                    let remarks = facts.iter().map(|fact| Remark::of_fact(fact, ""));
                    Combined {
                        remark: remarks.last(),
                        ..histogram(value)
                    }
                }
                Err(_) => Combined::impossible(Remark::incompatible_layout(op.as_str())),
            }
        }
    }
}

/// Applies an operator to the elements of two columns at some steps, at which both have one. `remarked` gets what is to be said, by step.
pub(super) fn columns(
    op: BinaryOp,
    return_bool: bool,
    (left, right): (&Column, &Column),
    steps: &Bitmap,
    (compat, cancel): (Compat, &CancelToken),
    remarked: &mut dyn FnMut(usize, Remark),
) -> Result<(Column, Bitmap), QueryError> {
    let is_trim = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
    if left.histograms.is_empty() && right.histograms.is_empty() && !is_trim {
        let column = float_columns(op, return_bool, (left, right), steps, cancel)?;
        return Ok((column, steps.clone()));
    }
    let count = left.values.len().max(right.values.len());
    let last = steps.iter().last().map_or(0, |last| last + 1);
    let count = count.max(last);
    let mut column = Column {
        values: Vec::new(),
        present: steps.and_not(steps),
        histograms: StepHistograms::default(),
    };
    let mut matched = column.present.clone();
    let mut histograms = Packing::new(count);
    let (mut left, mut right) = (left.in_order(), right.in_order());
    for step in steps.iter() {
        cancel.check(Stage::Evaluation)?;
        let (Some(x), Some(y)) = (left(step), right(step)) else {
            continue;
        };
        let combined = elements(op, &x, &y, compat);
        if let Some(remark) = combined.remark {
            remarked(step, remark);
        }
        let Some(value) = combined.value else {
            continue;
        };
        matched.insert(step);
        if return_bool {
            column.set_float(count, step, f64::from(u8::from(combined.keep)));
        } else if combined.keep {
            match value {
                Sample::Float(value) => column.set_float(count, step, value),
                Sample::Histogram(histogram) => histograms.push(step, histogram),
            }
        }
    }
    column.histograms = histograms.finish();
    Ok((column, matched))
}

fn float_columns(
    op: BinaryOp,
    return_bool: bool,
    (left, right): (&Column, &Column),
    steps: &Bitmap,
    cancel: &CancelToken,
) -> Result<Column, QueryError> {
    if steps.is_empty() {
        return Ok(Column {
            values: Vec::new(),
            present: steps.clone(),
            histograms: StepHistograms::default(),
        });
    }
    let (x, y) = (&left.values, &right.values);
    if !op.is_comparison() {
        return Ok(Column {
            values: combine_floats(op, x, y, cancel)?,
            present: steps.clone(),
            histograms: StepHistograms::default(),
        });
    }
    let holds = compare_floats(op, x, y, steps);
    if !return_bool {
        return Ok(Column {
            values: if holds.is_empty() {
                Vec::new()
            } else {
                x.clone()
            },
            present: holds,
            histograms: StepHistograms::default(),
        });
    }
    let mut values = vec![0.0; x.len()];
    for step in holds.iter() {
        values[step] = 1.0;
    }
    Ok(Column {
        values,
        present: steps.clone(),
        histograms: StepHistograms::default(),
    })
}
