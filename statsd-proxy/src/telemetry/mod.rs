//! The proxy's own numbers: as a page for Prometheus ([`page`]), and as StatsD lines ([`statsd`]).

pub(crate) mod page;
pub(crate) mod statsd;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio_util::sync::CancellationToken;

use crate::{
    counters::{DropReason, Totals},
    relay::SharedRouting,
    routing::Routing,
};

/// Where the numbers are read from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) totals: Arc<Totals>,
    pub(crate) routing: SharedRouting,
    pub(crate) reloads: Arc<Reloads>,
    /// Cancelled when the process is asked to end.
    pub(crate) ending: CancellationToken,
}

impl Sources {
    /// Lines sent to nodes, those that have left the configuration included.
    fn lines_sent(&self, routing: &Routing) -> u64 {
        let present = routing
            .destinations
            .iter()
            .map(|at| at.node.deliveries.lines.load(Relaxed));
        self.totals.retired.lines.load(Relaxed) + present.sum::<u64>()
    }

    /// Lines that reached no node for `reason`, before one was chosen or on the way to it.
    fn lines_dropped(&self, routing: &Routing, reason: DropReason) -> u64 {
        let present = routing
            .destinations
            .iter()
            .map(|at| at.node.deliveries.drops.get(reason));
        self.totals.drops.get(reason) + self.totals.retired.drops.get(reason) + present.sum::<u64>()
    }
}

/// How reloads went.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
}
