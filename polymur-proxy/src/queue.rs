//! The queue of closed batches in memory: bounded in batches and in bytes, shared by all inputs and all workers.
//!
//! A full queue makes [`Queue::push`] wait, and with it the reading of sockets: that is the original's back-pressure. As with
//! a Go channel, a worker that waits takes a batch beyond the capacity, so a capacity of 0 hands batches over directly.

use std::collections::VecDeque;

use parking_lot::Mutex;

use tokio::sync::Notify;

use crate::batch::{Batch, Moment};

/// Batches that wait for a worker.
#[derive(Debug)]
pub struct Queue {
    capacity: usize,
    capacity_bytes: usize,
    state: Mutex<State>,
    arrived: Notify,
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    bytes: usize,
    /// Workers that wait.
    idle: usize,
    /// No limits any more: the process ends, and what was read must get in.
    lifted: bool,
    closed: bool,
}

impl Queue {
    /// Makes a queue for `capacity` batches of `capacity_bytes` in all.
    pub fn new(capacity: usize, capacity_bytes: usize) -> Self {
        Self {
            capacity,
            capacity_bytes,
            state: Mutex::default(),
            arrived: Notify::new(),
            left: Notify::new(),
        }
    }

    /// Returns the capacity in batches.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns how many batches and bytes wait.
    pub fn depth(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.batches.len(), state.bytes)
    }

    /// Returns whether no batch would be taken that no worker waits for.
    pub fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.batches.len() >= self.capacity || state.bytes >= self.capacity_bytes
    }

    /// Returns when the oldest batch was closed.
    pub fn oldest(&self) -> Option<Moment> {
        self.state
            .lock()
            .batches
            .iter()
            .map(|batch| batch.closed)
            .min()
    }

    /// Adds a batch, and waits for room first.
    pub async fn push(&self, batch: Batch) {
        let mut batch = Some(batch);
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            match batch.take().map(|batch| self.try_push(batch)) {
                None | Some(Ok(())) => return,
                Some(Err(refused)) => batch = Some(refused),
            }
            left.await;
        }
    }

    /// Adds a batch if there is room.
    pub fn try_push(&self, batch: Batch) -> Result<(), Batch> {
        let mut state = self.state.lock();
        // A batch that is larger than all room still gets in when it is alone.
        let fits = state.batches.len() < self.capacity.saturating_add(state.idle)
            && (state.bytes + batch.body.len() <= self.capacity_bytes || state.batches.is_empty());
        if !fits && !state.lifted {
            return Err(batch);
        }
        self.insert(&mut state, batch);
        Ok(())
    }

    /// Adds a batch whatever there is room for, and returns those that had to leave for it, oldest first.
    pub fn push_out(&self, batch: Batch) -> Vec<Batch> {
        let mut out = Vec::new();
        let mut state = self.state.lock();
        let room = self.capacity.max(1);
        while state.batches.len() >= room.saturating_add(state.idle)
            || state.bytes + batch.body.len() > self.capacity_bytes
        {
            let Some(oldest) = state.batches.pop_front() else {
                break;
            };
            state.bytes -= oldest.body.len();
            out.push(oldest);
        }
        self.insert(&mut state, batch);
        out
    }

    /// Takes the oldest batch and waits for one; `None` when the queue is closed and empty. Cancel-safe.
    pub async fn pop(&self) -> Option<Batch> {
        let mut idle = Idle {
            queue: self,
            counted: false,
        };
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let mut state = self.state.lock();
                if let Some(batch) = self.remove(&mut state) {
                    idle.leave(&mut state);
                    return Some(batch);
                }
                if state.closed {
                    idle.leave(&mut state);
                    return None;
                }
                if !idle.counted {
                    idle.counted = true;
                    state.idle += 1;
                    // A waiting worker is room for one more.
                    self.left.notify_one();
                }
            }
            arrived.await;
        }
    }

    /// Waits until no batch waits and some worker does.
    pub async fn wants_more(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            {
                let state = self.state.lock();
                if state.batches.len() < state.idle.max(1) || state.closed {
                    return;
                }
            }
            left.await;
        }
    }

    /// Lets in whatever comes from now on.
    pub fn lift_limits(&self) {
        self.state.lock().lifted = true;
        self.left.notify_waiters();
    }

    /// Ends the queue: workers take what waits, and then nothing.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_waiters();
        self.left.notify_waiters();
    }

    /// Takes all that waits.
    pub fn take_all(&self) -> Vec<Batch> {
        let mut state = self.state.lock();
        state.bytes = 0;
        state.batches.drain(..).collect()
    }

    fn insert(&self, state: &mut State, batch: Batch) {
        state.bytes += batch.body.len();
        state.batches.push_back(batch);
        self.arrived.notify_one();
    }

    fn remove(&self, state: &mut State) -> Option<Batch> {
        let batch = state.batches.pop_front()?;
        state.bytes -= batch.body.len();
        // All of them look again: one freed place may be too small for one and enough for another.
        self.left.notify_waiters();
        self.left.notify_one();
        if !state.batches.is_empty() {
            self.arrived.notify_one();
        }
        Some(batch)
    }
}

