//! Where the members of a set come from, and how a set follows them.
//!
//! A source ([`fixed`], [`file`](mod@file), [`consul`], [`kubernetes`]) knows how to look its members up once: a
//! [`Lookup`]. A [`Discovery`] is the one task that asks it again and again, keeps the last members through failures, and
//! publishes a [`Snapshot`] that any number of others watch. Log lines and telemetry keep each tool's original words, so they are made by the tool, in the
//! observer that it hands to [`Discovery::start`].
//!
//! `targets` (feature `targets`) is for those who need what Prometheus' own discovery gives: groups in the order of their source,
//! with all its labels, from all its common sources.

#[cfg(feature = "consul")]
pub mod consul;
pub mod file;
pub mod fixed;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod metrics;
#[cfg(feature = "targets")]
pub mod targets;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    future::{Future, pending},
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use self::metrics::Counters;
pub use self::metrics::Metrics;
use crate::lifecycle::Tasks;

/// How many requests to refresh may wait; they are answered together, so that more would change nothing.
const WAITING_REQUESTS: usize = 16;

/// The least time between the starts of two long polls, whatever the server answers: some do not wait.
const LONG_POLL_SPACING: Duration = Duration::from_millis(500);

/// One member of a set: where it is, and what its source knows about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The address as the source spells it, which may be hashed: `127.0.0.1:8127`, `http://prometheus-0:9090`.
    pub address: String,
    /// What else the source knows, in Prometheus' names (`__meta_consul_node`) where it has them.
    pub labels: BTreeMap<String, String>,
}

impl Member {
    /// Makes a member of which nothing but the address is known.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            labels: BTreeMap::new(),
        }
    }
}

/// The members of a set at one moment. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    members: Arc<[Member]>,
    answered: Option<SystemTime>,
    version: Option<u64>,
}

impl Snapshot {
    /// The snapshot before the first answer.
    fn unknown() -> Self {
        Self {
            members: Arc::default(),
            answered: None,
            version: None,
        }
    }

    fn new(mut members: Vec<Member>, answered: SystemTime, version: Option<u64>) -> Self {
        members.sort_unstable();
        members.dedup();
        Self {
            members: members.into(),
            answered: Some(answered),
            version,
        }
    }

    /// Returns the members, sorted by address and then labels, each once.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the distinct addresses, sorted.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let distinct = self.members.chunk_by(|a, b| a.address == b.address);
        distinct.filter_map(|same| same.first().map(|member| member.address.as_str()))
    }

    /// Returns when the source last confirmed these members; `None` before its first answer.
    pub fn answered(&self) -> Option<SystemTime> {
        self.answered
    }

    /// Returns the version that the source gave to its answer, where it counts them: Consul's index.
    pub fn version(&self) -> Option<u64> {
        self.version
    }
}

/// What a source found in one look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The members, in any order.
    pub members: Vec<Member>,
    /// The version of the answer, where the source counts them.
    pub version: Option<u64>,
    /// What was left out, and why: one text per line or entry that makes no member.
    pub skipped: Vec<String>,
}

/// Why a look-up gave no members.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There was no member in the answer, and [`Empty::Fails`].
    #[error("no members found")]
    Empty,
    /// The source did not answer in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The source's server could not be asked, or broke off.
    #[error("{0}")]
    Transport(String),
    /// The source's server refused. The text is the one of Consul's Go client, which people grep for.
    #[error("Unexpected response code: {status} ({body})")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer's body.
        body: String,
    },
    /// The answer is not what the source's server should say.
    #[error("cannot read the answer: {0}")]
    Decode(String),
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: io::Error,
    },
}

/// A source of members that can be asked.
pub trait Lookup: Send + 'static {
    /// Asks the source once. May be dropped at any await, for a deadline or a stop.
    fn look_up(&mut self) -> impl Future<Output = Result<Answer, Error>> + Send;

    /// Makes the next look-up answer at once, where it would wait for a change.
    fn forget(&mut self) {}

    /// Returns how much longer than the deadline a look-up may take because it was asked to wait for a change.
    fn waits(&self) -> Duration {
        Duration::ZERO
    }
}

