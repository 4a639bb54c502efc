//! When streams to destinations are closed and opened anew: `stream_max_age` and `stream_idle_close`, which veneur v14.2.0
//! needs because it counts metrics only when a stream is closed.

#![allow(
    clippy::unwrap_used,
    reason = "a failed helper is a failed test, and fails where it stands"
)]

#[path = "support/outbound.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod outbound;
#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;

use outbound::{Outbound, until};
use peers::Peer;

/// Three counters in a list.
const LIST: &[u8] = b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01b\x0a\x03\x0a\x01c";

/// How many messages each stream brought that brought any, and whether it is closed. The one that is opened first may become
/// too old, on a machine that is busy, before there is something to send.
fn streams(peer: &Peer) -> Vec<(usize, bool)> {
    let calls = peer.calls();
    calls
        .iter()
        .map(|call| (call.messages.len(), call.closed))
        .filter(|(messages, _)| *messages > 0)
        .collect()
}

async fn closes_and_opens_anew(key: &str) {
    let peer = Peer::grpc().await;
    let file = format!("forward_addresses: ['{}']\n{key}\n", peer.address);
    let running = Outbound::start(&file).await;
    for round in 1..=3 {
        running.list(LIST).await;
        until("the stream to be closed", || {
            streams(&peer) == vec![(3, true); round]
        })
        .await;
        // Closing is the sign that all has arrived; nothing waits for another one.
        until("all to be delivered", || {
            running.totals.sums().delivered() == 3 * round as u64
        })
        .await;
        // The connection stays, and so does the member; nothing is opened before there is something to send.
        assert_eq!(running.destinations.connected(), 1);
        assert_eq!(streams(&peer).len(), round);
    }
    let sums = running.end().await;
    assert_eq!((sums.delivered(), sums.received), (9, 9), "{sums:#?}");
    assert_eq!(peer.metrics(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_closed_at_stream_max_age() {
    closes_and_opens_anew("stream_max_age: 400ms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_closed_after_stream_idle_close() {
    closes_and_opens_anew("stream_idle_close: 300ms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_closes_idle_streams_without_being_told() {
    let peer = Peer::grpc().await;
    let file = format!(
        "forward_addresses: ['{}']\nforward_protocol: auto\n",
        peer.address
    );
    let running = Outbound::start(&file).await;
    running.list(LIST).await;
    until("the stream to be closed", || streams(&peer) == [(3, true)]).await;
    // Before it came the empty one that finds out whether streams are taken.
    assert!(peer.calls()[0].messages.is_empty());
    assert_eq!(running.end().await.delivered(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_stream_max_age_and_stream_idle_close_a_stream_stays() {
    let [closing, staying] = [Peer::grpc().await, Peer::grpc().await];
    let start = async |peer: &Peer, key: &str| {
        let file = format!("forward_addresses: ['{}']\n{key}\n", peer.address);
        Outbound::start(&file).await
    };
    let short = start(&closing, "stream_idle_close: 300ms").await;
    let never = start(&staying, "").await;
    never.list(LIST).await;
    until("metrics", || streams(&staying) == [(3, false)]).await;
    // Its neighbour, which began later, has been closed for idleness by now.
    short.list(LIST).await;
    until("a closed stream", || streams(&closing) == [(3, true)]).await;
    assert_eq!(streams(&staying), [(3, false)]);
    never.list(LIST).await;
    until("more on the same stream", || {
        streams(&staying) == [(6, false)]
    })
    .await;
    assert_eq!(never.end().await.delivered(), 6);
    assert_eq!(streams(&staying), [(6, true)]);
    assert_eq!(short.end().await.delivered(), 3);
}
