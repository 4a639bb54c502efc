//! The way in. Datagram sockets ([`datagram`]) have a thread and a relay each; streams ([`stream`]) are read by tasks that
//! hand whole lines to one thread with one relay, so that everything that routes runs on threads of its own.

pub(crate) mod datagram;
pub(crate) mod listen;
pub(crate) mod stream;

use std::time::Duration;

/// How often an idle thread looks for a stop request and a new routing.
const IDLE_TICK: Duration = Duration::from_millis(100);

/// Packets read before everything is flushed, so that a stream of packets without end cannot hold back a line of a node
/// that is seldom written to.
const BURST: usize = 256;

/// After a stop request, how long an input is read on. Enough for everything that the kernel holds at that time; a sender
/// that never pauses must not hold the process.
const LAST_READS: Duration = Duration::from_secs(1);
