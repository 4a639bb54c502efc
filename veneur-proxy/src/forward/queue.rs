//! The bounded queue of a destination.
//!
//! It is bounded in metrics and in bytes. What has no room may stay in an overflow, a budget of bytes that all destinations
//! share; beyond that the sender waits, or the parcel is lost, as the policy says.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use tokio::sync::{Notify, futures::Notified};

use super::parcel::Parcel;

/// Bytes that may wait beyond the queues, for all destinations together.
#[derive(Debug)]
pub(crate) struct Overflow {
    free: AtomicUsize,
}

impl Overflow {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            free: AtomicUsize::new(bytes),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            });
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The limits of a queue. A parcel larger than them passes alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) metrics: usize,
    pub(crate) bytes: usize,
}

/// Where in the queue a parcel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queued {
    /// Before all others.
    First,
    /// Behind others.
    Behind,
}

/// Why a queue did not take a parcel.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// There is no room now.
    Full(Parcel),
    /// It takes nothing any more: its destination has left or is disconnected.
    Closed(Parcel),
}

/// Parcels on their way to one destination.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    limits: Limits,
    overflow: Arc<Overflow>,
    /// Wakes a sender.
    filled: Notify,
    /// Wakes those who wait for room, all of them.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    parcels: VecDeque<Waiting>,
    metrics: usize,
    bytes: usize,
    /// It takes nothing any more, for good.
    closed: bool,
    /// It takes nothing for now.
    paused: bool,
}

#[derive(Debug)]
struct Waiting {
    parcel: Parcel,
    /// Whether it stays at the expense of the overflow.
    overflowing: bool,
}

impl Queue {
    pub(crate) fn new(limits: Limits, overflow: Arc<Overflow>) -> Self {
        Self {
            state: Mutex::default(),
            limits,
            overflow,
            filled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Takes a parcel at once, or not at all.
    pub(crate) fn push(&self, mut parcel: Parcel) -> Result<Queued, Rejected> {
        let mut state = self.state.lock();
        if state.closed || state.paused {
            return Err(Rejected::Closed(parcel));
        }
        let (metrics, bytes) = (parcel.metrics, parcel.data.len());
        let room = state.metrics + metrics <= self.limits.metrics
            && state.bytes + bytes <= self.limits.bytes;
        let overflowing = !room && !state.parcels.is_empty();
        if overflowing && !self.overflow.take(bytes) {
            return Err(Rejected::Full(parcel));
        }
        if !overflowing {
            state.metrics += metrics;
            state.bytes += bytes;
        }
        parcel.queued();
        let queued = if state.parcels.is_empty() {
            Queued::First
        } else {
            Queued::Behind
        };
        state.parcels.push_back(Waiting {
            parcel,
            overflowing,
        });
        drop(state);
        self.filled.notify_one();
        Ok(queued)
    }

    /// Puts a parcel back that could not be sent, before all others.
    pub(crate) fn put_back(&self, parcel: Parcel) {
        let mut state = self.state.lock();
        state.metrics += parcel.metrics;
        state.bytes += parcel.data.len();
        state.parcels.push_front(Waiting {
            parcel,
            overflowing: false,
        });
        drop(state);
        self.filled.notify_one();
    }

    /// Resolves when something is taken out, or the queue is closed, after this was enabled.
    pub(crate) fn emptied(&self) -> Notified<'_> {
        self.emptied.notified()
    }

    /// Waits for the next parcel; `None` once the queue is closed and empty. Cancel-safe.
    pub(crate) async fn pop(&self) -> Option<Parcel> {
        loop {
            let filled = self.filled.notified();
            tokio::pin!(filled);
            filled.as_mut().enable();
            let closed = {
                let state = self.state.lock();
                state.closed
            };
            if let Some(parcel) = self.try_pop() {
                return Some(parcel);
            }
            if closed {
                return None;
            }
            filled.await;
        }
    }

    /// Takes the next parcel if there is one.
    pub(crate) fn try_pop(&self) -> Option<Parcel> {
        let mut state = self.state.lock();
        let Waiting {
            parcel,
            overflowing,
        } = state.parcels.pop_front()?;
        if overflowing {
            self.overflow.give_back(parcel.data.len());
        } else {
            state.metrics -= parcel.metrics;
            state.bytes -= parcel.data.len();
        }
        let more = !state.parcels.is_empty();
        drop(state);
        self.emptied.notify_waiters();
        if more {
            // Another sender of this destination may be idle.
            self.filled.notify_one();
        }
        Some(parcel)
    }

    /// Takes nothing any more; what is in it can still be popped.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_waiters();
        self.emptied.notify_waiters();
    }

    /// Takes nothing until [`Queue::resume`].
    pub(crate) fn pause(&self) {
        self.state.lock().paused = true;
        self.emptied.notify_waiters();
    }

    /// Takes parcels again, unless it is closed.
    pub(crate) fn resume(&self) {
        self.state.lock().paused = false;
    }

    /// Returns whether it is closed and empty, so that nothing will ever be in it.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.closed && state.parcels.is_empty()
    }

    /// Returns whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().parcels.is_empty()
    }

    /// Waits until something is in it, or it is over. Cancel-safe.
    pub(crate) async fn filled(&self) {
        loop {
            let filled = self.filled.notified();
            tokio::pin!(filled);
            filled.as_mut().enable();
            {
                let state = self.state.lock();
                if !state.parcels.is_empty() || state.closed {
                    break;
                }
            }
            filled.await;
        }
        // Whoever pops is to be woken, too.
        self.filled.notify_one();
    }

    /// Takes out those at the front that `late` says are late.
    pub(crate) fn take_late(&self, late: impl Fn(&Parcel) -> bool) -> Vec<Parcel> {
        let next_is_late = || {
            let state = self.state.lock();
            state
                .parcels
                .front()
                .is_some_and(|waiting| late(&waiting.parcel))
        };
        std::iter::from_fn(|| next_is_late().then(|| self.try_pop()).flatten()).collect()
    }

    /// Takes out everything.
    pub(crate) fn take_all(&self) -> Vec<Parcel> {
        std::iter::from_fn(|| self.try_pop()).collect()
    }

    /// Returns how many metrics and bytes are in it, with those in the overflow.
    pub(crate) fn level(&self) -> (usize, usize) {
        let state = self.state.lock();
        let overflowing = state.parcels.iter().filter(|waiting| waiting.overflowing);
        overflowing.fold((state.metrics, state.bytes), |(metrics, bytes), waiting| {
            (
                metrics + waiting.parcel.metrics,
                bytes + waiting.parcel.data.len(),
            )
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Gives the overflow back; the parcels count themselves as lost.
        self.take_all();
    }
}
