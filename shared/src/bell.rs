//! Wake-ups that a task causes itself.
//!
//! Parts of a task wake each other: a channel does between its ends, and a set of futures does so that other tasks have their turn. A
//! scheduler takes each such wake-up for more work: it puts the task at the end of its queue, and wakes another thread that may take
//! it over. That costs more than looking at the parts again at once.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Runs a future so that parts of it that wake each other are looked at again at once, some times in a row; only what
/// happens while it waits wakes the task.
pub async fn answer_own_wakes<F: Future>(future: F) -> F::Output {
    let bell = Bell::new();
    let mut future = pin!(future);
    poll_fn(|cx| bell.work(cx, |cx| future.as_mut().poll(cx))).await
}

/// What wakes a task by. While the task is at work, the bell only notes that it was rung.
pub(crate) struct Bell {
    rope: Arc<Rope>,
    waker: Waker,
}

struct Rope {
    state: AtomicU8,
    /// The task that is woken.
    user: AtomicWaker,
}

/// Whoever rings wakes the user.
const WAITING: u8 = 0;
/// The user is at work.
const WORKING: u8 = 1;
/// Somebody has rung since the user began to work.
const RUNG: u8 = 2;

/// How many times work is begun anew because somebody has rung, before others have their turn.
const ROUNDS: usize = 8;

impl Bell {
    pub(crate) fn new() -> Self {
        let rope = Arc::new(Rope {
            state: AtomicU8::new(WAITING),
            user: AtomicWaker::new(),
        });
        let waker = Waker::from(Arc::clone(&rope));
        Self { rope, waker }
    }

    /// Works until there is a result, or nothing more to do before somebody rings.
    pub(crate) fn work<T>(
        &self,
        cx: &Context<'_>,
        mut step: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Rope { state, user } = &*self.rope;
        user.register(cx.waker());
        for _ in 0..ROUNDS {
            state.store(WORKING, Release);
            let done = step(&mut Context::from_waker(&self.waker));
            if done.is_ready() {
                // Whoever asks next looks at everything again.
                state.store(WAITING, Release);
                return done;
            }
            if state
                .compare_exchange(WORKING, WAITING, AcqRel, Acquire)
                .is_ok()
            {
                return Poll::Pending;
            }
        }
        state.store(WAITING, Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Works without a user: nobody is woken for what happens later.
    pub(crate) fn quiet<T>(&self, step: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.rope.user.take();
        step(&mut Context::from_waker(&self.waker))
    }
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Err(WAITING) = self.state.compare_exchange(WORKING, RUNG, AcqRel, Acquire) {
            self.user.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[tokio::test]
    async fn a_future_is_polled_again_at_once_when_it_wakes_itself() {
        let mut polls = 0;
        let future = poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(polls)
            }
        });
        let mut task = pin!(answer_own_wakes(future));
        let polled = poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx))).await;
        assert_eq!(polled, Poll::Ready(3));
    }

    #[test]
    fn a_bell_wakes_who_waits_and_only_reminds_who_works() {
        let woken = Arc::<Count>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let count = || woken.0.load(Relaxed);
        let bell = Bell::new();

        let mut steps = 0;
        let done = bell.work(&cx, |cx| {
            steps += 1;
            if steps == 1 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert_eq!((done, steps, count()), (Poll::Pending, 2, 0));

        bell.waker.wake_by_ref();
        bell.waker.wake_by_ref();
        assert_eq!(count(), 1);

        // One that rings without end gives way to others.
        let done = bell.work(&cx, |cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((done, count()), (Poll::Pending, 2));

        let done = bell.work(&cx, |cx| {
            cx.waker().wake_by_ref();
            Poll::Ready(())
        });
        assert_eq!((done, count()), (Poll::Ready(()), 2));

        bell.quiet(|cx| cx.waker().wake_by_ref());
        bell.waker.wake_by_ref();
        assert_eq!(count(), 2);
    }
}
