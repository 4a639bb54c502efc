//! Signals under load: every metric that was accepted arrives once, or is in the loss counters; both sums are printed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use nix::sys::signal::Signal;
use shared::testing::eventually;
use tokio::task::block_in_place;

use peers::{Manner, Peer};
use program::{Proxy, get, number};

/// Sends batches until the proxy takes no more; counts metrics of those that were accepted.
fn load(address: std::net::SocketAddr, accepted: &AtomicUsize, stop: &AtomicBool) {
    use std::io::{Read as _, Write as _};
    let body = support::bytes("inputs/synthetic300.json");
    let head = format!(
        "POST /import HTTP/1.1\r\nHost: p\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    while !stop.load(Relaxed) {
        let Ok(mut stream) = std::net::TcpStream::connect(address) else {
            continue;
        };
        stream
            .set_read_timeout(Some(shared::testing::PATIENCE))
            .unwrap();
        let mut answer = Vec::new();
        let done = stream
            .write_all(&[head.as_bytes(), &body].concat())
            .and_then(|()| stream.read_to_end(&mut answer));
        if done.is_ok() && answer.starts_with(b"HTTP/1.1 202") {
            accepted.fetch_add(300, Relaxed);
        }
    }
}

async fn stopped_under_load(signal: Signal, broken: Option<Manner>) {
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(Peer::http().await);
    }
    if let Some(manner) = broken.clone() {
        peers[0].behave(manner);
    }
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address).collect();
    let catalogue = peers::consul(&addresses).await;
    let file = "http_address: 127.0.0.1:0\nconsul_forward_service_name: g\nconsul_refresh_interval: 60s\nforward_timeout: 2s\n";
    block_in_place(|| {
        let mut proxy = Proxy::start_with(
            file,
            &[],
            &[("CONSUL_HTTP_ADDR", &catalogue.address.to_string())],
        );
        let address = proxy.http();
        let (accepted, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let (accepted, stop) = (Arc::clone(&accepted), Arc::clone(&stop));
                thread::spawn(move || load(address, &accepted, &stop))
            })
            .collect();
        eventually("some load", || {
            (accepted.load(Relaxed) > 15_000).then_some(())
        });
        proxy.program.signal(signal);
        let status = proxy.program.wait();
        stop.store(true, Relaxed);
        for sender in senders {
            sender.join().unwrap();
        }
        assert_eq!(status.code(), Some(0));
        let line = proxy.program.wait_for_line("msg=drained");
        let (received, delivered, lost) = (
            number(&line, "received"),
            number(&line, "delivered"),
            number(&line, "lost"),
        );
        let accepted = accepted.load(Relaxed);
        let arrived: usize = peers.iter().map(Peer::metrics).sum();
        println!(
            "{signal} {broken:?}: accepted {accepted}, received {received}, delivered {delivered}, arrived {arrived}, lost {lost}"
        );
        assert_eq!(received, delivered + lost, "{line}");
        assert!(received >= accepted, "a batch was accepted and not counted");
        if broken.is_none() {
            assert_eq!(lost, 0, "{line}");
            assert_eq!(arrived, received);
        } else {
            assert!(lost > 0 && arrived >= delivered);
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_refusing_destination_costs_is_counted() {
    let refusal = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
    stopped_under_load(Signal::SIGTERM, Some(Manner::Answers(refusal.to_owned()))).await;
}

/// With one destination that never answers, health says 503 from the signal on, for as long as the end takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn health_says_no_while_a_stream_proxy_drains() {
    let peer = Peer::grpc().await;
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_addresses: ['{}']\nforward_protocol: unary\nshutdown_timeout: 2s\n",
        peer.address
    );
    let mut proxy = block_in_place(|| Proxy::start(&file));
    let (http, grpc) = block_in_place(|| (proxy.http(), proxy.grpc()));
    block_in_place(|| {
        eventually("readiness", || {
            (get(http, "/healthcheck").status == 204).then_some(())
        });
    });
    peer.behave(Manner::Hangs);
    let list = program::client::framed(b"\x0a\x03\x0a\x01x");
    let taken = program::client::call(grpc, "/forwardrpc.Forward/SendMetrics", list).await;
    assert_eq!(taken.code, 0);
    block_in_place(|| {
        proxy.program.signal(Signal::SIGTERM);
        eventually("503", || {
            (get(http, "/healthcheck").status == 503).then_some(())
        });
        // The time passes, and what was not taken is counted.
        assert_eq!(proxy.program.wait().code(), Some(1));
        let line = proxy.program.wait_for_line("msg=drained");
        assert_eq!(
            (number(&line, "received"), number(&line, "lost")),
            (1, 1),
            "{line}"
        );
        proxy
            .program
            .wait_for_line("level=fatal msg=\"exited with error\"");
    });
}
