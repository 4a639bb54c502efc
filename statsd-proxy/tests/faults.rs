//! Nodes that die, come back, say nothing, refuse, or lose their names, while lines keep coming: lines of other nodes are
//! untouched, lines of the lost node move, and every line that is lost is counted.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use shared::testing::{
    eventually,
    wire::{TcpPeer, UdpPeer, free_tcp_port, free_udp_port, lines},
};
use statsd_proxy::{app::App, config, placement::Placement, resolve::Resolver};
use support::{Dialect, Proxy, node, wait_for_lines};

const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// A backend with a management port that says `health: up`.
struct Backend {
    lines: UdpPeer,
    admin: TcpPeer,
}

impl Backend {
    fn start() -> Self {
        Self::start_at(0, 0)
    }

    fn start_at(port: u16, admin: u16) -> Self {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            lines: UdpPeer::bind_to(at(port)),
            admin: TcpPeer::answering(at(admin), Some(b"health: up\n")),
        }
    }

    fn config(&self) -> Value {
        json!({"host": "127.0.0.1", "port": self.lines.port(), "managementport": self.admin.port()})
    }

    fn label(&self) -> String {
        self.lines.address().to_string()
    }
}

/// Sends `name.N:SEQUENCE|c` again and again until it is stopped; can be held between two lines.
struct Load {
    sent: Arc<Mutex<Sent>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Sent {
    lines: Vec<String>,
    stop: bool,
}

impl Load {
    fn start(to: SocketAddr) -> Self {
        let sent = Arc::new(Mutex::new(Sent::default()));
        let shared = Arc::clone(&sent);
        let thread = thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            loop {
                for _ in 0..10 {
                    let mut sent = shared.lock().unwrap();
                    if sent.stop {
                        return;
                    }
                    let line = format!("name.{}:{}|c", sent.lines.len() % 101, sent.lines.len());
                    socket.send_to(line.as_bytes(), to).unwrap();
                    sent.lines.push(line);
                }
                // About 5,000 lines a second, which no buffer on the way has to drop.
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            sent,
            thread: Some(thread),
        }
    }

    fn count(&self) -> usize {
        self.sent.lock().unwrap().lines.len()
    }

    /// Waits until that many more lines have been sent.
    fn wait_for(&self, more: usize) {
        let goal = self.count() + more;
        eventually("the load", || (self.count() >= goal).then_some(()));
    }

    fn stop(mut self) -> Vec<String> {
        self.sent.lock().unwrap().stop = true;
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut self.sent.lock().unwrap().lines)
    }
}

fn name_of(line: &str) -> &str {
    line.split(':').next().unwrap()
}

/// Where each line arrived, by port; a line that arrived twice is there twice.
fn arrivals<'a>(
    datagrams: impl IntoIterator<Item = (u16, &'a Vec<Vec<u8>>)>,
) -> HashMap<String, Vec<u16>> {
    let mut arrived: HashMap<String, Vec<u16>> = HashMap::new();
    for (port, datagrams) in datagrams {
        for line in datagrams.iter().flat_map(|datagram| lines(datagram)) {
            arrived
                .entry(String::from_utf8(line.to_vec()).unwrap())
                .or_default()
                .push(port);
        }
    }
    arrived
}

