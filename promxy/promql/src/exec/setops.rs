//! `and`, `or`, `unless`.
//!
//! Follows `VectorAnd`, `VectorOr` and `VectorUnless` in `promql/engine.go`; pinned by `operators.test`.

use super::matching::{Signatures, steps_by_signature};
use super::{Evaluated, Evaluator, Series};
use crate::error::QueryError;
use crate::labels::GroupingKey;
use crate::parser::BinaryOp;
use crate::plan::PlanNode;

impl Evaluator<'_, '_> {
    pub(super) fn set_operator(
        &mut self,
        node: &PlanNode,
        op: BinaryOp,
        key: &GroupingKey,
        (mut left, mut right): (Vec<Series>, Vec<Series>),
    ) -> Result<Evaluated, QueryError> {
        let mut signatures = Signatures::default();
        let left_ordinals = signatures.of(&left, key, self.context)?;
        let right_ordinals = signatures.of(&right, key, self.context)?;
        let (count, steps) = (signatures.count(), node.grid.count);
        if op == BinaryOp::Or {
            let present = steps_by_signature(&left, &left_ordinals, count, steps);
            for (series, ordinal) in right.iter_mut().zip(right_ordinals) {
                self.context.check()?;
                let others = series.column.steps().and_not(&present[ordinal]);
                series.column.retain_steps(&others);
            }
            left.append(&mut right);
        } else {
            let present = steps_by_signature(&right, &right_ordinals, count, steps);
            for (series, ordinal) in left.iter_mut().zip(left_ordinals) {
                self.context.check()?;
                let steps = series.column.steps();
                let kept = match op {
                    BinaryOp::And => steps.and(&present[ordinal]),
                    _ => steps.and_not(&present[ordinal]),
                };
                series.column.retain_steps(&kept);
            }
        }
        self.merged_steps(node.grid, left).map(Evaluated::Matrix)
    }
}
