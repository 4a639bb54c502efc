//! The same query with every selector pinned to the time of evaluation, which must not change its result.

use crate::parser::{At, Expr, NodeId, NodeKind, ParserOptions, parse};

/// Functions that look at the time of evaluation and not only at their arguments.
const TIME_DEPENDENT: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

/// Returns the query with `@` everywhere, and times at which it has the result that it has at `time`; nothing if its result depends
/// on when it is evaluated.
pub(super) fn pinned(query: &str, time: i64, options: ParserOptions) -> Option<(String, Vec<i64>)> {
    let mut expr = parse(query, &options).ok()?;
    let ids: Vec<NodeId> = expr.nodes().map(|(id, _)| id).collect();
    // What is below a pinned subquery stays as it is.
    let mut sheltered: Vec<NodeId> = Vec::new();
    for id in ids.into_iter().rev() {
        let is_sheltered = sheltered.contains(&id);
        if !is_sheltered && !pin(&mut expr, id, time) {
            return None;
        }
        if is_sheltered || is_pinned_subquery(&expr, id) {
            let kind = &expr[id].kind;
            sheltered.extend((0..).map_while(|number| kind.child(number)));
        }
    }
    let times = if time == 0 {
        vec![-1000, 0, 1000]
    } else {
        vec![-10 * time, 0, time / 5, time, 10 * time]
    };
    Some((expr.to_string(), times))
}

/// Pins a node; returns whether it is none that depends on the time of evaluation.
fn pin(expr: &mut Expr, id: NodeId, time: i64) -> bool {
    let shift = match &mut expr[id].kind {
        NodeKind::Vector(selector) => &mut selector.shift,
        NodeKind::Subquery(subquery) => &mut subquery.shift,
        NodeKind::Call(call) => return !TIME_DEPENDENT.contains(&call.function.name),
        _ => return true,
    };
    if !matches!(shift.at, Some(At::Timestamp(_))) {
        shift.at = Some(At::Timestamp(time));
    }
    true
}

fn is_pinned_subquery(expr: &Expr, id: NodeId) -> bool {
    matches!(&expr[id].kind, NodeKind::Subquery(subquery) if subquery.shift.at.is_some())
}
