//! What the proxy counts. The data path adds to atomics once per read or batch; pages and reports read them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why lines are not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// A line is longer than 65,536 bytes.
    Oversize,
    /// No carbon would take it (`-validate`), or it is a datapoint that no line can carry.
    Invalid,
    /// The process ended within the line.
    Unterminated,
    /// The gateway answered 400.
    BadRequest,
    /// The gateway answered 403.
    Forbidden,
    /// The gateway answered 413.
    TooLarge,
    /// The gateway has refused the key for longer than `-key-hold`.
    KeyRefused,
    /// The gateway answered with another status that no retry changes.
    Status,
    /// The gateway redirects to another host.
    Redirect,
    /// `-retry-for` is over.
    RetriesExhausted,
    /// Pushed out of full memory by newer lines (`-on-full=drop-oldest`).
    QueueFull,
    /// Pushed out of a full spool by newer lines (`-on-full=drop-oldest`).
    SpoolFull,
    /// Its record in the spool is damaged.
    SpoolDamaged,
    /// The process ended before it was delivered, and there is no spool.
    DrainDeadline,
}

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::Oversize,
        Self::Invalid,
        Self::Unterminated,
        Self::BadRequest,
        Self::Forbidden,
        Self::TooLarge,
        Self::KeyRefused,
        Self::Status,
        Self::Redirect,
        Self::RetriesExhausted,
        Self::QueueFull,
        Self::SpoolFull,
        Self::SpoolDamaged,
        Self::DrainDeadline,
    ];

    /// Returns the reason as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Invalid => "invalid",
            Self::Unterminated => "unterminated",
            Self::BadRequest => "bad_request",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too_large",
            Self::KeyRefused => "key_refused",
            Self::Status => "status",
            Self::Redirect => "redirect",
            Self::RetriesExhausted => "retries_exhausted",
            Self::QueueFull => "queue_full",
            Self::SpoolFull => "spool_full",
            Self::SpoolDamaged => "spool_damaged",
            Self::DrainDeadline => "drain_deadline",
        }
    }
}

/// Why a batch is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// No connection: refused, unreachable, or the name is unknown.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The connection was closed or reset before the whole answer.
    Closed,
    /// A time limit.
    Timeout,
    /// What came back is not HTTP.
    Protocol,
    /// 401 while the key may still become known.
    Unauthorized,
    /// 408, 425 or 429.
    Busy,
    /// 5xx.
    Server,
}

impl RetryReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Tls,
        Self::Closed,
        Self::Timeout,
        Self::Protocol,
        Self::Unauthorized,
        Self::Busy,
        Self::Server,
    ];

    /// Returns the reason as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Unauthorized => "unauthorized",
            Self::Busy => "busy",
            Self::Server => "server",
        }
    }
}

/// All counters of a proxy. Lines add up:
/// `lines_received + lines_own + lines_recovered = lines_sent + dropped + waiting`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Lines read from sockets, those dropped at once included.
    pub lines_received: AtomicU64,
    /// Lines about the proxy itself (`-metrics-flush`).
    pub lines_own: AtomicU64,
    /// Lines found in the spool at the start.
    pub lines_recovered: AtomicU64,
    /// Bytes read from sockets.
    pub bytes_received: AtomicU64,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections that are open.
    pub connections_open: AtomicU64,
    /// Datagrams read.
    pub datagrams: AtomicU64,
    /// Pickle frames that could not be read.
    pub pickle_frames_refused: AtomicU64,
    /// Batches that the gateway took.
    pub batches_sent: AtomicU64,
    /// Lines that the gateway took.
    pub lines_sent: AtomicU64,
    /// Bytes of batches that the gateway took, before compression.
    pub raw_bytes_sent: AtomicU64,
    /// The same after compression.
    pub gzip_bytes_sent: AtomicU64,
    /// Bytes that a torn or damaged part of the spool has cost.
    pub spool_bytes_skipped: AtomicU64,
    drops: [AtomicU64; DropReason::ALL.len()],
    retries: [AtomicU64; RetryReason::ALL.len()],
}

impl Counters {
    /// Counts lines that will not be delivered.
    pub fn drop_lines(&self, reason: DropReason, lines: u64) {
        self.drops[reason as usize].fetch_add(lines, Relaxed);
    }

    /// Returns how many lines were dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Relaxed)
    }

    /// Returns how many lines were dropped.
    pub fn dropped_in_all(&self) -> u64 {
        self.drops.iter().map(|drops| drops.load(Relaxed)).sum()
    }

    /// Counts a batch that is sent again.
    pub fn retry(&self, reason: RetryReason) {
        self.retries[reason as usize].fetch_add(1, Relaxed);
    }

    /// Returns how often a batch was sent again for a reason.
    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.retries[reason as usize].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{}", reason.name());
        }
        for (place, reason) in RetryReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{}", reason.name());
        }
    }
}
