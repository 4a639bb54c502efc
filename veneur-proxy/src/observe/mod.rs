//! What the outbound half tells about itself: events for telemetry and logs, and exact totals.
//!
//! The half that forwards metrics knows no emitter and writes no log line; it hands [`Event`]s to an [`Observer`]. Names and
//! transports of what the originals emit are made there. [`Totals`] is the plain observer: it adds up, per destination,
//! numbers that always obey
//!
//! ```text
//! accepted = delivered + lost (by reason) + moved + queued
//! ```

mod totals;

use std::{fmt, sync::Arc, time::Duration};

pub use self::totals::{DestinationSums, Sums, Totals};
use crate::forward::{Inbound, Protocol};

/// Sees what happens to metrics on their way out.
///
/// Called on the data path, from many tasks at once: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Takes note of an event.
    fn event(&self, event: &Event<'_>);
}

/// Why metrics were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// The ring had no member.
    NoDestination,
    /// A metric has no counterpart in the protocol that its destination speaks.
    Convert,
    /// The queue was full, and the policy is to drop or the destination is in trouble.
    Full,
    /// `forward_timeout` passed before a connection came about, or before there was room in the queue.
    Timeout,
    /// The destination answered that it does not take them.
    Refused,
    /// The connection broke after they were written, before an answer. Some of them may have arrived.
    Unconfirmed,
    /// Their sender went away while they waited for room in the queue.
    Abandoned,
    /// The process ended, or a destination that has left did not take them in time.
    Drain,
}

impl Loss {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::NoDestination,
        Self::Convert,
        Self::Full,
        Self::Timeout,
        Self::Refused,
        Self::Unconfirmed,
        Self::Abandoned,
        Self::Drain,
    ];

    /// Returns the name that labels use.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoDestination => "no-destination",
            Self::Convert => "convert",
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Unconfirmed => "unconfirmed",
            Self::Abandoned => "abandoned",
            Self::Drain => "drain",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an attempt to hand metrics to a destination failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or none any more. `forward.error_total{cause:io}` for HTTP.
    Io(String),
    /// An HTTP answer other than 200 and 202. `forward.error_total{cause:<status>}`.
    Status {
        /// The status.
        status: u16,
        /// Its headers, one a line.
        headers: String,
        /// The beginning of its body.
        body: String,
        /// How long the body of the request was, in bytes.
        request_length: usize,
    },
    /// A gRPC status other than OK.
    Grpc {
        /// Its number.
        code: u32,
        /// Its text.
        message: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(reason) => f.write_str(reason),
            Self::Status { status, .. } => write!(f, "status {status}"),
            Self::Grpc { code, message } => write!(f, "rpc error: code = {code} desc = {message}"),
        }
    }
}

/// Whether a connection was made for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// It was: `forward.connections_used_total{state:new}`.
    New,
    /// It had been used before: `state:reused`.
    Reused,
}

