//! Connections to a server: made, used by one request at a time, kept while idle.
//!
//! A connection is driven by whoever uses it, inside the task of the client's connection. That saves a task per connection, and
//! with it a wake-up across tasks for every message; it is most of what makes the proxy cheap. An idle connection is driven by
//! nobody; whether it still stands is found out when it is taken.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use shared::tls::Stream;

use super::body::RequestBody;

/// Idle connections that are kept per server and worker thread.
const MOST_IDLE: usize = 64;
/// How long an idle connection is kept: less than Prometheus keeps it (5 minutes) and than most proxies in between.
const LONGEST_IDLE: Duration = Duration::from_secs(50);
/// The longest head of an answer, and the most that is read ahead of a slow client.
const BUFFER: usize = 64 << 10;

/// The idle connections of one server, for one worker thread.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

/// A connection.
pub(crate) struct Link {
    sender: SendRequest<RequestBody>,
    driver: Pin<Box<http1::Connection<TokioIo<Stream>, RequestBody>>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Pool {
    /// Takes the idle connection that was used last, if one still stands.
    pub(crate) async fn take(&self) -> Option<Link> {
        loop {
            let Idle { mut link, since } = self.idle.lock().pop()?;
            if since.elapsed() < LONGEST_IDLE && link.stands().await {
                return Some(link);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn keep(&self, link: Link) {
        let mut idle = self.idle.lock();
        if idle.len() >= MOST_IDLE {
            idle.remove(0);
        }
        idle.push(Idle {
            link,
            since: Instant::now(),
        });
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn prune(&self) {
        self.idle
            .lock()
            .retain(|idle| idle.since.elapsed() < LONGEST_IDLE);
    }

    /// Closes all idle connections.
    pub(crate) fn clear(&self) {
        self.idle.lock().clear();
    }

    /// Returns how many connections are idle.
    pub(crate) fn len(&self) -> usize {
        self.idle.lock().len()
    }
}

impl Link {
    /// Speaks HTTP/1.1 on a new connection.
    pub(crate) async fn open(stream: Stream) -> hyper::Result<Self> {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self {
            sender,
            driver: Box::pin(driver),
        })
    }

    /// Says whether the connection can take a request.
    async fn stands(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.is_ready(cx))).await
    }

    /// Drives the connection once, and says whether it can take a request.
    pub(crate) fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        if self.drive(cx).is_ready() {
            return false;
        }
        // The driver has just been driven with the real waker; nothing waits for this answer.
        let mut idle = Context::from_waker(Waker::noop());
        matches!(self.sender.poll_ready(&mut idle), Poll::Ready(Ok(())))
    }

    /// Sends a request and waits for the head of its answer. Cancelling closes the connection when it is dropped.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> hyper::Result<Response<Incoming>> {
        let mut answer = Box::pin(self.sender.send_request(request));
        let driver = &mut self.driver;
        poll_fn(move |cx| {
            let driven = driver.as_mut().poll(cx);
            // The answer comes only by driving, so that its own wake-up would be one too many.
            let mut idle = Context::from_waker(Waker::noop());
            match (answer.as_mut().poll(&mut idle), driven) {
                (Poll::Ready(answer), _) => Poll::Ready(answer),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                // The connection has ended: so will the answer, and for that it needs the waker.
                (Poll::Pending, Poll::Ready(Ok(()))) => answer.as_mut().poll(cx),
                (Poll::Pending, Poll::Ready(Err(reason))) => Poll::Ready(Err(reason)),
            }
        })
        .await
    }

    /// Drives the connection. Ready means that it has ended.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.driver.as_mut().poll(cx)
    }
}
