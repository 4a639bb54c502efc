//! Which replica saw more samples (`coverage_aware`).
//!
//! A function over a range that falls into a hole of one replica has an answer there all the same, and a wrong one (D11). Such
//! groups are asked twice: for the answer, and for how many samples stood behind it.

use std::collections::{BTreeMap, HashMap};

use promql::parser::{AggregateOp, Expr, NodeId, NodeKind};

use super::time_range::Grid;
use crate::{
    labels::Labels,
    merge::columns::covered,
    series::{Column, Native, Series},
};

/// Returns the query that says how many samples stand behind each value of a query; `None` if that is no function over a range
/// of a selector, nor a sum, minimum, maximum or count of one.
pub(crate) fn counting(expr: &Expr) -> Option<String> {
    match &expr.root().kind {
        NodeKind::Call(_) => counting_call(expr, expr.root_id()),
        NodeKind::Aggregate(aggregate) => {
            let is_simple = matches!(
                aggregate.op,
                AggregateOp::Sum | AggregateOp::Min | AggregateOp::Max | AggregateOp::Count
            );
            let inner = aggregate.expr;
            let counted = counting_call(expr, inner).filter(|_| is_simple)?;
            let mut sums = expr.clone();
            let root = sums.root_id();
            if let NodeKind::Aggregate(aggregate) = &mut sums[root].kind {
                aggregate.op = AggregateOp::Sum;
            }
            let whole = sums.to_string();
            let outer = whole.strip_suffix(')')?;
            let outer = outer.strip_suffix(&expr.display(inner).to_string())?;
            Some(format!("{outer}{counted})"))
        }
        _ => None,
    }
}

fn counting_call(expr: &Expr, id: NodeId) -> Option<String> {
    let NodeKind::Call(call) = &expr[id].kind else {
        return None;
    };
    let mut arguments = call.args.iter();
    let range = arguments.find(|id| matches!(expr[**id].kind, NodeKind::Matrix(_)))?;
    Some(format!("count_over_time({})", expr.display(*range)))
}

/// A replica's answer, and how many samples stand behind each value.
pub(crate) type Counted = (Vec<Series<Column<Native>>>, Vec<Series<Column<Native>>>);

/// Merges replicas, series by series and time by time. The result is sorted.
pub(crate) fn merge(members: Vec<Counted>, grid: Grid) -> Vec<Series<Column<Native>>> {
    let mut all: BTreeMap<Labels, (Column<Native>, Column<Native>)> = BTreeMap::new();
    for (series, seen) in members {
        let seen = seen.into_iter().map(|seen| (seen.labels, seen.data));
        let mut seen: HashMap<Labels, Column<Native>> = seen.collect();
        for Series { labels, data } in series {
            let own = seen
                .remove(&labels)
                .unwrap_or_else(|| Column::empty(grid.len()));
            let merged = match all.remove(&labels) {
                None => (data, own),
                Some((first, first_seen)) => {
                    let taken = covered(first, &first_seen, &data, &own);
                    (taken, more(first_seen, &own))
                }
            };
            all.insert(labels, merged);
        }
    }
    let all = all.into_iter();
    all.map(|(labels, (data, _))| Series { labels, data })
        .collect()
}

/// Takes the larger number at each place.
fn more(mut seen: Column<Native>, other: &Column<Native>) -> Column<Native> {
    for (place, count) in other.iter() {
        if seen.get(place).is_none_or(|own| own < count) {
            seen.set(place, count);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use promql::parser::{ParserOptions, parse};

    use super::*;

    #[test]
    fn functions_over_ranges_are_counted() {
        let f = |query: &str, expected: Option<&str>| {
            let expr = parse(query, &ParserOptions::v3_5()).unwrap();
            assert_eq!(counting(&expr).as_deref(), expected, "{query}");
        };
        f(
            "rate(x{a=\"b\"}[5m])",
            Some("count_over_time(x{a=\"b\"}[5m])"),
        );
        f(
            "quantile_over_time(0.5, x[5m])",
            Some("count_over_time(x[5m])"),
        );
        f(
            "max by (job) (increase(x[1h]))",
            Some("sum by (job) (count_over_time(x[1h]))"),
        );
        f("x", None);
        f("sum(x)", None);
        f("abs(x)", None);
        f("topk(2, rate(x[5m]))", None);
    }

    #[test]
    fn the_replica_with_more_samples_is_taken() {
        let grid = Grid {
            start: 0,
            end: 2000,
            step: 1000,
        };
        let member = |values: [f64; 3], seen: [f64; 3]| {
            let series = |values: [f64; 3]| {
                let mut data = Column::empty(3);
                for (place, value) in values.into_iter().enumerate() {
                    data.set(place, value);
                }
                let labels = Labels::empty();
                vec![Series { labels, data }]
            };
            (series(values), series(seen))
        };
        let merged = merge(
            vec![
                member([1.0, 1.0, 1.0], [20.0, 5.0, 20.0]),
                member([2.0, 2.0, 2.0], [20.0, 20.0, 19.0]),
            ],
            grid,
        );
        assert_eq!(merged[0].data.values(), [1.0, 2.0, 1.0]);
    }
}