/// When a source is asked, apart from the first time, which is at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Only when [`Discovery::refresh`] asks for it.
    OnRequest,
    /// Once per interval. A tick that comes during a look-up is left out.
    Every(Duration),
    /// Again after each answer, because a look-up waits for a change; after a failure, when `retry` has passed.
    LongPoll {
        /// The pause after a failure.
        retry: Duration,
    },
}

/// What an answer without members means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// A failure: the last members stay.
    Fails,
    /// That there are none.
    Counts,
}

/// How a source is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When.
    pub schedule: Schedule,
    /// How long a look-up may take. A source that waits for changes gets its waiting time on top.
    pub deadline: Duration,
    /// What an empty answer means.
    pub empty: Empty,
}

/// One finished look-up, as an observer sees it.
#[derive(Debug, Clone, Copy)]
pub struct Refresh<'a> {
    /// How long it took.
    pub took: Duration,
    /// What stands now, or why what stood before was kept.
    pub result: Result<&'a Snapshot, &'a Error>,
    /// What was left out of the answer, and why.
    pub skipped: &'a [String],
}

/// The outcome of the last look-up.
pub type Outcome = Result<(), Arc<Error>>;

/// A running source: one task that looks members up and publishes them.
#[derive(Debug)]
pub struct Discovery {
    snapshots: watch::Receiver<Snapshot>,
    outcomes: watch::Receiver<Option<Outcome>>,
    requests: mpsc::Sender<oneshot::Sender<Outcome>>,
}

/// The task that was to do it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("discovery has ended")]
pub struct Ended;

impl Discovery {
    /// Starts asking `source`, until `tasks` is stopped.
    ///
    /// The counters appear in `metrics` under `name` for as long as the task runs. `observer` sees every finished look-up,
    /// after the members were published; it must not block.
    pub fn start<L: Lookup>(
        tasks: &Tasks,
        metrics: &Metrics,
        name: &str,
        plan: Plan,
        source: L,
        observer: impl FnMut(Refresh<'_>) + Send + 'static,
    ) -> Self {
        let (publish, snapshots) = watch::channel(Snapshot::unknown());
        let (conclude, outcomes) = watch::channel(None);
        // When full, whoever asks waits: the task takes all that wait at its next look-up.
        let (requests, requested) = mpsc::channel(WAITING_REQUESTS);
        let follower = Follower {
            source,
            plan,
            observer,
            counters: metrics.register(name),
            publish,
            conclude,
            requested,
            asking: Vec::new(),
        };
        let stop = tasks.stop_token();
        tasks.spawn("discovery", async move {
            // Dropping a look-up in the middle is what a stop means.
            let _stopped = stop.run_until_cancelled(follower.run()).await;
        });
        Self {
            snapshots,
            outcomes,
            requests,
        }
    }

    /// Returns a receiver of the members. It is notified when members change, and of the first answer even if that is empty;
    /// the time and version of an unchanged answer are updated silently.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.clone()
    }

    /// Returns the members as they stand.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshots.borrow().clone()
    }

    /// Returns a receiver of the outcome of each look-up; `None` before the first.
    pub fn outcomes(&self) -> watch::Receiver<Option<Outcome>> {
        self.outcomes.clone()
    }

    /// Waits for the outcome of the first look-up; at once if that is over. Returns how the last one went.
    pub async fn first(&self) -> Result<Outcome, Ended> {
        let mut outcomes = self.outcomes.clone();
        let outcome = outcomes.wait_for(Option::is_some).await;
        outcome
            .ok()
            .and_then(|outcome| outcome.clone())
            .ok_or(Ended)
    }

    /// Asks the source again, now, and waits for the outcome of that look-up.
    pub async fn refresh(&self) -> Result<Outcome, Ended> {
        let (answer, outcome) = oneshot::channel();
        self.requests.send(answer).await.map_err(|_| Ended)?;
        outcome.await.map_err(|_| Ended)
    }
}

