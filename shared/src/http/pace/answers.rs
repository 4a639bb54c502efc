//! Answers of HTTP/2 whose client has to take them. There, a client lets each answer through on its own, and the connection
//! goes on; what waits for such leave is not seen at the socket.

use std::{
    cell::Cell,
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{
    body::{Body, Bytes, Frame, SizeHint},
    rt::Executor,
};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep};
use tracing::debug;

type BoxError = Box<dyn Error + Send + Sync>;

/// How much is handed over at a time: what was handed over is kept until the client takes it, however long that is.
const SLICE: usize = 16 << 10;

tokio::task_local! {
    /// What was seen of the body of the answer that is at work.
    static SEEN: Cell<Seen>;
}

/// What an answer did when it was last at work.
enum Seen {
    /// It did not look at its body.
    Nothing,
    /// It waits for the body, or has had all of it.
    Rest,
    /// It got a piece of this body, and looks no further until the client lets it through.
    Piece(Arc<dyn LetGo>),
}

/// Something that can be let go of by somebody else.
trait LetGo: Send + Sync {
    fn let_go(&self);
}

/// Runs the answers of HTTP/2 connections, and lets go of those that wait for their client for too long. A client that goes on
/// with such an answer hears that it failed. The bodies have to be [`Answer`]s.
///
/// The stream itself, with the slice that waits for leave, stays until the client says something. To end it before would send a
/// cancellation, which some clients take for the end of a whole answer.
#[derive(Debug, Clone)]
pub struct Answers {
    stall: Duration,
}

impl Answers {
    /// Has something of an answer taken every `stall`.
    pub fn new(stall: Duration) -> Self {
        Self { stall }
    }
}

impl<F> Executor<F> for Answers
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        TokioExecutor::new().execute(Running {
            work: Box::pin(work),
            stall: self.stall,
            held: None,
        });
    }
}

/// An answer at work.
struct Running<F> {
    work: Pin<Box<F>>,
    stall: Duration,
    held: Option<Held>,
}

/// The body of an answer that waits for its client, and for how long it may.
struct Held {
    body: Arc<dyn LetGo>,
    until: Pin<Box<Sleep>>,
}

impl<F: Future<Output = ()>> Future for Running<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let (outcome, seen) = SEEN.sync_scope(Cell::new(Seen::Nothing), || {
            let outcome = this.work.as_mut().poll(cx);
            (outcome, SEEN.with(|seen| seen.replace(Seen::Nothing)))
        });
        if outcome.is_ready() {
            return outcome;
        }
        match seen {
            Seen::Nothing => {}
            Seen::Rest => this.held = None,
            Seen::Piece(body) => {
                let until = Box::pin(sleep(this.stall));
                this.held = Some(Held { body, until });
            }
        }
        let Some(held) = &mut this.held else {
            return Poll::Pending;
        };
        ready!(held.until.as_mut().poll(cx));
        debug!("a client does not take its answer");
        held.body.let_go();
        this.held = None;
        Poll::Pending
    }
}

/// The body of an answer that [`Answers`] runs.
pub struct Answer<B>(Arc<Mutex<Option<Whole<B>>>>);

/// What is left of an answer.
struct Whole<B> {
    inner: B,
    /// What is left of a piece.
    rest: Bytes,
}

/// The client did not take the answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client did not take the answer")]
struct NotTaken;

impl<B> Answer<B> {
    /// Hands `inner` over in small pieces.
    pub fn new(inner: B) -> Self {
        let rest = Bytes::new();
        Self(Arc::new(Mutex::new(Some(Whole { inner, rest }))))
    }

    fn with<T>(&self, what: impl FnOnce(Option<&mut Whole<B>>) -> T) -> T {
        what(self.0.lock().as_mut())
    }
}

impl<B> fmt::Debug for Answer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl<B: Send> LetGo for Mutex<Option<Whole<B>>> {
    fn let_go(&self) {
        let whole = self.lock().take();
        drop(whole);
    }
}

impl<B> Whole<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(reason)) => return Poll::Ready(Some(Err(reason.into()))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
        if self.rest.len() <= SLICE {
            let last = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        // A copy: a part of the piece would keep all of it.
        let slice = Bytes::copy_from_slice(&self.rest.split_to(SLICE));
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let outcome = self.with(|whole| match whole {
            Some(whole) => whole.poll_frame(cx),
            None => Poll::Ready(Some(Err(NotTaken.into()))),
        });
        let seen = match &outcome {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                Seen::Piece(Arc::clone(&self.0) as Arc<dyn LetGo>)
            }
            _ => Seen::Rest,
        };
        // Elsewhere, nobody wants to know.
        let _told = SEEN.try_with(|told| told.set(seen)).is_ok();
        outcome
    }

    fn is_end_stream(&self) -> bool {
        self.with(|whole| {
            whole.is_some_and(|whole| whole.rest.is_empty() && whole.inner.is_end_stream())
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|whole| {
            let mut hint = SizeHint::new();
            if let Some(whole) = whole {
                let (rest, inner) = (whole.rest.len() as u64, whole.inner.size_hint());
                if let Some(upper) = inner.upper() {
                    hint.set_upper(rest + upper);
                }
                hint.set_lower(rest + inner.lower());
            }
            hint
        })
    }
}
