//! Datagrams to one node, over a connected socket, so that the kernel tells when nothing listens there.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use shared::logging::Throttle;
use tracing::warn;

use crate::{counters::DropReason, node::Node};

/// The largest payload of a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;
/// How long the kernel may take to find room for a datagram.
const SEND_LIMIT: Duration = Duration::from_millis(100);

static SEND_FAILURES: Throttle = Throttle::new(Duration::from_secs(10));

#[derive(Debug)]
pub(super) struct UdpLane {
    socket: UdpSocket,
    /// The last datagram that the kernel took. It counts as sent once the kernel has had a chance to say that it was
    /// refused, which is at the next call.
    last: Sent,
}

#[derive(Debug, Default)]
struct Sent {
    lines: u64,
    packets: u64,
    bytes: u64,
}

impl UdpLane {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Self {
            socket,
            last: Sent::default(),
        })
    }

    /// Sends one datagram of `lines` lines and counts what became of the one before.
    ///
    /// A refusal of that one is reported instead of sending this one, so this one is tried once more.
    #[inline]
    pub(super) fn send(&mut self, datagram: &[u8], lines: u64, node: &Node) {
        let mut sent = self.socket.send(datagram);
        if matches!(&sent, Err(reason) if reason.kind() == ErrorKind::ConnectionRefused) {
            self.count_last_as_refused(node);
            sent = self.socket.send(datagram);
        }
        match sent {
            Ok(_) => {
                self.count_last_as_sent(node);
                self.last = Sent {
                    lines,
                    packets: 1,
                    bytes: datagram.len() as u64,
                };
            }
            Err(reason) => {
                let drop = if datagram.len() > MAX_DATAGRAM {
                    DropReason::Oversize
                } else {
                    DropReason::SendFailed
                };
                node.deliveries.drops.add(drop, lines);
                if let Some(suppressed) = SEND_FAILURES.admit() {
                    warn!(node = node.label(), %reason, bytes = datagram.len(), suppressed, "cannot send to the node");
                }
            }
        }
    }

    pub(super) fn settle(&mut self, node: &Node) {
        match self.socket.take_error() {
            Ok(Some(reason)) if reason.kind() == ErrorKind::ConnectionRefused => {
                self.count_last_as_refused(node)
            }
            _ => self.count_last_as_sent(node),
        }
    }

    fn count_last_as_sent(&mut self, node: &Node) {
        let Sent {
            lines,
            packets,
            bytes,
        } = std::mem::take(&mut self.last);
        if packets > 0 {
            node.deliveries.lines.fetch_add(lines, Relaxed);
            node.deliveries.packets.fetch_add(packets, Relaxed);
            node.deliveries.bytes.fetch_add(bytes, Relaxed);
        }
    }

    fn count_last_as_refused(&mut self, node: &Node) {
        let Sent { lines, .. } = std::mem::take(&mut self.last);
        node.deliveries.drops.add(DropReason::Refused, lines);
    }
}
