//! Which server gets a request: the one that the client sticks to, or else the strategy's. Ejected servers and those that have
//! failed this very request are left out as long as there is anybody else.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use http::HeaderMap;

use super::{Proxy, affinity::Match};
use crate::{backend::Backend, config::Strategy, select::Selection};

/// A server, and how it was found.
#[derive(Debug, Clone)]
pub struct Choice {
    pub(crate) backend: Arc<Backend>,
    pub(crate) matched: Option<Match>,
}

/// Chooses a server for a request that `failed` have failed already.
pub(crate) fn choose(
    proxy: &Proxy,
    selection: &Selection,
    headers: &HeaderMap,
    peer: IpAddr,
    failed: &[Arc<Backend>],
) -> Option<Choice> {
    let has_failed = |backend: &Arc<Backend>| failed.iter().any(|one| Arc::ptr_eq(one, backend));
    let usable = |backend: &&Arc<Backend>| !backend.is_ejected() && !has_failed(backend);
    let targets = selection.targets.iter().filter(usable);
    if selection.targets.len() > 1
        && let Some((backend, matched)) = proxy.affinity.find(headers, peer, targets.clone())
    {
        return Some(Choice {
            backend: Arc::clone(backend),
            matched: Some(matched),
        });
    }
    let found = by_strategy(proxy, targets)
        .or_else(|| selection.spares.iter().find(usable))
        // All are ejected: one that fails most of the time is better than none.
        .or_else(|| {
            let rest = selection
                .targets
                .iter()
                .filter(|backend| !has_failed(backend));
            by_strategy(proxy, rest).filter(|_| failed.is_empty())
        })?;
    Some(Choice::of(found))
}

/// Spreads requests over several targets.
fn by_strategy<'a>(
    proxy: &Proxy,
    mut targets: impl Iterator<Item = &'a Arc<Backend>> + Clone,
) -> Option<&'a Arc<Backend>> {
    let count = targets.clone().count();
    match (proxy.strategy, count) {
        (_, 0) => None,
        (_, 1) => targets.next(),
        (Strategy::RoundRobin, _) => targets.nth(proxy.turn.fetch_add(1, Relaxed) % count),
        (Strategy::LeastRequests, _) => {
            // Equals take turns: the scan starts at another one each time.
            let start = proxy.turn.fetch_add(1, Relaxed) % count;
            targets
                .clone()
                .cycle()
                .skip(start)
                .take(count)
                .min_by_key(|backend| backend.traffic.in_flight.load(Relaxed))
        }
        _ => targets.nth(fastrand::usize(..count)),
    }
}
