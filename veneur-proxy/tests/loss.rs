//! The real program in the middle of a million metrics, by each protocol: a signal, or a restart of one destination after
//! the other. Every accepted metric arrives once, or is in the loss counters; both sums are printed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/load.rs"]
mod load;
#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use nix::sys::signal::Signal;
use shared::testing::PATIENCE;
use tokio::{task::block_in_place, time::sleep};
use veneur_proxy::forward::Inbound;

use peers::{Manner, Peer, Speaks};
use program::{Proxy, number};

const MILLION: usize = 1_000_000;

/// What happens in the middle.
#[derive(Debug, Clone, Copy)]
enum Disturbance {
    Signal(Signal),
    RollingRestart,
}

/// Four destinations, and a proxy before them that sends as it receives.
async fn set_up(way: Inbound) -> (Vec<Peer>, Proxy, SocketAddr) {
    let speaks = match way {
        Inbound::Http => Speaks::Http,
        Inbound::Unary | Inbound::Stream => Speaks::Grpc,
    };
    let mut peers = Vec::new();
    for _ in 0..4 {
        let any = "127.0.0.1:0".parse().unwrap();
        peers.push(Peer::bind(any, speaks, Manner::Takes).await);
    }
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address).collect();
    let listed: Vec<_> = addresses
        .iter()
        .map(|address| format!("'{address}'"))
        .collect();
    let listed = listed.join(",");
    let catalogue = peers::consul(&addresses).await;
    let variable = catalogue.address.to_string();
    let file = match way {
        Inbound::Http => "http_address: 127.0.0.1:0\nconsul_forward_service_name: g\nconsul_refresh_interval: 600s\nforward_timeout: 10s\n".to_owned(),
        Inbound::Unary => "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nconsul_forward_grpc_service_name: g\nconsul_refresh_interval: 600s\nforward_timeout: 10s\n".to_owned(),
        Inbound::Stream => format!("grpc_address: 127.0.0.1:0\nforward_addresses: [{listed}]\nshutdown_timeout: 10s\n"),
    };
    let (proxy, address) = block_in_place(|| {
        let proxy = Proxy::start_with(&file, &[], &[("CONSUL_HTTP_ADDR", &variable)]);
        let address = match way {
            Inbound::Http => proxy.http(),
            Inbound::Unary | Inbound::Stream => proxy.grpc(),
        };
        (proxy, address)
    });
    (peers, proxy, address)
}

async fn disturb(
    what: Disturbance,
    peers: &mut [Peer],
    accepted: &AtomicUsize,
    proxy: &Proxy,
) -> Vec<Peer> {
    let reached = async |count: usize| {
        while accepted.load(Relaxed) < count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let mut old = Vec::new();
    match what {
        Disturbance::Signal(signal) => {
            reached(MILLION * 3 / 10).await;
            proxy.program.signal(signal);
        }
        Disturbance::RollingRestart => {
            for (round, peer) in peers.iter_mut().enumerate() {
                reached(MILLION * (round + 1) / 6).await;
                peer.stop().await;
                let again = Peer::bind(peer.address, peer.speaks, Manner::Takes).await;
                old.push(std::mem::replace(peer, again));
            }
        }
    }
    old
}

async fn a_million(way: Inbound, what: Disturbance) {
    let (mut peers, mut proxy, address) = set_up(way).await;
    let accepted = AtomicUsize::new(0);
    let both = futures_util::future::join(
        load::send(way, address, 0..MILLION, &accepted),
        disturb(what, &mut peers, &accepted, &proxy),
    );
    let ((), old) = tokio::time::timeout(PATIENCE * 10, both).await.unwrap();
    if let Disturbance::RollingRestart = what {
        proxy.program.signal(Signal::SIGTERM);
        assert_eq!(accepted.load(Relaxed), MILLION);
    }
    let line = block_in_place(|| {
        assert_eq!(proxy.program.wait().code(), Some(0));
        proxy.program.wait_for_line("msg=drained")
    });
    let [received, delivered, lost] =
        ["received", "delivered", "lost"].map(|key| number(&line, key));
    let accepted = accepted.load(Relaxed);
    let names = load::arrivals(peers.iter().chain(&old));
    let (arrived, twice) = (
        names.len(),
        names.values().filter(|count| **count > 1).count(),
    );
    println!(
        "{way:?}, {what:?}: accepted {accepted}, received {received} = delivered {delivered} + lost {lost}; arrived {arrived}, twice {twice}"
    );
    assert_eq!(twice, 0);
    assert_eq!(received, delivered + lost, "{line}");
    // What was on its way when the end came may have been taken without its sender hearing of it.
    assert!(received >= accepted, "a batch was accepted and not counted");
    // Some of what is counted as lost may have arrived: nobody said so.
    assert!(arrived >= delivered && arrived <= received);
    if let Disturbance::Signal(_) = what {
        assert_eq!((lost, arrived), (0, received), "{line}");
    }
}

macro_rules! every_protocol {
    ($($name:ident: $way:ident, $what:expr;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            a_million(Inbound::$way, $what).await;
        })+
    };
}

every_protocol! {
    sigterm_in_the_middle_of_posts_loses_nothing: Http, Disturbance::Signal(Signal::SIGTERM);
    sigterm_in_the_middle_of_calls_loses_nothing: Unary, Disturbance::Signal(Signal::SIGTERM);
    sigterm_in_the_middle_of_streams_loses_nothing: Stream, Disturbance::Signal(Signal::SIGTERM);
    sigint_in_the_middle_of_posts_loses_nothing: Http, Disturbance::Signal(Signal::SIGINT);
    sigint_in_the_middle_of_calls_loses_nothing: Unary, Disturbance::Signal(Signal::SIGINT);
    sigint_in_the_middle_of_streams_loses_nothing: Stream, Disturbance::Signal(Signal::SIGINT);
    restarts_in_the_middle_of_posts_lose_only_what_is_counted: Http, Disturbance::RollingRestart;
    restarts_in_the_middle_of_calls_lose_only_what_is_counted: Unary, Disturbance::RollingRestart;
    restarts_in_the_middle_of_streams_lose_only_what_is_counted: Stream, Disturbance::RollingRestart;
}