/// What happened. Counts are metrics unless said otherwise; destinations are names of ring members.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A received batch is taken over as a whole: queued, waiting in the overflow, or lost (each told on its own).
    /// `proxy.duration_ns`, `proxy.proxied_metrics_total`, `proxy.metrics_total`.
    Batch {
        /// How it came.
        inbound: Inbound,
        /// How many metrics were in it.
        metrics: usize,
        /// From the begin of placing to the end of queueing.
        took: Duration,
    },
    /// Metrics of one batch are queued for a destination. `metrics_by_destination`, `handle.metrics_count{error:false}`.
    Queued {
        /// For whom.
        destination: &'a str,
        /// How they will travel.
        protocol: Protocol,
        /// How they came.
        inbound: Inbound,
        /// How many.
        metrics: usize,
    },
    /// A queue was full, so that a batch waits or is dropped. `handle.enqueue`.
    Full {
        /// Whose queue.
        destination: &'a str,
        /// How many metrics have no room.
        metrics: usize,
    },
    /// A body for HTTP was made. `forward.duration_ns{part:json}`, `forward.content_length_bytes`.
    Encoded {
        /// For whom.
        destination: &'a str,
        /// How long compressing took.
        took: Duration,
        /// The length of the body in bytes.
        bytes: usize,
    },
    /// A request or call has a connection. `forward.connections_used_total`.
    ConnectionUsed {
        /// To whom.
        destination: &'a str,
        /// Which.
        connection: Connection,
    },
    /// Metrics have arrived: the destination said so, or, on a stream, nothing was heard to the contrary.
    /// `forward.metrics_count{error:false}`, `forward.error_total` 0, `forward.send_latency_ns`, `forward.buffer_latency_ns`.
    Delivered {
        /// Where.
        destination: &'a str,
        /// How.
        protocol: Protocol,
        /// How many.
        metrics: usize,
        /// From the first byte written to the answer.
        took: Duration,
        /// How long the oldest of them was queued.
        queued: Duration,
    },
    /// A try to deliver failed. Whether it is repeated is not said; what is given up is told by [`Event::Lost`].
    /// `forward.error_total`, `proxy.forward_errors{cause:forward}`; the log lines `Could not execute request`, `Could not POST`.
    Failed {
        /// By whom.
        destination: &'a str,
        /// How it was tried.
        protocol: Protocol,
        /// How many metrics were in it.
        metrics: usize,
        /// Why.
        failure: &'a Failure,
    },
    /// Metrics are given up. `forward.error_total{cause:post}`, `proxy.proxied_metrics_failed`, `handle.metrics_count{error:dropped}`,
    /// `forward.metrics_count{error:...}`; the log lines `Failed to POST metrics to destination`, `Proxying failed`.
    Lost {
        /// Whose they were; `None` without a destination.
        destination: Option<&'a str>,
        /// How they would have travelled; `None` without a destination.
        protocol: Option<Protocol>,
        /// How they came, where one batch is lost; `None` for what several senders sent.
        inbound: Option<Inbound>,
        /// How many.
        metrics: usize,
        /// Why.
        reason: Loss,
        /// What was last heard of the destination, if that is the cause.
        failure: Option<&'a Failure>,
        /// Whether they had been queued; what was not is no part of `accepted`.
        queued: WasQueued,
    },
    /// Queued metrics of a destination that has left were placed anew; they are queued again elsewhere, or lost.
    Moved {
        /// Whose they were.
        destination: &'a str,
        /// How many.
        metrics: usize,
    },
    /// A connection to a destination was made. `grpc.conn_begin{client:true}` for gRPC.
    ConnectionBegan {
        /// To whom.
        destination: &'a str,
        /// What is spoken on it.
        protocol: Protocol,
    },
    /// It ended. `grpc.conn_end{client:true}`.
    ConnectionEnded {
        /// To whom.
        destination: &'a str,
        /// What was spoken on it.
        protocol: Protocol,
    },
    /// No connection. `forward.connect{status:failed_dial}`; the log line `failed to dial destination`.
    DialFailed {
        /// To whom.
        destination: &'a str,
        /// Why.
        failure: &'a Failure,
    },
    /// A stream could not be opened. `forward.connect{status:failed_connect}`.
    OpenFailed {
        /// To whom.
        destination: &'a str,
        /// Why.
        failure: &'a Failure,
    },
    /// A destination is ready: connected, and its stream open where streams are spoken. `forward.connect{status:success}`.
    Connected {
        /// Who.
        destination: &'a str,
    },
    /// It is no longer. `forward.disconnect{error:...}`; the log line `disconnected from destination`.
    Disconnected {
        /// Who.
        destination: &'a str,
        /// Why; `None` if that was in order.
        failure: Option<&'a Failure>,
    },
    /// With `auto`: what a destination speaks was found out.
    Learned {
        /// Who.
        destination: &'a str,
        /// What.
        protocol: Protocol,
    },
    /// A destination has joined or left the configuration or what discovery found.
    Membership {
        /// Who.
        destination: &'a str,
        /// Which of both.
        change: Change,
    },
    /// A look-up of members has finished. `discoverer.update_duration_ns`, `discoverer.errors`,
    /// `discoverer.destination_number`, `discovery.count`, `discovery.destinations`, `discovery.duration_total_ms`; the log
    /// lines `Got destinations` and `Discoverer found zero destinations ...` or `failed discover destinations`.
    Discovered {
        /// The service's name.
        service: &'a str,
        /// How long it took.
        took: Duration,
        /// The members as found, or why there are none; then the last ones stay.
        result: Result<&'a [&'a str], &'a str>,
    },
}

/// Whether lost metrics were in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasQueued {
    /// They were, and counted as accepted.
    Yes,
    /// They never were.
    No,
}

/// How membership changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is a destination now.
    Joined,
    /// It is none any more; its queue is being emptied.
    Left,
}

/// Several observers, each told in turn.
impl Observer for Vec<Arc<dyn Observer>> {
    fn event(&self, event: &Event<'_>) {
        for observer in self {
            observer.event(event);
        }
    }
}
