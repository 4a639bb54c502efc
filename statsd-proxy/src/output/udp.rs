//! Datagrams to one node, over a connected socket, so that the kernel tells when nothing listens there.

use std::{
    io::{self, ErrorKind, IoSlice},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use shared::logging::Throttle;
use tracing::warn;

use super::LANE_BYTES;
use crate::{config::Packing, counters::DropReason, node::Node};

/// The largest payload of a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;
/// How long the kernel may take to find room for a datagram.
const SEND_LIMIT: Duration = Duration::from_millis(100);
/// Datagrams handed to the kernel in one call.
const BATCH: usize = 64;

static SEND_FAILURES: Throttle = Throttle::new(Duration::from_secs(10));

#[derive(Debug)]
pub(super) struct UdpLane {
    socket: UdpSocket,
    /// The datagrams that wait, one behind the other.
    bytes: Vec<u8>,
    waiting: Vec<Datagram>,
    /// The last datagram that the kernel took. It counts as sent once the kernel has had a chance to say that it was
    /// refused, which is when the next one is sent.
    last: Option<Datagram>,
}

/// A datagram of [`UdpLane::bytes`].
#[derive(Debug, Clone, Copy)]
struct Datagram {
    start: usize,
    end: usize,
    lines: u64,
}

impl Datagram {
    fn length(self) -> usize {
        self.end - self.start
    }
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
            bytes: Vec::new(),
            waiting: Vec::new(),
            last: None,
        })
    }

    /// Puts a line into the datagram under construction if it fits there, else into a new one.
    #[inline]
    pub(super) fn push(&mut self, line: &[u8], packing: Packing, node: &Node) {
        if let (Packing::Together(limit), Some(open)) = (packing, self.waiting.last_mut())
            && open.length() + 1 + line.len() <= limit
        {
            self.bytes.push(b'\n');
            self.bytes.extend_from_slice(line);
            open.end = self.bytes.len();
            open.lines += 1;
            return;
        }
        if self.bytes.len() + line.len() > LANE_BYTES {
            self.flush(node);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line);
        self.waiting.push(Datagram {
            start,
            end: self.bytes.len(),
            lines: 1,
        });
    }

    /// Sends all datagrams that wait.
    ///
    /// The kernel reports the refusal of one datagram in place of sending the next. When that is the first of a batch, the
    /// call fails; when it is a later one, the call stops there and the report is lost. It is recognised by the next call:
    /// any other failure would meet it too.
    pub(super) fn flush(&mut self, node: &Node) {
        let mut next = 0;
        let mut stopped_short = false;
        while next < self.waiting.len() {
            let batch = &self.waiting[next..self.waiting.len().min(next + BATCH)];
            match send(&self.socket, &self.bytes, batch) {
                Ok(taken) => {
                    if stopped_short {
                        count_refused(self.last.take(), node);
                    }
                    stopped_short = taken < batch.len();
                    for datagram in &batch[..taken] {
                        count_sent(self.last.replace(*datagram), node);
                    }
                    next += taken;
                }
                Err(reason)
                    if reason.kind() == ErrorKind::ConnectionRefused && self.last.is_some() =>
                {
                    count_refused(self.last.take(), node);
                    stopped_short = false;
                }
                Err(reason) => {
                    stopped_short = false;
                    drop_datagram(batch[0], &reason, node);
                    next += 1;
                }
            }
        }
        self.waiting.clear();
        self.bytes.clear();
        // A single huge line must not keep its memory for ever.
        self.bytes.shrink_to(2 * LANE_BYTES);
    }

    pub(super) fn settle(&mut self, node: &Node) {
        match self.socket.take_error() {
            Ok(Some(reason)) if reason.kind() == ErrorKind::ConnectionRefused => {
                count_refused(self.last.take(), node)
            }
            _ => count_sent(self.last.take(), node),
        }
    }
}

/// Hands datagrams to the kernel and returns how many it took: one at least, or an error that the first one met.
fn send(socket: &UdpSocket, bytes: &[u8], batch: &[Datagram]) -> io::Result<usize> {
    let payload = |datagram: &Datagram| &bytes[datagram.start..datagram.end];
    if let [single] = batch {
        return socket.send(payload(single)).map(|_| 1);
    }
    let slices: Vec<[IoSlice<'_>; 1]> = batch
        .iter()
        .map(|datagram| [IoSlice::new(payload(datagram))])
        .collect();
    let mut controls: Vec<_> = batch
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut headers: Vec<_> = slices
        .iter()
        .zip(&mut controls)
        .map(|(slice, control)| MMsgHdr::new(slice, control))
        .collect();
    Ok(sendmmsg(socket, &mut headers, SendFlags::empty())?)
}

fn count_sent(datagram: Option<Datagram>, node: &Node) {
    if let Some(datagram) = datagram {
        node.deliveries.lines.fetch_add(datagram.lines, Relaxed);
        node.deliveries.packets.fetch_add(1, Relaxed);
        node.deliveries
            .bytes
            .fetch_add(datagram.length() as u64, Relaxed);
    }
}

fn count_refused(datagram: Option<Datagram>, node: &Node) {
    node.deliveries.drops.add(
        DropReason::Refused,
        datagram.map_or(0, |datagram| datagram.lines),
    );
}

fn drop_datagram(datagram: Datagram, reason: &io::Error, node: &Node) {
    let drop = if datagram.length() > MAX_DATAGRAM {
        DropReason::Oversize
    } else {
        DropReason::SendFailed
    };
    node.deliveries.drops.add(drop, datagram.lines);
    if let Some(suppressed) = SEND_FAILURES.admit() {
        warn!(node = node.label(), %reason, bytes = datagram.length(), suppressed, "cannot send to the node");
    }
}
