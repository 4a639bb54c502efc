//! Ending a query from outside.
//!
//! Every loop that can take long asks whether to go on, at least once for a million samples that it looks at. A single sort and a
//! single pass over a column are not interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{QueryError, Stage};

/// Ends a query from outside. Clones end the same query.
///
/// The engine has no clock: who wants a time limit calls [`CancelToken::time_out`] when the time is over.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    state: Arc<AtomicU8>,
    #[cfg(test)]
    asked: Arc<tests::Asked>,
}

/// How often loops over steps ask whether to go on, where a step costs little.
pub(super) const STEPS_AT_A_TIME: usize = 1024;

const CANCELED: u8 = 1;
const TIMED_OUT: u8 = 2;

impl CancelToken {
    /// Ends the query as cancelled.
    pub fn cancel(&self) {
        self.state.store(CANCELED, Ordering::Relaxed);
    }

    /// Ends the query as having taken too long.
    pub fn time_out(&self) {
        self.state.store(TIMED_OUT, Ordering::Relaxed);
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
        #[cfg(test)]
        self.asked.once(self);
        match self.state.load(Ordering::Relaxed) {
            CANCELED => Err(QueryError::Canceled(stage)),
            TIMED_OUT => Err(QueryError::Timeout(stage)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
