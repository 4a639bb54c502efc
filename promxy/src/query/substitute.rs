//! Hands the answers of servers to the engine, in the place of the nodes that they are the values of.

use std::collections::HashMap;

use parking_lot::Mutex;

use promql::{
    NodeRewriter, RewriteNode, Rewritten, StepSeries,
    parser::NodeId,
    storage::{BoxFuture, StorageError},
};

use super::combine::Columns;
use crate::{
    series::{Column, Native, Series},
    servergroup::time_range::Grid,
};

/// The value of a node.
#[derive(Debug)]
pub(super) struct Substitute {
    pub(super) series: Columns,
    /// When it is looked at, which is not always when servers were asked for it.
    pub(super) grid: Grid,
    /// Whether its first value holds at every time.
    pub(super) is_fixed: bool,
}

/// The values of nodes, each of which is asked for once.
#[derive(Debug)]
pub(super) struct Substitutes(Mutex<HashMap<NodeId, Substitute>>);

impl Substitutes {
    pub(super) fn new(values: HashMap<NodeId, Substitute>) -> Self {
        Self(Mutex::new(values))
    }
}

impl NodeRewriter for Substitutes {
    fn rewrite<'a>(
        &'a self,
        node: RewriteNode<'a>,
    ) -> BoxFuture<'a, Result<Option<Rewritten>, StorageError>> {
        let mut values = self.0.lock();
        let rewritten = values.remove(&node.id).map(|value| Rewritten {
            series: value.on_steps_of(node),
            warnings: Vec::new(),
        });
        Box::pin(std::future::ready(Ok(rewritten)))
    }
}

impl Substitute {
    /// Puts the value on the steps of a node.
    fn on_steps_of(self, node: RewriteNode<'_>) -> Vec<StepSeries> {
        let grid = self.grid;
        let is_same = grid.start == node.start
            && grid.len() == node.steps
            && (node.steps == 1 || grid.step == node.step)
            && !self.is_fixed;
        let with_values = self
            .series
            .into_iter()
            .filter(|series| series.data.count() > 0 || !series.data.histograms().is_empty());
        if is_same {
            // The usual case, in which nothing is copied.
            return with_values.map(whole).collect();
        }
        let places: Vec<Option<usize>> = if self.is_fixed {
            vec![Some(0); node.steps]
        } else {
            let times = (0..node.steps).map(|step| node.start + node.step * step as i64);
            times.map(|time| grid.index(time)).collect()
        };
        with_values.map(|series| picked(&series, &places)).collect()
    }
}

fn whole(series: Series<Column<Native>>) -> StepSeries {
    let (values, present, histograms) = series.data.into_parts();
    StepSeries::of_column(series.labels, values, present, histograms)
}

/// Takes the values at some places.
fn picked(series: &Series<Column<Native>>, places: &[Option<usize>]) -> StepSeries {
    let mut picked = StepSeries::new(series.labels.clone(), places.len());
    let histograms = series.data.histograms();
    for (step, place) in places.iter().enumerate() {
        let Some(place) = *place else { continue };
        if let Some(value) = series.data.get(place) {
            picked.set(step, value);
        } else if let Ok(found) =
            histograms.binary_search_by_key(&(place as u32), |(place, _)| *place)
        {
            picked.push_histogram(step, histograms[found].1.clone());
        }
    }
    picked
}
