//! The queue of a TCP node: bytes that wait for its connection, whole lines only.
//!
//! Bounded in bytes. When it is full, what comes is refused and its sender counts it as dropped: new lines go, because
//! old ones may be half written. Threads push under a short lock; the one writer takes everything at once.

use std::{mem, sync::Arc};

use parking_lot::Mutex;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Lines that wait for one node.
#[derive(Debug)]
pub struct Backlog {
    state: Mutex<State>,
    /// Tells the writer of new lines.
    news: Notify,
    /// Cancelled when the entrance has gone.
    closed: CancellationToken,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Bytes that the writer has taken and not yet delivered; they count as queued.
    taken: usize,
}

impl Backlog {
    /// Makes a queue for at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            news: Notify::new(),
            closed: CancellationToken::new(),
            limit,
        }
    }

    /// Takes whole lines, or refuses them all when there is not room for them.
    pub fn push(&self, lines: &[u8]) -> bool {
        let mut state = self.state.lock();
        if state.lines.len() + state.taken + lines.len() > self.limit {
            return false;
        }
        state.lines.extend_from_slice(lines);
        drop(state);
        self.news.notify_one();
        true
    }

    /// Returns how many bytes wait, or have been taken and not been delivered.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.lines.len() + state.taken
    }

    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there is something, and swaps it into `taken`, which must be empty. Returns false when the queue is
    /// closed and empty. For one writer only, which tells of its progress by [`Backlog::delivered`]. Cancel-safe.
    pub async fn take(&self, taken: &mut Vec<u8>) -> bool {
        loop {
            // Asked before looking, so that lines pushed before the end are seen.
            let closed = self.closed.is_cancelled();
            if self.take_now(taken) {
                return true;
            }
            if closed {
                return false;
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = self.closed.cancelled() => {}
            }
        }
    }

    /// Swaps what waits into `taken`, which must be empty; false if nothing does.
    pub fn take_now(&self, taken: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        mem::swap(&mut state.lines, taken);
        state.taken += taken.len();
        !taken.is_empty()
    }

    /// Makes room for as many bytes as the writer has got rid of.
    pub fn delivered(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.taken = state.taken.saturating_sub(bytes);
    }

    /// Waits until no more lines can come.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
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
        self.0.closed.cancel();
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
        // What the writer holds still takes room.
        assert!(!backlog.push(b"c:1|c\n"));
        backlog.delivered(taken.len());
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
