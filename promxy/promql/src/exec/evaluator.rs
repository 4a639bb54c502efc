//! The loop over the plan.
//!
//! Children stand before their parents, so nothing recurses: each node finds the values of its children and leaves its own.
//! Leaves below an aggregation are not evaluated by the loop but handed over series by series, so that a sum of many series
//! holds one of them at a time.

use super::{Context, Evaluated, Packing, Series, SparseSeries};
use crate::error::QueryError;
use crate::parser::{AggregateOp, ValueType};
use crate::plan::{Plan, PlanId, PlanKind, PlanNode};

/// Evaluates a plan.
pub(crate) struct Evaluator<'a, 'c> {
    pub(crate) plan: &'a Plan,
    pub(crate) context: &'c mut Context<'a>,
    /// Values that wait for their parent.
    values: Vec<Option<Evaluated>>,
    /// How many samples each of them counts as, and those that the node takes that is being evaluated.
    held: Vec<usize>,
    taken: u64,
    /// Nodes that their parent evaluates.
    deferred: Vec<bool>,
}

/// Takes the series of a node as they come.
pub(crate) type Sink<'s> = dyn FnMut(&mut Context<'_>, Series) -> Result<(), QueryError> + 's;

impl<'a, 'c> Evaluator<'a, 'c> {
    pub(crate) fn new(plan: &'a Plan, context: &'c mut Context<'a>) -> Self {
        let mut deferred = vec![false; plan.nodes.len()];
        for node in plan.nodes.iter().filter(|node| node.needed) {
            match &node.kind {
                PlanKind::Call(call) => {
                    for arg in &call.args {
                        deferred[arg.index()] = is_argument_evaluated_by(
                            call.function.name,
                            &plan.nodes[arg.index()].kind,
                        );
                    }
                }
                PlanKind::Aggregate(aggregate) if folds(aggregate.op) => {
                    let child = &plan.nodes[aggregate.expr.index()].kind;
                    deferred[aggregate.expr.index()] = is_stream(plan, child);
                }
                _ => {}
            }
        }
        Self {
            values: (0..plan.nodes.len()).map(|_| None).collect(),
            held: vec![0; plan.nodes.len()],
            taken: 0,
            plan,
            context,
            deferred,
        }
    }

    /// Puts a value in the place of a node and all below it. Whoever made it has counted it; here it counts for as far as it is
    /// repeated.
    pub(crate) fn replace(&mut self, id: PlanId, series: Vec<Series>) -> Result<(), QueryError> {
        let others = self.context.budget.held();
        let value = self.repeated(self.plan_node(id), Evaluated::Matrix(series))?;
        let index = id.index();
        self.held[index] = self.context.budget.held().saturating_sub(others) as usize;
        self.values[index] = Some(value);
        self.deferred[index] = true;
        Ok(())
    }

    /// Keeps the value of a node for its parent. From now on it counts with the others that wait, and nothing else that was
    /// counted on the way.
    fn keep(&mut self, index: usize, value: Evaluated, others: u64) -> Result<(), QueryError> {
        let held = value.held();
        self.held[index] = held;
        self.values[index] = Some(value);
        self.context.budget.hold(others.saturating_add(held as u64))
    }

    /// Evaluates everything and returns the value of the root.
    pub(crate) fn run(mut self) -> Result<Evaluated, QueryError> {
        for (index, node) in self.plan.nodes.iter().enumerate() {
            if !node.needed || self.deferred[index] {
                continue;
            }
            self.context.check()?;
            let before = self.context.budget.held();
            self.taken = 0;
            let value = self.node(node);
            let value = value.and_then(|value| self.repeated(node, value));
            let value = value.map_err(|error| self.earlier_error(index, error))?;
            self.keep(index, value, before.saturating_sub(self.taken))?;
        }
        self.context.check()?;
        Ok(self.take(self.plan.root))
    }

    /// Returns what is wrong with the texts given to a function around a node that failed, which is said before the node is
    /// evaluated; of several functions the outermost comes first.
    fn earlier_error(&self, failed: usize, mut error: QueryError) -> QueryError {
        let mut around = failed;
        for (index, node) in self.plan.nodes.iter().enumerate().skip(failed + 1) {
            if error.is_end() {
                break;
            }
            let encloses = |id: &PlanId| id.index() == around;
            if self.plan.children_of(node).iter().any(encloses) {
                around = index;
                let ended = self.context.check().err();
                error = ended.or_else(|| self.text_error(node)).unwrap_or(error);
            }
        }
        error
    }

