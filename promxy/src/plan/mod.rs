//! Which requests a query becomes, and what is left to evaluate here.
//!
//! In reading order:
//!
//! * [`plan`]: one walk from the root of a query down; what the servers can evaluate becomes a [`Fetch`], the rest stays
//! * [`plan_keeping`]: the same once it is known what cannot be given away
//! * [`Replacement`]: what a node becomes once its fetch is there
//! * `facts`: what has to be known of a part of a query before it is given away, worked out in one pass from the leaves up
//! * [`for_target`]: a request's text as one target gets it
//!
//! Equal fetches are made once, and none depends on another, so all of them can run at the same time. The rules are the original's,
//! but what it gets wrong stays here: comparisons after aggregates (D2), functions that look at the time of evaluation under an
//! offset (D4), `scalar` (D5).

mod facts;
mod target;

use std::collections::HashMap;

use promql::parser::{
    Aggregate, AggregateOp, At, Binary, DurationValue, Expr, NodeId, NodeKind, TimeShift,
};

use crate::{config::Groups, servergroup::time_range::Grid};
use facts::{Facts, Offset};
pub use target::{TargetRules, expr_for_target, for_target, raw_for_target};

/// What a plan depends on beside the query.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// The step of subqueries that have none. Milliseconds.
    pub default_step_ms: i64,
    /// Whether groups may hold the same series.
    pub groups: Groups,
    /// Whether servers have labels that are dropped here, so that several of their series are one here.
    pub loses_labels: bool,
    /// Whether a metric of this name is a native histogram.
    pub is_histogram: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for Settings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("default_step_ms", &self.default_step_ms)
            .field("groups", &self.groups)
            .field("loses_labels", &self.loses_labels)
            .finish_non_exhaustive()
    }
}

/// An expression that every group evaluates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// The expression.
    pub text: String,
    /// The times.
    pub grid: Grid,
}

impl Fetch {
    /// Returns the text of an instant query for raw samples, which is asked at the last time.
    pub fn raw_text(selector: &str, start: i64, end: i64) -> String {
        let seconds = end.saturating_sub(start).div_euclid(1000) + 1;
        format!("{selector}[{seconds}s]")
    }
}

/// Names a fetch of a plan.
pub type FetchId = usize;

/// What a node becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// What was fetched, at the node's own times, `offset_ms` later than it was fetched for.
    Data {
        /// The fetch.
        fetch: FetchId,
        /// The offset that was taken out of the text. Milliseconds.
        offset_ms: i64,
    },
    /// A vector that holds at every time: what was fetched for a time that `@` names.
    Fixed {
        /// The fetch.
        fetch: FetchId,
    },
    /// The aggregation of this operation, with the node's grouping and parameter, of what was fetched.
    Aggregate {
        /// The operation; of partial counts, the sum.
        op: AggregateOp,
        /// The fetch.
        fetch: FetchId,
        /// As in `Data`.
        offset_ms: i64,
    },
    /// The sum of sums divided by the sum of counts, each by the node's grouping.
    Average {
        /// The fetch of sums.
        sums: FetchId,
        /// The fetch of counts.
        counts: FetchId,
        /// As in `Data`.
        offset_ms: i64,
    },
    /// The sum by the node's grouping and the label that the node names, also where the grouping is `without`.
    CountValues {
        /// The fetch.
        fetch: FetchId,
        /// As in `Data`.
        offset_ms: i64,
    },
}

impl Replacement {
    /// Returns the fetches that are needed.
    pub fn fetches(&self) -> impl Iterator<Item = FetchId> {
        let (first, second) = match *self {
            Self::Data { fetch, .. }
            | Self::Fixed { fetch }
            | Self::Aggregate { fetch, .. }
            | Self::CountValues { fetch, .. } => (fetch, None),
            Self::Average { sums, counts, .. } => (sums, Some(counts)),
        };
        std::iter::once(first).chain(second)
    }
}

/// A planned query.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The query, with the times of `start()` and `end()` filled in.
    pub expr: Expr,
    /// What servers evaluate, each once.
    pub fetches: Vec<Fetch>,
    /// What nodes become; no node below one of these has to be evaluated. The selectors of all others need raw samples.
    pub replacements: Vec<(NodeId, Replacement)>,
    /// The selectors whose series are known to be native histograms, which not every way of fetching keeps whole.
    pub of_histograms: Vec<NodeId>,
}

