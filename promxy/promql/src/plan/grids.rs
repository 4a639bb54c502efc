//! From the root down: on which grid each node is evaluated, and what its selectors ask of storage.
//!
//! Follows `runSubquery`, `setOffsetForAtModifier` and `populateSeries` in `promql/engine.go`.

use super::{Plan, PlanId, PlanKind, Select, Selector, Settings, SubqueryPlan};
use crate::exec::Grid;
use crate::parser::{BinaryOp, Compat, ExtendedRange, Grouping, NodeId};
use crate::storage::SelectHints;

/// What a node inherits from those above it.
#[derive(Clone)]
struct Above {
    grid: Grid,
    /// The offsets and ranges of all subqueries above, in milliseconds, since the last that is pinned.
    subquery_offset: i64,
    subquery_range: i64,
    /// The time that the last pinned subquery is pinned to.
    subquery_at: Option<i64>,
    /// The step of the innermost subquery; zero without any.
    subquery_step: i64,
    /// The nearest function or aggregation, empty beyond a binary operator.
    function: &'static str,
    /// The grouping of the aggregation directly above.
    grouping: Option<Grouping>,
    counts: CountsOnly,
}

/// Whether count and sum of histograms are all that is looked at, by what is above.
#[derive(Clone, Copy, Default)]
struct CountsOnly {
    /// `histogram_count`, `histogram_sum` or `histogram_avg` is above.
    asked: bool,
    /// Something that looks at buckets is.
    refused: bool,
    /// What the nearest of those functions wants, for 3.5.
    nearest: bool,
}

impl CountsOnly {
    fn holds(self, compat: Compat) -> bool {
        match compat {
            Compat::V3_5 => self.nearest,
            Compat::V3_14 => self.asked && !self.refused,
        }
    }

    /// Goes below a function. 3.5 overlooks the one that is the whole query.
    fn below_function(&mut self, name: &str, is_query: bool) {
        match name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => {
                self.asked = true;
                self.nearest = !is_query;
            }
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                self.refused = true;
                self.nearest = false;
            }
            _ => {}
        }
    }
}

