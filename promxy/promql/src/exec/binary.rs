//! Binary operators.
//!
//! Follows `VectorBinop` and `VectorscalarBinop` in `promql/engine.go`; pinned by `operators.test` and `fill-modifier.test`. Who meets
//! whom is planned once; per step only presence is looked at, because what is an error depends on what is there at the same time.

use std::collections::{BTreeMap, HashMap};

use super::cancel::STEPS_AT_A_TIME;
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
                let (mut left, right) = (self.scalar(binary.lhs), self.scalar(binary.rhs));
                let sides = left.chunks_mut(STEPS_AT_A_TIME);
                for (left, right) in sides.zip(right.chunks(STEPS_AT_A_TIME)) {
                    self.context.check()?;
                    for (x, y) in left.iter_mut().zip(right) {
                        *x = scalar_op::scalars(binary.op, *x, *y);
                    }
                }
                Ok(Evaluated::Scalar(left))
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
        let mut matched = Matched::new(signatures.count(), node.grid.count);
        operation.check_one_side(
            &many,
            (&one, &one_ordinals),
            &by_signature,
            &mut matched.failure,
        )?;
        let one_steps: Vec<Bitmap> = one.iter().map(|series| series.column.steps()).collect();
        for (series, ordinal) in many.into_iter().zip(&many_ordinals) {
            self.context.check()?;
            let steps = series.column.steps();
            let mut missing = steps.clone();
            for index in &by_signature[*ordinal] {
                let shared = steps.and(&one_steps[*index]);
                missing = missing.and_not(&one_steps[*index]);
                let other = &one[*index];
                let held = operation.pair(
                    (&series.labels, &series.column),
                    (&other.labels, &other.column),
                    &shared,
                    *ordinal,
                    &mut matched,
                )?;
                self.context.budget.take(held)?;
            }
            if let Some(fill) = matching.fill_right
                && !missing.is_empty()
            {
                let labels = series.labels.grouped(&operation.labels.key);
                let column = Column::dense(vec![fill; operation.steps]);
                let held = operation.pair(
                    (&series.labels, &series.column),
                    (&labels, &column),
                    &missing,
                    *ordinal,
                    &mut matched,
                )?;
                self.context.budget.take(held)?;
            }
        }
        if let Some(fill) = matching.fill_left {
            for ((series, ordinal), steps) in one.iter().zip(&one_ordinals).zip(&one_steps) {
                self.context.check()?;
                let missing = steps.and_not(&matched.by_signature[*ordinal].any);
                if missing.is_empty() {
                    continue;
                }
                let labels = series.labels.grouped(&operation.labels.key);
                let column = Column::dense(vec![fill; operation.steps]);
                let held = operation.pair(
                    (&labels, &column),
                    (&series.labels, &series.column),
                    &missing,
                    *ordinal,
                    &mut matched,
                )?;
                self.context.budget.take(held)?;
            }
        }
        let Matched {
            results,
            held,
            remarks,
            failure,
            ..
        } = matched;
        if let Some((_, error)) = failure {
            return Err(error);
        }
        self.context.budget.release(held);
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
    /// How many samples they count as.
    held: usize,
    by_signature: Vec<Taken>,
    /// What to say, of each step the last word.
    remarks: BTreeMap<usize, Remark>,
    /// What is wrong at the first step at which anything is.
    failure: Option<(usize, QueryError)>,
}

/// At which steps there are results of a signature: at all, and under which labels unless the operator is one-to-one.
#[derive(Clone)]
struct Taken {
    any: Bitmap,
    by_labels: HashMap<Labels, Bitmap>,
}

impl Matched {
    fn new(signatures: usize, steps: usize) -> Self {
        let nothing = Taken {
            any: Bitmap::none(steps),
            by_labels: HashMap::new(),
        };
        Self {
            results: Vec::new(),
            held: 0,
            by_signature: vec![nothing; signatures],
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
    if is_earlier(failure.as_ref(), step) {
        *failure = Some((step, error()));
    }
}

/// Whether a step is before that of the failure, if there is any.
fn is_earlier(failure: Option<&(usize, QueryError)>, step: usize) -> bool {
    failure.is_none_or(|(known, _)| step < *known)
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
        let mut taken: HashMap<usize, Bitmap> = HashMap::new();
        for (index, (series, ordinal)) in one.iter().zip(ordinals).enumerate() {
            self.cancel.check(Stage::Evaluation)?;
            let same = &by_signature[*ordinal];
            if same.len() < 2 {
                continue;
            }
            let steps = series.column.steps().and(&active);
            let Some(taken) = taken.get_mut(ordinal) else {
                taken.insert(*ordinal, steps);
                continue;
            };
            if let Some(step) = taken.first_shared(&steps) {
                let mut earlier = same.iter().filter(|other| **other < index);
                let has_step = |other: &&usize| one[**other].column.steps().has(step);
                if is_earlier(failure.as_ref(), step)
                    && let Some(earlier) = earlier.find(has_step)
                {
                    fail_at(failure, step, || {
                        self.duplicate_on_one_side(series, &one[*earlier])
                    });
                }
                // Nothing is wrong before the first step at which anything is looked at.
                if active.first() == Some(step) {
                    return Ok(());
                }
            }
            taken.or_with(&steps);
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

    /// Applies the operator to two series at the steps at which both have a value. Returns how many samples the result counts
    /// as.
    fn pair(
        &self,
        (many_labels, many): (&Labels, &Column),
        (one_labels, one): (&Labels, &Column),
        steps: &Bitmap,
        ordinal: usize,
        matched: &mut Matched,
    ) -> Result<usize, QueryError> {
        // What comes after a failure does not matter.
        let first = steps.first();
        if first.is_none_or(|first| !is_earlier(matched.failure.as_ref(), first)) {
            return Ok(0);
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
        let known = &mut matched.by_signature[ordinal];
        let (twice, text) = if self.labels.one_to_one {
            (
                known.any.first_shared(&taken),
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            )
        } else {
            let same = known.by_labels.get_mut(&labels);
            let twice = same.as_ref().and_then(|same| same.first_shared(&taken));
            match same {
                Some(same) => same.or_with(&taken),
                None => {
                    known.by_labels.insert(labels.clone(), taken.clone());
                }
            }
            (
                twice,
                "multiple matches for labels: grouping labels must ensure unique matches",
            )
        };
        if let Some(step) = twice {
            fail_at(&mut matched.failure, step, || QueryError::execution(text));
        }
        known.any.or_with(&taken);
        let result = Series {
            labels,
            drop_name: self.binary.return_bool,
            column,
        };
        let held = result.held();
        matched.held += held;
        matched.results.push(result);
        Ok(held)
    }
}
