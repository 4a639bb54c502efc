//! Lines as applications send them, and the senders.

use std::{
    collections::HashMap,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use statsd_proxy::placement::Placement;

use crate::{patience, scenario::Tally};

/// How many names there are.
pub(super) const NAMES: usize = 2_000;
/// One line in this many is no metric; a prime, so that it is not always the same names that go short.
const MALFORMED_EVERY: usize = 997;
/// Lines of a multi-line datagram.
const MANY: usize = 20;
/// Datagrams of one line between two of those.
const SINGLES: usize = 5;
/// Datagrams that may be under way: fewer than fill a receive buffer of the size that every Linux grants.
const WINDOW: usize = 120;
/// How many sockets the datagrams come from; the kernel spreads senders over the proxy's sockets.
const SENDERS: usize = 8;
/// When lines have not come for this long, they are lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// A line, and the text by which a ring is to place it.
#[derive(Debug)]
pub(super) struct Line {
    /// `None` for a line that is no metric, and is to be dropped.
    pub(super) key: Option<String>,
    /// Without a line feed.
    pub(super) text: String,
}

/// Makes lines of all kinds; no two are the same.
pub(super) fn lines(count: usize) -> Vec<Line> {
    (0..count).map(line).collect()
}

fn line(number: usize) -> Line {
    if number % MALFORMED_EVERY == MALFORMED_EVERY - 1 {
        let text = format!("not a metric, number {number}");
        return Line { key: None, text };
    }
    let name = name(number % NAMES);
    let text = match (number + number / NAMES) % 8 {
        0 => format!("{name}:{number}|c"),
        1 => format!("{name}:{number}|ms|@0.1"),
        2 => format!("{name}:{number}|g"),
        3 => format!("{name}:user{number}|s"),
        4 => format!("{name}:{number}|h"),
        // DogStatsD: packed values with tags, events, service checks.
        5 => format!("{name}:{number}:17:4|d|#region:north,zone:b"),
        6 => format!("_e{{{},8}}:{name}|deployed|#build:{number}", name.len()),
        _ => format!("_sc|{name}|0|#run:{number}"),
    };
    Line {
        key: Some(name),
        text,
    }
}

fn name(number: usize) -> String {
    const SERVICES: [&str; 5] = ["shop", "search", "billing", "mail", "login"];
    let service = SERVICES[number % SERVICES.len()];
    format!("{service}.node{}.call{}", number / 5 % 20, number / 100)
}

/// Returns what each node is to get, and how many deliveries that is in all.
pub(super) fn expect(lines: &[Line], placement: &Placement) -> (HashMap<String, Tally>, u64) {
    let mut expected: HashMap<String, Tally> = HashMap::new();
    let mut deliveries = 0;
    for line in lines {
        let Some(key) = &line.key else { continue };
        for node in placement.nodes(key.as_bytes()) {
            let tally = expected.entry(node.to_owned()).or_default();
            *tally.entry(line.text.clone().into_bytes()).or_default() += 1;
            deliveries += 1;
        }
    }
    (expected, deliveries)
}

/// Sends lines by UDP, some alone and some together, and never more than the loopback can hold: after each window of
/// datagrams it waits until the backends have their lines. Returns how many datagrams it was.
pub(super) fn send_datagrams(
    lines: &[Line],
    proxy: SocketAddr,
    copies: u64,
    mut arrived: impl FnMut() -> u64,
) -> anyhow::Result<u64> {
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(proxy)?;
        senders.push(socket);
    }
    let datagrams = datagrams(lines);
    let (mut wanted, mut lost) = (0, 0);
    for window in datagrams.chunks(WINDOW) {
        for (lines, sender) in window.iter().zip(senders.iter().cycle()) {
            let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            sender.send(texts.join("\n").as_bytes())?;
            wanted += lines.iter().filter(|line| line.key.is_some()).count() as u64 * copies;
        }
        // What is lost once is not waited for again.
        let seen = patience::until_count(wanted - lost, LOST_AFTER, &mut arrived);
        lost = wanted.saturating_sub(seen);
    }
    Ok(datagrams.len() as u64)
}

/// Sends lines over one TCP connection, with a pause after every few for the backends to read their datagrams.
pub(super) fn send_stream(
    lines: &[Line],
    proxy: SocketAddr,
    copies: u64,
    mut arrived: impl FnMut() -> u64,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(proxy)?;
    let (mut wanted, mut lost) = (arrived(), 0);
    for window in lines.chunks(WINDOW * MANY) {
        let block: String = window
            .iter()
            .flat_map(|line| [line.text.as_str(), "\n"])
            .collect();
        stream.write_all(block.as_bytes())?;
        wanted += window.iter().filter(|line| line.key.is_some()).count() as u64 * copies;
        let seen = patience::until_count(wanted - lost, LOST_AFTER, &mut arrived);
        lost = wanted.saturating_sub(seen);
    }
    Ok(())
}

/// Cuts lines into datagrams: a few of one line, one of many, and so on.
fn datagrams(mut lines: &[Line]) -> Vec<&[Line]> {
    let mut datagrams = Vec::new();
    while !lines.is_empty() {
        let place = datagrams.len() % (SINGLES + 1);
        let length = if place < SINGLES { 1 } else { MANY };
        let (datagram, rest) = lines.split_at(length.min(lines.len()));
        datagrams.push(datagram);
        lines = rest;
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn lines_are_distinct_and_their_names_are_as_many_as_promised() {
        let lines = lines(20_000);
        let texts: HashSet<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let keys: HashSet<&str> = lines
            .iter()
            .filter_map(|line| line.key.as_deref())
            .collect();
        assert_eq!(texts.len(), lines.len());
        assert_eq!(keys.len(), NAMES);
    }

    #[test]
    fn datagrams_hold_all_lines_in_order() {
        let lines = lines(1_003);
        let datagrams = datagrams(&lines);
        let texts = |lines: &[Line]| -> Vec<String> {
            lines.iter().map(|line| line.text.clone()).collect()
        };
        let sent: Vec<String> = datagrams.iter().flat_map(|lines| texts(lines)).collect();
        assert_eq!(sent, texts(&lines));
        assert_eq!((datagrams[0].len(), datagrams[SINGLES].len()), (1, MANY));
    }
}
