//! The data path without a network: datagrams through a relay to nodes whose queues take nothing.
//!
//! What remains is splitting, reading, hashing, choosing a lane and copying: the proxy's own part of the cost of a line.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use std::sync::Arc;

use arc_swap::ArcSwap;
use divan::{Bencher, counter::ItemsCount};
use statsd_proxy::{
    config::{self, Dialect},
    counters::Totals,
    node::Node,
    relay::Relay,
    routing::{Destination, Route, Routing},
};

fn main() {
    divan::main();
}

/// A relay for a configuration file, with four TCP nodes whose queues have no room.
fn relay(settings: &str) -> Relay {
    let text = format!(
        r#"{{{settings} "nodes": [
            {{"host": "10.0.0.1", "port": 8125, "protocol": "tcp"}}, {{"host": "10.0.0.2", "port": 8125, "protocol": "tcp"}},
            {{"host": "10.0.0.3", "port": 8125, "protocol": "tcp"}}, {{"host": "10.0.0.4", "port": 8125, "protocol": "tcp"}}]}}"#
    );
    let config = config::parse(&text, Dialect::GoStatsdProxy, None)
        .unwrap()
        .config;
    let totals = Arc::<Totals>::default();
    let destination = |node: &config::NodeConfig| {
        let (node, _backlog) = Node::new(node.clone(), 0, Arc::clone(&totals));
        Destination {
            node: Arc::new(node),
            address: None,
            live: true,
        }
    };
    let group = &config.groups[0];
    let destinations: Vec<Destination> = group.nodes.iter().map(destination).collect();
    let route = Route::new(
        group.name.clone(),
        group.spread,
        &[0, 1, 2, 3],
        &destinations,
    );
    let routing = Routing {
        grammar: config.grammar,
        packing: config.packing,
        destinations,
        groups: vec![route],
    };
    Relay::new(Arc::new(ArcSwap::from_pointee(routing)), totals)
}

/// 1,000 lines in datagrams of `lines` lines.
fn datagrams(lines: usize) -> Vec<Vec<u8>> {
    let line = |i: usize| {
        format!(
            "app.service{}.region{}.host{i:05}.requests.latency:320|ms|@0.1",
            i % 37,
            i % 5
        )
    };
    let all: Vec<String> = (0..1_000).map(line).collect();
    all.chunks(lines)
        .map(|chunk| chunk.join("\n").into_bytes())
        .collect()
}

fn relay_lines(bencher: Bencher<'_, '_>, settings: &str, lines: usize) {
    let mut relay = relay(settings);
    let datagrams = datagrams(lines);
    bencher
        .counter(ItemsCount::new(1_000usize))
        .bench_local(|| {
            relay.begin();
            datagrams
                .iter()
                .for_each(|datagram| relay.datagram(datagram));
            relay.flush();
        });
}

#[divan::bench(args = [1, 10, 50])]
fn hashed(bencher: Bencher<'_, '_>, lines: usize) {
    relay_lines(bencher, "", lines);
}

#[divan::bench(args = [10])]
fn strict_types(bencher: Bencher<'_, '_>, lines: usize) {
    relay_lines(bencher, r#""strictTypes": true,"#, lines);
}

#[divan::bench(args = [10])]
fn mirrored(bencher: Bencher<'_, '_>, lines: usize) {
    relay_lines(bencher, r#""mirror": true,"#, lines);
}
