//! Where in a query the answers of servers go.

use std::collections::BTreeMap;

use promql::parser::{AggregateOp, Expr, Grouping, NodeId, NodeKind, Sign};

use crate::plan::{FetchId, Plan, Replacement};

/// What is put in the place of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// What it is made of.
    pub(super) source: Source,
    /// How much later than fetched it is looked at. Milliseconds.
    pub(super) offset_ms: i64,
    /// Whether it holds at every time.
    pub(super) is_fixed: bool,
}

/// What the value of a node is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// The series of a fetch.
    Series(FetchId),
    /// Partial results of an aggregation that the engine finishes: they stand in the place of its argument.
    Partial(AggregateOp, FetchId),
    /// The sum by a grouping.
    Sum(FetchId, Group),
    /// The sum by a grouping, divided by another.
    Quotient(FetchId, FetchId, Group),
}

impl Source {
    /// Returns the fetches that are needed.
    pub(super) fn fetches(&self) -> impl Iterator<Item = FetchId> {
        let (first, second) = match self {
            Self::Series(fetch) | Self::Partial(_, fetch) | Self::Sum(fetch, _) => (*fetch, None),
            Self::Quotient(sums, counts, _) => (*sums, Some(*counts)),
        };
        std::iter::once(first).chain(second)
    }
}

/// Which labels make a group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// Names of labels.
    pub(super) names: Vec<String>,
    /// Whether these are the labels that count; else all others do, but the metric name.
    pub(super) is_only: bool,
}

/// The replaced nodes of a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(BTreeMap<NodeId, Place>);

impl Places {
    /// Finds the places of all replacements of a plan.
    pub(super) fn of(plan: &Plan) -> Self {
        let places = plan.replacements.iter();
        Self(
            places
                .map(|(id, what)| place(&plan.expr, *id, what))
                .collect(),
        )
    }

    pub(super) fn contains(&self, id: NodeId) -> bool {
        self.0.contains_key(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.values()
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (NodeId, Place)> {
        self.0.into_iter()
    }
}

fn place(expr: &Expr, id: NodeId, what: &Replacement) -> (NodeId, Place) {
    let at = |id, source, offset_ms, is_fixed| {
        let place = Place {
            source,
            offset_ms,
            is_fixed,
        };
        (id, place)
    };
    match *what {
        Replacement::Data { fetch, offset_ms } => at(id, Source::Series(fetch), offset_ms, false),
        Replacement::Fixed { fetch } => at(id, Source::Series(fetch), 0, true),
        Replacement::Aggregate {
            op,
            fetch,
            offset_ms,
        } => match &expr[id].kind {
            NodeKind::Aggregate(aggregate) if aggregate.op == op => {
                let argument = content(expr, aggregate.expr);
                at(argument, Source::Partial(op, fetch), offset_ms, false)
            }
            _ => at(id, Source::Sum(fetch, group(expr, id)), offset_ms, false),
        },
        Replacement::Average {
            sums,
            counts,
            offset_ms,
        } => {
            let source = Source::Quotient(sums, counts, group(expr, id));
            at(id, source, offset_ms, false)
        }
        Replacement::CountValues { fetch, offset_ms } => {
            let mut group = group(expr, id);
            let label = value_label(expr, id);
            if group.is_only {
                group.names.push(label);
            } else {
                group.names.retain(|name| *name != label);
            }
            at(id, Source::Sum(fetch, group), offset_ms, false)
        }
    }
}

/// Returns the grouping of an aggregation.
fn group(expr: &Expr, id: NodeId) -> Group {
    let grouping = match &expr[id].kind {
        NodeKind::Aggregate(aggregate) => aggregate.grouping.as_ref(),
        _ => None,
    };
    Group {
        names: grouping.map_or_else(Vec::new, |grouping| grouping.labels().to_vec()),
        is_only: grouping.is_none_or(Grouping::is_only),
    }
}

/// Returns the label that `count_values` makes.
fn value_label(expr: &Expr, id: NodeId) -> String {
    let param = match &expr[id].kind {
        NodeKind::Aggregate(aggregate) => aggregate.param,
        _ => None,
    };
    match param.map(|param| &expr[content(expr, param)].kind) {
        Some(NodeKind::String(label)) => label.to_str_lossy().into_owned(),
        _ => String::new(),
    }
}

/// Returns the node that the engine knows in the place of one: parentheses and plus signs are nothing to it.
fn content(expr: &Expr, mut id: NodeId) -> NodeId {
    loop {
        id = match expr[id].kind {
            NodeKind::Paren(inner) => inner,
            NodeKind::Unary {
                op: Sign::Plus,
                operand,
            } => operand,
            _ => return id,
        };
    }
}
