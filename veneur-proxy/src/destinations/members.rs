//! The members of a ring at one moment, and what is kept of each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use shared::hashing::{Ring as _, consistent::ConsistentRing};

use crate::forward::{
    Protocol,
    parcel::Account,
    queue::{Limits, Overflow, Queue, Queued},
};

/// A ring with its members. Immutable; a change makes a new one.
#[derive(Debug, Default)]
pub(crate) struct Members {
    ring: ConsistentRing,
    /// In the order of the ring's members.
    pub(crate) members: Vec<Arc<Member>>,
}

impl Members {
    /// Pairs a ring with its members, one for each name in the ring's order.
    pub(crate) fn new(ring: ConsistentRing, members: Vec<Arc<Member>>) -> Self {
        debug_assert_eq!(ring.members().len(), members.len());
        Self { ring, members }
    }

    /// Returns the place of the member that owns a key.
    pub(crate) fn owner(&self, key: &[u8]) -> Option<usize> {
        self.ring.pick(key)
    }

    /// Returns the share of all keys that each member owns.
    pub(crate) fn shares(&self) -> Vec<f64> {
        self.ring.shares()
    }
}

/// A destination.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) account: Arc<Account>,
    pub(crate) queue: Queue,
    /// What its sender speaks, and so how its metrics are framed.
    framing: AtomicU8,
    connected: AtomicBool,
    /// Whether the last attempt to reach it failed.
    failing: AtomicBool,
    /// When its sender last got on, or had nothing to do: milliseconds since `born`.
    progress: AtomicU64,
    born: Instant,
    buffer_latency: AtomicU64,
    send_latency: AtomicU64,
}

impl Member {
    pub(crate) fn new(
        account: Account,
        framing: Protocol,
        limits: Limits,
        overflow: Arc<Overflow>,
    ) -> Self {
        Self {
            account: Arc::new(account),
            queue: Queue::new(limits, overflow),
            framing: AtomicU8::new(framing as u8),
            connected: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            progress: AtomicU64::new(0),
            born: Instant::now(),
            buffer_latency: AtomicU64::new(0),
            send_latency: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.account.destination
    }

    pub(crate) fn framing(&self) -> Protocol {
        let number = self.framing.load(Relaxed);
        [Protocol::Http, Protocol::Unary]
            .into_iter()
            .find(|protocol| *protocol as u8 == number)
            .unwrap_or(Protocol::Stream)
    }

    pub(crate) fn learn(&self, framing: Protocol) {
        self.framing.store(framing as u8, Relaxed);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Relaxed);
    }

    /// Its sender got on.
    pub(crate) fn got_on(&self) {
        self.failing.store(false, Relaxed);
        self.mark();
    }

    fn mark(&self) {
        self.progress
            .store(self.born.elapsed().as_millis() as u64, Relaxed);
    }

    /// Something was queued. The time that nobody had anything to send is no standstill.
    pub(crate) fn saw(&self, queued: Queued) {
        if queued == Queued::First {
            self.mark();
        }
    }

    /// Its sender could not reach it.
    pub(crate) fn failed(&self) {
        self.failing.store(true, Relaxed);
    }

    /// Returns whether the last attempt to reach it failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    /// Returns whether it makes no sense to wait for room in its queue.
    pub(crate) fn in_trouble(&self, stall: Duration) -> bool {
        self.is_failing() || self.stalled_for() > stall
    }

    /// Returns how long its sender has not got on.
    pub(crate) fn stalled_for(&self) -> Duration {
        let progress = Duration::from_millis(self.progress.load(Relaxed));
        self.born.elapsed().saturating_sub(progress)
    }

    /// Notes how long something was queued and how long it was sent.
    pub(crate) fn took(&self, queued: Duration, sent: Duration) {
        self.buffer_latency.store(queued.as_nanos() as u64, Relaxed);
        self.send_latency.store(sent.as_nanos() as u64, Relaxed);
    }

    /// Returns what [`Member::took`] last noted: queued, sent.
    pub(crate) fn latencies(&self) -> (Duration, Duration) {
        let read = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        (read(&self.buffer_latency), read(&self.send_latency))
    }
}
