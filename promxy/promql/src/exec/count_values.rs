//! `count_values`: one series for every value that occurs.
//!
//! Follows `aggregationCountValues` in `promql/engine.go`; pinned by `aggregators.test`.

use std::collections::HashMap;

use super::aggregate::Groups;
use super::column::least_held;
use super::{Evaluated, Evaluator, Sample, SparseSeries};
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
        // The labels of each value, and at which steps it was met, each time anew.
        let mut output: Vec<(Labels, Vec<u32>)> = Vec::new();
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
                        output.push((labels, Vec::new()));
                    }
                    place
                };
                if let Some(bits) = bits {
                    known.insert(bits, place);
                }
                output[place].1.push(step as u32);
            }
        }
        let room = output.len() * least_held(steps);
        let labels: usize = output.iter().map(|(labels, _)| labels.held()).sum();
        self.context.budget.release(room + labels);
        let mut series = Vec::with_capacity(output.len());
        for (labels, mut met) in output {
            self.context.check()?;
            met.sort_unstable();
            let times = met.chunk_by(|one, next| one == next);
            series.push(SparseSeries {
                labels,
                values: times.map(|met| (met[0], met.len() as f64)).collect(),
                steps,
            });
        }
        let held = series.iter().map(SparseSeries::held).sum();
        self.context.budget.take(held)?;
        self.context.budget.release(held);
        if steps > 1 {
            return Ok(Evaluated::Sparse(series));
        }
        let series = series.into_iter().map(SparseSeries::into_series);
        Ok(Evaluated::Matrix(series.collect()))
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
