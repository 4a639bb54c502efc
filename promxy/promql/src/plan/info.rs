//! The selects of `info`.
//!
//! Follows `infoSelectHints` and `effectiveInfoNameMatchers` in `promql/info.go`.

use super::{InfoPlan, Plan, PlanId, PlanKind, RangeSelector, Select, Settings};
use crate::Text;
use crate::exec::Grid;
use crate::labels::{LabelMatcher, METRIC_NAME};
use crate::parser::{Compat, MatchOp, Matcher};
use crate::storage::SelectHints;

/// Returns the conditions on the names of info metrics: those given, among which one has to ask for something, or the default.
/// 3.5 takes any condition that is given.
pub(crate) fn effective_info_names(matchers: &[LabelMatcher], compat: Compat) -> Vec<LabelMatcher> {
    let mut names: Vec<LabelMatcher> = matchers
        .iter()
        .filter(|matcher| matcher.name() == METRIC_NAME)
        .cloned()
        .collect();
    let asks =
        |matcher: &LabelMatcher| matches!(matcher.matcher().op, MatchOp::Equal | MatchOp::Regex);
    if names.iter().any(asks) || compat == Compat::V3_5 && !names.is_empty() {
        return names;
    }
    let (op, value) = if names.is_empty() {
        (MatchOp::Equal, "target_info")
    } else {
        (MatchOp::Regex, ".+_info")
    };
    let default = LabelMatcher::new(&Matcher {
        name: METRIC_NAME.into(),
        op,
        value: Text::from(value),
    });
    names.insert(0, default.expect("the pattern is valid"));
    names
}

impl Plan {
    /// If a node is a call of `info`, returns the select of its info series, which will be the next one.
    pub(super) fn info_select(
        &mut self,
        index: usize,
        grid: Grid,
        settings: &Settings<'_>,
    ) -> Option<Select> {
        let next = self.selects.len();
        let PlanKind::Call(call) = &self.nodes[index].kind else {
            return None;
        };
        if call.function.name != "info" {
            return None;
        }
        let given: &[LabelMatcher] = match call.args.get(1).map(|arg| &self.nodes[arg.index()].kind)
        {
            Some(PlanKind::Selector(selector)) => &selector.matchers,
            _ => &[],
        };
        let mut matchers = effective_info_names(given, settings.compat);
        let others = given.iter().filter(|matcher| matcher.name() != METRIC_NAME);
        matchers.extend(others.cloned());
        let (at, offset) = self.reference_time(call.args[0], settings.compat);
        let (mut start, mut end) = at.map_or((grid.start, grid.end), |at| (at, at));
        start = start
            .saturating_sub(settings.lookback - 1)
            .saturating_sub(offset);
        end = end.saturating_sub(offset);
        let info = InfoPlan {
            select: next,
            start,
            end,
            at,
            offset,
        };
        // 3.5 selects for that time, but then looks at the time of the step.
        let info = match settings.compat {
            Compat::V3_14 => info,
            Compat::V3_5 => InfoPlan {
                at: None,
                offset: 0,
                ..info
            },
        };
        if let PlanKind::Call(call) = &mut self.nodes[index].kind {
            call.info = Some(info);
        }
        Some(Select {
            matchers: matchers.into(),
            hints: SelectHints {
                start,
                end,
                step: grid.step,
                function: "info",
                ..SelectHints::default()
            },
            counts_only: false,
            node: PlanId(index as u32),
        })
    }

    /// Leaves calls of `info` only the time that selectors of the query look at, for which 3.5 opens the storage.
    pub(super) fn clip_infos(&mut self, settings: &Settings<'_>) {
        let mut times: Vec<(i64, i64)> = Vec::new();
        for select in &self.selects {
            let node = &self.nodes[select.node.index()];
            match &node.kind {
                // The conditions are a selector of the query too.
                PlanKind::Call(call) if call.args.len() > 1 => {
                    let start = node.grid.start.saturating_sub(settings.lookback - 1);
                    times.push((start, node.grid.end));
                }
                PlanKind::Call(_) => {}
                _ => times.push((select.hints.start, select.hints.end)),
            }
        }
        let Some(first) = times.iter().map(|(start, _)| *start).min() else {
            return;
        };
        let last = times.iter().map(|(_, end)| *end).max().unwrap_or(first);
        for node in &mut self.nodes {
            if let PlanKind::Call(call) = &mut node.kind
                && let Some(info) = &mut call.info
            {
                info.start = info.start.max(first);
                info.end = info.end.min(last);
            }
        }
    }

    /// Returns the time of `@` that the first selector below a node is looked at, if there is one, and by how much before: what
    /// subqueries around it shift it by counts too, until one of them is pinned. 3.5 overlooks subqueries.
    fn reference_time(&self, root: PlanId, compat: Compat) -> (Option<i64>, i64) {
        // Each node with the time and the offset that the subqueries above it give.
        let mut pending: Vec<(PlanId, Option<i64>, i64)> = vec![(root, None, 0)];
        while let Some((id, at, offset)) = pending.pop() {
            let mut push = |id: PlanId| pending.push((id, at, offset));
            match &self.nodes[id.index()].kind {
                PlanKind::Selector(selector) | PlanKind::Range(RangeSelector { selector, .. }) => {
                    return match selector.at {
                        Some(_) => (selector.at, selector.original_offset),
                        None => (at, offset.saturating_add(selector.original_offset)),
                    };
                }
                PlanKind::Subquery(subquery) => pending.push(match subquery.at {
                    _ if compat == Compat::V3_5 => (subquery.expr, None, 0),
                    Some(_) => (subquery.expr, subquery.at, subquery.original_offset),
                    None => (
                        subquery.expr,
                        at,
                        offset.saturating_add(subquery.original_offset),
                    ),
                }),
                PlanKind::Negate(operand) => push(*operand),
                PlanKind::Binary(binary) => [binary.rhs, binary.lhs].into_iter().for_each(push),
                PlanKind::Call(call) => call.args.iter().rev().copied().for_each(push),
                PlanKind::Aggregate(aggregate) => {
                    push(aggregate.expr);
                    aggregate.param.into_iter().for_each(push);
                }
                PlanKind::Number(_) | PlanKind::String(_) => {}
            }
        }
        (None, 0)
    }
}