impl Plan {
    pub(super) fn assign_grids(
        &mut self,
        wrapped: &[bool],
        settings: &Settings<'_>,
        query: NodeId,
    ) {
        let top = Above {
            grid: settings.grid,
            subquery_offset: 0,
            subquery_range: 0,
            subquery_at: None,
            subquery_step: 0,
            function: "",
            grouping: None,
            counts: CountsOnly::default(),
        };
        let mut inherited: Vec<Option<Above>> = vec![None; self.nodes.len()];
        inherited[self.root.index()] = Some(top);
        let looked_at = self.reference_times(settings.compat);
        for index in (0..self.nodes.len()).rev() {
            let Some(mut above) = inherited[index].take() else {
                continue;
            };
            if wrapped[index] {
                self.nodes[index].repeated = Some(above.grid);
                above.grid = above.grid.first_only();
                above.grouping = None;
            }
            if let Some(info) = self.info_select(index, above.grid, &looked_at, settings) {
                self.selects.push(info);
            }
            let next_select = self.selects.len();
            let node = &mut self.nodes[index];
            node.needed = true;
            node.grid = above.grid;
            let id = PlanId(index as u32);
            match &mut node.kind {
                PlanKind::Number(_) | PlanKind::String(_) => {}
                PlanKind::Selector(selector) => {
                    selector.pin(above.grid);
                    selector.counts_only = above.counts.holds(settings.compat);
                    let hints = above.hints(selector, 0, settings);
                    self.selects
                        .push(new_select(selector, hints, id, next_select));
                }
                PlanKind::Range(range) => {
                    above.grouping = None;
                    range.selector.pin(above.grid);
                    range.selector.counts_only = above.counts.holds(settings.compat);
                    let hints = above.hints(&range.selector, range.range, settings);
                    let select = new_select(&mut range.selector, hints, id, next_select);
                    self.selects.push(select);
                }
                PlanKind::Subquery(subquery) => {
                    if let Some(at) = subquery.at {
                        subquery.offset = shifted(subquery.original_offset, above.grid, at);
                    }
                    let below = above.below_subquery(subquery, settings.compat);
                    inherited[subquery.expr.index()] = Some(below);
                }
                PlanKind::Negate(operand) => {
                    above.grouping = None;
                    inherited[operand.index()] = Some(above);
                }
                PlanKind::Binary(binary) => {
                    above.grouping = None;
                    above.function = "";
                    above.counts.refused |=
                        matches!(binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
                    inherited[binary.lhs.index()] = Some(above.clone());
                    inherited[binary.rhs.index()] = Some(above);
                }
                PlanKind::Call(call) => {
                    above.grouping = None;
                    above.function = call.function.name;
                    above
                        .counts
                        .below_function(call.function.name, node.expr == query);
                    // The second argument of `info` is conditions, not an expression.
                    let evaluated = if call.info.is_some() {
                        1
                    } else {
                        call.args.len()
                    };
                    for arg in &call.args[..evaluated] {
                        inherited[arg.index()] = Some(above.clone());
                    }
                }
                PlanKind::Aggregate(aggregate) => {
                    above.function = aggregate.op.as_str();
                    above.grouping.clone_from(&aggregate.grouping);
                    if let Some(param) = aggregate.param {
                        inherited[param.index()] = Some(above.clone());
                    }
                    inherited[aggregate.expr.index()] = Some(above);
                }
            }
        }
        if settings.compat == Compat::V3_5 {
            self.clip_infos(settings);
            let first = self.first_selector();
            for select in &mut self.selects {
                select.counts_only &= Some(select.node) == first;
            }
        }
        // Selects in the order of the query's text.
        self.selects.reverse();
        let last = self.selects.len().wrapping_sub(1);
        for node in &mut self.nodes {
            match &mut node.kind {
                PlanKind::Selector(selector) => {
                    selector.select = last.wrapping_sub(selector.select);
                }
                PlanKind::Range(range) => {
                    range.selector.select = last.wrapping_sub(range.selector.select);
                }
                PlanKind::Call(call) => {
                    if let Some(info) = &mut call.info {
                        info.select = last.wrapping_sub(info.select);
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns the selector that 3.5 comes upon first, the only one for which it thinks of leaving buckets out.
    fn first_selector(&self) -> Option<PlanId> {
        let mut pending = vec![self.root];
        while let Some(id) = pending.pop() {
            let node = &self.nodes[id.index()];
            match &node.kind {
                PlanKind::Selector(_) | PlanKind::Range(_) => return Some(id),
                // A parameter comes after what is aggregated.
                PlanKind::Aggregate(aggregate) => {
                    pending.extend(aggregate.param);
                    pending.push(aggregate.expr);
                }
                _ => pending.extend(self.children_of(node).into_iter().rev()),
            }
        }
        None
    }

    /// Returns the first and last time that any select looks at; zeros if there is none.
    pub(crate) fn time_range(&self) -> (i64, i64) {
        let starts = self.selects.iter().map(|select| select.hints.start);
        let ends = self.selects.iter().map(|select| select.hints.end);
        (starts.min().unwrap_or(0), ends.max().unwrap_or(0))
    }
}

fn new_select(selector: &mut Selector, hints: SelectHints, node: PlanId, index: usize) -> Select {
    selector.select = index;
    Select {
        matchers: selector.matchers.clone(),
        hints,
        counts_only: selector.counts_only,
        node,
    }
}

/// Returns the offset that leads from the first step of a grid to a time and further by an offset.
fn shifted(original_offset: i64, grid: Grid, at: i64) -> i64 {
    original_offset.saturating_add(grid.start.saturating_sub(at))
}

impl Selector {
    /// Makes the offset of a pinned selector lead from the first step to its time.
    fn pin(&mut self, grid: Grid) {
        if let Some(at) = self.at {
            self.offset = shifted(self.original_offset, grid, at);
        }
    }
}

impl Above {
    fn below_subquery(mut self, subquery: &SubqueryPlan, compat: Compat) -> Self {
        let (outer, step) = (self.grid, subquery.step);
        // From 3.13 on nothing is evaluated after the last step that looks at it.
        let last = match compat {
            Compat::V3_14 if outer.count > 0 => outer.last(),
            _ => outer.end,
        };
        let before = outer
            .start
            .saturating_sub(subquery.offset)
            .saturating_sub(subquery.range);
        let mut start = step * (before / step);
        if start <= before {
            start = start.saturating_add(step);
        }
        self.grid = Grid::new(start, last.saturating_sub(subquery.offset), step);
        if outer.count == 0 {
            self.grid.count = 0;
        }
        if let Some(at) = subquery.at {
            self.subquery_at = Some(at);
            (self.subquery_offset, self.subquery_range) = (0, 0);
        }
        self.subquery_offset = self
            .subquery_offset
            .saturating_add(subquery.original_offset);
        self.subquery_range = self.subquery_range.saturating_add(subquery.range);
        self.subquery_step = step;
        self.grouping = None;
        self.counts.refused = true;
        self
    }

    fn hints(&self, selector: &Selector, range: i64, settings: &Settings<'_>) -> SelectHints {
        let query = settings.grid;
        let (mut start, mut end) = match self.subquery_at {
            Some(at) => (at, at),
            None => (query.start, query.end),
        };
        if let Some(at) = selector.at {
            (start, end) = (at, at);
        } else {
            start = start
                .saturating_sub(self.subquery_offset)
                .saturating_sub(self.subquery_range);
            end = end.saturating_sub(self.subquery_offset);
        }
        let (before, after) = match (selector.extended, range) {
            (None | Some(ExtendedRange::Anchored), 0) => (settings.lookback, 0),
            (Some(ExtendedRange::Smoothed), 0) => (settings.lookback, settings.lookback),
            (None, range) => (range, 0),
            (Some(ExtendedRange::Anchored), range) => (range + settings.lookback, 0),
            (Some(ExtendedRange::Smoothed), range) => {
                (range + settings.lookback, settings.lookback)
            }
        };
        SelectHints {
            // The sample exactly at the far edge does not count.
            start: start
                .saturating_sub(before - 1)
                .saturating_sub(selector.original_offset),
            end: end
                .saturating_add(after)
                .saturating_sub(selector.original_offset),
            step: match self.subquery_step {
                0 => settings.step,
                step => step,
            },
            function: self.function,
            grouping: self
                .grouping
                .as_ref()
                .map(|grouping| grouping.labels().to_vec())
                .unwrap_or_default(),
            by: self.grouping.as_ref().is_some_and(Grouping::is_only),
            range,
        }
    }
}
