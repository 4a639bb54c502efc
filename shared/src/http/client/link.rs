//! A connection of HTTP/1.1 that is driven by whoever uses it.
//!
//! It has no task of its own: the request, and then the body of the answer, drive it while they are waited for. So a request costs
//! no wake-up across tasks and threads beyond the one that its bytes cause. A connection that is not in use is driven by nobody.
//!
//! The parts of a connection wake each other, too: asking the body for a frame wakes what reads frames. The [`Bell`] keeps such
//! wake-ups from the task, which is at work on the connection anyway; else each would send it to the scheduler once more.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Body as _, Frame, Incoming},
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;

use super::dial::Io;

/// A request as it is sent.
pub(super) type Outgoing = Request<Full<Bytes>>;

/// Why a request has no answer.
pub(super) struct Failed {
    pub(super) reason: hyper::Error,
    /// The request, if nothing of it was sent.
    pub(super) unsent: Option<Box<Outgoing>>,
}

impl From<TrySendError<Outgoing>> for Failed {
    fn from(mut failed: TrySendError<Outgoing>) -> Self {
        Self {
            unsent: failed.take_message().map(Box::new),
            reason: failed.into_error(),
        }
    }
}

/// A connection.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    bell: Bell,
    /// Whether a proxy reads the requests, and so needs whole URLs.
    pub(super) is_proxied: bool,
}

type Connection = http1::Connection<TokioIo<Box<dyn Io>>, Full<Bytes>>;

/// What reads and writes; nothing once the connection has ended.
struct Driver(Option<Pin<Box<Connection>>>);

impl Driver {
    /// Reads and writes what is there. Ready means that the connection has ended; what it owed to others was told to them.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.0 else {
            return Poll::Ready(());
        };
        let driven = connection.as_mut().poll(cx);
        if driven.is_ready() {
            // What was handed to it and not sent comes back only when it is dropped.
            self.0 = None;
        }
        driven.map(|_| ())
    }
}

impl Link {
    /// Speaks HTTP/1.1 on a new connection.
    pub(super) async fn open(stream: Box<dyn Io>, is_proxied: bool) -> hyper::Result<Self> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            driver: Driver(Some(Box::pin(driver))),
            bell: Bell::new(),
            is_proxied,
        })
    }

    /// Says whether the connection can take a request. It is not in use, so nobody is woken when that changes.
    pub(super) fn is_idle(&mut self) -> bool {
        let Self {
            sender,
            driver,
            bell,
            ..
        } = self;
        bell.quiet(|cx| driver.drive(cx).is_pending()) && sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer. Cancelling means that the connection is not used again.
    pub(super) async fn send(&mut self, request: Outgoing) -> Result<Response<Incoming>, Failed> {
        let Self {
            sender,
            driver,
            bell,
            ..
        } = self;
        let mut answer = pin!(sender.try_send_request(request));
        poll_fn(|cx| {
            bell.work(cx, |cx| {
                // The answer comes by driving, and so does the error when the connection ends.
                let _has_ended = driver.drive(cx).is_ready();
                answer.as_mut().poll(cx)
            })
        })
        .await
        .map_err(Failed::from)
    }

    /// Reads the next frame of an answer's body.
    pub(super) fn read(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self { driver, bell, .. } = self;
        bell.work(cx, |cx| {
            // Frames are read for those who ask.
            let asked = Pin::new(&mut *body).poll_frame(cx);
            if asked.is_ready() {
                return asked;
            }
            let _has_ended = driver.drive(cx).is_ready();
            Pin::new(&mut *body).poll_frame(cx)
        })
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// What a connection wakes its user by. While the user is at work, the bell only notes that it was rung.
struct Bell {
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
    fn new() -> Self {
        let rope = Arc::new(Rope {
            state: AtomicU8::new(WAITING),
            user: AtomicWaker::new(),
        });
        let waker = Waker::from(Arc::clone(&rope));
        Self { rope, waker }
    }

    /// Works until there is a result, or nothing more to do before somebody rings.
    fn work<T>(
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
    fn quiet<T>(&self, step: impl FnOnce(&mut Context<'_>) -> T) -> T {
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
