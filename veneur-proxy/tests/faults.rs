//! The real program before good destinations and a slow, a deaf, a refusing and a resetting one, by each protocol: the good
//! ones get all that is theirs, memory keeps to its bounds, and health tells the truth.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/load.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod load;
#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;

use std::{net::SocketAddr, sync::atomic::AtomicUsize, time::Duration};

use shared::testing::{PATIENCE, eventually, wire::free_tcp_port};
use tokio::task::block_in_place;
use veneur_proxy::forward::Inbound;

use peers::{Manner, Peer, Speaks};
use program::{Proxy, get};

const METRICS: usize = 300_000;
/// What may wait for one destination, and beyond that for all of them.
const BUFFER: usize = 1 << 20;
const OVERFLOW: usize = 2 << 20;
/// What requests under way, connections and the allocator may need beside that.
const BESIDE: usize = 48 << 20;

/// Good ones first.
async fn destinations(speaks: Speaks) -> (Vec<Peer>, Vec<SocketAddr>) {
    let manners = [
        Manner::Takes,
        Manner::Takes,
        Manner::Slow(Duration::from_millis(50)),
        Manner::Deaf,
        Manner::Resets,
    ];
    let mut peers = Vec::new();
    for manner in manners {
        let any = "127.0.0.1:0".parse().unwrap();
        peers.push(Peer::bind(any, speaks, manner).await);
    }
    let mut addresses: Vec<_> = peers.iter().map(|peer| peer.address).collect();
    addresses.push(([127, 0, 0, 1], free_tcp_port()).into());
    (peers, addresses)
}

/// Returns the sum of the samples of a family whose labels have all these parts.
fn sum(page: &str, family: &str, parts: &[&str]) -> usize {
    let samples = page.lines().filter(|line| {
        line.strip_prefix(family)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
            && parts.iter().all(|part| line.contains(part))
    });
    samples
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as usize)
        .sum()
}

async fn beside_bad_destinations(way: Inbound) {
    let speaks = match way {
        Inbound::Http => Speaks::Http,
        Inbound::Unary | Inbound::Stream => Speaks::Grpc,
    };
    let (peers, addresses) = destinations(speaks).await;
    let catalogue = peers::consul(&addresses).await;
    let variable = catalogue.address.to_string();
    let bounds = format!(
        "send_buffer_bytes: {BUFFER}\noverflow_bytes: {OVERFLOW}\nsend_buffer_size: 20000\nstall_timeout: 500ms\nforward_timeout: 2s\nshutdown_timeout: 5s\nhttp_address: 127.0.0.1:0\n"
    );
    let listed: Vec<_> = addresses
        .iter()
        .map(|address| format!("'{address}'"))
        .collect();
    let file = match way {
        Inbound::Http => "consul_forward_service_name: g\nconsul_refresh_interval: 600s\n".to_owned(),
        Inbound::Unary => "grpc_address: 127.0.0.1:0\nconsul_forward_grpc_service_name: g\nconsul_refresh_interval: 600s\n".to_owned(),
        Inbound::Stream => format!("grpc_address: 127.0.0.1:0\nforward_addresses: [{}]\n", listed.join(",")),
    };
    let mut proxy = block_in_place(|| {
        Proxy::start_with(
            &format!("{file}{bounds}"),
            &[],
            &[("CONSUL_HTTP_ADDR", &variable)],
        )
    });
    let (page, entry) = block_in_place(|| {
        let page = proxy.http();
        (
            page,
            if way == Inbound::Http {
                page
            } else {
                proxy.grpc()
            },
        )
    });
    let health = if way == Inbound::Stream {
        "/healthcheck"
    } else {
        "/healthcheck/ready"
    };
    block_in_place(|| {
        eventually("health", || (get(page, health).status < 300).then_some(()));
    });
    let before = proxy.memory();
    let accepted = AtomicUsize::new(0);
    let sending = load::send(way, entry, 0..METRICS, &accepted);
    tokio::time::timeout(PATIENCE * 4, sending).await.unwrap();
    assert_eq!(accepted.into_inner(), METRICS);
    let good = [peers[0].address.to_string(), peers[1].address.to_string()];
    let told = block_in_place(|| {
        // What is queued for the good ones arrives; the others have until forward_timeout.
        eventually("the good ones to have all", || {
            let told = get(page, "/metrics").text();
            let whole = good.iter().all(|name| {
                let part = format!("destination=\"{name}\"");
                let of = |family: &str| sum(&told, family, &[&part]);
                of("veneur_proxy_destination_accepted_metrics_total") > 0
                    && of("veneur_proxy_destination_accepted_metrics_total")
                        == of("veneur_proxy_destination_delivered_metrics_total")
            });
            whole.then_some(told)
        })
    });
    for name in &good {
        let part = format!("destination=\"{name}\"");
        let lost = sum(
            &told,
            "veneur_proxy_destination_lost_metrics_total",
            &[&part],
        );
        assert_eq!(lost, 0, "{way:?}: {name}\n{told}");
    }
    let after = proxy.memory();
    let bound = addresses.len() * BUFFER + OVERFLOW + BESIDE;
    assert!(
        after < before + bound,
        "{way:?}: {before} bytes became {after}"
    );
    assert!(
        get_status(page, health) < 300,
        "{way:?}: there are good destinations"
    );
    let status = block_in_place(|| {
        proxy.program.terminate();
        proxy.program.wait_for_line("msg=drained")
    });
    let arrived: Vec<_> = peers.iter().map(Peer::metrics).collect();
    println!(
        "{way:?}: {METRICS} sent, arrived {arrived:?}, memory {} MB to {} MB; {status}",
        before >> 20,
        after >> 20
    );
    assert!(status.contains(&format!("received={METRICS}")), "{status}");
}

fn get_status(address: SocketAddr, path: &str) -> u16 {
    block_in_place(|| get(address, path).status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_destinations_of_posts_do_not_suffer_from_bad_ones() {
    beside_bad_destinations(Inbound::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_destinations_of_calls_do_not_suffer_from_bad_ones() {
    beside_bad_destinations(Inbound::Unary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_destinations_of_streams_do_not_suffer_from_bad_ones() {
    beside_bad_destinations(Inbound::Stream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_last_destination() {
    let mut peer = Peer::grpc().await;
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_addresses: ['{}']\n",
        peer.address
    );
    let mut proxy = block_in_place(|| Proxy::start(&file));
    let page = block_in_place(|| proxy.http());
    let becomes = |status: u16| {
        block_in_place(|| {
            eventually(&format!("health {status}"), || {
                (get(page, "/healthcheck").status == status).then_some(())
            });
        });
    };
    becomes(204);
    peer.stop().await;
    becomes(503);
    peer = Peer::bind(peer.address, Speaks::Grpc, Manner::Takes).await;
    becomes(204);
    drop(peer);
    block_in_place(|| proxy.program.terminate());
}