    fn text_error(&self, node: &PlanNode) -> Option<QueryError> {
        match &node.kind {
            PlanKind::Call(call) => match call.function.name {
                "label_replace" => self.replacement(&call.args).err(),
                "label_join" => self.joining(&call.args).err(),
                _ => None,
            },
            PlanKind::Aggregate(aggregate) if aggregate.op == AggregateOp::CountValues => {
                self.counted_label(aggregate).err()
            }
            _ => None,
        }
    }

    pub(crate) fn plan_node(&self, id: PlanId) -> &'a PlanNode {
        &self.plan.nodes[id.index()]
    }

    /// Takes the value of a node.
    fn take(&mut self, id: PlanId) -> Evaluated {
        let value = self.values[id.index()].take();
        self.taken += std::mem::take(&mut self.held[id.index()]) as u64;
        value.unwrap_or_else(|| Evaluated::Matrix(Vec::new()))
    }

    /// Takes the series of a node.
    pub(crate) fn series(&mut self, id: PlanId) -> Vec<Series> {
        match self.take(id) {
            Evaluated::Matrix(series) => series,
            Evaluated::Sparse(series) => {
                // Nobody misses the rest of a query that was ended: it fails at the latest where it is done.
                let wanted = (series.into_iter()).take_while(|_| self.context.check().is_ok());
                wanted.map(SparseSeries::into_series).collect()
            }
            Evaluated::Scalar(_) | Evaluated::String(_) => Vec::new(),
        }
    }

    /// Takes the numbers of a node.
    pub(crate) fn scalar(&mut self, id: PlanId) -> Vec<f64> {
        match self.take(id) {
            Evaluated::Scalar(values) => values,
            Evaluated::Matrix(_) | Evaluated::Sparse(_) | Evaluated::String(_) => Vec::new(),
        }
    }

    /// Whether a node hands over its series one by one.
    pub(super) fn is_deferred(&self, id: PlanId) -> bool {
        self.deferred[id.index()]
    }

    /// Hands over the series of a node one by one.
    pub(crate) fn each_series(
        &mut self,
        id: PlanId,
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let node = self.plan_node(id);
        if !self.deferred[id.index()] || self.values[id.index()].is_some() {
            for series in self.series(id) {
                sink(self.context, series)?;
            }
            return Ok(());
        }
        let steps = node.repeated.map(|grid| grid.count);
        let mut repeating = |context: &mut Context<'_>, mut series: Series| {
            if let Some(steps) = steps {
                series.column = series.column.repeated(steps);
            }
            sink(context, series)
        };
        match &node.kind {
            PlanKind::Selector(selector) => self.selector(node, selector, &mut repeating),
            PlanKind::Call(call) => self.range_call(node, call, &mut repeating),
            _ => Ok(()),
        }
    }

    /// Gathers the series that a node hands over.
    fn gathered(
        &mut self,
        produce: impl FnOnce(&mut Self, &mut Sink<'_>) -> Result<(), QueryError>,
    ) -> Result<Evaluated, QueryError> {
        let mut gathered = Vec::new();
        produce(self, &mut |context, mut series| {
            context.budget.take(series.held())?;
            series.column.histograms.pack();
            gathered.push(series);
            Ok(())
        })?;
        Ok(Evaluated::Matrix(gathered))
    }

    fn node(&mut self, node: &'a PlanNode) -> Result<Evaluated, QueryError> {
        match &node.kind {
            PlanKind::Number(value) => Ok(Evaluated::Scalar(vec![*value; node.grid.count])),
            PlanKind::String(text) => Ok(Evaluated::String(text.clone())),
            PlanKind::Selector(selector) => {
                self.gathered(|this, sink| this.selector(node, selector, sink))
            }
            PlanKind::Negate(operand) => self.negate(node, *operand),
            PlanKind::Binary(binary) => self.binary(node, binary),
            PlanKind::Call(call) if self.takes_range(call) => {
                if call.function.name == "absent_over_time" {
                    return self.absent_over_time(node, call);
                }
                self.gathered(|this, sink| this.range_call(node, call, sink))
            }
            PlanKind::Call(call) => self.call(node, call),
            PlanKind::Aggregate(aggregate) => self.aggregate(node, aggregate),
            // As the root these are results of their own; else their parent reads them.
            PlanKind::Range(_) => Ok(Evaluated::Matrix(Vec::new())),
            PlanKind::Subquery(subquery) => Ok(Evaluated::Matrix(self.series(subquery.expr))),
        }
    }

    /// Repeats the value of a node that does not change over the grid of its parent.
    fn repeated(&mut self, node: &PlanNode, value: Evaluated) -> Result<Evaluated, QueryError> {
        let Some(grid) = node.repeated.filter(|_| !is_range(&node.kind)) else {
            return Ok(value);
        };
        Ok(match value {
            Evaluated::Matrix(mut series) => {
                for series in &mut series {
                    self.context.check()?;
                    let samples = series.column.samples().saturating_mul(grid.count);
                    self.context.budget.take(samples)?;
                    series.column = std::mem::take(&mut series.column).repeated(grid.count);
                }
                Evaluated::Matrix(series)
            }
            Evaluated::Scalar(values) => {
                let repeated = |value: &f64| vec![*value; grid.count];
                Evaluated::Scalar(values.first().map_or_else(Vec::new, repeated))
            }
            // One step is as full as can be.
            other @ (Evaluated::Sparse(_) | Evaluated::String(_)) => other,
        })
    }

    fn negate(&mut self, node: &PlanNode, operand: PlanId) -> Result<Evaluated, QueryError> {
        if node.value_type == ValueType::Scalar {
            let values = self.scalar(operand);
            return Ok(Evaluated::Scalar(
                values.iter().map(|value| -value).collect(),
            ));
        }
        let compat = self.context.options.parser.compat;
        let mut series = self.series(operand);
        for series in &mut series {
            self.context.check()?;
            drop_names_now(self.context, series);
            for value in &mut series.column.values {
                *value = -*value;
            }
            let mut negated = Packing::new(node.grid.count);
            for (step, histogram) in series.column.histograms.iter() {
                negated.push(step, histogram.negated(compat).into());
            }
            series.column.histograms = negated.finish();
        }
        if self.context.delays_name_removal() {
            return Ok(Evaluated::Matrix(series));
        }
        self.merged(series).map(Evaluated::Matrix)
    }
}

