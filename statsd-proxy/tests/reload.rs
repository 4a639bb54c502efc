//! SIGHUP: nodes, groups and rings change while lines keep coming; a broken file changes nothing; nothing queued is lost.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use serde_json::json;
use shared::testing::{
    eventually,
    wire::{TcpPeer, UdpPeer, free_tcp_port},
};
use support::{Dialect, Proxy, node, wait_for_lines};

#[test]
fn nodes_change_and_no_line_is_lost() {
    let peers = [UdpPeer::bind(), UdpPeer::bind(), UdpPeer::bind()];
    let config = |nodes: &[&UdpPeer]| {
        let nodes: Vec<_> = nodes.iter().copied().map(node).collect();
        json!({"host": "127.0.0.1", "port": 0, "managementport": 0, "nodes": nodes})
    };
    let mut proxy = Proxy::start(Dialect::Go, config(&[&peers[0], &peers[1]]));
    let mut sent = 0;
    for reload in 0..20 {
        let nodes: Vec<&UdpPeer> = peers
            .iter()
            .enumerate()
            .filter(|(i, _)| reload % 3 != *i)
            .map(|(_, peer)| peer)
            .collect();
        proxy.rewrite(&config(&nodes).to_string());
        for _ in 0..200 {
            proxy.send(format!("name.{}:{sent}|c", sent % 50).as_bytes());
            sent += 1;
        }
        eventually("the reload", || {
            let reloads = proxy
                .program
                .stderr()
                .iter()
                .filter(|line| line.contains("reloaded the configuration"))
                .count();
            (reloads > reload).then_some(())
        });
    }
    wait_for_lines(&[&peers[0], &peers[1], &peers[2]], sent);
    let (_, summary) = proxy.finish();
    assert_eq!(
        (summary.received, summary.sent, summary.dropped),
        (sent, sent, 0)
    );
    assert!(peers.iter().all(|peer| peer.line_count() > 0));
}

#[test]
fn a_broken_file_keeps_the_old_configuration_and_says_why() {
    let peer = UdpPeer::bind();
    let config = json!({"nodes": [node(&peer)], "metricsAddress": "127.0.0.1:0"});
    let proxy = Proxy::start(Dialect::Go, config);
    proxy.rewrite("{\"nodes\": [{\"host\": \"127.0.0.1\", \"port\": 99999}]}");
    let line = proxy.program.wait_for_line("keeping the old configuration");
    assert!(line.contains("nodes[0].port: 99999"), "{line}");
    proxy.send(b"a:1|c");
    wait_for_lines(&[&peer], 1);
    assert_eq!(
        proxy
            .metrics()
            .value("statsd_proxy_config_reloads_total{result=\"failure\"}"),
        1.0
    );
}

#[test]
fn what_waits_for_a_removed_tcp_node_is_still_delivered() {
    let peer = UdpPeer::bind();
    let port = free_tcp_port();
    let tcp = json!({"host": "127.0.0.1", "port": port, "protocol": "tcp"});
    let mut proxy = Proxy::start(Dialect::Go, json!({"nodes": [tcp]}));
    for number in 0..100 {
        proxy.send(format!("name:{number}|c").as_bytes());
    }
    eventually("the lines", || {
        proxy
            .ask("stats", 1)
            .contains("packets_received: 100")
            .then_some(())
    });
    proxy.rewrite(&json!({"nodes": [node(&peer)]}).to_string());
    proxy.program.wait_for_line("reloaded the configuration");
    let backend = TcpPeer::answering(([127, 0, 0, 1], port).into(), None);
    eventually("the queued lines", || {
        (backend.line_count() == 100).then_some(())
    });
    proxy.send(b"name:100|c");
    wait_for_lines(&[&peer], 1);
    let (_, summary) = proxy.finish();
    assert_eq!(
        (summary.received, summary.sent, summary.dropped),
        (101, 101, 0)
    );
}

#[test]
fn ring_and_groups_change() {
    let peers = [UdpPeer::bind(), UdpPeer::bind()];
    let proxy = Proxy::start(Dialect::Go, json!({"nodes": [node(&peers[0])]}));
    proxy.send(b"a:1|c");
    wait_for_lines(&[&peers[0]], 1);
    let groups = json!({"nodes": [node(&peers[0])], "ring": "statsd-0.7",
        "groups": [{"name": "new", "mirror": true, "nodes": [node(&peers[1])]}]});
    proxy.rewrite(&groups.to_string());
    proxy.program.wait_for_line("group nodes: ring statsd-0.7");
    proxy.program.wait_for_line("group new: mirror");
    proxy.send(b"a:2|c");
    wait_for_lines(&[&peers[0]], 2);
    wait_for_lines(&[&peers[1]], 1);
}

#[test]
fn the_dialect_statsd_takes_up_a_changed_file_without_a_signal() {
    let peers = [UdpPeer::bind(), UdpPeer::bind()];
    let config = |peer: &UdpPeer| json!({"address": "127.0.0.1", "port": 0, "mgmt_port": 0, "nodes": [{"host": "127.0.0.1", "port": peer.port()}]});
    let proxy = Proxy::start(Dialect::Js, config(&peers[0]));
    std::fs::write(
        proxy.directory.path().join("config.json"),
        config(&peers[1]).to_string(),
    )
    .unwrap();
    proxy.program.wait_for_line("reloaded the configuration");
    proxy.send(b"a:1|c");
    wait_for_lines(&[&peers[1]], 1);
    assert_eq!(peers[0].line_count(), 0);
}

#[test]
fn a_change_of_listeners_is_reported_as_taking_a_restart() {
    let peer = UdpPeer::bind();
    let proxy = Proxy::start(Dialect::Go, json!({"nodes": [node(&peer)]}));
    proxy.rewrite(
        &json!({"host": "127.0.0.1", "port": 1, "managementport": 0, "nodes": [node(&peer)]})
            .to_string(),
    );
    proxy.program.wait_for_line("that takes a restart");
}
