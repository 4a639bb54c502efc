//! Rounds of selection. One task asks the locators, probes the servers side by side and publishes who serves; requests read the
//! last [`Selection`] and never wait for a round, unless nobody is left to try.
//!
//! A round that finds nobody leaves the last targets in force: a proxy that keeps trying serves users better than one that
//! refuses. Rounds never overlap; whoever asks for one while one is running waits for that one.

pub mod strategy;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use shared::lifecycle::Tasks;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

use crate::{
    backend::{Backend, Backends},
    config::Strategy,
    endpoint::Endpoint,
    locate::Locator,
    probe::{Probe, Prober, unix_now},
};
use strategy::Candidate;

/// How many may wait for a round; beyond it whoever asks waits to ask.
const WAITING: usize = 64;
/// The longest that one locator may take.
const LOCATE: Duration = Duration::from_secs(15);

/// What the last round concluded.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Rounds so far.
    pub rounds: u64,
    /// When the last round ended.
    pub ended: Option<(Instant, SystemTime)>,
    /// Who serves; those of an earlier round if the last found nobody.
    pub targets: Vec<Arc<Backend>>,
    /// How many the last round selected.
    pub selected: usize,
    /// Who could stand in, the best first.
    pub spares: Vec<Arc<Backend>>,
    /// All servers of the last round.
    pub candidates: Vec<Candidate>,
    /// The metric that was compared.
    pub comparison: String,
}

impl Selection {
    /// Makes the selection of a round that has compared nothing.
    pub fn of(targets: Vec<Arc<Backend>>, spares: Vec<Arc<Backend>>) -> Self {
        Self {
            rounds: 0,
            ended: None,
            selected: targets.len(),
            targets,
            spares,
            candidates: Vec::new(),
            comparison: String::new(),
        }
    }
}

/// The way to the task that selects. Clones are the same way.
#[derive(Debug, Clone)]
pub struct Selector {
    current: Arc<ArcSwap<Selection>>,
    requests: mpsc::Sender<Request>,
    first: watch::Receiver<bool>,
    /// Rounds that requests forced.
    pub forced: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Request {
    done: oneshot::Sender<()>,
}

impl Selector {
    /// Starts the task that selects. The first round begins at once.
    pub fn start(
        tasks: &Tasks,
        strategy: Strategy,
        interval: Duration,
        locators: Vec<Locator>,
        prober: Prober,
        backends: Arc<Backends>,
    ) -> Self {
        let nothing = strategy::select(strategy, Vec::new(), 0.0);
        let current = Arc::new(ArcSwap::from_pointee(Selection {
            comparison: nothing.comparison,
            ..Selection::of(Vec::new(), Vec::new())
        }));
        // When full, whoever asks waits: the task takes all that wait at once.
        let (requests, requested) = mpsc::channel(WAITING);
        let (first_done, first) = watch::channel(false);
        let rounds = Rounds {
            strategy,
            interval,
            locators,
            prober,
            backends,
            current: Arc::clone(&current),
            requested,
            first_done,
            skipped: Vec::new(),
        };
        let stop = tasks.stop_token();
        tasks.spawn("selection", async move {
            // Dropping a round in the middle is what a stop means.
            let _stopped = stop.run_until_cancelled(rounds.run()).await;
        });
        Self {
            current,
            requests,
            first,
            forced: Arc::default(),
        }
    }

    /// Returns what the last round concluded.
    pub fn current(&self) -> arc_swap::Guard<Arc<Selection>> {
        self.current.load()
    }

    /// Waits until the first round has ended, `limit` at most.
    pub async fn first_round(&self, limit: Duration) {
        let mut first = self.first.clone();
        // Neither a limit that has come nor a selector that has stopped changes what follows.
        let _ended = timeout(limit, first.wait_for(|done| *done)).await.is_ok();
    }

    /// Asks for a round now and does not wait for it.
    pub fn nudge(&self) {
        let (done, _nobody) = oneshot::channel();
        // A full channel means that a round is about to start anyway.
        let _asked = self.requests.try_send(Request { done }).is_ok();
    }

    /// Asks for a round and waits until it has ended, `limit` at most.
    pub async fn round(&self, limit: Duration) {
        let (done, ended) = oneshot::channel();
        let asked = async {
            if self.requests.send(Request { done }).await.is_ok() {
                let _ended = ended.await.is_ok();
            }
        };
        let _in_time = timeout(limit, asked).await.is_ok();
    }
}

/// What the task owns.
struct Rounds {
    strategy: Strategy,
    interval: Duration,
    locators: Vec<Locator>,
    prober: Prober,
    backends: Arc<Backends>,
    current: Arc<ArcSwap<Selection>>,
    requested: mpsc::Receiver<Request>,
    first_done: watch::Sender<bool>,
    /// What locators could not use in the last round, so that it is logged once.
    skipped: Vec<String>,
}

impl Rounds {
    async fn run(mut self) {
        let mut asking: Vec<Request> = Vec::new();
        loop {
            self.round().await;
            self.first_done.send_replace(true);
            // Those who asked while the round ran are content with it.
            while let Ok(request) = self.requested.try_recv() {
                asking.push(request);
            }
            for request in asking.drain(..) {
                // Whoever asked may be gone.
                let _told = request.done.send(()).is_ok();
            }
            debug!(
                "Backend selection is sleeping for {}",
                shared::config::duration::format_nanos(self.interval.as_nanos() as i64)
            );
            let due = tokio::time::Instant::now() + self.interval;
            tokio::select! {
                () = sleep_until(due) => {}
                Some(request) = self.requested.recv() => {
                    asking.push(request);
                }
            }
        }
    }

