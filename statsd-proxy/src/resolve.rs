//! Names become addresses here, in the background, never on the data path.

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    net::lookup_host,
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{config::NodeConfig, membership::Event, node::Node};

/// How long one lookup may take.
pub const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// Between lookups of a name.
const REFRESH: Duration = Duration::from_secs(30);
/// Between lookups of a name that has never resolved: the first delay, doubled up to the time between lookups.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// A lookup under way.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// How names are looked up: the system's resolver, or a test's.
#[derive(Clone)]
pub struct Resolver {
    lookup: Arc<dyn Fn(String, u16) -> Lookup + Send + Sync>,
    refresh: Duration,
}

impl Resolver {
    /// Asks the system.
    pub fn system() -> Self {
        Self::new(|host, port| {
            Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
        })
    }

    /// Asks `lookup`, which gets a host and a port.
    pub fn new(lookup: impl Fn(String, u16) -> Lookup + Send + Sync + 'static) -> Self {
        Self {
            lookup: Arc::new(lookup),
            refresh: REFRESH,
        }
    }

    /// Looks names up anew every `refresh` instead of every 30 seconds.
    #[must_use]
    pub fn refreshing_every(self, refresh: Duration) -> Self {
        Self { refresh, ..self }
    }

    /// Looks up a node's address within [`LOOKUP_LIMIT`].
    ///
    /// A host may have several: an IPv4 address is preferred, as both originals prefer it, and then the least, so that a
    /// resolver that rotates its answers does not move the node.
    pub async fn resolve(&self, node: &NodeConfig) -> io::Result<SocketAddr> {
        let found = timeout(LOOKUP_LIMIT, (self.lookup)(node.host.clone(), node.port)).await;
        let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        found
            .into_iter()
            .min_by_key(|address| (address.is_ipv6(), *address))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("refresh", &self.refresh)
            .finish_non_exhaustive()
    }
}

/// Looks a node's name up again and again, and reports the first answer and every change. A name that stops resolving
/// keeps its last address.
pub(crate) async fn follow(node: Arc<Node>, resolver: Resolver, events: mpsc::Sender<Event>) {
    let mut reported = None;
    let first_retry = FIRST_RETRY.min(resolver.refresh);
    let mut retry = first_retry;
    loop {
        let found = resolver.resolve(&node.config).await;
        if let Err(reason) = &found {
            warn!(node = node.label(), %reason, "cannot resolve the node's name");
        }
        let address = found.ok().or(reported.flatten());
        if reported != Some(address) {
            reported = Some(address);
            if events
                .send(Event::Resolved {
                    node: Arc::clone(&node),
                    address,
                })
                .await
                .is_err()
            {
                return;
            }
        }
        if address.is_some() {
            retry = first_retry;
            sleep(resolver.refresh).await;
        } else {
            sleep(retry).await;
            retry = (retry * 2).min(resolver.refresh);
        }
    }
}
