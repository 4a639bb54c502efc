//! `info` as 3.5 has it where series do not have a sample at every step.
//!
//! Its `combineWithInfoVector` looks series up by their place among those that have a sample at the step, in lists that have the
//! places among all series. So a series may be taken for one before it. Later versions have mended it; pinned by the column
//! `v353` of `info.test`.

use std::collections::HashMap;

use super::{Join, identity};
use crate::error::QueryError;
use crate::exec::{Bitmap, Column, Context, Grid, Series};
use crate::labels::Labels;

/// The labels that a series has from step to step, with its samples under each.
type Enriched = Vec<(Labels, Column)>;

impl<'i> Join<'i> {
    /// Whether places differ at any step at which there is anything to enrich.
    pub(super) fn has_gaps(&self, base: &[Series], steps: &Bitmap) -> bool {
        let misses = |present: &Bitmap| !steps.and_not(present).is_empty();
        base.iter().any(|series| misses(&series.column.steps()))
            || self.infos.iter().any(|info| misses(&info.taken.present))
    }

    /// Returns what becomes of each series.
    pub(super) fn enriched_by_rank(
        &self,
        base: &[Series],
        is_info: &[bool],
        grid: Grid,
        context: &mut Context<'_>,
    ) -> Result<Vec<Enriched>, QueryError> {
        let mut enriched: Vec<Enriched> = base.iter().map(|_| Vec::new()).collect();
        for step in 0..grid.count {
            context.check()?;
            let samples = base.iter().enumerate();
            let samples = samples.filter_map(|(i, series)| Some((i, series.column.sample(step)?)));
            let mut infos = None;
            for (rank, (index, sample)) in samples.enumerate() {
                let infos = match &infos {
                    Some(infos) => infos,
                    None => infos.insert(self.infos_by_rank(step)?),
                };
                let own = &base[index].labels;
                let labels = if is_info[rank] {
                    Some(own.clone())
                } else {
                    let identity = identity(&base[rank].labels);
                    let chosen = self.names.iter();
                    let chosen: Vec<usize> = chosen
                        .filter_map(|name| infos.get(&(*name, identity)).copied())
                        .collect();
                    self.labels(own, &chosen)?
                };
                let Some(labels) = labels else {
                    continue;
                };
                let parts = &mut enriched[index];
                let known = parts.iter().position(|(known, _)| *known == labels);
                let place = if let Some(place) = known {
                    place
                } else {
                    context.make_room(grid.count)?;
                    context.budget.take(labels.held())?;
                    parts.push((labels, Column::empty(grid.count)));
                    parts.len() - 1
                };
                parts[place].1.push(grid.count, step, sample);
            }
        }
        Ok(enriched)
    }

    /// Returns the newest info series of a step by metric name, instance and job, as far as those are its own.
    fn infos_by_rank(
        &self,
        step: usize,
    ) -> Result<HashMap<(&'i str, [&'i str; 2]), usize>, QueryError> {
        let mut newest: HashMap<_, usize> = HashMap::new();
        let present = (0..self.infos.len()).filter(|row| self.infos[*row].taken.present.has(step));
        for (rank, row) in present.enumerate() {
            let labels = &self.infos[rank].labels;
            let place = (labels.metric_name(), identity(labels));
            let known = newest.get(&place).copied();
            let rows: Vec<usize> = known.into_iter().chain([row]).collect();
            if let Some(row) = self.newest(&rows, step)? {
                newest.insert(place, row);
            }
        }
        Ok(newest)
    }
}