#[test]
fn a_killed_backend_takes_no_line_of_another_and_every_lost_line_is_counted() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let config = json!({
        "nodes": backends.iter().map(Backend::config).collect::<Vec<_>>(),
        "checkInterval": CHECK_INTERVAL.as_millis() as u64,
        "metricsAddress": "127.0.0.1:0",
    });
    let text = config.to_string();
    let full = Placement::new(
        &config::parse(&text, config::Dialect::GoStatsdProxy, None)
            .unwrap()
            .config,
    );
    let mut proxy = Proxy::start(Dialect::Go, config);
    let load = Load::start(proxy.address("udp"));
    load.wait_for(1_000);

    let [first, victim, third] = backends;
    let (victim_label, victim_port, victim_admin) =
        (victim.label(), victim.lines.port(), victim.admin.port());
    // What a backend has in its socket when it dies is its own loss, so it dies with an empty one.
    let held = load.sent.lock().unwrap();
    let sent_before = held.lines.len();
    wait_for_lines(&[&first.lines, &victim.lines, &third.lines], sent_before);
    let before = victim.lines.datagrams();
    drop(victim);
    drop(held);
    let killed = Instant::now();
    let up = format!("statsd_proxy_node_up{{node=\"{victim_label}\"}}");
    eventually("the proxy to notice", || {
        (proxy.metrics().value(&up) == 0.0).then_some(())
    });
    let noticed = killed.elapsed();
    load.wait_for(1_000);
    let revived = Backend::start_at(victim_port, victim_admin);
    eventually("the proxy to notice", || {
        (proxy.metrics().value(&up) == 1.0).then_some(())
    });
    load.wait_for(1_000);
    let sent = load.stop();

    let count = |peers: &[&UdpPeer]| peers.iter().map(|peer| peer.line_count()).sum::<usize>();
    let lost_by_metrics = || proxy.metrics().sum("statsd_proxy_node_lines_dropped_total") as usize;
    let before_count: usize = before.iter().map(|datagram| lines(datagram).count()).sum();
    eventually("all lines to arrive or be counted", || {
        let arrived = before_count + count(&[&first.lines, &revived.lines, &third.lines]);
        (arrived + lost_by_metrics() == sent.len()).then_some(())
    });
    let refused = proxy.metrics().value(&format!(
        "statsd_proxy_node_lines_dropped_total{{node=\"{victim_label}\",reason=\"refused\"}}"
    )) as usize;
    let (status, summary) = proxy.finish();
    assert!(status.success());
    assert_eq!(summary.received, sent.len());
    assert_eq!(summary.received, summary.sent + summary.dropped);
    assert_eq!(summary.dropped, refused, "only refused lines are lost");

    let victim_lines = [before, revived.lines.datagrams()].concat();
    let arrived = arrivals([
        (first.lines.port(), &first.lines.datagrams()),
        (victim_port, &victim_lines),
        (third.lines.port(), &third.lines.datagrams()),
    ]);
    let mut moved = 0;
    for line in &sent {
        let owner = full.nodes(name_of(line).as_bytes())[0].to_owned();
        let at = arrived.get(line).map_or(&[][..], Vec::as_slice);
        assert!(at.len() <= 1, "{line} arrived twice");
        if owner == victim_label {
            moved += usize::from(at.iter().any(|port| *port != victim_port));
        } else {
            assert!(
                at.iter().any(|port| owner.ends_with(&format!(":{port}"))),
                "{line} of {owner} arrived at {at:?}"
            );
        }
    }
    assert!(moved > 0, "no line of the killed backend moved");
    println!(
        "{} lines: {moved} moved, {} lost and counted; noticed {noticed:?} after the kill (interval {CHECK_INTERVAL:?})",
        sent.len(),
        summary.dropped
    );
    // One interval to the next check; the rest is for a busy machine.
    assert!(noticed < CHECK_INTERVAL + Duration::from_secs(5));
}

#[test]
fn a_silent_management_port_delays_no_line() {
    let well = Backend::start();
    let (silent_lines, silent_admin) = (UdpPeer::bind(), TcpPeer::bind());
    let config = json!({
        "nodes": [well.config(), {"host": "127.0.0.1", "port": silent_lines.port(), "managementport": silent_admin.port()}],
        "checkInterval": CHECK_INTERVAL.as_millis() as u64,
        "metricsAddress": "127.0.0.1:0",
    });
    let mut proxy = Proxy::start(Dialect::Go, config);
    let load = Load::start(proxy.address("udp"));
    let up = format!(
        "statsd_proxy_node_up{{node=\"{}\"}}",
        silent_lines.address()
    );
    eventually("the silent node to go down", || {
        (proxy.metrics().value(&up) == 0.0).then_some(())
    });
    load.wait_for(500);
    let sent = load.stop();
    wait_for_lines(&[&well.lines, &silent_lines], sent.len());
    let (_, summary) = proxy.finish();
    assert_eq!(
        (summary.received, summary.sent, summary.dropped),
        (sent.len(), sent.len(), 0)
    );
}

#[test]
fn a_node_that_refuses_loses_its_own_lines_and_they_are_counted() {
    let peers = [UdpPeer::bind(), UdpPeer::bind()];
    let mut nodes: Vec<Value> = peers.iter().map(node).collect();
    nodes.push(json!({"host": "127.0.0.1", "port": free_udp_port()}));
    let mut proxy = Proxy::start(Dialect::Go, json!({"nodes": nodes}));
    let load = Load::start(proxy.address("udp"));
    load.wait_for(2_000);
    let sent = load.stop();
    let arrived = || peers.iter().map(UdpPeer::line_count).sum::<usize>();
    // The kernel's word on the last datagram comes a moment later, and the end of the process waits for it.
    let (_, summary) = proxy.finish();
    eventually("the lines of the other nodes", || {
        (arrived() == summary.sent).then_some(())
    });
    assert_eq!(
        (summary.received, summary.sent + summary.dropped),
        (sent.len(), sent.len())
    );
    assert!(summary.dropped > 0 && summary.sent > 0, "{summary:?}");
    println!(
        "{} lines: {} arrived, {} refused and counted",
        sent.len(),
        summary.sent,
        summary.dropped
    );
}

