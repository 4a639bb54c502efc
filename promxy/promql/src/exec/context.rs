//! What evaluation carries along: data, limits, annotations.

use std::num::NonZeroUsize;

use super::CancelToken;
use super::column::least_held;
use crate::annotations::{Annotations, Remark};
use crate::engine::EngineOptions;
use crate::error::{QueryError, Stage};
use crate::labels::Labels;
use crate::parser::{Compat, Span};
use crate::stats::SampleStats;
use crate::storage::SeriesData;

/// How many samples are held, and how many may be.
#[derive(Debug)]
pub(crate) struct SampleBudget {
    limit: u64,
    held: u64,
    /// What is held to the end of the query and is no sample: annotations.
    kept: u64,
    stats: SampleStats,
}

impl SampleBudget {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            held: 0,
            kept: 0,
            stats: SampleStats::default(),
        }
    }

    /// Counts samples that are held from now on.
    pub(crate) fn take(&mut self, samples: usize) -> Result<(), QueryError> {
        self.hold(self.held.saturating_add(samples as u64))
    }

    /// Says how many samples are held by now.
    pub(crate) fn hold(&mut self, samples: u64) -> Result<(), QueryError> {
        self.held = samples;
        self.stats.peak = self.stats.peak.max(self.held);
        if self.is_exceeded() {
            Err(QueryError::TooManySamples)
        } else {
            Ok(())
        }
    }

    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    fn is_exceeded(&self) -> bool {
        self.held.saturating_add(self.kept) > self.limit
    }

    /// Counts samples that are let go.
    pub(crate) fn release(&mut self, samples: usize) {
        self.held = self.held.saturating_sub(samples as u64);
    }

    /// Counts samples that were looked at.
    pub(crate) fn looked_at(&mut self, samples: usize) {
        self.stats.total += samples as u64;
    }

    pub(crate) fn stats(&self) -> SampleStats {
        self.stats
    }
}

/// What evaluation carries along.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a EngineOptions,
    /// The series of every select of the plan.
    pub(crate) data: &'a [Vec<SeriesData>],
    /// In milliseconds.
    pub(crate) lookback: i64,
    pub(crate) annotations: Annotations,
    pub(crate) budget: SampleBudget,
    pub(crate) cancel: &'a CancelToken,
    /// How many threads compute.
    pub(crate) threads: NonZeroUsize,
}

impl Context<'_> {
    /// Adds a remark. So many of them that they take memory to speak of count as samples.
    pub(crate) fn annotate(&mut self, remark: Remark, span: Span) {
        if !self.budget.is_exceeded() {
            self.budget.kept += self.annotations.add(remark, span) as u64;
        }
    }

    /// Counts a column of so many steps that is about to be made, and may stay almost empty.
    pub(crate) fn make_room(&mut self, steps: usize) -> Result<(), QueryError> {
        self.budget.take(least_held(steps))
    }

    /// Fails if the query was ended from outside.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        self.cancel.check(Stage::Evaluation)
    }

    pub(crate) fn is_3_5(&self) -> bool {
        self.options.parser.compat == Compat::V3_5
    }

    /// Whether metadata labels are removed at the end and not where an operation drops them.
    pub(crate) fn delays_name_removal(&self) -> bool {
        self.options.delayed_name_removal
    }

    /// Returns the name that an annotation about a series shows: 3.5 always shows one, later versions only where it is kept to
    /// the end.
    pub(crate) fn late_name<'l>(&self, labels: &'l Labels) -> Option<&'l str> {
        (self.delays_name_removal() || self.is_3_5()).then(|| labels.metric_name())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::error::QueryError;
    use crate::labels::Labels;
    use crate::parser::ParserOptions;
    use crate::storage::{Samples, SeriesData};
    use crate::testing::{MemoryStorage, block_on};
    use crate::{CancelToken, Engine, EngineOptions};

    /// Series of which each is there for a moment only, one after the other.
    fn moments(count: i64) -> MemoryStorage {
        let series = (0..count).map(|i| {
            let number = i.to_string();
            let samples = Samples {
                timestamps: vec![i * 10_000],
                values: vec![i as f64],
                ..Samples::default()
            };
            SeriesData {
                labels: [("__name__", "m"), ("l", &number)]
                    .into_iter()
                    .collect::<Labels>(),
                samples: Arc::new(samples),
            }
        });
        MemoryStorage::of_series(series.collect())
    }

    #[test]
    fn places_that_stay_empty_count_for_the_limit() {
        let storage = moments(400);
        let outcome = |query: &str, max_samples: u64| {
            let engine = Engine::new(EngineOptions {
                max_samples,
                lookback: 1_000,
                ..EngineOptions::new(ParserOptions::default())
            });
            let query = engine.range_query(query, 0, 4_000_000, 1_000).unwrap();
            let outcome = block_on(query.run(&storage, &CancelToken::default()));
            outcome.value.map(|_| ())
        };
        let kept = [
            "m",
            "m + m",
            "last_over_time(m[1s])",
            "topk(1, m)",
            "sum by (l) (m)",
            "count_values('v', m)",
        ];
        for query in kept {
            // There are 400 samples in columns of 4,001 steps, each of which counts as 250 samples.
            assert_eq!(
                outcome(query, 10_000),
                Err(QueryError::TooManySamples),
                "{query}"
            );
            assert_eq!(outcome(query, 300_000), Ok(()), "{query}");
        }
        // What takes one series after the other holds one at a time.
        for query in ["sum(m)", "max(last_over_time(m[1s]))"] {
            assert_eq!(outcome(query, 1_000), Ok(()), "{query}");
        }
    }
}
