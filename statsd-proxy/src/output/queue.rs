//! The queue of a TCP node: bytes that wait for its connection, whole lines only.
//!
//! Bounded in bytes. When it is full, what comes is refused and its sender counts it as dropped: new lines go, because
//! old ones may be half written. Threads push under a short lock; the one writer takes everything at once.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::LANE_BYTES;
use crate::{counters::DropReason, node::Node};

/// Lines that wait for one node.
#[derive(Debug)]
pub struct Backlog {
    state: Mutex<State>,
    /// Tells the writer of new lines or of the end.
    news: Notify,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    closed: bool,
}

impl Backlog {
    /// Makes a queue for at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            news: Notify::new(),
            limit,
        }
    }

    /// Takes whole lines, or refuses them all when there is not room for them.
    pub fn push(&self, lines: &[u8]) -> bool {
        let mut state = self.lock();
        if state.lines.len() + lines.len() > self.limit {
            return false;
        }
        state.lines.extend_from_slice(lines);
        drop(state);
        self.news.notify_one();
        true
    }

    /// Returns how many bytes wait.
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there is something, and swaps it into `taken`, which must be empty. Returns false when the queue is
    /// closed and empty. For one writer only. Cancel-safe.
    pub async fn take(&self, taken: &mut Vec<u8>) -> bool {
        loop {
            {
                let mut state = self.lock();
                if !state.lines.is_empty() {
                    mem::swap(&mut state.lines, taken);
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.news.notified().await;
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// A thread that panicked while it held the lock has left whole lines, so the queue is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of a backlog that lines come in by. When it goes, the queue is closed: the writer empties it and ends.
#[derive(Debug)]
pub struct Entrance(Arc<Backlog>);

impl Entrance {
    /// Opens the queue's only entrance.
    pub fn new(backlog: Arc<Backlog>) -> Self {
        Self(backlog)
    }

    /// Returns the queue.
    pub fn backlog(&self) -> &Backlog {
        &self.0
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// One thread's lines for one queue, gathered so that its lock is taken once a burst.
#[derive(Debug, Default)]
pub(super) struct QueueLane {
    bytes: Vec<u8>,
    lines: u64,
}

impl QueueLane {
    pub(super) fn push(&mut self, line: &[u8], node: &Node) {
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        self.lines += 1;
        if self.bytes.len() >= LANE_BYTES {
            self.flush(node);
        }
    }

    pub(super) fn flush(&mut self, node: &Node) {
        let accepted = node
            .entrance
            .as_ref()
            .is_some_and(|entrance| entrance.backlog().push(&self.bytes));
        if !accepted {
            node.deliveries.drops.add(DropReason::QueueFull, self.lines);
        }
        self.bytes.clear();
        self.lines = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_the_newest_lines() {
        let backlog = Backlog::new(10);
        assert!(backlog.push(b"a:1|c\n"));
        assert!(!backlog.push(b"b:1|c\n"));
        let mut taken = Vec::new();
        assert!(backlog.take(&mut taken).await);
        assert_eq!(taken, b"a:1|c\n");
        assert!(backlog.push(b"c:1|c\n"));
    }

    #[tokio::test]
    async fn a_closed_queue_is_emptied_before_it_ends() {
        let backlog = Arc::new(Backlog::new(100));
        let entrance = Entrance::new(backlog.clone());
        assert!(entrance.backlog().push(b"a:1|c\n"));
        drop(entrance);
        let mut taken = Vec::new();
        assert!(backlog.take(&mut taken).await);
        taken.clear();
        assert!(!backlog.take(&mut taken).await);
    }
}
