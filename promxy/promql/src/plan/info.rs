//! The selects of `info`.
//!
//! Follows `infoSelectHints` and `effectiveInfoNameMatchers` in `promql/info.go`.

use super::{InfoPlan, Plan, PlanId, PlanKind, Select, Selector};
use crate::Text;
use crate::exec::Grid;
use crate::labels::{LabelMatcher, METRIC_NAME};
use crate::parser::{MatchOp, Matcher};
use crate::storage::SelectHints;

/// Returns the conditions on the names of info metrics: those given, among which one has to ask for something, or the default.
pub(crate) fn effective_info_names(matchers: &[LabelMatcher]) -> Vec<LabelMatcher> {
    let mut names: Vec<LabelMatcher> = matchers
        .iter()
        .filter(|matcher| matcher.name() == METRIC_NAME)
        .cloned()
        .collect();
    let asks = |matcher: &LabelMatcher| {
        matches!(matcher.matcher().op, MatchOp::Equal | MatchOp::Regex)
    };
    if names.iter().any(asks) {
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
    pub(super) fn info_select(&mut self, index: usize, grid: Grid, lookback: i64) -> Option<Select> {
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
        let mut matchers = effective_info_names(given);
        let others = given.iter().filter(|matcher| matcher.name() != METRIC_NAME);
        matchers.extend(others.cloned());
        let first = self.first_selector(call.args[0]);
        let (mut start, mut end) = (grid.start, grid.end);
        let mut offset = 0;
        if let Some(selector) = first {
            if let Some(at) = selector.at {
                (start, end) = (at, at);
            }
            offset = selector.original_offset;
        }
        start -= lookback - 1 + offset;
        end -= offset;
        let info = InfoPlan {
            select: next,
            start,
            end,
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
            node: PlanId(index as u32),
        })
    }

    /// Returns the first selector below a node, in the order of the query's text.
    fn first_selector(&self, root: PlanId) -> Option<&Selector> {
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            match &self.nodes[id.index()].kind {
                PlanKind::Selector(selector) => return Some(selector),
                PlanKind::Range(range) => return Some(&range.selector),
                PlanKind::Subquery(subquery) => pending.push(subquery.expr),
                PlanKind::Negate(operand) => pending.push(*operand),
                PlanKind::Binary(binary) => pending.extend([binary.rhs, binary.lhs]),
                PlanKind::Call(call) => pending.extend(call.args.iter().rev()),
                PlanKind::Aggregate(aggregate) => {
                    pending.extend([Some(aggregate.expr), aggregate.param].into_iter().flatten());
                }
                PlanKind::Number(_) | PlanKind::String(_) => {}
            }
        }
        None
    }
}
