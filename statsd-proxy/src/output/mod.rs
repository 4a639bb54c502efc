//! The way out: one [`Lane`] per node in each thread of the data path.
//!
//! A lane packs lines that leave for the same node and hands them to the kernel ([`udp`]) or to the node's queue
//! ([`backlog`], which [`tcp`] writes to the connection). Lanes are flushed when their thread has nothing left to read, so
//! packing never adds delay.

pub mod backlog;
pub(crate) mod tcp;
mod udp;

use std::{net::SocketAddr, sync::Arc};

use self::udp::UdpLane;
use crate::{config::Packing, counters::DropReason, node::Node};

/// Bytes that a lane of a TCP node gathers before it takes the queue's lock.
const TCP_CHUNK: usize = 16 * 1_024;

/// One thread's way to one node.
#[derive(Debug)]
pub(crate) struct Lane {
    node: Arc<Node>,
    address: Option<SocketAddr>,
    buffer: Vec<u8>,
    lines: u64,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// By datagram.
    Udp(UdpLane),
    /// By the node's queue.
    Queue,
    /// There is no way; every line is dropped.
    Closed(DropReason),
}

/// What a pushed line asks of its pusher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Nothing: it has left, or waits with others.
    Done,
    /// To flush the lane at the end of the burst: it is the first that waits.
    Waiting,
}

impl Lane {
    /// Opens a lane to `node` at `address`, which only UDP needs.
    pub(crate) fn open(node: Arc<Node>, address: Option<SocketAddr>) -> Self {
        let way = match (&node.entrance, address) {
            (Some(_), _) => Way::Queue,
            (None, None) => Way::Closed(DropReason::Unresolved),
            (None, Some(address)) => match UdpLane::open(address) {
                Ok(lane) => Way::Udp(lane),
                Err(reason) => {
                    tracing::error!(node = node.label(), %reason, "cannot open a socket to the node");
                    Way::Closed(DropReason::SendFailed)
                }
            },
        };
        Self {
            node,
            address,
            buffer: Vec::new(),
            lines: 0,
            way,
        }
    }

    /// Returns whether this lane leads to `node` at `address`.
    pub(crate) fn leads_to(&self, node: &Arc<Node>, address: Option<SocketAddr>) -> bool {
        Arc::ptr_eq(&self.node, node) && self.address == address
    }

    /// Takes a line, which may leave at once or with the next [`Lane::flush`].
    #[inline]
    pub(crate) fn push(&mut self, line: &[u8], packing: Packing) -> Pushed {
        let waited = !self.buffer.is_empty();
        match (&mut self.way, packing) {
            (Way::Udp(lane), Packing::Single) => lane.send(line, 1, &self.node),
            (Way::Udp(_), Packing::Together(limit)) => self.pack(line, limit),
            (Way::Queue, _) => self.enqueue(line),
            (Way::Closed(reason), _) => self.node.deliveries.drops.add(*reason, 1),
        }
        if waited || self.buffer.is_empty() {
            Pushed::Done
        } else {
            Pushed::Waiting
        }
    }

    /// Lets everything leave that has been pushed.
    pub(crate) fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        match &mut self.way {
            Way::Udp(lane) => lane.send(&self.buffer, self.lines, &self.node),
            Way::Queue => {
                let accepted = self
                    .node
                    .entrance
                    .as_ref()
                    .is_some_and(|entrance| entrance.backlog().push(&self.buffer));
                if !accepted {
                    self.node
                        .deliveries
                        .drops
                        .add(DropReason::QueueFull, self.lines);
                }
            }
            Way::Closed(reason) => self.node.deliveries.drops.add(*reason, self.lines),
        }
        self.buffer.clear();
        self.lines = 0;
    }

    /// Settles the count of what was sent last: the kernel tells of a refused datagram only afterwards.
    pub(crate) fn settle(&mut self) {
        if let Way::Udp(lane) = &mut self.way {
            lane.settle(&self.node);
        }
    }

    fn enqueue(&mut self, line: &[u8]) {
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        self.lines += 1;
        if self.buffer.len() >= TCP_CHUNK {
            self.flush();
        }
    }

    /// Appends a line to the datagram under construction, or starts a new one.
    fn pack(&mut self, line: &[u8], limit: usize) {
        if !self.buffer.is_empty() {
            if self.buffer.len() + 1 + line.len() > limit {
                self.flush();
            } else {
                self.buffer.push(b'\n');
            }
        }
        self.buffer.extend_from_slice(line);
        self.lines += 1;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.flush();
        self.settle();
    }
}
