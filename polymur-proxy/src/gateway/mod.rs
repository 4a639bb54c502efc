//! The gateways: which one a batch goes to, the ping at the start, and what all workers know together.
//!
//! With several addresses the first that works is used; one that failed is tried again after a while, with one batch.

pub(crate) mod connect;
pub(crate) mod exchange;
pub(crate) mod http1;
pub(crate) mod proxy_env;
pub(crate) mod reason;
pub(crate) mod url;
pub(crate) mod verdict;
pub(crate) mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use arc_swap::ArcSwap;
use bytes::Bytes;
use shared::{config::secret::Secret, tls::client::Client};
use tokio::sync::Notify;
use tracing::info;

use self::{
    connect::{Idle, Means},
    exchange::{Outcome, Terms, post},
    proxy_env::Proxies,
    url::Target,
};

/// How long a gateway that failed is left alone at first, and at most, while there are others.
const REST_FIRST: Duration = Duration::from_secs(1);
const REST_LONGEST: Duration = Duration::from_secs(60);

/// One address.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) target: Target,
    /// As written in the flag.
    written: String,
    pub(crate) idle: Idle,
    rest: Mutex<Option<Rest>>,
}

/// A gateway failed.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    length: Duration,
}

/// What gateways are made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Text and meaning of each address, in order of preference; at least one.
    pub(crate) targets: Vec<(String, Target)>,
    pub(crate) key: Secret,
    pub(crate) tls: Option<Client>,
    pub(crate) proxies: Proxies,
    /// Connections that each keeps.
    pub(crate) connections: usize,
    /// How long one is kept without use.
    pub(crate) idle_limit: Option<Duration>,
    /// Limit of a request.
    pub(crate) timeout: Duration,
}

/// All addresses, and what workers tell each other about them.
#[derive(Debug)]
pub(crate) struct Gateways {
    list: Vec<Gateway>,
    key: ArcSwap<Secret>,
    means: ArcSwap<Means>,
    proxies: Proxies,
    timeout: Duration,
    /// Whether the last request, of any worker, failed in a way that the next may not.
    away: AtomicBool,
    /// Told when a gateway takes a batch after that.
    pub(crate) recovered: Notify,
    /// Since when the key has been refused without a break.
    refused_since: Mutex<Option<Instant>>,
    failures: AtomicU64,
}

impl Gateways {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            targets,
            key,
            tls,
            proxies,
            connections,
            idle_limit,
            timeout,
        } = parts;
        let list = targets.into_iter().map(|(written, target)| Gateway {
            target,
            written,
            idle: Idle::new(connections, idle_limit),
            rest: Mutex::default(),
        });
        Self {
            list: list.collect(),
            key: ArcSwap::from_pointee(key),
            means: ArcSwap::from_pointee(Means { tls, generation: 0 }),
            proxies,
            timeout,
            away: AtomicBool::new(false),
            recovered: Notify::new(),
            refused_since: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// Pings the addresses in order until one answers 200. The error is what the original logs before it exits.
    pub(crate) async fn ping(&self) -> Result<(), String> {
        let mut failure = String::new();
        for gateway in &self.list {
            info!("Pinging gateway {}", gateway.written);
            let reason = match self.post(gateway, "/ping", &Bytes::new()).await {
                Outcome::Replied(reply) if reply.status == 200 => {
                    info!("Connection to gateway {} successful", gateway.written);
                    return Ok(());
                }
                Outcome::Replied(reply) => format!("[gateway]: {}", one_newline_less(&reply.text)),
                Outcome::SentAway(location) => {
                    let shown = gateway.target.shown("/ping");
                    format!("Post {shown:?}: redirect to another host is not followed: {location}")
                }
                Outcome::Failed(failure) => failure.text,
            };
            if !failure.is_empty() {
                info!("{failure}");
            }
            failure = reason;
            gateway.rest_a_while();
        }
        Err(failure)
    }

    /// Posts to one gateway.
    pub(crate) async fn post(&self, gateway: &Gateway, path: &str, body: &Bytes) -> Outcome {
        let (key, means) = (self.key.load_full(), self.means.load_full());
        let terms = Terms {
            means: &means,
            proxies: &self.proxies,
            key: key.reveal(),
            limit: self.timeout,
        };
        post(gateway, path, body, &terms).await
    }

    /// Returns the first gateway that is not resting; if all are, the one whose rest ends first.
    pub(crate) fn choose(&self) -> &Gateway {
        let awake = self.list.iter().find(|gateway| gateway.try_wake());
        let soonest = || {
            let until = |gateway: &&Gateway| gateway.rest().map(|rest| rest.until);
            self.list.iter().min_by_key(until)
        };
        awake
            .or_else(soonest)
            .expect("there is at least one gateway")
    }

    /// A gateway has taken a batch.
    pub(crate) fn succeeded(&self, gateway: &Gateway) {
        *gateway.rest.lock() = None;
        *self.refused_since() = None;
        if self.away.swap(false, Relaxed) {
            self.recovered.notify_waiters();
        }
    }

    /// A gateway failed. Returns whether another is there to be tried at once.
    pub(crate) fn failed(&self, gateway: &Gateway) -> bool {
        self.failures.fetch_add(1, Relaxed);
        gateway.rest_a_while();
        let other = self.list.iter().any(|other| other.rest().is_none());
        if !other {
            self.away.store(true, Relaxed);
        }
        other
    }

    /// Returns whether no gateway took the last batch, so that new ones had better wait elsewhere.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Relaxed)
    }

    /// The key was refused. Returns for how long it has been.
    pub(crate) fn key_refused(&self) -> Duration {
        self.away.store(true, Relaxed);
        self.refused_since()
            .get_or_insert_with(Instant::now)
            .elapsed()
    }

    /// Takes another key or other certificates; requests from now on use them.
    pub(crate) fn renew(&self, key: Secret, tls: Option<Client>) {
        let generation = self.means.load().generation + 1;
        self.key.store(Arc::new(key));
        self.means.store(Arc::new(Means { tls, generation }));
        *self.refused_since() = None;
        self.recovered.notify_waiters();
    }

    /// Closes connections that nobody needs any more.
    pub(crate) fn sweep(&self) {
        let generation = self.means.load().generation;
        for gateway in &self.list {
            gateway.idle.sweep(generation);
        }
    }

    /// Returns each address, without a password, and whether it rests.
    pub(crate) fn states(&self) -> impl Iterator<Item = (String, bool)> {
        let resting = |gateway: &Gateway| gateway.rest().is_some();
        self.list
            .iter()
            .map(move |gateway| (gateway.target.to_string(), !resting(gateway)))
    }

    fn refused_since(&self) -> parking_lot::MutexGuard<'_, Option<Instant>> {
        self.refused_since.lock()
    }
}

