//! Queues of destinations that do not keep up: what has no room waits or is dropped, within bounds; and batches are merged.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/outbound.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod outbound;
#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;

use std::time::Duration;

use shared::testing::PATIENCE;
use tokio::time::timeout;
use veneur_proxy::observe::Loss;

use outbound::{Outbound, list, until};
use peers::{Manner, Peer, Speaks, addresses};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_with_on_full_drop_drops_exactly_what_has_no_room() {
    let peer = Peer::bind("127.0.0.1:0".parse().unwrap(), Speaks::Grpc, Manner::Hangs).await;
    let running = Outbound::start(&format!(
        "grpc_forward_address: '{}'\non_full: drop\nsend_buffer_size: 1000\noverflow_bytes: 0\nforward_timeout: 2s\n",
        peer.address
    ))
    .await;
    // Eight calls hang, ten lists of a hundred wait; more has no room.
    for i in 0..8 {
        running.list(&list(i * 100, 100)).await;
    }
    until("eight calls under way", || peer.calls().len() == 8).await;
    for i in 8..40 {
        running.list(&list(i * 100, 100)).await;
    }
    let sums = running.end().await;
    assert_eq!(sums.received, 4000);
    assert_eq!(sums.lost().get(&Loss::Full), Some(&2200), "{sums:#?}");
    assert_eq!(sums.lost().get(&Loss::Timeout), Some(&1800), "{sums:#?}");
}

/// With `on_full: drop` nothing but the queues holds metrics, and they hold what they may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_full_drop_keeps_memory_within_the_bounds_of_the_queues() {
    const QUEUE: usize = 100_000;
    const OVERFLOW: usize = 50_000;
    for (key, speaks) in [
        ("forward_address: 'http://{}'", Speaks::Http),
        ("grpc_forward_address: '{}'", Speaks::Grpc),
        (
            "grpc_forward_address: '{}'\nforward_protocol: stream",
            Speaks::Grpc,
        ),
    ] {
        let manner = if key.ends_with("stream") {
            Manner::Deaf
        } else {
            Manner::Hangs
        };
        let peer = Peer::bind("127.0.0.1:0".parse().unwrap(), speaks, manner).await;
        let bounds = format!(
            "on_full: drop\nsend_buffer_size: 10000000\nsend_buffer_bytes: {QUEUE}\noverflow_bytes: {OVERFLOW}\nforward_timeout: 3s\nstall_timeout: 600s\ndial_timeout: 600s\n"
        );
        let file = key.replace("{}", &peer.address.to_string());
        let running = Outbound::start(&format!("{file}\n{bounds}")).await;
        let mut most = 0;
        for i in 0..200 {
            running.list(&list(i * 500, 500)).await;
            let queued = running.destinations.status()[0].queued_bytes;
            assert!(queued <= QUEUE + OVERFLOW, "{key}: {queued} bytes");
            most = most.max(queued);
            let sums = running.totals.sums();
            let lost: u64 = sums.lost().values().sum();
            assert_eq!(
                sums.received,
                (i as u64 + 1) * 500,
                "{key}: not all was counted"
            );
            // What is neither queued nor lost is with the few requests that are under way.
            let elsewhere = sums.received - lost - sums.delivered();
            assert!(elsewhere >= sums.queued(), "{key}: {sums:#?}");
        }
        let full = running.totals.sums().lost()[&Loss::Full];
        println!(
            "{}: {most} bytes queued at most of {}, {full} of 100000 metrics had no room",
            key.lines().last().unwrap(),
            QUEUE + OVERFLOW
        );
        assert!(most > QUEUE && full > 0, "{key}: {most}, {full}");
        let sums = running.end().await;
        assert_eq!(sums.delivered(), 0, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_destination_holds_its_sender_back_in_stream_and_overflows_in_dual() {
    let slow = Manner::Slow(Duration::from_millis(20));
    let peer = Peer::bind("127.0.0.1:0".parse().unwrap(), Speaks::Grpc, slow.clone()).await;
    let running = Outbound::start(&format!(
        "forward_addresses: {}\nsend_buffer_size: 2000\n",
        addresses(&[&peer])
    ))
    .await;
    until("a connection", || running.destinations.connected() == 1).await;
    let mut most = 0;
    for i in 0..30 {
        running.list(&list(i * 1000, 1000)).await;
        most = most.max(running.destinations.status()[0].queued_metrics);
    }
    assert!(most <= 2000, "{most}");
    let sums = running.end().await;
    assert_eq!(sums.delivered(), 30_000, "{sums:#?}");
    // The dual proxy answers first.
    let peer = Peer::bind("127.0.0.1:0".parse().unwrap(), Speaks::Grpc, slow).await;
    let running = Outbound::start(&format!(
        "grpc_forward_address: '{}'\nsend_buffer_size: 2000\n",
        peer.address
    ))
    .await;
    for i in 0..30 {
        let accepted = timeout(PATIENCE, running.list(&list(i * 1000, 1000))).await;
        assert!(accepted.is_ok());
    }
    let waiting = running.destinations.status()[0].queued_metrics;
    println!("dual: {waiting} metrics waited beyond a queue of 2000");
    assert!(waiting > 2000, "{waiting}");
    assert_eq!(running.end().await.delivered(), 30_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_batches_are_merged_if_that_is_wanted() {
    for (key, peer) in [
        ("grpc_forward_address", Peer::grpc().await),
        ("forward_address", Peer::http().await),
    ] {
        let running = Outbound::start(&format!(
            "{key}: '{}'\nbatch_max_metrics: 500\nbatch_delay: 2s\n",
            peer.address
        ))
        .await;
        for i in 0..100 {
            running.list(&list(i * 10, 10)).await;
        }
        assert_eq!(running.end().await.delivered(), 1000);
        assert_eq!(peer.metrics(), 1000);
        let requests = peer.calls().len() + peer.posted().len();
        println!("{key}: 100 batches of 10 metrics in {requests} requests");
        assert!((2..50).contains(&requests), "{requests}");
    }
}
