//! Ten million random and mutated datagrams through the data path: nothing panics, nothing grows, every line is accounted for.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

use std::{
    net::UdpSocket,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use arc_swap::ArcSwap;
use statsd_proxy::{
    config::{NodeConfig, Packing, Protocol, RingKind, Spread},
    counters::Totals,
    line::{Grammar, Types},
    memory::resident_bytes,
    node::Node,
    relay::{Relay, SharedRouting},
    routing::{Destination, Route, Routing},
};

const DATAGRAMS: u64 = 10_000_000;
const THREADS: u64 = 2;
/// What the process may grow by between the first tenth of the datagrams and the end.
const MAX_GROWTH: u64 = 8 << 20;

/// Lines to start from: what clients send, and what breaks the originals.
const SEEDS: [&[u8]; 22] = [
    b"gorets:1|c",
    b"glork:320|ms|@0.1",
    b"gaugor:-10|g",
    b"uniques:765|s",
    b"a:1|c\nb:2|c\nc:3|ms\n",
    b"page.views:1:2:32|d|#env:dev,x:y|c:83c0a99c|T1656581400",
    b"_e{5,4}:title|text|t:warning",
    b"_e{18446744073709551615,1}:t|x",
    b"_e{,}:",
    b"_sc|Redis connection|2|#env:dev|m:timed out",
    b"_sc|",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"constructor:1|c",
    b"__proto__:1|c\n__proto__:1|c",
    b"disk.100%:1|c",
    b":|",
    b"::::||||",
    b"\r\n\r\n",
    b"\0\xff\xfe\x80\n:\x80|\xff",
    b"m\xc3\xa9trique:1|c\ncaf\xe9:1|c",
    b"",
    b"\n",
];

#[test]
fn ten_million_hostile_datagrams_cost_nothing_but_time() {
    for grammar in [
        Grammar::GoStatsdProxy(Types::Any),
        Grammar::GoStatsdProxy(Types::Known),
        Grammar::Statsd,
    ] {
        flood(grammar, DATAGRAMS / 3 + 1);
    }
}

fn flood(grammar: Grammar, datagrams: u64) {
    // A socket that nobody reads: the kernel drops what does not fit, so sending is real and costs no memory of ours.
    let unread = UdpSocket::bind("127.0.0.1:0").unwrap();
    let totals = Arc::<Totals>::default();
    let routing = routing(grammar, &unread, &totals);
    let settled = Arc::new(Mutex::new(0));
    let expected = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (routing, totals) = (Arc::clone(&routing), Arc::clone(&totals));
            let (settled, expected) = (Arc::clone(&settled), Arc::clone(&expected));
            thread::spawn(move || {
                let mut relay = Relay::new(routing, totals);
                let mut random = fastrand::Rng::with_seed(thread);
                let mut datagram = Vec::new();
                for number in 0..datagrams / THREADS {
                    if number % 64 == 0 {
                        relay.flush();
                        relay.begin();
                    }
                    generate(&mut random, &mut datagram);
                    relay.datagram(&datagram);
                    expected.fetch_add(
                        datagram.iter().filter(|byte| **byte == b'\n').count() as u64 + 1,
                        Relaxed,
                    );
                    if number == datagrams / THREADS / 10 {
                        let mut settled = settled.lock().unwrap();
                        *settled = u64::max(*settled, resident_bytes().unwrap());
                    }
                }
                relay.idle();
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let (before, after) = (*settled.lock().unwrap(), resident_bytes().unwrap());
    assert!(
        after < before + MAX_GROWTH,
        "grew from {before} to {after} bytes"
    );

    drop(routing);
    let lines = totals.lines.load(Relaxed);
    let accounted =
        totals.drops.sum() + totals.retired.lines.load(Relaxed) + totals.retired.drops.sum();
    assert_eq!(accounted, lines, "every line is sent or dropped, once");
    assert_eq!(totals.pieces.load(Relaxed), expected.load(Relaxed));
    println!(
        "{grammar:?}: {datagrams} datagrams, {lines} lines, {} KiB more memory",
        after.saturating_sub(before) / 1024
    );
}

/// One node by UDP, one by a queue that is always full, one that was never resolved.
fn routing(grammar: Grammar, unread: &UdpSocket, totals: &Arc<Totals>) -> SharedRouting {
    let address = unread.local_addr().unwrap();
    let destination = |label: &str, protocol, address| {
        let config = NodeConfig {
            label: label.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 1,
            protocol,
            management_port: None,
        };
        let (node, _backlog) = Node::new(config, 0, Arc::clone(totals));
        Destination {
            node: Arc::new(node),
            address,
            live: true,
        }
    };
    let destinations = vec![
        destination("a:1", Protocol::Udp, Some(address)),
        destination("b:1", Protocol::Tcp, None),
        destination("c:1", Protocol::Udp, None),
    ];
    let group = Route::new(
        "nodes".to_owned(),
        Spread::Hash(RingKind::Statsd),
        &[0, 1, 2],
        &destinations,
    );
    let routing = Routing {
        grammar,
        packing: Packing::Together(1_432),
        destinations,
        groups: vec![group],
    };
    Arc::new(ArcSwap::from_pointee(routing))
}

/// A seed with a few bytes changed, put in, or taken out; two seeds together; or noise. Seldom something huge.
fn generate(random: &mut fastrand::Rng, datagram: &mut Vec<u8>) {
    datagram.clear();
    if random.u16(..) == 0 {
        datagram.resize(random.usize(..65_507), b'x');
    } else if random.u8(..) < 16 {
        datagram.resize(random.usize(..200), 0);
        random.fill(datagram);
    } else {
        datagram.extend_from_slice(SEEDS[random.usize(..SEEDS.len())]);
        if random.bool() {
            datagram.push(b'\n');
            datagram.extend_from_slice(SEEDS[random.usize(..SEEDS.len())]);
        }
    }
    for _ in 0..random.usize(..4) {
        let at = random.usize(..=datagram.len());
        match random.u8(..4) {
            0 if at < datagram.len() => datagram[at] = b":|\n\r_{},@#0"[random.usize(..11)],
            1 if at < datagram.len() => datagram[at] = random.u8(..),
            2 if at < datagram.len() => drop(datagram.remove(at)),
            _ => datagram.insert(at, b":|\n_e{sc"[random.usize(..8)]),
        }
    }
}