impl Gateway {
    fn rest(&self) -> Option<Rest> {
        *self.rest.lock()
    }

    /// Whether it may be tried. Who wakes it is the only one to try it until that has gone well.
    fn try_wake(&self) -> bool {
        let mut rest = self.rest.lock();
        match rest.as_mut() {
            None => true,
            Some(resting) if Instant::now() >= resting.until => {
                resting.until = Instant::now() + resting.length;
                true
            }
            Some(_) => false,
        }
    }

    fn rest_a_while(&self) {
        let mut rest = self.rest.lock();
        let now = Instant::now();
        let length = match *rest {
            None => REST_FIRST,
            // Workers that fail together count as one.
            Some(resting) if now < resting.until => return,
            Some(resting) => (resting.length * 2).min(REST_LONGEST),
        };
        *rest = Some(Rest {
            until: now + length,
            length,
        });
    }
}

/// Go's log ends a line only if its text does not.
pub(crate) fn one_newline_less(text: &str) -> &str {
    text.strip_suffix('\n').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateways(addresses: &[&str]) -> Gateways {
        let targets = addresses
            .iter()
            .map(|text| ((*text).to_owned(), Target::parse(text, "").unwrap()));
        Gateways::new(Parts {
            targets: targets.collect(),
            key: Secret::new("k"),
            tls: None,
            proxies: Proxies::default(),
            connections: 1,
            idle_limit: None,
            timeout: Duration::from_secs(1),
        })
    }

    #[test]
    fn a_gateway_that_failed_rests_while_another_works() {
        let gateways = gateways(&["http://a", "http://b"]);
        let first = gateways.choose();
        assert_eq!(first.target.host, "a");
        assert!(gateways.failed(first));
        assert!(!gateways.is_away());
        let second = gateways.choose();
        assert_eq!(second.target.host, "b");
        assert!(!gateways.failed(second));
        assert!(gateways.is_away());
        // All rest: the one that began first.
        assert_eq!(gateways.choose().target.host, "a");
        gateways.succeeded(&gateways.list[0]);
        assert!(!gateways.is_away());
        assert_eq!(gateways.choose().target.host, "a");
    }

    #[test]
    fn a_single_gateway_is_always_chosen() {
        let gateways = gateways(&["http://a"]);
        for _ in 0..3 {
            assert!(!gateways.failed(gateways.choose()));
        }
    }
}