/// Plans a query that is evaluated at the times of a grid.
///
/// ```
/// use promql::parser::{ParserOptions, parse};
/// use promxy::{config::Groups, plan::{Fetch, Settings, plan}, servergroup::time_range::Grid};
///
/// let query = parse("sum by (job) (rate(errors_total[5m])) / scalar(up) > 2", &ParserOptions::v3_5())?;
/// let settings = Settings { default_step_ms: 60_000, groups: Groups::Overlapping, loses_labels: false, is_histogram: &|_| false };
/// let plan = plan(&query, Grid::instant(0), settings);
/// let texts: Vec<&str> = plan.fetches.iter().map(|fetch| fetch.text.as_str()).collect();
/// assert_eq!(texts, ["sum by (job) (rate(errors_total[5m]))", "up"]);
/// # Ok::<(), promql::parser::ParseError>(())
/// ```
pub fn plan(query: &Expr, grid: Grid, settings: Settings<'_>) -> Plan {
    plan_keeping(query, grid, settings, &[])
}

/// As [`plan`], but nothing of some nodes is given away: those of whose answers it turned out that they hold histograms.
pub fn plan_keeping(query: &Expr, grid: Grid, settings: Settings<'_>, kept: &[NodeId]) -> Plan {
    let mut expr = query.clone();
    fill_in_ends(&mut expr, grid);
    let facts = Facts::of(&expr, settings);
    let has_histograms = facts.get(expr.root_id()).has_histogram;
    let mut of_histograms = Vec::new();
    let mut planner = Planner {
        expr: &expr,
        stripped: without_offsets(&expr),
        facts: &facts,
        settings,
        fetches: Vec::new(),
        known: HashMap::new(),
        replacements: Vec::new(),
    };
    let mut stack = vec![Visit {
        id: expr.root_id(),
        grid,
        is_kept: has_histograms,
        is_of_histograms: false,
    }];
    while let Some(mut visit) = stack.pop() {
        // A subquery whose steps are longer than its range may have none.
        if visit.grid.is_empty() {
            continue;
        }
        let (kind, fact) = (&expr[visit.id].kind, facts.get(visit.id));
        visit.is_kept |= kept.contains(&visit.id);
        visit.is_of_histograms |= fact.is_histogram_call;
        let is_selector = matches!(kind, NodeKind::Vector(_));
        if is_selector && (visit.is_of_histograms || fact.has_histogram) {
            of_histograms.push(visit.id);
        }
        // The selector of a range is no part of its own.
        if matches!(kind, NodeKind::Matrix(_)) && !visit.is_kept {
            continue;
        }
        if !visit.is_kept && planner.replace(visit) {
            continue;
        }
        let below = planner.grid_below(visit);
        // The second argument of `info` is a list of matchers in the form of a selector.
        let is_info = matches!(kind, NodeKind::Call(call) if call.function.name == "info");
        let most = if is_info { 1 } else { usize::MAX };
        let children = (0..most).map_while(|number| kind.child(number));
        // The leftmost is visited first.
        let children: Vec<NodeId> = children.collect();
        stack.extend(children.into_iter().rev().map(|id| Visit {
            id,
            grid: below,
            ..visit
        }));
    }
    let Planner {
        fetches,
        replacements,
        ..
    } = planner;
    Plan {
        expr,
        fetches,
        replacements,
        of_histograms,
    }
}

/// Splits a grid into parts of at most so many times, for servers that answer no more.
pub fn split(grid: Grid, most: usize) -> Vec<Grid> {
    let (length, most) = (grid.len(), most.max(1));
    if length <= most {
        return vec![grid];
    }
    let part = |first: usize| Grid {
        start: grid.time(first),
        end: grid.time((first + most - 1).min(length - 1)),
        step: grid.step,
    };
    (0..length).step_by(most).map(part).collect()
}

