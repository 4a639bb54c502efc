//! Lines to one TCP node: into its backlog, which the node's writer ([`super::tcp`]) empties.

use super::LANE_BYTES;
use crate::{counters::DropReason, node::Node};

/// One thread's lines for one queue, gathered so that its lock is taken once a burst.
#[derive(Debug, Default)]
pub(super) struct QueueLane {
    bytes: Vec<u8>,
    lines: u64,
}

impl QueueLane {
    pub(super) fn push(&mut self, line: &[u8], node: &Node) {
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        self.lines += 1;
        if self.bytes.len() >= LANE_BYTES {
            self.flush(node);
        }
    }

    pub(super) fn flush(&mut self, node: &Node) {
        let accepted = node
            .entrance
            .as_ref()
            .is_some_and(|entrance| entrance.backlog().push(&self.bytes));
        if !accepted {
            node.deliveries.drops.add(DropReason::QueueFull, self.lines);
        }
        self.bytes.clear();
        self.lines = 0;
    }
}