/// Marks the metadata labels of a series as dropped, and removes them unless that is left for the end.
pub(crate) fn drop_names_now(context: &Context<'_>, series: &mut Series) {
    series.drop_name = true;
    if !context.delays_name_removal() {
        series.labels = series.labels.without_metadata();
    }
}

/// Whether an aggregation takes one series after another and forgets them.
fn folds(op: AggregateOp) -> bool {
    matches!(
        op,
        AggregateOp::Sum
            | AggregateOp::Avg
            | AggregateOp::Count
            | AggregateOp::Group
            | AggregateOp::Min
            | AggregateOp::Max
            | AggregateOp::Stddev
            | AggregateOp::Stdvar
    )
}

/// Whether a node can hand over its series one by one.
fn is_stream(plan: &Plan, kind: &PlanKind) -> bool {
    match kind {
        PlanKind::Selector(_) => true,
        PlanKind::Call(call) => {
            call.function.name != "absent_over_time"
                && call
                    .args
                    .iter()
                    .any(|arg| is_range(&plan.nodes[arg.index()].kind))
        }
        _ => false,
    }
}

pub(crate) fn is_range(kind: &PlanKind) -> bool {
    matches!(kind, PlanKind::Range(_) | PlanKind::Subquery(_))
}

/// Whether a function looks at an argument's samples and not at its value.
fn is_argument_evaluated_by(function: &str, argument: &PlanKind) -> bool {
    match argument {
        PlanKind::Range(_) | PlanKind::Subquery(_) => true,
        PlanKind::Selector(_) => matches!(function, "timestamp" | "start_timestamp"),
        _ => false,
    }
}