/// Replaces `start()` and `end()` by the query's times.
fn fill_in_ends(expr: &mut Expr, grid: Grid) {
    let ids: Vec<NodeId> = expr.nodes().map(|(id, _)| id).collect();
    for id in ids {
        let shift = match &mut expr[id].kind {
            NodeKind::Vector(selector) => &mut selector.shift,
            NodeKind::Subquery(subquery) => &mut subquery.shift,
            _ => continue,
        };
        shift.at = match shift.at {
            Some(At::Start) => Some(At::Timestamp(grid.start)),
            Some(At::End) => Some(At::Timestamp(grid.end)),
            at => at,
        };
    }
}

/// Returns an expression without the offsets of its selectors and subqueries.
fn without_offsets(expr: &Expr) -> Expr {
    let mut expr = expr.clone();
    let ids: Vec<NodeId> = expr.nodes().map(|(id, _)| id).collect();
    for id in ids {
        let shift = match &mut expr[id].kind {
            NodeKind::Vector(selector) => &mut selector.shift,
            NodeKind::Subquery(subquery) => &mut subquery.shift,
            _ => continue,
        };
        shift.offset = DurationValue::Fixed(promql::SignedDuration::ZERO);
    }
    expr
}

/// A node on the way down.
#[derive(Clone, Copy)]
struct Visit {
    id: NodeId,
    /// When it is evaluated.
    grid: Grid,
    /// Whether it must be evaluated here, because histograms may be below.
    is_kept: bool,
    /// Whether a function of histograms is above.
    is_of_histograms: bool,
}

struct Planner<'a> {
    expr: &'a Expr,
    /// The same without offsets.
    stripped: Expr,
    facts: &'a Facts,
    settings: Settings<'a>,
    fetches: Vec<Fetch>,
    /// The places of `fetches`.
    known: HashMap<Fetch, FetchId>,
    replacements: Vec<(NodeId, Replacement)>,
}

/// What a pushed node is asked for.
struct Asked {
    grid: Grid,
    offset_ms: i64,
    /// Whether offsets are taken out of the text.
    strips: bool,
}