    async fn round(&mut self) {
        debug!("Got selection lock; performing selection");
        let endpoints = self.locate().await;
        let kept = self.current.load().targets.clone();
        let named = self.backends.follow(endpoints, &kept);
        let now = unix_now();
        let history_at = match self.strategy {
            Strategy::MinimumHistory(nanos) => Some(now - nanos as f64 / 1e9),
            _ => None,
        };
        let probes = probe(&self.prober, &named, history_at).await;
        let outcome = strategy::select(
            self.strategy,
            named.into_iter().zip(probes).collect(),
            unix_now(),
        );
        self.publish(outcome);
        debug!("Returning selection lock");
    }

    /// Asks all locators, side by side; the order of their answers is that of the locators.
    async fn locate(&mut self) -> Vec<Endpoint> {
        let answers = join_all(self.locators.iter_mut().map(|locator| async move {
            let answer = timeout(LOCATE, locator.locate()).await;
            (locator.to_string(), answer)
        }))
        .await;
        let mut endpoints = Vec::new();
        let mut skipped = Vec::new();
        for (name, answer) in answers {
            match answer {
                Ok(Ok(found)) => {
                    debug!(
                        "Locator {name} resolved the following endpoints: {}",
                        bracketed(found.endpoints.iter())
                    );
                    endpoints.extend(found.endpoints);
                    skipped.extend(
                        found
                            .skipped
                            .into_iter()
                            .map(|what| format!("Locator {name} skipped {what}")),
                    );
                }
                Ok(Err(reason)) => error!("Locator {name} failed to resolve endpoints: {reason}"),
                Err(_) => error!(
                    "Locator {name} failed to resolve endpoints: no answer within {LOCATE:?}"
                ),
            }
        }
        if skipped != self.skipped {
            for what in &skipped {
                warn!("{what}");
            }
            self.skipped = skipped;
        }
        endpoints
    }

    fn publish(&self, outcome: strategy::Outcome) {
        let last = self.current.load();
        log_changes(&last.candidates, &outcome.candidates);
        let targets = outcome.targets();
        let selected = targets.len();
        let targets = if targets.is_empty() {
            let reason = if outcome.candidates.is_empty() {
                "No endpoints returned by any locators".to_owned()
            } else {
                format!(
                    "No valid/responding endpoints found in the provided list: {}",
                    bracketed(outcome.candidates.iter().map(|c| &c.backend.endpoint))
                )
            };
            error!("Selector returned no valid selection, and error: {reason}");
            last.targets.clone()
        } else if same(&targets, &last.targets) {
            debug!(
                "Selection is unchanged: {}, out of candidates: {}",
                addresses(&targets),
                bracketed(outcome.candidates.iter().map(|c| &c.backend.endpoint))
            );
            targets
        } else {
            info!(
                "New targets differ from current selection {}; updating rewriter => {}",
                addresses(&last.targets),
                addresses(&targets)
            );
            targets
        };
        self.current.store(Arc::new(Selection {
            rounds: last.rounds + 1,
            ended: Some((Instant::now(), SystemTime::now())),
            targets,
            selected,
            spares: outcome.spares(),
            candidates: outcome.candidates,
            comparison: outcome.comparison,
        }));
    }
}

/// Probes each server once, however often it is named.
async fn probe(prober: &Prober, named: &[Arc<Backend>], history_at: Option<f64>) -> Vec<Probe> {
    let mut distinct: Vec<&Arc<Backend>> = Vec::new();
    let places: Vec<usize> = named
        .iter()
        .map(|backend| {
            let known = distinct
                .iter()
                .position(|other| Arc::ptr_eq(other, backend));
            known.unwrap_or_else(|| {
                distinct.push(backend);
                distinct.len() - 1
            })
        })
        .collect();
    let probes = join_all(
        distinct
            .iter()
            .map(|backend| prober.probe(&backend.endpoint, history_at)),
    )
    .await;
    places
        .into_iter()
        .map(|place| probes[place].clone())
        .collect()
}

/// One line per server whose state has changed.
fn log_changes(before: &[Candidate], after: &[Candidate]) {
    for candidate in after {
        let known = before
            .iter()
            .find(|other| Arc::ptr_eq(&other.backend, &candidate.backend));
        let was_viable = known.is_none_or(|known| known.viable);
        if was_viable && !candidate.viable {
            warn!(
                "Endpoint {} is not viable, based on returned error: {}",
                candidate.backend.endpoint, candidate.reason
            );
        } else if !was_viable && candidate.viable {
            info!("Endpoint {} is viable again", candidate.backend.endpoint);
        }
    }
}

fn same(a: &[Arc<Backend>], b: &[Arc<Backend>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn addresses(backends: &[Arc<Backend>]) -> String {
    bracketed(backends.iter().map(|backend| &backend.endpoint))
}

/// As Go prints a slice.
fn bracketed<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> String {
    let addresses: Vec<&str> = endpoints.map(Endpoint::address).collect();
    format!("[{}]", addresses.join(" "))
}
