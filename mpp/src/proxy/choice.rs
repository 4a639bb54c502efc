//! Which server gets a request: the one that the client sticks to, or else the strategy's. Ejected servers and those that have
//! failed this very request are left out as long as there is anybody else.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::HeaderMap;

use super::affinity::{Affinity, Match};
use crate::{backend::Backend, config::Strategy, select::Selection};

/// Chooses servers out of a selection.
#[derive(Debug)]
pub struct Router {
    strategy: Strategy,
    /// How clients stick to servers.
    pub affinity: Affinity,
    turn: AtomicUsize,
}

/// A server, and how it was found.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The server.
    pub backend: Arc<Backend>,
    /// What the client stuck by; `None` if the strategy chose.
    pub matched: Option<Match>,
}

impl Choice {
    /// Makes the choice that was not made by what a client sticks to.
    pub(super) fn of(backend: &Arc<Backend>) -> Self {
        Self {
            backend: Arc::clone(backend),
            matched: None,
        }
    }
}

impl Router {
    /// Makes a router that has chosen nothing yet.
    pub fn new(strategy: Strategy, affinity: Affinity) -> Self {
        Self {
            strategy,
            affinity,
            turn: AtomicUsize::new(0),
        }
    }

    /// Chooses a server for a request of `peer` that `failed` have failed already; `None` if nobody is left.
    pub fn choose(
        &self,
        selection: &Selection,
        headers: &HeaderMap,
        peer: IpAddr,
        failed: &[Arc<Backend>],
    ) -> Option<Choice> {
        let has_failed =
            |backend: &Arc<Backend>| failed.iter().any(|one| Arc::ptr_eq(one, backend));
        let usable = |backend: &&Arc<Backend>| !backend.is_ejected() && !has_failed(backend);
        let targets = selection.targets.iter().filter(usable);
        if selection.targets.len() > 1
            && let Some((backend, matched)) = self.affinity.find(headers, peer, targets.clone())
        {
            return Some(Choice {
                backend: Arc::clone(backend),
                matched: Some(matched),
            });
        }
        let found = self
            .by_strategy(targets)
            .or_else(|| selection.spares.iter().find(usable))
            // All are ejected: one that fails most of the time is better than none.
            .or_else(|| {
                let first_try = failed.is_empty();
                first_try
                    .then(|| self.by_strategy(selection.targets.iter()))
                    .flatten()
            })?;
        Some(Choice::of(found))
    }

    /// Spreads requests over several targets.
    fn by_strategy<'a>(
        &self,
        mut targets: impl Iterator<Item = &'a Arc<Backend>> + Clone,
    ) -> Option<&'a Arc<Backend>> {
        let count = targets.clone().count();
        match (self.strategy, count) {
            (_, 0) => None,
            (_, 1) => targets.next(),
            (Strategy::RoundRobin, _) => targets.nth(self.turn.fetch_add(1, Relaxed) % count),
            (Strategy::LeastRequests, _) => {
                // Equals take turns: the scan starts at another one each time.
                let start = self.turn.fetch_add(1, Relaxed) % count;
                targets
                    .cycle()
                    .skip(start)
                    .take(count)
                    .min_by_key(|backend| backend.traffic.in_flight.load(Relaxed))
            }
            _ => targets.nth(fastrand::usize(..count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Failure, config, endpoint::Endpoint};

    fn backends(count: usize) -> Vec<Arc<Backend>> {
        (0..count)
            .map(|number| Endpoint::parse(&format!("http://h:{}", number + 1)).unwrap())
            .map(|endpoint| Arc::new(Backend::new(endpoint, 1)))
            .collect()
    }

    fn router(strategy: Strategy) -> Router {
        let affinity = Affinity::new(&config::Affinity {
            cookies: true,
            source_ip: false,
            shown: String::new(),
            remembered: 1,
        });
        Router::new(strategy, affinity)
    }

    /// The place of the server that `router` chooses without a cookie.
    fn place(
        router: &Router,
        all: &[Arc<Backend>],
        selection: &Selection,
        failed: &[Arc<Backend>],
    ) -> Option<usize> {
        let peer = IpAddr::from([192, 0, 2, 1]);
        let choice = router.choose(selection, &HeaderMap::new(), peer, failed)?;
        assert_eq!(choice.matched, None);
        all.iter().position(|one| Arc::ptr_eq(one, &choice.backend))
    }

    #[test]
    fn who_failed_or_is_ejected_is_left_out_while_there_are_others() {
        let all = backends(3);
        let selection = Selection::of(all[..2].to_vec(), all[2..].to_vec());
        let router = router(Strategy::RoundRobin);
        assert_eq!(place(&router, &all, &selection, &all[..1]), Some(1));
        all[1].eject(Failure::Connect);
        assert_eq!(place(&router, &all, &selection, &[]), Some(0));
        // A spare is better than one that has failed.
        assert_eq!(place(&router, &all, &selection, &all[..1]), Some(2));
        all[0].eject(Failure::Connect);
        all[2].eject(Failure::Connect);
        assert!(place(&router, &all, &selection, &[]).is_some_and(|place| place < 2));
        assert_eq!(place(&router, &all, &selection, &all[..1]), None);
    }

    #[test]
    fn round_robin_and_least_requests_spread() {
        let all = backends(3);
        let selection = Selection::of(all.clone(), Vec::new());
        let round_robin = router(Strategy::RoundRobin);
        let turns: Vec<_> = (0..4)
            .map(|_| place(&round_robin, &all, &selection, &[]))
            .collect();
        assert_eq!(turns, [Some(0), Some(1), Some(2), Some(0)]);
        let least = router(Strategy::LeastRequests);
        all[0].traffic.in_flight.store(2, Relaxed);
        all[1].traffic.in_flight.store(1, Relaxed);
        for _ in 0..4 {
            assert_eq!(place(&least, &all, &selection, &[]), Some(2));
        }
    }

    #[test]
    fn a_cookie_counts_only_where_there_is_a_choice() {
        let all = backends(2);
        let router = router(Strategy::RoundRobin);
        let mut headers = HeaderMap::new();
        headers.insert("cookie", "MPP.Route=http://h:2".parse().unwrap());
        let peer = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..3 {
            let both = Selection::of(all.clone(), Vec::new());
            let choice = router.choose(&both, &headers, peer, &[]).unwrap();
            assert!(Arc::ptr_eq(&choice.backend, &all[1]));
            assert_eq!(choice.matched, Some(Match::Cookie));
        }
        let one = Selection::of(all[1..].to_vec(), Vec::new());
        let choice = router.choose(&one, &headers, peer, &[]).unwrap();
        assert_eq!(choice.matched, None);
    }
}