#[test]
fn a_tcp_node_that_refuses_fills_its_queue_and_then_drops_the_newest() {
    let peer = UdpPeer::bind();
    let mut proxy = Proxy::start(
        Dialect::Go,
        json!({
            "nodes": [node(&peer), {"host": "127.0.0.1", "port": free_tcp_port(), "protocol": "tcp"}],
            "queueBytes": 4_096, "drainTimeout": "100ms", "metricsAddress": "127.0.0.1:0",
        }),
    );
    let load = Load::start(proxy.address("udp"));
    eventually("the queue to overflow", || {
        proxy
            .metrics()
            .0
            .contains("reason=\"queue_full\"")
            .then_some(())
    });
    assert!(proxy.metrics().sum("statsd_proxy_node_queue_bytes") <= 4_096.0);
    let sent = load.stop();
    let (_, summary) = proxy.finish();
    eventually("the lines of the other node", || {
        (peer.line_count() == summary.sent).then_some(())
    });
    assert_eq!(
        (summary.received, summary.sent + summary.dropped),
        (sent.len(), sent.len())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_stops_resolving_keeps_its_address_and_one_that_never_did_gets_no_share() {
    type Names = Arc<Mutex<HashMap<String, SocketAddr>>>;
    let peers = [UdpPeer::bind(), UdpPeer::bind()];
    let names: Names = Arc::new(Mutex::new(HashMap::from([(
        "a.test".to_owned(),
        peers[0].address(),
    )])));
    let looked_up = Arc::clone(&names);
    let resolver = Resolver::new(move |host, _port| {
        let found = looked_up.lock().unwrap().get(&host).copied();
        Box::pin(async move {
            found
                .map(|address| vec![address])
                .ok_or_else(|| std::io::ErrorKind::NotFound.into())
        })
    })
    .refreshing_every(Duration::from_millis(20));
    let text = json!({
        "host": "127.0.0.1", "port": 0, "managementport": 0,
        "nodes": [{"host": "a.test", "port": 1}, {"host": "b.test", "port": 1}],
    })
    .to_string();
    let config = config::parse(&text, config::Dialect::GoStatsdProxy, None)
        .unwrap()
        .config;
    let running = App::build(config, resolver)
        .await
        .unwrap()
        .start(None)
        .await
        .unwrap();
    let load = Load::start(running.addresses().udp.unwrap());

    // b.test has no address: its share goes to a.test.
    load.wait_for(300);
    let so_far = load.count();
    wait_for_lines(&[&peers[0]], so_far);
    // a.test stops resolving: nothing changes.
    names.lock().unwrap().remove("a.test");
    load.wait_for(300);
    let so_far = load.count();
    wait_for_lines(&[&peers[0]], so_far);
    // b.test gets an address, and its share.
    names
        .lock()
        .unwrap()
        .insert("b.test".to_owned(), peers[1].address());
    eventually("b.test to get lines", || {
        (peers[1].line_count() > 100).then_some(())
    });
    let sent = load.stop();
    wait_for_lines(&[&peers[0], &peers[1]], sent.len());
    let summary = running.drain().await;
    assert_eq!(
        (summary.received, summary.sent, summary.dropped),
        (sent.len() as u64, sent.len() as u64, 0)
    );
}

#[test]
fn all_nodes_take_lines_when_none_lives() {
    let peers = [UdpPeer::bind(), UdpPeer::bind()];
    let sick: Vec<TcpPeer> = peers
        .iter()
        .map(|_| TcpPeer::answering(([127, 0, 0, 1], 0).into(), Some(b"health: down\n")))
        .collect();
    let nodes: Vec<Value> = peers
        .iter()
        .zip(&sick)
        .map(|(peer, admin)| json!({"host": "127.0.0.1", "port": peer.port(), "managementport": admin.port()}))
        .collect();
    let mut proxy = Proxy::start(
        Dialect::Go,
        json!({"nodes": nodes, "checkInterval": 100, "metricsAddress": "127.0.0.1:0"}),
    );
    eventually("both nodes to go down", || {
        (proxy.metrics().sum("statsd_proxy_node_up") == 0.0).then_some(())
    });
    let load = Load::start(proxy.address("udp"));
    load.wait_for(500);
    let sent = load.stop();
    wait_for_lines(&[&peers[0], &peers[1]], sent.len());
    assert!(peers.iter().all(|peer| peer.line_count() > 0));
    assert_eq!(proxy.finish().1.dropped, 0);
}
