//! A request's body that has to come.

use std::{
    error::Error,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Buf as _, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// How much has to come in the time that is given, in bytes, unless the body ends: a byte now and then is no progress.
const LEAST: usize = 1024;

/// A body that fails with [`TooSlow`] when next to nothing of it comes for too long.
#[derive(Debug)]
pub struct Arriving<B> {
    inner: B,
    stall: Duration,
    /// What is left of the time in which [`LEAST`] bytes have to come.
    left: Duration,
    /// How many of them have come.
    come: usize,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    until: Pin<Box<Sleep>>,
}

/// A request does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client does not send its request")]
pub struct TooSlow;

impl TooSlow {
    /// Returns whether `error` came about because a request did not come.
    pub fn is_cause_of(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl<B> Arriving<B> {
    /// Has something of `inner` come every `stall`.
    pub fn new(inner: B, stall: Duration) -> Self {
        Self {
            inner,
            stall,
            left: stall,
            come: 0,
            waiting: None,
        }
    }

    /// Takes account of bytes, and of the time that they took.
    fn come(&mut self, bytes: usize) {
        if let Some(waiting) = self.waiting.take() {
            self.left = self.left.saturating_sub(waiting.since.elapsed());
        }
        self.come += bytes;
        if self.come >= LEAST {
            self.come = 0;
            self.left = self.stall;
        }
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame {
                this.come(frame.data_ref().map_or(0, Bytes::remaining));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = this.left;
        let waiting = this.waiting.get_or_insert_with(|| Waiting {
            since: Instant::now(),
            until: Box::pin(sleep(left)),
        });
        match waiting.until.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(TooSlow.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    /// A body of pieces, each of which comes after a pause.
    fn body(
        pieces: usize,
        size: usize,
        pause: Duration,
    ) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            sleep(pause).await;
            Ok(Frame::data(Bytes::from(vec![b'x'; size])))
        });
        StreamBody::new(Box::pin(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_to_come_at_some_speed_or_end() {
        let f = async |pieces, size, pause: Duration, expected: bool| {
            let whole = Arriving::new(body(pieces, size, pause), STALL);
            let outcome = whole.collect().await;
            assert_eq!(
                outcome.is_ok(),
                expected,
                "{pieces} x {size} each {pause:?}"
            );
            if let Err(reason) = outcome {
                assert!(TooSlow::is_cause_of(&*reason));
            }
        };
        // Slow, and for long, but it comes.
        f(1000, LEAST, STALL / 2, true).await;
        // Short, and in time.
        f(20, 1, STALL / 60, true).await;
        // Byte by byte for ever.
        f(1000, 1, STALL / 60, false).await;
        // Nothing any more.
        f(2, LEAST, STALL * 2, false).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_ask_does_not_wait() {
        let mut slow = Arriving::new(body(100, 10, Duration::from_millis(1)), STALL);
        for _ in 0..100 {
            slow.frame().await.unwrap().unwrap();
            sleep(STALL).await;
        }
    }
}
