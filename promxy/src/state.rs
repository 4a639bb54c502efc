//! What requests are answered from.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    discovery::Environment,
    flags::{Flags, Settings},
    query::Queries,
    servergroup::{Groups, NotReady},
    telemetry::{Telemetry, active_queries::ActiveQueries, query_log::QueryLog},
    upstream::{Asker, Budget, Upstream, share_of_targets},
};

/// What the whole program shares.
pub struct State {
    /// The command line.
    pub flags: Flags,
    /// What it means.
    pub settings: Settings,
    /// The machine's name.
    pub hostname: String,
    /// When the process started.
    pub started: Timestamp,
    /// What clients and sources take from the environment.
    pub environment: Environment,
    /// What is counted.
    pub telemetry: Telemetry,
    /// The log of queries.
    pub query_log: QueryLog,
    /// The places for queries, if there is a limit.
    pub active_queries: Option<Arc<ActiveQueries>>,
    /// The places for remote reads.
    pub remote_reads: Semaphore,
    /// What evaluates queries.
    pub queries: Queries,
    /// The server groups.
    pub groups: Groups,
    /// What a reload replaces.
    pub live: ArcSwap<Live>,
    /// Held by a reload.
    pub reloading: Mutex<()>,
    /// Cancelled when the process is asked to end over HTTP.
    pub quit: CancellationToken,
    /// Whether it is ending.
    pub stopping: AtomicBool,
    /// The headers that go from clients to targets.
    pub forwarded: Vec<HeaderName>,
}

/// What a reload replaces.
#[derive(Debug)]
pub struct Live {
    /// The configuration.
    pub config: Config,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    /// Returns what is in force now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Returns the server groups.
    pub fn upstream(&self) -> &dyn Upstream {
        &self.groups
    }

    /// Returns the headers of a request that go on to targets, each with its first value.
    pub fn forwarded(&self, headers: &HeaderMap) -> Arc<[(String, String)]> {
        let first = |name: &HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            (!value.is_empty()).then(|| (name.as_str().to_owned(), value.to_owned()))
        };
        self.forwarded.iter().filter_map(first).collect()
    }

    /// Returns who asks, for everything but queries.
    pub fn asker(&self, headers: &HeaderMap) -> Asker {
        Asker {
            headers: self.forwarded(headers),
            lookback_ms: None,
            budget: Arc::new(Budget::new(
                self.flags.most_bytes(),
                self.flags.most_samples(),
            )),
            deadline: self
                .flags
                .query_timeout
                .and_then(|limit| Instant::now().checked_add(share_of_targets(limit))),
        }
    }

    /// Returns why queries cannot be answered yet, if so.
    pub fn not_ready(&self) -> Option<String> {
        let waiting = self.groups.not_ready();
        let told = waiting.iter().map(|group| {
            let NotReady {
                ordinal,
                name,
                reason,
            } = group;
            format!("ServerGroup ord={ordinal} name={name}: {reason}")
        });
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// Whether the process is ending.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Asks the process to end. Returns whether nobody had before.
    pub fn quit(&self) -> bool {
        let is_first = !self.quit.is_cancelled() && !self.is_stopping();
        self.quit.cancel();
        is_first
    }
}
