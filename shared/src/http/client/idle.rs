//! How many connections are kept while nobody uses them, over all hosts: Go's `MaxIdleConns`.
//!
//! The pool limits the connections to one host only. So each connection notes when it is not in use any more; of those that are
//! too many, the one that was not for the longest time is told to end. A connection is in use from the first byte
//! of a request until the body of its answer was read or dropped. Connections of HTTP/2, of which there is one to a host, are not
//! counted, as in Go.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};

/// The connections of a client that are not in use.
#[derive(Debug)]
pub(super) struct Idlers {
    most: usize,
    /// By when they were used last.
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    connections: BTreeMap<u64, Arc<Held>>,
    last: u64,
}

/// A connection, as the limit sees it.
#[derive(Debug)]
pub(super) struct Held {
    idlers: Arc<Idlers>,
    /// The place among those that are not in use; zero for none.
    place: AtomicU64,
    is_used: AtomicBool,
    /// Whether it is to end as soon as it is not in use.
    is_over: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

/// How the pool hands a connection to whoever gets an answer from it.
#[derive(Clone, Debug)]
pub(super) struct Handle(pub(super) Arc<Held>);

impl Idlers {
    /// Keeps at most so many.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let waiting = Mutex::default();
        Arc::new(Self { most, waiting })
    }

    /// Starts with a connection that is in use.
    pub(super) fn hold(self: &Arc<Self>) -> Arc<Held> {
        Arc::new(Held {
            idlers: Arc::clone(self),
            place: AtomicU64::new(0),
            is_used: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
            reader: Mutex::default(),
        })
    }
}

impl Held {
    /// Notes that the connection is in use.
    pub(super) fn used(&self) {
        self.is_used.store(true, Relaxed);
        if self.place.load(Relaxed) == 0 {
            return;
        }
        let waiting = &self.idlers.waiting;
        let mut waiting = waiting.lock();
        let place = self.place.swap(0, Relaxed);
        waiting.connections.remove(&place);
    }

    /// Notes that it is not in use any more, and ends the one that was not for the longest time if they are too many.
    fn left(self: &Arc<Self>) {
        self.is_used.store(false, Relaxed);
        if self.is_over.load(Relaxed) {
            return self.end();
        }
        let waiting = &self.idlers.waiting;
        let mut waiting = waiting.lock();
        waiting.last += 1;
        let place = waiting.last;
        let before = self.place.swap(place, Relaxed);
        waiting.connections.remove(&before);
        waiting.connections.insert(place, Arc::clone(self));
        let mut ended = Vec::new();
        while waiting.connections.len() > self.idlers.most {
            let Some((_, oldest)) = waiting.connections.pop_first() else {
                break;
            };
            oldest.place.store(0, Relaxed);
            ended.push(oldest);
        }
        // Wakers run code of their own, which must not find the lock taken.
        drop(waiting);
        for connection in ended {
            connection.end();
        }
    }

    fn end(&self) {
        self.is_over.store(true, Relaxed);
        let reader = &self.reader;
        let reader = reader.lock().take();
        if let Some(waker) = reader {
            waker.wake();
        }
    }

    /// Whether the connection was told to end; if not, the task is woken when it is. A request that was sent before it was told
    /// is answered first.
    pub(super) fn is_over(&self, context: &Context<'_>) -> bool {
        let reader = &self.reader;
        let mut reader = reader.lock();
        match &mut *reader {
            Some(known) => known.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        self.is_over.load(Relaxed) && !self.is_used.load(Relaxed)
    }
}

/// The body of an answer. Its connection is free for other requests once it was read or dropped.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    _held: Option<Returned>,
}

/// Gives a connection back when it is dropped.
#[derive(Debug)]
struct Returned(Arc<Held>);

impl Drop for Returned {
    fn drop(&mut self) {
        self.0.left();
    }
}

impl Body {
    pub(super) fn new(incoming: Incoming, handle: Option<Handle>) -> Self {
        Self {
            incoming,
            _held: handle.map(|handle| Returned(handle.0)),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
