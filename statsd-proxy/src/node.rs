//! A backend as the running proxy knows it: identity, numbers, and, for TCP, the lines that wait for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::{
    config::{NodeConfig, Protocol},
    counters::{NodeDeliveries, Totals},
    output::queue::{Backlog, Entrance},
};

/// A backend. It lives as long as a routing snapshot or an output lane refers to it.
#[derive(Debug)]
pub struct Node {
    /// What the configuration says.
    pub config: NodeConfig,
    /// What has happened to its lines.
    pub deliveries: Arc<NodeDeliveries>,
    /// Whether the last checks found it up; for those who look, not for routing.
    pub up: AtomicBool,
    /// Where lines for a TCP node wait; `None` for UDP.
    pub entrance: Option<Entrance>,
}

impl Node {
    /// Makes a node; a TCP node with the backlog that its writer is to empty.
    pub fn new(
        config: NodeConfig,
        queue_bytes: usize,
        totals: Arc<Totals>,
    ) -> (Self, Option<Arc<Backlog>>) {
        let deliveries = Arc::new(NodeDeliveries::new(totals));
        let backlog = match config.protocol {
            Protocol::Udp => None,
            Protocol::Tcp => Some(Arc::new(Backlog::new(queue_bytes))),
        };
        let entrance = backlog.clone().map(Entrance::new);
        (
            Self {
                config,
                deliveries,
                up: AtomicBool::new(true),
                entrance,
            },
            backlog,
        )
    }

    /// Returns the node as logs and metrics name it.
    pub fn label(&self) -> &str {
        &self.config.label
    }

    /// Returns whether the last checks found it up.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Returns how many bytes wait for it.
    pub fn queued_bytes(&self) -> usize {
        self.entrance
            .as_ref()
            .map_or(0, |entrance| entrance.backlog().len())
    }
}