/// Counts a worker as idle, and no longer when it stops waiting, however it does.
struct Idle<'a> {
    queue: &'a Queue,
    counted: bool,
}

impl Idle<'_> {
    fn leave(&mut self, state: &mut State) {
        if std::mem::take(&mut self.counted) {
            state.idle -= 1;
        }
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.counted = false;
            self.queue.state.lock().idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll, time::Duration};

    use bytes::Bytes;

    use super::*;

    fn batch(size: usize) -> Batch {
        Batch {
            body: Bytes::from(vec![0; size]),
            lines: 1,
            raw_bytes: 1,
            closed: Moment(0),
            ticket: None,
        }
    }

    async fn is_pending(future: impl Future) -> bool {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn a_full_queue_makes_push_wait_until_a_batch_leaves() {
        let queue = Queue::new(2, 100);
        queue.push(batch(1)).await;
        queue.push(batch(1)).await;
        assert!(is_pending(queue.push(batch(1))).await);
        let mut third = pin!(queue.push(batch(1)));
        assert!(is_pending(&mut third).await);
        assert!(queue.pop().await.is_some());
        tokio::time::timeout(Duration::from_secs(5), third)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn bytes_bound_the_queue_too_but_one_batch_always_fits() {
        let queue = Queue::new(10, 100);
        queue.push(batch(1_000)).await;
        assert!(queue.try_push(batch(1)).is_err());
        assert_eq!(queue.push_out(batch(60)).len(), 1);
        assert!(queue.try_push(batch(40)).is_ok());
        assert_eq!(queue.push_out(batch(50)).len(), 1);
        assert_eq!(queue.depth(), (2, 90));
    }

    #[tokio::test]
    async fn a_capacity_of_0_hands_over_to_waiting_workers() {
        let queue = Queue::new(0, 100);
        assert!(queue.try_push(batch(1)).is_err());
        {
            let mut worker = pin!(queue.pop());
            assert!(is_pending(&mut worker).await);
            queue.try_push(batch(1)).unwrap();
            assert!(queue.try_push(batch(1)).is_err());
            assert!(worker.await.is_some());
        }
        // A worker that has given up is no room.
        assert!(is_pending(queue.pop()).await);
        assert!(queue.try_push(batch(1)).is_err());
    }

    #[tokio::test]
    async fn lifted_limits_let_everybody_in_and_close_ends_after_the_last() {
        let queue = Queue::new(0, 0);
        let mut waiting = pin!(queue.push(batch(1)));
        assert!(is_pending(&mut waiting).await);
        queue.lift_limits();
        waiting.await;
        queue.close();
        assert!(queue.pop().await.is_some());
        assert!(queue.pop().await.is_none());
    }
}
