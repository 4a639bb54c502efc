//! The proxy's own numbers. Every line that comes in is counted once as sent, per node, or as dropped, with the reason.
//!
//! Threads of the data path count in their own memory and add to these atomics once per burst.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Why a line did not reach a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Not `name:value|type` (dialect of go-statsd-proxy only).
    Malformed,
    /// A type other than `c`, `ms`, `g`, `h`, `s` while `strictTypes` is on.
    UnknownType,
    /// Longer than a UDP datagram can carry.
    Oversize,
    /// A stream ended within the line.
    Unterminated,
    /// No node is configured.
    NoNode,
    /// The node's name has never been resolved.
    Unresolved,
    /// The node's queue was full.
    QueueFull,
    /// The node's host answered that nothing listens there.
    Refused,
    /// The kernel did not take the datagram.
    SendFailed,
    /// Still queued when the drain deadline came.
    DrainDeadline,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::UnknownType,
        Self::Oversize,
        Self::Unterminated,
        Self::NoNode,
        Self::Unresolved,
        Self::QueueFull,
        Self::Refused,
        Self::SendFailed,
        Self::DrainDeadline,
    ];

    /// Returns the reason as metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownType => "unknown_type",
            Self::Oversize => "oversize",
            Self::Unterminated => "unterminated",
            Self::NoNode => "no_node",
            Self::Unresolved => "unresolved",
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::SendFailed => "send_failed",
            Self::DrainDeadline => "drain_deadline",
        }
    }
}

/// Lines dropped, by reason.
#[derive(Debug, Default)]
pub struct Drops([AtomicU64; DropReason::ALL.len()]);

impl Drops {
    /// Counts `lines` more.
    pub fn add(&self, reason: DropReason, lines: u64) {
        self.0[reason as usize].fetch_add(lines, Relaxed);
    }

    /// Returns the lines dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].load(Relaxed)
    }

    /// Returns the lines dropped for any reason.
    pub fn sum(&self) -> u64 {
        DropReason::ALL
            .into_iter()
            .map(|reason| self.get(reason))
            .sum()
    }

    fn merge(&self, other: &Self) {
        DropReason::ALL
            .into_iter()
            .for_each(|reason| self.add(reason, other.get(reason)));
    }
}

/// What has happened to the lines meant for one node, or for all nodes that are gone.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Lines handed to the kernel and not refused since.
    pub lines: AtomicU64,
    /// Datagrams, or writes to a TCP connection.
    pub packets: AtomicU64,
    /// Bytes of payload.
    pub bytes: AtomicU64,
    /// Lines that were lost on the way.
    pub drops: Drops,
}

impl Deliveries {
    fn merge(&self, other: &Self) {
        self.lines.fetch_add(other.lines.load(Relaxed), Relaxed);
        self.packets.fetch_add(other.packets.load(Relaxed), Relaxed);
        self.bytes.fetch_add(other.bytes.load(Relaxed), Relaxed);
        self.drops.merge(&other.drops);
    }
}

/// What has come in, over all inputs.
#[derive(Debug, Default)]
pub struct Totals {
    /// Datagrams, or blocks read from streams.
    pub packets: AtomicU64,
    /// Bytes of payload.
    pub bytes: AtomicU64,
    /// Pieces between line feeds, empty ones too: the `packets_received` of go-statsd-proxy's console.
    pub pieces: AtomicU64,
    /// Pieces that are not empty.
    pub lines: AtomicU64,
    /// Lines dropped before a node was chosen.
    pub drops: Drops,
    /// Datagrams that the kernel dropped because a receive buffer was full.
    pub kernel_drops: AtomicU64,
    /// Deliveries of nodes that have left the configuration.
    pub retired: Deliveries,
}

/// The deliveries of one node. When the last user of them goes, they are added to [`Totals::retired`], so that no count
/// is lost when a node leaves.
#[derive(Debug)]
pub struct NodeDeliveries {
    deliveries: Deliveries,
    totals: Arc<Totals>,
}

impl NodeDeliveries {
    /// Starts at zero.
    pub fn new(totals: Arc<Totals>) -> Self {
        Self {
            deliveries: Deliveries::default(),
            totals,
        }
    }
}

impl std::ops::Deref for NodeDeliveries {
    type Target = Deliveries;

    fn deref(&self) -> &Deliveries {
        &self.deliveries
    }
}

impl Drop for NodeDeliveries {
    fn drop(&mut self) {
        self.totals.retired.merge(&self.deliveries);
    }
}

/// What one thread has counted since it last added it to the [`Totals`].
#[derive(Debug, Default)]
pub struct Tally {
    /// See [`Totals::packets`].
    pub packets: u64,
    /// See [`Totals::bytes`].
    pub bytes: u64,
    /// See [`Totals::pieces`].
    pub pieces: u64,
    /// See [`Totals::lines`].
    pub lines: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl Tally {
    /// Counts one dropped line.
    pub fn drop_line(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// Adds everything to `totals` and starts again at zero.
    pub fn settle(&mut self, totals: &Totals) {
        let Self {
            packets,
            bytes,
            pieces,
            lines,
            drops,
        } = std::mem::take(self);
        totals.packets.fetch_add(packets, Relaxed);
        totals.bytes.fetch_add(bytes, Relaxed);
        totals.pieces.fetch_add(pieces, Relaxed);
        totals.lines.fetch_add(lines, Relaxed);
        for (reason, lines) in DropReason::ALL
            .into_iter()
            .zip(drops)
            .filter(|(_, lines)| *lines > 0)
        {
            totals.drops.add(reason, lines);
        }
    }
}
