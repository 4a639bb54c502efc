//! Destinations that refuse, hang, reset, are slow, come and go: every metric arrives once or is counted with its reason.

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

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use prost::Message as _;
use shared::testing::{PATIENCE, wire::free_tcp_port};
use veneur_proxy::{
    destinations::StartError,
    forward::Inbound,
    observe::Loss,
    proto::{
        forwardrpc::{MetricList, SEND_METRICS, SEND_METRICS_V2},
        metricpb::Metric,
    },
};

use outbound::{Outbound, list, try_start, until};
use peers::{Manner, Peer, Speaks, addresses, consul, tell_consul};

/// How many lists are sent across a restart.
const LISTS: usize = 60;

/// The names that arrived more than once.
fn repeated(peers: &[&Peer]) -> usize {
    let mut seen: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for peer in peers {
        for list in peer.messages(SEND_METRICS) {
            for metric in MetricList::decode(list).unwrap().metrics {
                *seen.entry(metric.name).or_default() += 1;
            }
        }
        for message in peer.messages(SEND_METRICS_V2) {
            *seen
                .entry(Metric::decode(message).unwrap().name)
                .or_default() += 1;
        }
    }
    seen.values().filter(|count| **count > 1).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dual_proxy_refuses_to_start_with_zero_destinations() {
    let consul = consul(&[]).await;
    let variables = [("CONSUL_HTTP_ADDR", consul.address.to_string())];
    let file = |key: &str| format!("{key}: veneur-global\nconsul_refresh_interval: 1s\n");
    for (key, text) in [
        (
            "consul_forward_service_name",
            "Refusing to start with zero destinations for forwarding.",
        ),
        (
            "consul_forward_grpc_service_name",
            "Refusing to start with zero destinations for forwarding over gRPC.",
        ),
    ] {
        let refusal = try_start(&file(key), &variables, None).await.err().unwrap();
        assert_eq!(refusal.to_string(), text);
        assert!(
            matches!(refusal, StartError::ZeroDestinations { service, .. } if service == "veneur-global")
        );
    }
    let anyway = format!(
        "{}start_without_destinations: true\n",
        file("consul_forward_service_name")
    );
    assert!(try_start(&anyway, &variables, None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_refused_in_auto_becomes_calls_and_that_is_remembered() {
    let peer = Peer::bind(
        "127.0.0.1:0".parse().unwrap(),
        Speaks::Grpc,
        Manner::NoStreams,
    )
    .await;
    let running = Outbound::start(&format!(
        "forward_addresses: {}\nforward_protocol: auto\n",
        addresses(&[&peer])
    ))
    .await;
    for i in 0..10 {
        running.list(&list(i * 100, 100)).await;
    }
    let sums = running.end().await;
    assert_eq!(sums.delivered(), 1000);
    assert_eq!(peer.metrics(), 1000);
    // Not one more attempt at a stream than the first, which the peer does not even note.
    assert!(peer.calls().iter().all(|call| call.path == SEND_METRICS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_refused_without_loss_and_its_metrics_go_to_the_others() {
    let old = Peer::bind(
        "127.0.0.1:0".parse().unwrap(),
        Speaks::Grpc,
        Manner::NoStreams,
    )
    .await;
    let new = Peer::grpc().await;
    let running = Outbound::start(&format!(
        "forward_addresses: {}\n",
        addresses(&[&old, &new])
    ))
    .await;
    until("the new one in the ring", || {
        running.destinations.connected() >= 1
    })
    .await;
    for i in 0..20 {
        running.list(&list(i * 100, 100)).await;
    }
    until("all of them", || new.metrics() == 2000).await;
    let sums = running.end().await;
    assert_eq!(sums.delivered(), 2000, "{sums:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_destination_is_reconnected_after_a_restart() {
    let first = Peer::grpc().await;
    let address: SocketAddr = first.address;
    let running = Outbound::start(&format!("forward_addresses: {}\n", addresses(&[&first]))).await;
    until("a connection", || running.destinations.connected() == 1).await;
    running.list(&list(0, 500)).await;
    until("the first metrics", || first.metrics() == 500).await;
    first.stop().await;
    until("the disconnect", || running.destinations.connected() == 0).await;
    let second = Peer::bind(address, Speaks::Grpc, Manner::Takes).await;
    until("a new connection", || running.destinations.connected() == 1).await;
    running.list(&list(500, 500)).await;
    until("the second metrics", || second.metrics() == 500).await;
    let sums = running.end().await;
    let lost: u64 = sums.lost().values().sum();
    // What the first one had read but not confirmed is in doubt, and nothing else is.
    assert!(
        sums.lost()
            .keys()
            .all(|reason| *reason == Loss::Unconfirmed),
        "{sums:#?}"
    );
    assert_eq!(sums.delivered() + lost, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_in_the_middle_of_the_load_lose_only_what_is_counted() {
    for protocol in ["stream", "unary"] {
        let peers = [Peer::grpc().await, Peer::grpc().await, Peer::grpc().await];
        let running = Outbound::start(&format!(
            "forward_addresses: {}\nforward_protocol: {protocol}\n",
            addresses(&peers.iter().collect::<Vec<_>>())
        ))
        .await;
        until("all in the ring", || running.destinations.connected() == 3).await;
        let mut later = Vec::new();
        for i in 0..LISTS {
            if i == 20 || i == 40 {
                let place = i / 20;
                let address = peers[place].address;
                peers[place].stop().await;
                later.push(Peer::bind(address, Speaks::Grpc, Manner::Takes).await);
            }
            running.list(&list(i * 1000, 1000)).await;
        }
        let sums = running.end().await;
        let everyone: Vec<&Peer> = peers.iter().chain(&later).collect();
        let arrived: usize = everyone.iter().map(|peer| peer.metrics()).sum();
        let lost: u64 = sums.lost().values().sum();
        println!(
            "{protocol}: {} accepted, {arrived} arrived, {} delivered, lost {:?}",
            sums.received,
            sums.delivered(),
            sums.lost()
        );
        assert_eq!(sums.received, (LISTS * 1000) as u64);
        assert_eq!(repeated(&everyone), 0);
        assert!(arrived as u64 >= sums.delivered(), "{sums:#?}");
        assert!(arrived as u64 + lost >= sums.received, "{sums:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusing_hanging_or_resetting_destination_takes_nothing_from_the_others() {
    for manner in [Manner::Hangs, Manner::Resets, Manner::Deaf] {
        for (key, speaks) in [
            ("consul_forward_service_name", Speaks::Http),
            ("consul_forward_grpc_service_name", Speaks::Grpc),
        ] {
            let bad = Peer::bind("127.0.0.1:0".parse().unwrap(), speaks, manner.clone()).await;
            let good = Peer::bind("127.0.0.1:0".parse().unwrap(), speaks, Manner::Takes).await;
            let refusing: SocketAddr = ([127, 0, 0, 1], free_tcp_port()).into();
            let consul = consul(&[bad.address, good.address, refusing]).await;
            let running = try_start(
                &format!("{key}: x\nconsul_refresh_interval: 60s\nforward_timeout: 1s\n"),
                &[("CONSUL_HTTP_ADDR", consul.address.to_string())],
                None,
            )
            .await
            .unwrap();
            for i in 0..30 {
                running.list(&list(i * 1000, 1000)).await;
            }
            let sums = running.end().await;
            let name = good.address.to_string();
            let of_good = &sums.destinations[&name];
            assert_eq!(of_good.delivered, of_good.accepted, "{manner:?} {sums:#?}");
            assert_eq!(good.metrics() as u64, of_good.delivered, "{manner:?}");
            assert!(of_good.delivered > 0);
            let bad_sums = &sums.destinations[&bad.address.to_string()];
            assert_eq!(bad_sums.delivered, 0, "{manner:?} {sums:#?}");
            println!("{manner:?} {key}: lost {:?}", sums.lost());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_adds_and_removes_and_those_who_leave_are_drained() {
    let peers = [Peer::grpc().await, Peer::grpc().await, Peer::grpc().await];
    let all: Vec<SocketAddr> = peers.iter().map(|peer| peer.address).collect();
    for (file, protocol) in [
        (
            "consul_forward_grpc_service_name: x\nconsul_refresh_interval: 50ms\n",
            SEND_METRICS,
        ),
        (
            "forward_service: x\ndiscovery_interval: 50ms\n",
            SEND_METRICS_V2,
        ),
    ] {
        let consul = consul(&all[..2]).await;
        let variables = [("CONSUL_HTTP_ADDR", consul.address.to_string())];
        let running = try_start(file, &variables, None).await.unwrap();
        let names = || running.destinations.members(Inbound::Unary);
        until("two members", || names().len() == 2).await;
        let before: usize = peers.iter().map(Peer::metrics).sum();
        running.list(&list(0, 2000)).await;
        tell_consul(&consul, &all[1..]);
        until("another two", || {
            let names = names();
            names.len() == 2 && !names.contains(&all[0].to_string())
        })
        .await;
        running.list(&list(2000, 2000)).await;
        // Failures and empty answers change nothing.
        for answer in [
            "HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\nNo leader",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n[{\"No",
        ] {
            consul.behave(Manner::Answers(answer.to_owned()));
            let asked = consul.posted().len();
            until("two more questions", || consul.posted().len() > asked + 1).await;
            assert_eq!(names().len(), 2);
        }
        let sums = running.end().await;
        assert_eq!(sums.delivered(), 4000, "{sums:#?}");
        let after: usize = peers.iter().map(Peer::metrics).sum();
        assert_eq!(after - before, 4000);
        assert!(!peers[2].messages(protocol).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_delivers_or_counts_everything() {
    let (taking, hanging) = (
        Peer::grpc().await,
        Peer::bind("127.0.0.1:0".parse().unwrap(), Speaks::Grpc, Manner::Deaf).await,
    );
    let consul = consul(&[taking.address, hanging.address]).await;
    let running = try_start(
        "consul_forward_grpc_service_name: x\nconsul_refresh_interval: 60s\n",
        &[("CONSUL_HTTP_ADDR", consul.address.to_string())],
        None,
    )
    .await
    .unwrap();
    for i in 0..20 {
        running.list(&list(i * 1000, 1000)).await;
    }
    let started = Instant::now();
    let _drained = running.destinations.drain(Duration::from_millis(500)).await;
    assert!(started.elapsed() < PATIENCE);
    let sums = running.end().await;
    assert_eq!(sums.delivered(), taking.metrics() as u64);
    assert_eq!(sums.received, 20_000);
    println!(
        "drain: {} delivered, lost {:?}",
        sums.delivered(),
        sums.lost()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_answers_other_than_200_and_202_are_losses_and_redirects_are_followed() {
    let f = |answer: String, delivered: u64| async move {
        let peer = Peer::http().await;
        peer.behave(Manner::Answers(answer.clone()));
        let running =
            Outbound::start(&format!("forward_address: 'http://{}'\n", peer.address)).await;
        running.list(&list(0, 10)).await;
        let sums = running.end().await;
        assert_eq!(sums.delivered(), delivered, "{answer}");
        assert_eq!(
            sums.lost().get(&Loss::Refused).copied().unwrap_or(0),
            10 - delivered,
            "{answer}"
        );
    };
    let status = |line: &str| format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n");
    f(status("200 OK"), 10).await;
    f(status("202 Accepted"), 10).await;
    f("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), 0).await;
    f(status("500 Internal Server Error"), 0).await;
    let target = Peer::http().await;
    let location = |code: &str| {
        format!(
            "HTTP/1.1 {code}\r\nlocation: http://{}/elsewhere\r\ncontent-length: 0\r\n\r\n",
            target.address
        )
    };
    f(location("307 Temporary Redirect"), 10).await;
    f(location("302 Found"), 10).await;
    let posted = target.posted();
    assert_eq!(posted[0].head[0], "POST /elsewhere HTTP/1.1");
    assert_eq!(posted[1].head[0], "GET /elsewhere HTTP/1.1");
    assert!(!posted[0].body.is_empty() && posted[1].body.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_tried_again_until_forward_timeout() {
    let address: SocketAddr = ([127, 0, 0, 1], free_tcp_port()).into();
    let file = format!("forward_address: '{address}'\nforward_timeout: 15s\n");
    let running = Outbound::start(&file).await;
    running.list(&list(0, 10)).await;
    let late = Peer::bind(address, Speaks::Http, Manner::Takes).await;
    until("the metrics", || late.metrics() == 10).await;
    assert_eq!(running.end().await.delivered(), 10);
    // Nobody comes.
    drop(late);
    let address: SocketAddr = ([127, 0, 0, 1], free_tcp_port()).into();
    for key in ["forward_address", "grpc_forward_address"] {
        let running =
            Outbound::start(&format!("{key}: '{address}'\nforward_timeout: 300ms\n")).await;
        running.list(&list(0, 10)).await;
        let sums = running.end().await;
        assert_eq!(
            sums.lost(),
            BTreeMap::from([(Loss::Timeout, 10)]),
            "{key} {sums:#?}"
        );
    }
}

/// Static names in brackets, and Consul's without; on the loopback address `::1`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn destinations_with_ipv6_addresses_are_dialled() {
    let any: SocketAddr = "[::1]:0".parse().unwrap();
    if std::net::TcpListener::bind(any).is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let mut dialled = 0;
    for (file, speaks, way, name) in [
        (
            "forward_address: '[::1]:PORT'",
            Speaks::Http,
            Inbound::Http,
            "[::1]:PORT",
        ),
        (
            "forward_address: 'http://[::1]:PORT'",
            Speaks::Http,
            Inbound::Http,
            "http://[::1]:PORT",
        ),
        (
            "grpc_forward_address: '[::1]:PORT'",
            Speaks::Grpc,
            Inbound::Unary,
            "[::1]:PORT",
        ),
        (
            "forward_addresses: ['[::1]:PORT']",
            Speaks::Grpc,
            Inbound::Unary,
            "[::1]:PORT",
        ),
        (
            "consul_forward_service_name: g\nconsul_refresh_interval: 60s",
            Speaks::Http,
            Inbound::Http,
            "::1:PORT",
        ),
        (
            "consul_forward_grpc_service_name: g\nconsul_refresh_interval: 60s",
            Speaks::Grpc,
            Inbound::Unary,
            "::1:PORT",
        ),
        (
            "forward_service: g\ndiscovery_interval: 60s",
            Speaks::Grpc,
            Inbound::Unary,
            "::1:PORT",
        ),
    ] {
        let peer = Peer::bind(any, speaks, Manner::Takes).await;
        let consul = consul(&[peer.address]).await;
        let variables = [("CONSUL_HTTP_ADDR", consul.address.to_string())];
        let port = peer.address.port().to_string();
        let file = file.replace("PORT", &port);
        let running = try_start(&file, &variables, None).await.unwrap();
        // The name is what places metrics, and stays as it was written.
        let expected = name.replace("PORT", &port);
        until(&expected, || {
            running.destinations.members(way) == [expected.clone()]
        })
        .await;
        running.list(&list(0, 10)).await;
        let sums = running.end().await;
        assert_eq!(sums.delivered(), 10, "{file} {sums:#?}");
        assert_eq!(peer.metrics(), 10, "{file}");
        if let Some(posted) = peer.posted().first() {
            let host = posted.header("host").unwrap();
            assert_eq!(host, format!("[::1]:{port}"), "{file}");
        }
        dialled += 1;
    }
    println!("dialled over IPv6: {dialled} kinds of destinations");
}
