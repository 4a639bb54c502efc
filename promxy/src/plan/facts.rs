//! What has to be known of a part of a query before it is given away.

use promql::parser::{At, Expr, NodeId, NodeKind, TimeShift};

use super::{Settings, millis};
use crate::config::Groups;

/// The offsets of selectors and subqueries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offset {
    /// There are none of them.
    None,
    /// All have this one. Milliseconds.
    Same(i64),
    /// They differ, or are worked out only when the query runs.
    Mixed,
}

impl Offset {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, other) => other,
            (own, Self::None) => own,
            (Self::Same(own), Self::Same(other)) if own == other => self,
            _ => Self::Mixed,
        }
    }
}

/// What is known of a node and all below it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Fact {
    pub(super) aggregations: usize,
    pub(super) selectors: usize,
    pub(super) offset: Offset,
    /// The first time that `@` names, in the order of the text.
    pub(super) first_at: Option<i64>,
    /// Whether the time of evaluation has an influence on the value.
    pub(super) looks_at_time: bool,
    /// Whether a function is called that needs the series of all groups at once, or labels that servers do not know.
    pub(super) stays_here: bool,
    /// Whether `@` makes the value the same at every time.
    pub(super) is_pinned: bool,
    pub(super) has_histogram: bool,
    /// Whether the node itself is a function of histograms.
    pub(super) is_histogram_call: bool,
}

/// What is known of all nodes.
pub(super) struct Facts(Vec<(NodeId, Fact)>);

const LOOK_AT_TIME: [&str; 10] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
];

const STAY_HERE: [&str; 6] = [
    "absent",
    "absent_over_time",
    "info",
    "label_join",
    "label_replace",
    "scalar",
];

const OF_HISTOGRAMS: [&str; 6] = [
    "histogram_avg",
    "histogram_count",
    "histogram_sum",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_fraction",
];

impl Facts {
    pub(super) fn of(expr: &Expr, settings: Settings<'_>) -> Self {
        let is_histogram = settings.is_histogram;
        let mut facts = Self(Vec::new());
        for (id, node) in expr.nodes() {
            let mut fact = Fact {
                aggregations: 0,
                selectors: 0,
                offset: Offset::None,
                first_at: None,
                looks_at_time: false,
                stays_here: false,
                is_pinned: true,
                has_histogram: false,
                is_histogram_call: false,
            };
            for child in (0..).map_while(|number| node.kind.child(number)) {
                let child = facts.get(child);
                fact.aggregations += child.aggregations;
                fact.selectors += child.selectors;
                fact.offset = fact.offset.and(child.offset);
                fact.first_at = fact.first_at.or(child.first_at);
                fact.looks_at_time |= child.looks_at_time;
                fact.stays_here |= child.stays_here;
                fact.is_pinned &= child.is_pinned;
                fact.has_histogram |= child.has_histogram;
            }
            match &node.kind {
                NodeKind::Vector(selector) => {
                    fact.selectors = 1;
                    fact.is_pinned = selector.shift.at.is_some();
                    fact.add_shift(&selector.shift);
                    fact.has_histogram = is_histogram(&selector.name)
                        || selector.matchers.iter().any(|matcher| {
                            let names = matcher.name == "__name__" && matcher.op.as_str() == "=";
                            names && is_histogram(&matcher.value.to_str_lossy())
                        });
                }
                NodeKind::Subquery(subquery) => {
                    fact.is_pinned = subquery.shift.at.is_some();
                    fact.add_shift(&subquery.shift);
                    // Offsets of a subquery and of what is in it add up.
                    if fact.offset != Offset::Same(0) {
                        fact.offset = Offset::Mixed;
                    }
                }
                NodeKind::Aggregate(_) => fact.aggregations += 1,
                NodeKind::Call(call) => {
                    let name = call.function.name;
                    fact.looks_at_time |= LOOK_AT_TIME.contains(&name) || name == "year";
                    fact.is_pinned &= !fact.looks_at_time;
                    fact.stays_here |= STAY_HERE.contains(&name);
                    // The buckets of a histogram may be in different groups.
                    fact.stays_here |= settings.groups == Groups::Disjoint
                        && name.starts_with("histogram_quantile");
                    fact.is_histogram_call = OF_HISTOGRAMS.contains(&name);
                    fact.has_histogram |= fact.is_histogram_call;
                }
                _ => {}
            }
            facts.0.push((id, fact));
        }
        facts
    }

    pub(super) fn get(&self, id: NodeId) -> Fact {
        let place = self.0.binary_search_by_key(&id, |(id, _)| *id);
        self.0[place.expect("every node has facts once its children have them")].1
    }
}

impl Fact {
    fn add_shift(&mut self, shift: &TimeShift) {
        let own = millis(&shift.offset).map_or(Offset::Mixed, Offset::Same);
        self.offset = self.offset.and(own);
        if let Some(At::Timestamp(time)) = shift.at {
            self.first_at = self.first_at.or(Some(time));
        }
    }
}
