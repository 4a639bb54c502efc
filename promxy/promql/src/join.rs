//! Waiting for several futures at once, without a runtime.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::storage::BoxFuture;

/// Waits for all of several futures.
pub(crate) struct JoinAll<'a, T> {
    slots: Vec<Slot<'a, T>>,
}

enum Slot<'a, T> {
    Pending(BoxFuture<'a, T>),
    Done(T),
    Taken,
}

/// Polls futures side by side and returns their results in the same order.
pub(crate) fn join_all<'a, T>(
    futures: impl IntoIterator<Item = BoxFuture<'a, T>>,
) -> JoinAll<'a, T> {
    JoinAll {
        slots: futures.into_iter().map(Slot::Pending).collect(),
    }
}

impl<T: Unpin> Future for JoinAll<'_, T> {
    type Output = Vec<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Vec<T>> {
        let mut all_done = true;
        for slot in &mut self.slots {
            if let Slot::Pending(future) = slot {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *slot = Slot::Done(value),
                    Poll::Pending => all_done = false,
                }
            }
        }
        if !all_done {
            return Poll::Pending;
        }
        let results =
            self.slots
                .iter_mut()
                .filter_map(|slot| match std::mem::replace(slot, Slot::Taken) {
                    Slot::Done(value) => Some(value),
                    Slot::Pending(_) | Slot::Taken => None,
                });
        Poll::Ready(results.collect())
    }
}
