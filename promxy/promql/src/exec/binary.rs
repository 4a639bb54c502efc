//! Binary operators.
//!
//! Follows `VectorBinop` and `VectorscalarBinop` in `promql/engine.go`; pinned by `operators.test` and `fill-modifier.test`. Who meets
//! whom is planned once; per step only presence is looked at, because what is an error depends on what is there at the same time.

use std::collections::BTreeMap;

use super::evaluator::drop_names_now;
use super::matching::{ResultLabels, Signatures};
use super::{Bitmap, CancelToken, Column, Evaluated, Evaluator, Series, scalar_op};
use crate::annotations::Remark;
use crate::error::{QueryError, Stage};
use crate::labels::{GroupingKey, Labels};
use crate::parser::{BinaryOp, Cardinality, Compat, ValueType, VectorMatching};
use crate::plan::{BinaryPlan, PlanNode};

impl Evaluator<'_, '_> {
    pub(super) fn binary(
        &mut self,
        node: &PlanNode,
        binary: &BinaryPlan,
    ) -> Result<Evaluated, QueryError> {
        let types = [binary.lhs, binary.rhs].map(|side| self.plan_node(side).value_type);
        match types {
            [ValueType::Scalar, ValueType::Scalar] => {
                let (left, right) = (self.scalar(binary.lhs), self.scalar(binary.rhs));
                let values = left.iter().zip(&right);
                Ok(Evaluated::Scalar(
                    values
                        .map(|(x, y)| scalar_op::scalars(binary.op, *x, *y))
                        .collect(),
                ))
            }
            [ValueType::Scalar, _] => {
                let (scalar, series) = (self.scalar(binary.lhs), self.series(binary.rhs));
                self.with_scalar(node, binary, series, scalar, Side::Left)
            }
            [_, ValueType::Scalar] => {
                let (series, scalar) = (self.series(binary.lhs), self.scalar(binary.rhs));
                self.with_scalar(node, binary, series, scalar, Side::Right)
            }
            _ => self.vectors(node, binary),
        }
    }

    /// Applies an operator to a vector and a scalar, which stands on the given side.
    fn with_scalar(
        &mut self,
        node: &PlanNode,
        binary: &BinaryPlan,
        series: Vec<Series>,
        scalar: Vec<f64>,
        scalar_side: Side,
    ) -> Result<Evaluated, QueryError> {
        let op = binary.op;
        let compat = self.context.options.parser.compat;
        let drops_name = changes_metric(op) || binary.return_bool;
        let scalar = Column::dense(scalar);
        let mut remarks = BTreeMap::new();
        let mut results = Vec::with_capacity(series.len());
        for mut series in series {
            self.context.check()?;
            let vector = std::mem::take(&mut series.column);
            let steps = vector.steps();
            let sides = match scalar_side {
                Side::Left => (&scalar, &vector),
                Side::Right => (&vector, &scalar),
            };
            let (mut column, _) = scalar_op::columns(
                op,
                binary.return_bool,
                sides,
                &steps,
                (compat, self.context.cancel),
                &mut |step, remark| {
                    remarks.insert(step, remark);
                },
            )?;
            // A comparison keeps the vector's value, wherever the scalar stands.
            if scalar_side == Side::Left && op.is_comparison() && !binary.return_bool {
                let kept = column.steps();
                column = vector;
                column.retain_steps(&kept);
            }
            series.column = column;
            if drops_name {
                drop_names_now(self.context, &mut series);
            }
            results.push(series);
        }
        self.remark_all(remarks, node);
        self.merged_steps(node.grid, results).map(Evaluated::Matrix)
    }

