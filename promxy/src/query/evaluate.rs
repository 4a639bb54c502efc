//! From what was fetched to the value of a query. Plain computing: nothing waits here.

use std::collections::HashMap;

use futures_util::FutureExt as _;
use promql::{CancelToken, Query, SampleStats, annotations::Severity, parser::NodeId};

use super::{
    Outcome, QueryFailure, Timings,
    combine::{self, Answered, Columns, Copies},
    fetch,
    gather::Gathered,
    places::{Places, Source as Made},
    selects::Fetched,
    substitute::{Substitute, Substitutes},
};
use crate::{
    config::Groups,
    servergroup::{decode::Annotations, time_range::Grid},
};

impl Gathered {
    /// Returns about how many values evaluation has to look at, for a query of so many nodes and steps.
    pub(super) fn size(&self, nodes: usize, steps: usize) -> usize {
        let columns = self.columns.iter().flatten();
        let columns = columns.map(|part| part.series.iter().map(|s| s.data.len()).sum::<usize>());
        let samples = self.samples.iter().flatten().flat_map(|part| &part.series);
        let samples = samples.map(|s| s.data.floats.len() + 16 * s.data.histograms.len());
        columns.sum::<usize>() + 4 * samples.sum::<usize>() + nodes.saturating_mul(steps)
    }

    /// Evaluates what servers did not.
    pub(super) fn evaluate(
        self,
        query: Query,
        groups: Groups,
        cancel: &CancelToken,
    ) -> Result<Outcome, QueryFailure> {
        let Self {
            places,
            fetches,
            columns,
            selects,
            samples,
            mut annotations,
        } = self;
        let sent: usize = columns
            .iter()
            .flatten()
            .flat_map(|part| &part.series)
            .map(|series| series.data.count() + series.data.histograms().len())
            .sum();
        let answers = columns
            .into_iter()
            .zip(&fetches)
            .map(|(parts, fetch)| Answered {
                parts,
                grid: fetch.grid,
            });
        let mut table = Table::new(answers.collect(), &places);
        let mut substitutes = HashMap::new();
        for (id, place) in places.into_iter() {
            let first = place.source.fetches().next().unwrap_or(0);
            let grid = table.grid(first).shifted(-place.offset_ms);
            let (series, copies) = made(place.source, &mut table, groups);
            if copies == Copies::Taken {
                annotations.add_warnings([copies_taken(&query, id)]);
            }
            let is_fixed = place.is_fixed;
            substitutes.insert(
                id,
                Substitute {
                    series,
                    grid,
                    is_fixed,
                },
            );
        }
        let samples = samples.into_iter().map(fetch::series_data);
        let fetched = Fetched::new(selects.into_iter().zip(samples));
        let substitutes = Substitutes::new(substitutes);
        let text = query.text().to_owned();
        let prepared = query.prepare(&fetched, Some(&substitutes), cancel);
        // Everything is there, so nothing waits.
        let prepared = prepared.now_or_never().unwrap_or_else(|| {
            Err(promql::QueryError::Execution(
                "samples are missing".to_owned(),
            ))
        })?;
        let evaluated = prepared.evaluate(cancel);
        let value = evaluated.value?;
        let said = evaluated.annotations;
        let mut own = Annotations {
            warnings: said.texts(Severity::Warning, &text),
            infos: said.texts(Severity::Info, &text),
        };
        append(&mut own.warnings, annotations.warnings);
        append(&mut own.infos, annotations.infos);
        let sent = sent as u64;
        Ok(Outcome {
            value,
            annotations: own,
            stats: SampleStats {
                total: evaluated.stats.total + sent,
                peak: evaluated.stats.peak.max(sent),
            },
            timings: Timings::default(),
        })
    }
}

/// Appends texts that are not there, with a place in the query or without.
fn append(texts: &mut Vec<String>, more: Vec<String>) {
    for text in more {
        let is_known = texts.iter().any(|known| {
            let rest = known.strip_prefix(text.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
        });
        if !is_known {
            texts.push(text);
        }
    }
}

fn copies_taken(query: &Query, id: NodeId) -> String {
    format!(
        "server groups have equal partial results of the aggregation of {}, and the first group's count: \
         set promxy.groups to disjoint if the groups hold different series",
        query.expr().display(id)
    )
}

/// Makes the value of a node.
fn made(source: Made, table: &mut Table, groups: Groups) -> (Columns, Copies) {
    match source {
        Made::Series(fetch) => {
            let Answered { parts, grid } = table.take(fetch);
            (combine::series(parts, &grid), Copies::None)
        }
        Made::Partial(op, fetch) => combine::partial(table.take(fetch), op, groups),
        Made::Sum(fetch, group) => combine::sum(table.take(fetch), &group, groups),
        Made::Quotient(sums, counts, group) => {
            combine::quotient(table.take(sums), table.take(counts), &group, groups)
        }
    }
}

/// Answers, which are copied only for nodes that share them.
struct Table {
    answers: Vec<Answered>,
    uses: Vec<usize>,
}

impl Table {
    fn new(answers: Vec<Answered>, places: &Places) -> Self {
        let mut uses = vec![0; answers.len()];
        for fetch in places.iter().flat_map(|place| place.source.fetches()) {
            uses[fetch] += 1;
        }
        Self { answers, uses }
    }

    fn grid(&self, fetch: usize) -> Grid {
        self.answers[fetch].grid
    }

    fn take(&mut self, fetch: usize) -> Answered {
        self.uses[fetch] = self.uses[fetch].saturating_sub(1);
        let answer = &mut self.answers[fetch];
        if self.uses[fetch] > 0 {
            return answer.clone();
        }
        let parts = std::mem::take(&mut answer.parts);
        let grid = answer.grid;
        Answered { parts, grid }
    }
}
