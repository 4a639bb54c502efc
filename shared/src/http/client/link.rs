//! A connection of HTTP/1.1 that is driven by whoever uses it.
//!
//! It has no task of its own: the request, and then the body of the answer, drive it while they are waited for. So a request costs
//! no wake-up across tasks and threads beyond the one that its bytes cause. A connection that is not in use is driven by nobody.
//!
//! The parts of a connection wake each other, too: asking the body for a frame wakes what reads frames. The [`Bell`] keeps such
//! wake-ups from the task, which is at work on the connection anyway.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
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
use crate::bell::Bell;

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
