//! The memory of lines that are not in the queue yet, of all inputs together.
//!
//! A batch is open while lines are added to it, and leaving from then until the queue or the spool has it. One half of the
//! limit is for open batches: who goes beyond it sends its batch early. The other is for those that leave: while they take
//! more, nobody reads. As nothing is read then, open batches that become leaving ones do not make it more in all.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

/// Counts bytes of all open and leaving batches.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Bytes for open batches, and as many for leaving ones.
    half: usize,
    open: AtomicUsize,
    leaving: AtomicUsize,
    room: Notify,
}

impl Budget {
    /// Allows `limit` bytes in all, and at each moment what each thread has just read.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            // Without any, nothing could ever be read.
            half: (limit / 2).max(1),
            open: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            room: Notify::new(),
        })
    }

    /// Bytes of batches that are open, and of those that leave.
    pub(crate) fn used(&self) -> (usize, usize) {
        (self.open.load(SeqCst), self.leaving.load(SeqCst))
    }

    /// Waits until something may be read. Cancel-safe.
    pub(crate) async fn room(&self) {
        loop {
            if self.leaving.load(SeqCst) < self.half {
                return;
            }
            let freed = self.room.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.leaving.load(SeqCst) < self.half {
                return;
            }
            freed.await;
        }
    }

    /// Counts bytes as leaving, until the value that is returned goes.
    pub(crate) fn leave(&self, bytes: usize) -> Leaving<'_> {
        self.leaving.fetch_add(bytes, SeqCst);
        Leaving {
            budget: self,
            bytes,
        }
    }
}

/// Bytes that leave.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let before = self.budget.leaving.fetch_sub(self.bytes, SeqCst);
        let half = self.budget.half;
        if before >= half && before - self.bytes < half {
            self.budget.room.notify_waiters();
        }
    }
}

/// What the open batch of one sender takes.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Starts with nothing.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    /// Takes so many bytes from now on. Returns whether there is room for them; if not, the batch is to leave.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes <= before {
            self.budget.open.fetch_sub(before - bytes, SeqCst);
            return true;
        }
        let more = bytes - before;
        self.budget.open.fetch_add(more, SeqCst) + more <= self.budget.half
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use super::*;

    async fn is_pending(future: impl Future) -> bool {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[test]
    fn open_batches_of_all_senders_share_one_half() {
        let budget = Budget::new(200);
        let (mut one, mut other) = (Share::new(&budget), Share::new(&budget));
        assert!(one.set(60));
        assert!(other.set(40));
        assert!(!other.set(41));
        assert!(other.set(0));
        assert_eq!(budget.used(), (60, 0));
        drop(one);
        assert_eq!(budget.used(), (0, 0));
    }

    #[tokio::test]
    async fn nobody_reads_while_leaving_batches_take_the_other_half() {
        let budget = Budget::new(200);
        let first = budget.leave(99);
        assert!(!is_pending(budget.room()).await);
        let second = budget.leave(1);
        let mut waiting = pin!(budget.room());
        assert!(is_pending(&mut waiting).await);
        drop(first);
        waiting.await;
        drop(second);
        assert_eq!(budget.used(), (0, 0));
    }
}
