//! The proxy's own numbers: as a page for Prometheus ([`page`]), and as StatsD lines ([`statsd`]).

pub(crate) mod page;
pub(crate) mod statsd;

use std::sync::{Arc, atomic::AtomicU64};

use crate::{counters::Totals, relay::SharedRouting};

/// Where the numbers are read from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) totals: Arc<Totals>,
    pub(crate) routing: SharedRouting,
    pub(crate) reloads: Arc<Reloads>,
}

/// How reloads went.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
}
