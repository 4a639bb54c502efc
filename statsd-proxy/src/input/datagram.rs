//! Lines from a UDP or Unix datagram socket: one blocking thread per socket.
//!
//! A thread of its own costs less per packet than a reactor: one call when a packet comes, one more to learn that there
//! are no others.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixDatagram,
    },
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use memchr::memrchr;
use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, recv, recvmsg},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{BURST, IDLE_TICK, LAST_READS};
use crate::{
    counters::{DropReason, Totals},
    relay::Relay,
};

/// The longest datagram that is read whole.
const MAX_DATAGRAM: usize = 65_535;

/// A bound socket that lines come in by.
#[derive(Debug)]
pub(crate) enum DatagramSocket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl DatagramSocket {
    /// Returns where a UDP socket is bound.
    pub(crate) fn udp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.set_read_timeout(Some(limit)),
            Self::Unix(socket) => socket.set_read_timeout(Some(limit)),
        }
    }
}

impl AsRawFd for DatagramSocket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Udp(socket) => socket.as_raw_fd(),
            Self::Unix(socket) => socket.as_raw_fd(),
        }
    }
}

/// One socket, its thread's relay, and its buffer.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: DatagramSocket,
    relay: Relay,
    totals: Arc<Totals>,
    /// One byte more than is read, to recognise a datagram that was cut.
    buffer: Box<[u8]>,
    /// The kernel's count of this socket's drops when it was last seen.
    kernel_drops: u32,
}

/// Whether a read waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For a packet, up to the socket's time limit.
    Tick,
    /// Not at all.
    No,
}

impl Receiver {
    pub(crate) fn new(
        socket: DatagramSocket,
        relay: Relay,
        totals: Arc<Totals>,
    ) -> io::Result<Self> {
        socket.set_read_timeout(IDLE_TICK)?;
        Ok(Self {
            socket,
            relay,
            totals,
            buffer: vec![0; MAX_DATAGRAM + 1].into(),
            kernel_drops: 0,
        })
    }

    /// Relays until `stop`; then relays what the kernel still holds.
    pub(crate) fn run(mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.burst(Wait::Tick);
        }
        let deadline = Instant::now() + LAST_READS;
        while self.burst(Wait::No) > 0 && Instant::now() < deadline {}
        self.relay.idle();
    }

    /// Relays what is there, and returns how many packets it was.
    fn burst(&mut self, wait: Wait) -> usize {
        let Some(first) = self.receive_first(wait) else {
            self.relay.idle();
            return 0;
        };
        self.relay.begin();
        self.relay_packet(first);
        let mut packets = 1;
        while packets < BURST {
            let Some(length) = self.receive_next() else {
                break;
            };
            self.relay_packet(length);
            packets += 1;
        }
        self.relay.flush();
        packets
    }

    /// Reads the packet that starts a burst, and the kernel's drop counter with it.
    fn receive_first(&mut self, wait: Wait) -> Option<usize> {
        let mut control = cmsg_space!(u32);
        let flags = if wait == Wait::No {
            MsgFlags::MSG_DONTWAIT
        } else {
            MsgFlags::empty()
        };
        let mut slices = [IoSliceMut::new(&mut self.buffer)];
        let message = match recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            flags,
        ) {
            Ok(message) => message,
            Err(reason) => {
                pause_after(reason);
                return None;
            }
        };
        // Without room for control messages there is none to read, and the count comes with the next packet.
        for content in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::RxqOvfl(drops) = content {
                let new = drops.wrapping_sub(self.kernel_drops);
                self.totals.kernel_drops.fetch_add(u64::from(new), Relaxed);
                self.kernel_drops = drops;
            }
        }
        Some(message.bytes)
    }

    fn receive_next(&mut self) -> Option<usize> {
        match recv(
            self.socket.as_raw_fd(),
            &mut self.buffer,
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(length) => Some(length),
            Err(reason) => {
                pause_after(reason);
                None
            }
        }
    }

    fn relay_packet(&mut self, length: usize) {
        if length <= MAX_DATAGRAM {
            self.relay.datagram(&self.buffer[..length]);
            return;
        }
        // Only a Unix socket carries more. What was cut is the last line.
        let whole = memrchr(b'\n', &self.buffer).unwrap_or(0);
        self.relay.datagram(&self.buffer[..whole]);
        self.relay.drop_line(DropReason::Oversize);
    }
}

/// Nothing to read, or a signal, is no error; anything else is, and must not spin.
fn pause_after(reason: Errno) {
    match io::Error::from(reason).kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
        _ => {
            error!(%reason, "cannot read from the socket");
            thread::sleep(IDLE_TICK);
        }
    }
}

/// Asks for a receive buffer of `wanted` bytes and says so when the kernel grants less.
pub(super) fn enlarge_receive_buffer(
    socket: &socket2::Socket,
    wanted: usize,
    what: &str,
) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    // Only a privileged process may go beyond net.core.rmem_max.
    if setsockopt(socket, sockopt::RcvBufForce, &wanted).is_err() {
        socket.set_recv_buffer_size(wanted)?;
    }
    // The kernel doubles what it grants, to have room for its own bookkeeping.
    let granted = socket.recv_buffer_size()? / 2;
    if granted < wanted {
        warn!(
            wanted,
            granted, "the kernel grants {what} a smaller receive buffer; raise net.core.rmem_max"
        );
    }
    Ok(())
}