/// What the task of a source owns.
struct Follower<L, O> {
    source: L,
    plan: Plan,
    observer: O,
    counters: Arc<Counters>,
    publish: watch::Sender<Snapshot>,
    conclude: watch::Sender<Option<Outcome>>,
    requested: mpsc::Receiver<oneshot::Sender<Outcome>>,
    /// Those who wait for the next look-up that starts.
    asking: Vec<oneshot::Sender<Outcome>>,
}

impl<L: Lookup, O: FnMut(Refresh<'_>)> Follower<L, O> {
    async fn run(mut self) {
        let mut due = Instant::now();
        loop {
            while let Ok(request) = self.requested.try_recv() {
                self.asking.push(request);
            }
            let started = Instant::now();
            let outcome = self.look_up().await;
            self.conclude.send_replace(Some(outcome.clone()));
            for request in self.asking.drain(..) {
                // Whoever asked may be gone.
                let _told = request.send(outcome.clone()).is_ok();
            }
            let next = match self.plan.schedule {
                Schedule::OnRequest => None,
                Schedule::Every(interval) => {
                    due = next_tick(due, interval, Instant::now());
                    Some(due)
                }
                Schedule::LongPoll { .. } if outcome.is_ok() => Some(started + LONG_POLL_SPACING),
                Schedule::LongPoll { retry } => Some(Instant::now() + retry),
            };
            tokio::select! {
                () = until(next) => {}
                Some(request) = self.requested.recv() => {
                    self.asking.push(request);
                    self.source.forget();
                }
            }
        }
    }

    async fn look_up(&mut self) -> Outcome {
        let started = Instant::now();
        let answer = loop {
            let limit = self.plan.deadline + self.source.waits();
            let waits = !self.source.waits().is_zero();
            tokio::select! {
                answer = timeout(limit, self.source.look_up()) => {
                    break answer.unwrap_or(Err(Error::Deadline(limit)));
                }
                // A look-up that waits for a change is given up for one that does not.
                Some(request) = self.requested.recv(), if waits => {
                    self.asking.push(request);
                }
            }
            self.source.forget();
        };
        let took = started.elapsed();
        let (skipped, result) = match answer {
            Ok(answer) if answer.members.is_empty() && self.plan.empty == Empty::Fails => {
                (answer.skipped, Err(Error::Empty))
            }
            Ok(answer) => (
                answer.skipped,
                Ok(Snapshot::new(
                    answer.members,
                    SystemTime::now(),
                    answer.version,
                )),
            ),
            Err(error) => (Vec::new(), Err(error)),
        };
        if result.is_err() {
            self.source.forget();
        }
        self.counters
            .count(result.as_ref().map_err(|_| ()), skipped.len());
        if let Ok(found) = &result {
            self.publish.send_if_modified(|current| {
                let news = current.answered.is_none() || current.members != found.members;
                *current = found.clone();
                news
            });
        }
        (self.observer)(Refresh {
            took,
            result: result.as_ref(),
            skipped: &skipped,
        });
        result.map(drop).map_err(Arc::new)
    }
}

/// Returns the first tick after `now` of a ticker that ticked at `last`.
fn next_tick(last: Instant, interval: Duration, now: Instant) -> Instant {
    match last + interval {
        // Somebody asked in between: the tick is still to come.
        _ if last > now => last,
        next if next >= now => next,
        _ => now + interval,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

/// Prints an error with its causes, except those that it names itself.
#[cfg(any(feature = "consul", feature = "kubernetes", feature = "targets"))]
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = text + ": " + &words;
        }
        cause = error.source();
    }
    text
}

/// Percent-encodes all but unreserved characters and `kept`, as Go's `net/url` does for paths and queries.
#[cfg(any(feature = "consul", feature = "kubernetes", feature = "targets"))]
fn escape(text: &str, kept: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    escaped
}
