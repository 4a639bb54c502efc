//! The selects of `info`.
//!
//! Follows `infoSelectHints` and `effectiveInfoNameMatchers` in `promql/info.go`.

use super::{InfoPlan, Plan, PlanId, PlanKind, PlanNode, RangeSelector, Select, Settings};
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
    ///
    /// `looked_at` is what [`Plan::reference_times`] says.
    pub(super) fn info_select(
        &mut self,
        index: usize,
        grid: Grid,
        looked_at: &[Option<ReferenceTime>],
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
        let ReferenceTime { at, offset } = looked_at[call.args[0].index()].unwrap_or_default();
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

    /// Returns, for every node, when the first selector at or below it looks, if there is one: what subqueries around it shift
    /// it by counts too, until one of them is pinned. 3.5 overlooks subqueries. Nothing without a call of `info`.
    pub(super) fn reference_times(&self, compat: Compat) -> Vec<Option<ReferenceTime>> {
        let is_info = |node: &PlanNode| matches!(&node.kind, PlanKind::Call(call) if call.function.name == "info");
        if !self.nodes.iter().any(is_info) {
            return Vec::new();
        }
        let mut times: Vec<Option<ReferenceTime>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let below = |id: &PlanId| times[id.index()];
            let time = match &node.kind {
                PlanKind::Selector(selector) | PlanKind::Range(RangeSelector { selector, .. }) => {
                    Some(ReferenceTime {
                        at: selector.at,
                        offset: selector.original_offset,
                    })
                }
                PlanKind::Subquery(subquery) => below(&subquery.expr).map(|time| match time.at {
                    None if compat == Compat::V3_14 => ReferenceTime {
                        at: subquery.at,
                        offset: subquery.original_offset.saturating_add(time.offset),
                    },
                    _ => time,
                }),
                PlanKind::Negate(operand) => below(operand),
                PlanKind::Binary(binary) => below(&binary.lhs).or_else(|| below(&binary.rhs)),
                PlanKind::Call(call) => call.args.iter().find_map(below),
                PlanKind::Aggregate(aggregate) => {
                    let param = aggregate.param.as_ref().and_then(below);
                    param.or_else(|| below(&aggregate.expr))
                }
                PlanKind::Number(_) | PlanKind::String(_) => None,
            };
            times.push(time);
        }
        times
    }
}

/// When a selector looks: the time that it is pinned to, and how far before that or before the step, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReferenceTime {
    at: Option<i64>,
    offset: i64,
}
