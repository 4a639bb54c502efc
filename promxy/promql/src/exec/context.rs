//! What evaluation carries along: data, limits, annotations.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::annotations::{Annotations, Remark};
use crate::engine::EngineOptions;
use crate::error::{QueryError, Stage};
use crate::labels::Labels;
use crate::parser::{Compat, Span};
use crate::stats::SampleStats;
use crate::storage::SeriesData;

/// Ends a query from outside. Clones end the same query.
///
/// The engine has no clock: who wants a time limit calls [`CancelToken::time_out`] when the time is over.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicU8>);

/// How often loops over steps ask whether to go on, where a step costs little.
pub(super) const STEPS_AT_A_TIME: usize = 1024;

const CANCELED: u8 = 1;
const TIMED_OUT: u8 = 2;

impl CancelToken {
    /// Ends the query as cancelled.
    pub fn cancel(&self) {
        self.0.store(CANCELED, Ordering::Relaxed);
    }

    /// Ends the query as having taken too long.
    pub fn time_out(&self) {
        self.0.store(TIMED_OUT, Ordering::Relaxed);
    }

    /// Fails if the query was ended from outside, which is looked at every so many steps only.
    #[inline]
    pub(crate) fn check_at(&self, step: usize) -> Result<(), QueryError> {
        if step.is_multiple_of(STEPS_AT_A_TIME) {
            self.check(Stage::Evaluation)?;
        }
        Ok(())
    }

    /// Fails if the query was ended from outside.
    #[inline]
    pub(crate) fn check(&self, stage: Stage) -> Result<(), QueryError> {
        match self.0.load(Ordering::Relaxed) {
            CANCELED => Err(QueryError::Canceled(stage)),
            TIMED_OUT => Err(QueryError::Timeout(stage)),
            _ => Ok(()),
        }
    }
}

/// How many samples are held, and how many may be.
#[derive(Debug)]
pub(crate) struct SampleBudget {
    limit: u64,
    held: u64,
    stats: SampleStats,
}

impl SampleBudget {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            held: 0,
            stats: SampleStats::default(),
        }
    }

    /// Counts samples that are held from now on.
    pub(crate) fn take(&mut self, samples: usize) -> Result<(), QueryError> {
        self.held += samples as u64;
        self.stats.peak = self.stats.peak.max(self.held);
        if self.held > self.limit {
            Err(QueryError::TooManySamples)
        } else {
            Ok(())
        }
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
    pub(crate) fn annotate(&mut self, remark: Remark, span: Span) {
        self.annotations.add(remark, span);
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
