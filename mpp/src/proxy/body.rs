//! Bodies on their way: requests as they are replayed or streamed, answers as they stream past.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use shared::http::pace::Arriving;
use thiserror::Error;

use super::pool::Link;
use crate::backend::{Backend, Failure};

/// What a server gets.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// A body that is known in full, and can be sent again.
    Whole(Bytes),
    /// A longer one: what was read so far, then the rest as it comes.
    Streamed {
        start: Bytes,
        rest: Arriving<Incoming>,
        left: u64,
    },
}

/// Why a body broke off.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    #[error("the client's body ended early: {0}")]
    Client(Box<dyn std::error::Error + Send + Sync>),
    #[error("the client's body is too long")]
    TooLong,
    #[error("the server's answer ended early: {0}")]
    Server(hyper::Error),
    #[error("the server's answer ended early")]
    Ended,
}

/// The frame of `bytes`, which are taken, unless there are none.
fn once(bytes: &mut Bytes) -> Option<Frame<Bytes>> {
    (!bytes.is_empty()).then(|| Frame::data(std::mem::take(bytes)))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(once(bytes).map(Ok)),
            Self::Streamed { start, .. } if !start.is_empty() => Poll::Ready(once(start).map(Ok)),
            Self::Streamed { rest, left, .. } => match Pin::new(rest).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Buf::remaining) as u64;
                    match left.checked_sub(length) {
                        Some(less) => {
                            *left = less;
                            Poll::Ready(Some(Ok(frame)))
                        }
                        None => Poll::Ready(Some(Err(BodyError::TooLong))),
                    }
                }
                Poll::Ready(Some(Err(reason))) => Poll::Ready(Some(Err(BodyError::Client(reason)))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed { start, rest, .. } => start.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed { start, rest, .. } => match rest.size_hint().exact() {
                Some(length) => SizeHint::with_exact(start.len() as u64 + length),
                None => SizeHint::default(),
            },
        }
    }
}

/// What a client gets.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// Our own words, or what was read in full.
    Whole(Bytes),
    /// A server's answer.
    Streamed(Box<Answer>),
}

impl ResponseBody {
    pub(crate) const EMPTY: Self = Self::Whole(Bytes::new());
}

/// A server's answer under way. It drives the connection that it comes from, and gives it back at its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Incoming,
    pub(crate) link: Option<Link>,
    pub(crate) attempt: Attempt,
    /// The worker thread that this runs on.
    pub(crate) worker: usize,
    /// Why it broke off, until that has been said.
    pub(crate) broken: Option<BodyError>,
}

/// The account of one attempt: counts it as under way until it is dropped, and then how long it took.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) backend: Arc<Backend>,
    started: Instant,
}

impl Attempt {
    pub(crate) fn start(backend: &Arc<Backend>) -> Self {
        backend.traffic.attempts.fetch_add(1, Relaxed);
        backend.traffic.in_flight.fetch_add(1, Relaxed);
        Self {
            backend: Arc::clone(backend),
            started: Instant::now(),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.backend.traffic.in_flight.fetch_sub(1, Relaxed);
        self.backend.traffic.took(self.started.elapsed());
    }
}

impl Answer {
    /// The answer is complete: its connection serves again.
    pub(crate) fn give_back(&mut self, cx: &mut Context<'_>) {
        if let Some(mut link) = self.link.take()
            // Still reading is fine (it is found out when the connection is taken); an end is not.
            && link.drive(cx).is_pending()
        {
            self.attempt.backend.pools[self.worker].keep(link);
        }
    }

    /// The answer broke off. That is said with the next question only, so that what came before it has left for the client.
    fn cut(
        &mut self,
        cx: &mut Context<'_>,
        reason: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.link = None;
        self.attempt.backend.failed(Failure::Cut, None);
        self.broken = Some(reason);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(reason) = self.broken.take() {
            return Poll::Ready(Some(Err(reason)));
        }
        loop {
            let driven = match &mut self.link {
                Some(link) => link.drive(cx),
                None => Poll::Ready(Ok(())),
            };
            // As in `Link::send`: frames come only by driving.
            let mut idle = Context::from_waker(Waker::noop());
            match Pin::new(&mut self.body).poll_frame(&mut idle) {
                Poll::Ready(Some(Ok(frame))) => {
                    if self.body.is_end_stream() {
                        self.give_back(cx);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(reason))) => {
                    return self.cut(cx, BodyError::Server(reason));
                }
                Poll::Ready(None) => {
                    self.give_back(cx);
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            match driven {
                Poll::Ready(Err(reason)) => return self.cut(cx, BodyError::Server(reason)),
                Poll::Ready(Ok(())) if self.link.is_some() => {
                    // The connection has ended in order; what it read is in the body now.
                    self.link = None;
                }
                Poll::Ready(Ok(())) => return self.cut(cx, BodyError::Ended),
                // Asking the body for a frame has woken the driver, so that this is not the end of it.
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(once(bytes).map(Ok)),
            Self::Streamed(answer) => answer.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed(answer) => answer.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(answer) => answer.body.size_hint(),
        }
    }
}