    fn vectors(&mut self, node: &PlanNode, binary: &BinaryPlan) -> Result<Evaluated, QueryError> {
        let (left, right) = (self.series(binary.lhs), self.series(binary.rhs));
        let default = VectorMatching {
            cardinality: Cardinality::OneToOne,
            grouping: None,
            include: None,
            fill_left: None,
            fill_right: None,
        };
        let matching = binary.matching.as_ref().unwrap_or(&default);
        let key = GroupingKey::new(matching.grouping.as_ref(), false);
        if binary.op.is_set_operator() {
            return self.set_operator(node, binary.op, &key, (left, right));
        }
        let (many, one) = match matching.cardinality {
            Cardinality::OneToMany => (right, left),
            _ => (left, right),
        };
        let mut signatures = Signatures::default();
        let many_ordinals = signatures.of(&many, &key, self.context)?;
        let one_ordinals = signatures.of(&one, &key, self.context)?;
        let mut by_signature = vec![Vec::new(); signatures.count()];
        for (index, ordinal) in one_ordinals.iter().enumerate() {
            by_signature[*ordinal].push(index);
        }
        let delays = self.context.delays_name_removal();
        let operation = Operation {
            binary,
            matching,
            compat: self.context.options.parser.compat,
            cancel: self.context.cancel,
            steps: node.grid.count,
            labels: ResultLabels {
                matching,
                key,
                one_to_one: matching.cardinality == Cardinality::OneToOne,
                drop_metadata: changes_metric(binary.op) || binary.return_bool && !delays,
                drop_included: self.context.is_3_5() && binary.return_bool && !delays,
            },
        };
        let mut matched = Matched::new(signatures.count());
        operation.check_one_side(
            &many,
            (&one, &one_ordinals),
            &by_signature,
            &mut matched.failure,
        )?;
        let one_steps: Vec<Bitmap> = one.iter().map(|series| series.column.steps()).collect();
        for (series, ordinal) in many.iter().zip(&many_ordinals) {
            self.context.check()?;
            let steps = series.column.steps();
            let mut missing = steps.clone();
            for index in &by_signature[*ordinal] {
                let shared = steps.and(&one_steps[*index]);
                missing = missing.and_not(&one_steps[*index]);
                let other = &one[*index];
                operation.pair(
                    (&series.labels, &series.column),
                    (&other.labels, &other.column),
                    &shared,
                    *ordinal,
                    &mut matched,
                )?;
            }
            if let Some(fill) = matching.fill_right
                && !missing.is_empty()
            {
                let labels = series.labels.grouped(&operation.labels.key);
                let column = Column::dense(vec![fill; operation.steps]);
                operation.pair(
                    (&series.labels, &series.column),
                    (&labels, &column),
                    &missing,
                    *ordinal,
                    &mut matched,
                )?;
            }
        }
        if let Some(fill) = matching.fill_left {
            for ((series, ordinal), steps) in one.iter().zip(&one_ordinals).zip(&one_steps) {
                let mut missing = steps.clone();
                for (_, taken) in &matched.by_signature[*ordinal] {
                    missing = missing.and_not(taken);
                }
                if missing.is_empty() {
                    continue;
                }
                let labels = series.labels.grouped(&operation.labels.key);
                let column = Column::dense(vec![fill; operation.steps]);
                operation.pair(
                    (&labels, &column),
                    (&series.labels, &series.column),
                    &missing,
                    *ordinal,
                    &mut matched,
                )?;
            }
        }
        let Matched {
            results,
            remarks,
            failure,
            ..
        } = matched;
        if let Some((_, error)) = failure {
            return Err(error);
        }
        self.remark_all(remarks, node);
        self.merged_steps(node.grid, results).map(Evaluated::Matrix)
    }

