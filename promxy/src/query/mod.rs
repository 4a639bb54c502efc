//! Queries from text to value.
//!
//! In reading order:
//!
//! * [`Queries`]: plans a query, asks the groups for everything at once, evaluates what is left
//! * [`Settings`], [`Limits`], [`Params`]: what a query may and should do; [`Source`]: whom it asks
//! * [`Outcome`], [`QueryFailure`]: what becomes of it
//! * `places`: where in a query answers go; [`selects`]: what has to be fetched as raw samples
//! * `run`: one query; `gather`: its plan and its requests, which `fetch` makes
//! * `evaluate`: its value; `combine`: the answers of groups as one; `substitute`: the answers in the place of nodes
//!
//! Dropping the future of a query ends its requests and its evaluation.

mod combine;
mod evaluate;
mod failure;
mod fetch;
mod gather;
mod places;
mod run;
mod selects;
mod substitute;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use promql::{Engine, EngineOptions, SampleStats, parser::ParserOptions, value::Value};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    config::Groups,
    servergroup::{decode::Annotations, time_range::Grid},
    upstream::Upstream,
};

pub use failure::{QueryFailure, QueryFailureKind};
pub use selects::{Select, selects};

/// Evaluates queries over all server groups. Clones share everything.
#[derive(Clone)]
pub struct Queries {
    shared: Arc<Shared>,
}

/// What all queries have in common.
struct Shared {
    engine: Engine,
    limits: Limits,
    source: ArcSwap<Source>,
    /// As many permits as queries may run at the same time.
    places: Option<Arc<Semaphore>>,
}

/// What holds as long as the program runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The language.
    pub parser: ParserOptions,
    /// How long a sample stands for its series.
    pub lookback: Duration,
    /// What queries may take.
    pub limits: Limits,
}

/// What queries may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a query may take, the wait for its turn included.
    pub timeout: Duration,
    /// How many samples it may fetch, and how many it may hold at once.
    pub max_samples: u64,
    /// How many bytes its answers may have, inflated.
    pub max_bytes: u64,
    /// How many queries run at the same time; others wait.
    pub max_concurrency: Option<usize>,
}

/// Whom queries ask. A reload replaces it; queries that have begun go on with the old one.
#[derive(Clone)]
pub struct Source {
    /// The server groups.
    pub upstream: Arc<dyn Upstream>,
    /// Whether they may hold the same series.
    pub groups: Groups,
    /// The step of subqueries that give none (`global.evaluation_interval`).
    pub default_step: Duration,
}

/// What a request says beside the query.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// How long a sample stands for its series, if not as configured. Milliseconds.
    pub lookback_ms: Option<i64>,
    /// How long the query may take; the configured limit holds, too.
    pub timeout: Option<Duration>,
    /// How many series are wanted at most.
    pub limit: Option<usize>,
    /// Headers of the client's request that go to every target.
    pub headers: Arc<[(String, String)]>,
}

/// What has become of a query.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The value.
    pub value: Value,
    /// What the engine and the servers say beside it. All of it: how much is shown is the API's to decide.
    pub annotations: Annotations,
    /// What it cost: samples that were looked at here, and those that servers sent.
    pub stats: SampleStats,
    /// How long it took.
    pub timings: Timings,
}

/// How long a query took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for its turn.
    pub queue: Duration,
    /// Planning, and waiting for servers.
    pub fetch: Duration,
    /// Evaluating what servers did not.
    pub evaluate: Duration,
}

impl Timings {
    /// Returns the time from the beginning to the end.
    pub fn total(&self) -> Duration {
        self.queue + self.fetch + self.evaluate
    }
}

impl Queries {
    /// Returns what evaluates queries of a source.
    pub fn new(settings: Settings, source: Source) -> Self {
        let limits = settings.limits;
        let engine = EngineOptions {
            lookback: millis(settings.lookback),
            max_samples: limits.max_samples,
            ..EngineOptions::new(settings.parser)
        };
        Self {
            shared: Arc::new(Shared {
                engine: Engine::new(engine),
                limits,
                source: ArcSwap::from_pointee(source),
                places: limits
                    .max_concurrency
                    .map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))),
            }),
        }
    }

    /// Replaces the source for all queries that begin from now on.
    pub fn swap(&self, source: Source) {
        self.shared.source.store(Arc::new(source));
    }

    /// Returns the source.
    pub fn source(&self) -> Arc<Source> {
        self.shared.source.load_full()
    }

    /// Evaluates a query at one time, in milliseconds since 1970. Needs a tokio runtime.
    pub async fn instant(
        &self,
        text: &str,
        time_ms: i64,
        params: &Params,
    ) -> Result<Outcome, QueryFailure> {
        let begun = Instant::now();
        let source = self.source();
        let query = self.engine(&source).instant_query(text, time_ms)?;
        let grid = Grid::instant(time_ms);
        run::run(&self.shared, &source, query, grid, params, begun).await
    }

    /// Evaluates a query at evenly spaced times from a start to an end, all in milliseconds. Needs a tokio runtime.
    ///
    /// How many times there may be is the API's to say; servers get long ranges in parts.
    pub async fn range(
        &self,
        text: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        params: &Params,
    ) -> Result<Outcome, QueryFailure> {
        let begun = Instant::now();
        let source = self.source();
        let engine = self.engine(&source);
        let query = engine.range_query(text, start_ms, end_ms, step_ms)?;
        let grid = Grid {
            start: start_ms,
            end: end_ms,
            step: step_ms,
        };
        run::run(&self.shared, &source, query, grid, params, begun).await
    }

    fn engine(&self, source: &Source) -> Engine {
        let step = millis(source.default_step).max(1);
        Engine::new(EngineOptions {
            default_subquery_step: Arc::new(move |_| step),
            ..self.shared.engine.options().clone()
        })
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Debug for Queries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queries")
            .field("engine", &self.shared.engine)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("groups", &self.groups)
            .field("default_step", &self.default_step)
            .finish_non_exhaustive()
    }
}
