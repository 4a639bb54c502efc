//! `count_values`: one series for every value that occurs.
//!
//! Follows `aggregationCountValues` in `promql/engine.go`; pinned by `aggregators.test`.

use std::collections::HashMap;

use super::aggregate::Groups;
use super::column::least_held;
use super::{Column, Evaluated, Evaluator, Sample, Series};
use crate::Text;
use crate::error::QueryError;
use crate::format;
use crate::labels::{GroupingKey, Labels, LabelsBuilder};
use crate::plan::{AggregatePlan, PlanKind, PlanNode};

impl<'a> Evaluator<'a, '_> {
    /// Returns the label that values go to.
    pub(super) fn counted_label(&self, aggregate: &AggregatePlan) -> Result<&'a str, QueryError> {
        match aggregate.param.map(|param| &self.plan_node(param).kind) {
            Some(PlanKind::String(label)) => valid_label(label),
            _ => Err(QueryError::execution("count_values takes a label name")),
        }
    }

    pub(super) fn count_values(
        &mut self,
        node: &PlanNode,
        aggregate: &AggregatePlan,
    ) -> Result<Evaluated, QueryError> {
        let name = self.counted_label(aggregate)?;
        let mut key = GroupingKey::new(aggregate.grouping.as_ref(), true);
        if key.is_only() {
            key.push(name);
        }
        let steps = node.grid.count;
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut output: Vec<Series> = Vec::new();
        // Where the numbers of a group are counted. The label of the value does not tell groups apart.
        let mut groups = Groups::new(GroupingKey::new(aggregate.grouping.as_ref(), true));
        let mut known: HashMap<(usize, u64), usize> = HashMap::new();
        for series in self.series(aggregate.expr) {
            let group = groups.find(&series.labels.without_names(&[name]));
            let group = group.unwrap_or_else(|new| new);
            for step in series.column.steps().iter() {
                self.context.check()?;
                let Some(sample) = series.column.sample(step) else {
                    continue;
                };
                let bits = match &sample {
                    Sample::Float(value) => Some((group, value.to_bits())),
                    Sample::Histogram(_) => None,
                };
                let place = bits.and_then(|bits| known.get(&bits).copied());
                let place = if let Some(place) = place {
                    place
                } else {
                    let text = match &sample {
                        Sample::Float(value) => format::fixed(*value),
                        Sample::Histogram(histogram) => histogram.to_string(),
                    };
                    let mut builder = LabelsBuilder::new(&series.labels);
                    builder.set(name, &text);
                    let labels = builder.build().grouped(&key);
                    let next = output.len();
                    let place = *places.entry(labels.clone()).or_insert(next);
                    if place == next {
                        self.context.make_room(steps)?;
                        self.context.budget.take(labels.held())?;
                        output.push(Series {
                            labels,
                            drop_name: false,
                            column: Column::empty(steps),
                        });
                    }
                    place
                };
                if let Some(bits) = bits {
                    known.insert(bits, place);
                }
                let column = &mut output[place].column;
                let count = column.float(step).unwrap_or(0.0);
                column.set_float(steps, step, count + 1.0);
            }
        }
        let places = output.len() * least_held(steps);
        let labels: usize = output.iter().map(|series| series.labels.held()).sum();
        self.context.budget.release(places + labels);
        self.merged_steps(node.grid, output).map(Evaluated::Matrix)
    }
}

/// Returns a label's name if it is one: any text is, but the empty one.
fn valid_label(label: &Text) -> Result<&str, QueryError> {
    let name = label.to_str().filter(|name| !name.is_empty());
    name.ok_or_else(|| {
        let quoted = format::quote(label.as_bytes());
        QueryError::execution(format!("invalid label name {quoted}"))
    })
}
