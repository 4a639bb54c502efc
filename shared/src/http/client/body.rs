//! The body of an answer, and what becomes of its connection.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    thread::panicking,
};

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

use super::{
    link::Link,
    pool::{Place, Pool},
};

/// How many frames are read of a body that nobody wants.
const UNWANTED: usize = 2;

/// The body of an answer. Its connection serves other requests once it was read to its end, and none if it is dropped before, unless
/// what is left has come already.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    /// Nothing if the connection is shared, or was given back.
    lent: Option<Box<Lent>>,
}

/// A connection, and where it belongs.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) link: Link,
    pub(super) place: Place,
    pub(super) pool: Pool,
}

impl Body {
    /// Takes over the connection that the body is read from, if that is not shared.
    pub(super) fn new(incoming: Incoming, lent: Option<Box<Lent>>) -> Self {
        let mut body = Self { incoming, lent };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body
    }

    fn give_back(&mut self) {
        if let Some(lent) = self.lent.take() {
            let Lent { link, place, pool } = *lent;
            pool.keep(place, link);
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Outside of a runtime there is nobody to keep the connection for.
        if self.lent.is_none() || panicking() || Handle::try_current().is_err() {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..UNWANTED {
            let polled = hyper::body::Body::poll_frame(Pin::new(&mut *self), &mut cx);
            if !matches!(polled, Poll::Ready(Some(Ok(_)))) {
                return;
            }
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self { incoming, lent } = &mut *self;
        let Some(lender) = lent else {
            return Pin::new(incoming).poll_frame(cx);
        };
        let polled = lender.link.read(incoming, cx);
        match &polled {
            Poll::Ready(Some(Err(_))) => *lent = None,
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Ok(_))) if incoming.is_end_stream() => self.give_back(),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
