//! A StatsD server as the demo needs it: it keeps its mail and says that it is well.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use shared::testing::wire::{self, TcpPeer, UdpPeer};

use crate::scenario::{Row, Tally};

/// What statsd answers to `health` on its management port.
const HEALTHY: &[u8] = b"health: up\n";

/// A backend on loopback.
#[derive(Debug)]
pub(super) struct Backend {
    label: String,
    port: u16,
    inbox: Inbox,
    /// Answers health checks; backends without one are never checked.
    management: Option<TcpPeer>,
    /// What came by datagrams.
    tally: Tally,
    /// How many lines that were.
    count: u64,
}

#[derive(Debug)]
enum Inbox {
    Udp(UdpPeer),
    Tcp(TcpPeer),
    /// It has been killed.
    Closed,
}

impl Backend {
    /// Takes lines by UDP and answers health checks.
    pub(super) fn checked() -> Self {
        let anywhere = (Ipv4Addr::LOCALHOST, 0).into();
        let mut backend = Self::udp();
        backend.management = Some(TcpPeer::answering(anywhere, Some(HEALTHY)));
        backend
    }

    /// Takes lines by UDP.
    pub(super) fn udp() -> Self {
        let peer = UdpPeer::bind();
        Self::new(peer.port(), Inbox::Udp(peer))
    }

    /// Takes lines by TCP.
    pub(super) fn tcp() -> Self {
        let peer = TcpPeer::bind();
        Self::new(peer.port(), Inbox::Tcp(peer))
    }

    fn new(port: u16, inbox: Inbox) -> Self {
        Self {
            label: format!("127.0.0.1:{port}"),
            port,
            inbox,
            management: None,
            tally: Tally::new(),
            count: 0,
        }
    }

    /// Returns what it is called in rings and metrics.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Returns how lines reach it.
    pub(super) fn how(&self) -> &'static str {
        match self.inbox {
            Inbox::Udp(_) => "udp",
            Inbox::Tcp(_) => "tcp",
            Inbox::Closed => "killed",
        }
    }

    /// Returns its entry for the `nodes` of a configuration file.
    pub(super) fn node(&self) -> Value {
        let management = self.management.as_ref().map_or(0, TcpPeer::port);
        let protocol = if matches!(self.inbox, Inbox::Tcp(_)) {
            "tcp"
        } else {
            "udp"
        };
        json!({"host": "127.0.0.1", "port": self.port, "managementport": management, "protocol": protocol})
    }

    /// Returns whether anybody has asked how it is.
    pub(super) fn was_asked(&self) -> bool {
        self.management
            .as_ref()
            .is_some_and(|peer| peer.received().iter().any(|question| !question.is_empty()))
    }

    /// Closes all its ports, as the end of its process would.
    pub(super) fn kill(&mut self) {
        self.inbox = Inbox::Closed;
        self.management = None;
    }

    /// Opens its mail, and returns how many lines there have been since it last forgot.
    pub(super) fn arrived(&mut self) -> u64 {
        match &self.inbox {
            Inbox::Udp(peer) => {
                for datagram in peer.take() {
                    self.count += count_lines(&mut self.tally, &datagram);
                }
                self.count
            }
            Inbox::Tcp(peer) => peer.line_count() as u64,
            Inbox::Closed => self.count,
        }
    }

    /// Forgets all lines that came by UDP. Those that came by TCP are kept.
    pub(super) fn forget(&mut self) {
        self.tally.clear();
        self.count = 0;
    }

    /// Compares its mail with what should be there.
    pub(super) fn compare(&mut self, expected: &Tally) -> Row {
        self.arrived();
        let stream_tally;
        let mail = if let Inbox::Tcp(peer) = &self.inbox {
            stream_tally = tally_of_streams(&peer.received());
            &stream_tally
        } else {
            &self.tally
        };
        Row::compare(format!("{} {}", self.label, self.how()), expected, mail)
    }
}

fn tally_of_streams(streams: &[Vec<u8>]) -> Tally {
    let mut tally = Tally::new();
    for stream in streams {
        // Without its line feed a line has not arrived.
        let end = stream.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        count_lines(&mut tally, &stream[..end]);
    }
    tally
}

fn count_lines(tally: &mut Tally, bytes: &[u8]) -> u64 {
    let mut count = 0;
    for line in wire::lines(bytes) {
        *tally.entry(line.to_vec()).or_default() += 1;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[u8]) -> Tally {
        let mut tally = Tally::new();
        count_lines(&mut tally, lines);
        tally
    }

    #[test]
    fn a_line_in_the_place_of_another_is_both_lost_and_astray() {
        let mut backend = Backend::udp();
        backend.tally = tally(b"a:1|c\nb:1|c\nb:1|c\n");
        let mut f = |expected: &[u8], lost: u64, astray: u64| {
            let row = backend.compare(&tally(expected));
            assert_eq!((row.lost, row.astray), (lost, astray), "{expected:?}");
        };
        f(b"b:1|c\na:1|c\nb:1|c", 0, 0);
        // As many lines, but not the same ones.
        f(b"a:1|c\nc:1|c\nb:1|c", 1, 1);
        f(b"a:1|c", 0, 2);
        f(b"a:1|c\nb:1|c\nb:1|c\nd:1|c", 1, 0);
    }
}
