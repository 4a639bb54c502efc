//! One query.

use std::{future::Future, sync::Arc};

use promql::{CancelToken, Query, parser::NodeKind, value::Value};
use shared::bell::answer_own_wakes;
use tokio::{
    sync::OwnedSemaphorePermit,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{
    Outcome, Params, QueryFailure, QueryFailureKind, Shared, Source, Timings,
    gather::{Gathered, gather},
};
use crate::{
    config::Groups,
    servergroup::time_range::Grid,
    upstream::{Asker, Budget, share_of_targets},
};

/// Queries with fewer samples and steps than this are evaluated at once: handing them to another thread takes longer.
const FEW: usize = 10_000;

pub(super) async fn run(
    shared: &Shared,
    source: &Source,
    query: Query,
    grid: Grid,
    params: &Params,
    begun: Instant,
) -> Result<Outcome, QueryFailure> {
    let limits = &shared.limits;
    let limit = params
        .timeout
        .map_or(limits.timeout, |timeout| timeout.min(limits.timeout));
    let deadline = begun.checked_add(limit);
    let permit = within(deadline, "query queue", turn(shared)).await?;
    let queue = begun.elapsed();
    let query = match params.lookback_ms {
        Some(lookback) => query.with_lookback(lookback),
        None => query,
    };
    let asker = Asker {
        headers: Arc::clone(&params.headers),
        lookback_ms: params.lookback_ms,
        budget: Arc::new(Budget::new(limits.max_bytes, limits.max_samples)),
        deadline: begun.checked_add(share_of_targets(limit)),
    };
    let gathering = answer_own_wakes(gather(source, &query, grid, &asker));
    let gathered = within(deadline, "expression evaluation", gathering).await??;
    let fetch = begun.elapsed().saturating_sub(queue);

    let cancel = CancelOnDrop(CancelToken::default());
    let annotations = gathered.annotations.clone();
    let work = Work {
        gathered,
        query,
        steps: grid.len(),
        groups: source.groups,
        cancel: cancel.0.clone(),
        permit,
    };
    let evaluating = work.evaluate();
    let evaluated = match within(deadline, "expression evaluation", evaluating).await {
        Ok(evaluated) => evaluated,
        Err(failure) => {
            cancel.0.time_out();
            Err(failure)
        }
    };
    let mut outcome = evaluated.map_err(|failure| QueryFailure {
        annotations,
        ..failure
    })?;
    outcome.timings = Timings {
        queue,
        fetch,
        evaluate: begun.elapsed().saturating_sub(queue + fetch),
    };
    outcome.cut(params.limit);
    Ok(outcome)
}

/// Ends evaluation when nobody waits for it any more.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // Of a query that has ended this changes nothing.
        self.0.cancel();
    }
}

async fn within<T>(
    deadline: Option<Instant>,
    doing: &str,
    work: impl Future<Output = T>,
) -> Result<T, QueryFailure> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work)
            .await
            .map_err(|_| QueryFailure::timed_out(doing)),
        None => Ok(work.await),
    }
}

/// Waits until one more query may run.
async fn turn(shared: &Shared) -> Option<OwnedSemaphorePermit> {
    let places = Arc::clone(shared.places.as_ref()?);
    // The semaphore is never closed.
    places.acquire_owned().await.ok()
}

/// What is left to do when everything is there.
struct Work {
    gathered: Gathered,
    query: Query,
    steps: usize,
    groups: Groups,
    cancel: CancelToken,
    /// The place of the query is free when its work is done, not when nobody waits for it any more.
    permit: Option<OwnedSemaphorePermit>,
}

impl Work {
    /// Evaluates what servers did not, on a thread of its own if that takes longer than going there.
    async fn evaluate(self) -> Result<Outcome, QueryFailure> {
        if self.is_short() {
            return self.finish();
        }
        spawn_blocking(move || self.finish())
            .await
            .unwrap_or_else(|error| {
                let reason = if error.is_panic() {
                    "evaluation panicked"
                } else {
                    "the program is ending"
                };
                let message = format!("unexpected error: {reason}");
                Err(QueryFailure::new(QueryFailureKind::Internal, message))
            })
    }

    fn is_short(&self) -> bool {
        let nodes = self.query.expr().nodes();
        let mut kinds = nodes.map(|(_, node)| &node.kind);
        let has_subquery = kinds.any(|kind| matches!(kind, NodeKind::Subquery(_)));
        let nodes = self.query.expr().nodes().count();
        !has_subquery && self.gathered.size(nodes, self.steps) < FEW
    }

    fn finish(self) -> Result<Outcome, QueryFailure> {
        let Self {
            gathered,
            query,
            groups,
            cancel,
            permit,
            ..
        } = self;
        let evaluated = gathered.evaluate(query, groups, &cancel);
        drop(permit);
        evaluated
    }
}

impl Outcome {
    /// Leaves out the series beyond a limit.
    fn cut(&mut self, limit: Option<usize>) {
        let Some(limit) = limit else { return };
        let length = match &mut self.value {
            Value::Vector(vector) => {
                let length = vector.len();
                vector.truncate(limit);
                length
            }
            Value::Matrix(matrix) => {
                let length = matrix.len();
                matrix.truncate(limit);
                length
            }
            Value::Scalar { .. } | Value::String { .. } => 0,
        };
        if length > limit {
            self.annotations
                .warnings
                .push("results truncated due to limit".to_owned());
        }
    }
}
