//! The way out: one [`Lane`] per node in each thread of the data path.
//!
//! A lane gathers what leaves for its node during a burst, packed as configured, and hands it to the kernel ([`udp`]) or to
//! the node's queue ([`queue`], which [`tcp`] writes to the connection) when the burst ends. A burst ends when nothing is
//! left to read, so gathering adds no delay; and the receiver is woken once, not once a line, which is the dearest part of
//! sending.

pub mod queue;
pub(crate) mod tcp;
mod udp;

use std::{net::SocketAddr, sync::Arc};

use self::{queue::QueueLane, udp::UdpLane};
use crate::{config::Packing, counters::DropReason, node::Node};

/// Bytes that a lane gathers before it lets them leave within a burst.
const LANE_BYTES: usize = 32 * 1_024;

/// One thread's way to one node.
#[derive(Debug)]
pub(crate) struct Lane {
    node: Arc<Node>,
    address: Option<SocketAddr>,
    way: Way,
    /// Whether lines have been pushed since the last flush.
    waiting: bool,
}

#[derive(Debug)]
enum Way {
    /// By datagrams.
    Udp(UdpLane),
    /// By the node's queue.
    Queue(QueueLane),
    /// There is no way; every line is dropped.
    Closed(DropReason),
}

/// What a pushed line asks of its pusher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Nothing: others have been pushed before it.
    Done,
    /// To flush the lane at the end of the burst: it is the first.
    First,
}

impl Lane {
    /// Opens a lane to `node` at `address`, which only UDP needs.
    pub(crate) fn open(node: Arc<Node>, address: Option<SocketAddr>) -> Self {
        let way = match (&node.entrance, address) {
            (Some(_), _) => Way::Queue(QueueLane::default()),
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
            way,
            waiting: false,
        }
    }

    /// Returns whether this lane leads to `node` at `address`.
    pub(crate) fn leads_to(&self, node: &Arc<Node>, address: Option<SocketAddr>) -> bool {
        Arc::ptr_eq(&self.node, node) && self.address == address
    }

    /// Takes a line, which leaves with the next [`Lane::flush`] or before.
    #[inline]
    pub(crate) fn push(&mut self, line: &[u8], packing: Packing) -> Pushed {
        match &mut self.way {
            Way::Udp(lane) => lane.push(line, packing, &self.node),
            Way::Queue(lane) => lane.push(line, &self.node),
            Way::Closed(reason) => self.node.deliveries.drops.add(*reason, 1),
        }
        if std::mem::replace(&mut self.waiting, true) {
            Pushed::Done
        } else {
            Pushed::First
        }
    }

    /// Lets everything leave that has been pushed.
    pub(crate) fn flush(&mut self) {
        self.waiting = false;
        match &mut self.way {
            Way::Udp(lane) => lane.flush(&self.node),
            Way::Queue(lane) => lane.flush(&self.node),
            Way::Closed(_) => {}
        }
    }

    /// Settles the count of what was sent last: the kernel tells of a refused datagram only afterwards.
    pub(crate) fn settle(&mut self) {
        if let Way::Udp(lane) = &mut self.way {
            lane.settle(&self.node);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.flush();
        self.settle();
    }
}