    /// Adds the remarks of all steps as annotations of a node.
    fn remark_all(&mut self, remarks: BTreeMap<usize, Remark>, node: &PlanNode) {
        for remark in remarks.into_values() {
            self.context.annotate(remark, node.span);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Whether the result is no longer the metric that it was.
fn changes_metric(op: BinaryOp) -> bool {
    scalar_op::arithmetic(op).is_some()
}

/// An operator between two vectors.
struct Operation<'m> {
    binary: &'m BinaryPlan,
    matching: &'m VectorMatching,
    compat: Compat,
    cancel: &'m CancelToken,
    steps: usize,
    labels: ResultLabels<'m>,
}

/// What has come of the pairs so far.
struct Matched {
    results: Vec<Series>,
    /// For every signature the results' labels (of one-to-one operators: none) and their steps.
    by_signature: Vec<Vec<(Option<Labels>, Bitmap)>>,
    /// What to say, of each step the last word.
    remarks: BTreeMap<usize, Remark>,
    /// What is wrong at the first step at which anything is.
    failure: Option<(usize, QueryError)>,
}

impl Matched {
    fn new(signatures: usize) -> Self {
        Self {
            results: Vec::new(),
            by_signature: vec![Vec::new(); signatures],
            remarks: BTreeMap::new(),
            failure: None,
        }
    }
}

/// Keeps the failure of the earliest step; of one step the first that was found.
fn fail_at(
    failure: &mut Option<(usize, QueryError)>,
    step: usize,
    error: impl FnOnce() -> QueryError,
) {
    if failure.as_ref().is_none_or(|(known, _)| step < *known) {
        *failure = Some((step, error()));
    }
}

impl Operation<'_> {
    /// The side that may have one element for a signature must have no more at any step that counts. Of several duplicates the
    /// first in the order of the series is told.
    fn check_one_side(
        &self,
        many: &[Series],
        (one, ordinals): (&[Series], &[usize]),
        by_signature: &[Vec<usize>],
        failure: &mut Option<(usize, QueryError)>,
    ) -> Result<(), QueryError> {
        if by_signature.iter().all(|rows| rows.len() < 2) {
            return Ok(());
        }
        // With an empty side nothing is looked at, unless it is filled.
        let fills = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        let mut active = if fills {
            Bitmap::all(self.steps)
        } else {
            Bitmap::none(self.steps)
        };
        for series in many {
            active.or_with(&series.column.steps());
        }
        let mut seen: Vec<Vec<(&Series, Bitmap)>> = vec![Vec::new(); by_signature.len()];
        for (series, ordinal) in one.iter().zip(ordinals) {
            self.cancel.check(Stage::Evaluation)?;
            if by_signature[*ordinal].len() < 2 {
                continue;
            }
            let steps = series.column.steps().and(&active);
            for (earlier, present) in &seen[*ordinal] {
                if let Some(step) = present.and(&steps).first() {
                    fail_at(failure, step, || {
                        self.duplicate_on_one_side(series, earlier)
                    });
                }
            }
            seen[*ordinal].push((series, steps));
        }
        Ok(())
    }

    fn duplicate_on_one_side(&self, later: &Series, earlier: &Series) -> QueryError {
        let side = match self.matching.cardinality {
            Cardinality::OneToMany => "left",
            _ => "right",
        };
        let mut pair = [later.labels.to_string(), earlier.labels.to_string()];
        if self.compat > Compat::V3_5 {
            pair.sort();
        }
        let [first, second] = pair;
        QueryError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side",
            later.labels.grouped(&self.labels.key),
        ))
    }

    /// Applies the operator to two series at the steps at which both have a value.
    fn pair(
        &self,
        (many_labels, many): (&Labels, &Column),
        (one_labels, one): (&Labels, &Column),
        steps: &Bitmap,
        ordinal: usize,
        matched: &mut Matched,
    ) -> Result<(), QueryError> {
        if steps.is_empty() {
            return Ok(());
        }
        let sides = match self.matching.cardinality {
            Cardinality::OneToMany => (one, many),
            _ => (many, one),
        };
        let remarks = &mut matched.remarks;
        let (column, combined) = scalar_op::columns(
            self.binary.op,
            self.binary.return_bool,
            sides,
            steps,
            (self.compat, self.cancel),
            &mut |step, remark| {
                remarks.insert(step, remark);
            },
        )?;
        // 3.5 looks for a second match only among elements that a comparison kept.
        let taken = match self.compat {
            Compat::V3_5 => column.steps(),
            Compat::V3_14 => combined,
        };
        let labels = self.labels.of(many_labels, one_labels);
        let unique = (!self.labels.one_to_one).then(|| labels.clone());
        let known = &mut matched.by_signature[ordinal];
        for (other, present) in known.iter() {
            if *other == unique
                && let Some(step) = present.and(&taken).first()
            {
                let text = if self.labels.one_to_one {
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                } else {
                    "multiple matches for labels: grouping labels must ensure unique matches"
                };
                fail_at(&mut matched.failure, step, || QueryError::execution(text));
            }
        }
        known.push((unique, taken));
        matched.results.push(Series {
            labels,
            drop_name: self.binary.return_bool,
            column,
        });
        Ok(())
    }
}
