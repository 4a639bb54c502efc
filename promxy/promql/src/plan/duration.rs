//! Duration expressions: arithmetic whose operands are known once the query's times are.
//!
//! Follows `promql/durations.go`; pinned by `duration_expression.test`.

use crate::error::QueryError;
use crate::gomath;
use crate::parser::{DurationExpr, DurationKind, DurationNode, DurationOp, DurationValue, Sign};

/// Whether a duration may be zero or negative.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounds {
    /// A range or a step.
    Positive,
    /// An offset.
    Any,
}

/// The times of a query that a duration can refer to, in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct QueryTimes {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) step: i64,
}

/// Returns a duration in milliseconds.
pub(super) fn resolve(
    duration: &DurationValue,
    bounds: Bounds,
    times: QueryTimes,
) -> Result<i64, QueryError> {
    let expr = match duration {
        DurationValue::Fixed(duration) => return Ok(duration.as_millis()),
        DurationValue::Expr(expr) => expr,
    };
    let seconds = evaluate(expr, times)?;
    let root = &expr[expr.root_id()];
    if !seconds.is_finite() {
        return Err(error(root, "duration is NaN or infinite"));
    }
    if seconds <= 0.0 && bounds == Bounds::Positive {
        return Err(error(root, "duration must be greater than 0"));
    }
    let limit = (1_u64 << 63) as f64 / 1e9;
    if !(-limit..=limit).contains(&seconds) {
        return Err(error(root, "duration is out of range"));
    }
    Ok((seconds * 1000.0) as i64)
}

fn evaluate(expr: &DurationExpr, times: QueryTimes) -> Result<f64, QueryError> {
    let mut seconds: Vec<f64> = Vec::with_capacity(expr.nodes().len());
    for node in expr.nodes() {
        let value = match &node.kind {
            DurationKind::Number(number) => number.value,
            DurationKind::Step => times.step as f64 / 1000.0,
            DurationKind::Range => (times.end - times.start) as f64 / 1000.0,
            DurationKind::Unary { op, operand } => {
                let value = seconds[operand.index()];
                match op {
                    Sign::Plus => value,
                    Sign::Minus => -value,
                }
            }
            DurationKind::Binary { op, lhs, rhs } => {
                let (x, y) = (seconds[lhs.index()], seconds[rhs.index()]);
                match op {
                    DurationOp::Div if y == 0.0 => return Err(error(node, "division by zero")),
                    DurationOp::Mod if y == 0.0 => return Err(error(node, "modulo by zero")),
                    DurationOp::Add => x + y,
                    DurationOp::Sub => x - y,
                    DurationOp::Mul => x * y,
                    DurationOp::Div => x / y,
                    DurationOp::Mod => gomath::modulo(x, y),
                    DurationOp::Pow => gomath::pow(x, y),
                    DurationOp::MinOf => gomath::min(x, y),
                    DurationOp::MaxOf => gomath::max(x, y),
                }
            }
        };
        seconds.push(value);
    }
    Ok(seconds.last().copied().unwrap_or_default())
}

fn error(node: &DurationNode, text: &str) -> QueryError {
    QueryError::execution(format!("{}:{}: {text}", node.span.start, node.span.end))
}
