//! From a received batch to bytes on a destination's connection.
//!
//! * [`Batch`]: the metrics of one request, placed as they are read: one contiguous buffer per destination, in the framing
//!   of the protocol that will carry it
//! * `pack`: the bodies of HTTP, made as soon as metrics are placed
//! * `room`: buffers that are used again
//! * `parcel`: what a batch holds for one destination; it is counted exactly once, whatever becomes of it
//! * `queue`: the bounded queue of a destination
//! * `connect`: sockets, with TLS or without
//! * `sender`: what empties a queue; `http`, `unary`, `stream`: a sender for each protocol, over `grpc` where that is spoken

mod batch;
mod connect;
mod grpc;
mod http;
pub(crate) mod pack;
pub(crate) mod parcel;
pub(crate) mod queue;
pub(crate) mod room;
pub(crate) mod sender;
mod stream;
mod unary;

use std::fmt;

pub use self::batch::Batch;

/// How metrics came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inbound {
    /// By `POST /import`.
    Http,
    /// By `SendMetrics`.
    Unary,
    /// By `SendMetricsV2`.
    Stream,
}

impl Inbound {
    /// Returns the protocol as the originals' tags name it: `http` or `grpc`.
    pub fn family(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Unary | Self::Stream => "grpc",
        }
    }
}

/// How metrics travel to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// By `POST /import`, as JSON.
    Http,
    /// By `SendMetrics`, in lists.
    Unary,
    /// By `SendMetricsV2`, one by one on a stream.
    Stream,
}

impl Protocol {
    /// Returns the name that configuration, labels and logs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Unary => "unary",
            Self::Stream => "stream",
        }
    }

    /// Returns the protocol as the originals' tags name it: `http` or `grpc`.
    pub fn family(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Unary | Self::Stream => "grpc",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The trace that a request belongs to, as its headers say (spec section 7.2). Only HTTP carries it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not 0.
    pub trace_id: i64,
    /// The span of the sender; not 0.
    pub span_id: i64,
}
