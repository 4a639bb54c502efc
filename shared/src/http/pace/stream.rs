//! A connection whose client has to read.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// What a client of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails when the peer takes nothing of what is written to it for too long.
///
/// What the system takes counts as taken. It does so in steps of some tens of kilobytes, so that a peer may read as slowly as a
/// kilobyte or two a second.
#[derive(Debug)]
pub struct Paced<S> {
    inner: S,
    stall: Duration,
    blocked: Option<Blocked>,
    opening: Option<Opening>,
}

/// The peer takes nothing at present.
#[derive(Debug)]
struct Blocked {
    by: Operation,
    until: Pin<Box<Sleep>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Write,
    Flush,
}

/// The start of a connection, until it is clear which version of HTTP is spoken.
#[derive(Debug)]
struct Opening {
    /// How much of the preface has come.
    seen: usize,
    until: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    /// Watches over what is written to `inner`: something has to be taken every `stall`.
    pub fn new(inner: S, stall: Duration) -> Self {
        Self {
            inner,
            stall,
            blocked: None,
            opening: None,
        }
    }

    /// Has a client show within `limit` which version of HTTP it speaks. For hyper's automatic choice, which waits for ever.
    #[must_use]
    pub fn opening_within(mut self, limit: Duration) -> Self {
        let until = Box::pin(sleep(limit));
        self.opening = Some(Opening { seen: 0, until });
        self
    }

    /// Notes how an operation went, and turns one that waits for too long into an error.
    fn watch<T>(
        &mut self,
        by: Operation,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            // A plain socket has nothing to flush, so that says nothing about what is to be written.
            let is_over = |blocked: &Blocked| by == Operation::Write || blocked.by == by;
            if self.blocked.as_ref().is_some_and(is_over) {
                self.blocked = None;
            }
            return outcome;
        }
        let stall = self.stall;
        let blocked = self.blocked.get_or_insert_with(|| Blocked {
            by,
            until: Box::pin(sleep(stall)),
        });
        match blocked.until.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(late("the client does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Opening {
    /// Looks at what has come. Returns whether the version is clear.
    fn is_over(&mut self, bytes: &[u8]) -> bool {
        let rest = PREFACE.get(self.seen..).unwrap_or_default();
        self.seen += bytes.len();
        bytes.is_empty() || bytes.len() >= rest.len() || !rest.starts_with(bytes)
    }
}

fn late(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, text)
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buffer);
        let Some(opening) = &mut this.opening else {
            return outcome;
        };
        if outcome.is_pending() {
            let is_late = opening.until.as_mut().poll(cx).is_ready();
            return if is_late {
                Poll::Ready(Err(late("the client does not say what it wants")))
            } else {
                Poll::Pending
            };
        }
        if opening.is_over(&buffer.filled()[before..]) {
            this.opening = None;
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.watch(Operation::Write, outcome, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_flush(cx);
        this.watch(Operation::Flush, outcome, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.watch(Operation::Flush, outcome, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.watch(Operation::Write, outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_little_now_and_then_is_waited_for_and_one_that_stops_is_not() {
        let (ours, mut theirs) = duplex(64);
        let mut ours = Paced::new(ours, STALL);
        let reading = async {
            let mut piece = [0; 16];
            for _ in 0..100 {
                sleep(STALL / 2).await;
                theirs.read_exact(&mut piece).await.unwrap();
            }
            theirs
        };
        let writing = async {
            let failed = loop {
                match ours.write_all(&[7; 64]).await {
                    Ok(()) => {}
                    Err(reason) => break reason,
                }
            };
            (failed, tokio::time::Instant::now())
        };
        let started = tokio::time::Instant::now();
        let ((failed, when), _theirs) = tokio::join!(writing, reading);
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert!(when - started >= STALL * 50, "{:?}", when - started);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_writer_is_no_stall() {
        let (ours, mut theirs) = duplex(8);
        let mut ours = Paced::new(ours, STALL);
        for _ in 0..3 {
            ours.write_all(b"12345678").await.unwrap();
            sleep(STALL * 2).await;
            theirs.read_exact(&mut [0; 8]).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_version_has_to_be_clear_in_time_and_then_there_is_no_limit() {
        let f = async |bytes: &[u8]| {
            let (ours, mut theirs) = duplex(64);
            let mut ours = Paced::new(ours, STALL).opening_within(STALL);
            theirs.write_all(bytes).await.unwrap();
            let mut read = [0; 64];
            loop {
                let reading = tokio::time::timeout(STALL * 10, ours.read(&mut read));
                match reading.await {
                    Err(_) => return true,
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return false,
                }
            }
        };
        assert!(!f(b"").await);
        assert!(!f(b"PRI * HT").await);
        assert!(f(b"POST").await);
        assert!(f(PREFACE).await);
        assert!(f(b"GET / HTTP/1.1\r\n").await);
    }
}