impl Planner<'_> {
    /// Replaces a node if that is right, and says whether it did.
    fn replace(&mut self, visit: Visit) -> bool {
        let Visit { id, grid, .. } = visit;
        let kind = &self.expr[id].kind;
        let facts = self.facts.get(id);
        let offset_ms = match facts.offset {
            Offset::Same(offset_ms) if facts.selectors == 1 => offset_ms,
            _ => return false,
        };
        if facts.stays_here {
            return false;
        }
        let strips = facts.first_at.is_none() && !facts.looks_at_time;
        let asked = Asked {
            grid: if strips {
                grid.shifted(offset_ms)
            } else {
                grid
            },
            offset_ms: if strips { offset_ms } else { 0 },
            strips,
        };
        match kind {
            NodeKind::Vector(_) => self.data(id, &asked),
            NodeKind::Call(call) => {
                if facts.aggregations > 0 {
                    return false;
                }
                match facts.first_at {
                    Some(at) if !grid.is_instant() && facts.is_pinned => {
                        let text = self.text(id, asked.strips, None);
                        let fetch = self.fetch(Fetch {
                            text,
                            grid: Grid::instant(at),
                        });
                        self.replacements.push((id, Replacement::Fixed { fetch }));
                        true
                    }
                    // Of sorted vectors the order counts, and that is made here.
                    _ if matches!(call.function.name, "sort" | "sort_desc") => false,
                    _ => self.data(id, &asked),
                }
            }
            NodeKind::Binary(binary) => {
                self.is_selector_with_literal(binary) && self.data(id, &asked)
            }
            NodeKind::Aggregate(aggregate)
                if facts.aggregations == 1 && !self.settings.loses_labels =>
            {
                self.aggregate(id, aggregate, &asked)
            }
            _ => false,
        }
    }

    fn aggregate(&mut self, id: NodeId, aggregate: &Aggregate, asked: &Asked) -> bool {
        let offset_ms = asked.offset_ms;
        let names_metric = aggregate.grouping.as_ref().is_some_and(|grouping| {
            grouping.is_only() && grouping.labels().iter().any(|label| label == "__name__")
        });
        let replacement = match aggregate.op {
            AggregateOp::Sum
            | AggregateOp::Min
            | AggregateOp::Max
            | AggregateOp::Group
            | AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Count => {
                let fetch = self.query(id, asked, None);
                let op = match aggregate.op {
                    AggregateOp::Count => AggregateOp::Sum,
                    op => op,
                };
                Replacement::Aggregate {
                    op,
                    fetch,
                    offset_ms,
                }
            }
            // A quotient has no metric name, so there the average is made here.
            AggregateOp::Avg if !names_metric => Replacement::Average {
                sums: self.query(id, asked, Some(AggregateOp::Sum)),
                counts: self.query(id, asked, Some(AggregateOp::Count)),
                offset_ms,
            },
            AggregateOp::CountValues => Replacement::CountValues {
                fetch: self.query(id, asked, None),
                offset_ms,
            },
            _ => return false,
        };
        self.replacements.push((id, replacement));
        true
    }

    /// Whether a binary expression is a selector and a literal.
    fn is_selector_with_literal(&self, binary: &Binary) -> bool {
        let is_literal = |id: NodeId| {
            matches!(
                self.expr[id].kind,
                NodeKind::Number(_) | NodeKind::String(_)
            )
        };
        let is_selector = |id: NodeId| matches!(self.expr[id].kind, NodeKind::Vector(_));
        is_literal(binary.lhs) && is_selector(binary.rhs)
            || is_selector(binary.lhs) && is_literal(binary.rhs)
    }

    fn data(&mut self, id: NodeId, asked: &Asked) -> bool {
        let fetch = self.query(id, asked, None);
        let offset_ms = asked.offset_ms;
        self.replacements
            .push((id, Replacement::Data { fetch, offset_ms }));
        true
    }

    fn query(&mut self, id: NodeId, asked: &Asked, op: Option<AggregateOp>) -> FetchId {
        let text = self.text(id, asked.strips, op);
        let grid = asked.grid;
        self.fetch(Fetch { text, grid })
    }

    fn fetch(&mut self, fetch: Fetch) -> FetchId {
        if let Some(same) = self.known.get(&fetch) {
            return *same;
        }
        let id = self.fetches.len();
        self.fetches.push(fetch.clone());
        self.known.insert(fetch, id);
        id
    }

    /// Writes a node, without offsets if they are stripped, with another operation if one is given.
    fn text(&self, id: NodeId, strips: bool, op: Option<AggregateOp>) -> String {
        let expr = if strips { &self.stripped } else { self.expr };
        let text = expr.display(id).to_string();
        match (op, &expr[id].kind) {
            (Some(op), NodeKind::Aggregate(aggregate)) => {
                let rest = text.strip_prefix(aggregate.op.as_str()).unwrap_or(&text);
                format!("{}{rest}", op.as_str())
            }
            _ => text,
        }
    }

    /// Returns when the children of a node are evaluated.
    fn grid_below(&self, visit: Visit) -> Grid {
        let NodeKind::Subquery(subquery) = &self.expr[visit.id].kind else {
            return visit.grid;
        };
        let (first, last) = times(&subquery.shift, visit.grid);
        let step = subquery
            .step
            .as_ref()
            .and_then(millis)
            .filter(|step| *step > 0);
        let step = step.unwrap_or(self.settings.default_step_ms).max(1);
        let from = first.saturating_sub(millis(&subquery.range).unwrap_or(0));
        // The first whole step after the start, which itself does not belong to the range.
        let start = from.div_euclid(step).saturating_add(1).saturating_mul(step);
        let end = last;
        Grid { start, end, step }
    }
}

/// Returns the first and the last time at which something shifted looks.
fn times(shift: &TimeShift, grid: Grid) -> (i64, i64) {
    let offset = millis(&shift.offset).unwrap_or(0);
    let grid = match shift.at {
        Some(At::Timestamp(time)) => Grid::instant(time),
        _ => grid,
    };
    let grid = grid.shifted(offset);
    (grid.start, grid.end)
}

/// Returns the milliseconds of a duration that was written as one.
fn millis(duration: &DurationValue) -> Option<i64> {
    match duration {
        DurationValue::Fixed(duration) => Some(duration.as_millis()),
        DurationValue::Expr(_) => None,
    }
}
