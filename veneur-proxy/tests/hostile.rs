//! What nobody should send: configurations, bodies and messages that are broken at random. Nothing panics, memory keeps to
//! its bounds, and the program goes on. (JSON, zlib and protobuf by themselves are in `import.rs`, `wire.rs`, `convert.rs`.)

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
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use flate2::{Compression, write::ZlibEncoder};
use proptest::prelude::*;
use tokio::task::block_in_place;
use veneur_proxy::{
    config::{self, UnknownKeys},
    proto::forwardrpc::{SEND_METRICS, SEND_METRICS_V2},
};

use peers::Peer;
use program::{Proxy, client, get, post};

const DUAL: &str = "debug: yes\nhttp_address: \":8127\"\ngrpc_address: '127.0.0.1:8128'\nconsul_forward_service_name: g\nconsul_refresh_interval: 10s\nmax_idle_conns: 0x10\nsentry_dsn: ~\nforward_timeout: 1m30s\nignore_tags:\n  - {kind: regex, value: ^a, unset: off}\n  - kind: prefix\n    value: |\n      host\nforward_tls_ca_file: /etc/ca.pem\n";
const STREAM: &str = include_str!("golden/http/v14-config.input.yaml");

/// A piece of YAML that has broken parsers before.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("&a [*a, *a]".to_owned()),
        Just("!!binary ////".to_owned()),
        Just("{{ . }}".to_owned()),
        Just("<<: {a: b}".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("? : -".to_owned()),
        Just("\t".to_owned()),
        Just("|2-\n x".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("1e999ns".to_owned()),
        Just("[".repeat(2000)),
        Just("{a: ".repeat(2000)),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_configurations_are_read_or_refused(
        stream in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20, piece()), 1..6),
    ) {
        let mut text: Vec<char> = if stream { STREAM } else { DUAL }.chars().collect();
        for (place, cut, piece) in edits {
            let at = place.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.chars());
        }
        let text = String::from_iter(text);
        let _outcome = config::load(&text, &|_| None, None, UnknownKeys::Report).is_ok();
    }

    #[test]
    fn any_text_is_read_or_refused_as_a_configuration(text in any::<String>()) {
        let _outcome = config::load(&text, &|_| None, None, UnknownKeys::Refuse).is_ok();
    }
}

#[test]
fn aliases_that_multiply_are_refused_or_stay_small() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        let many = vec![format!("*a{before}"); 9].join(", ");
        text += &[
            "a",
            &level.to_string(),
            ": &a",
            &level.to_string(),
            " [",
            &many,
            "]\n",
        ]
        .concat();
    }
    text.push_str("forward_addresses: *a11\n");
    let started = std::time::Instant::now();
    assert!(config::load(&text, &|_| None, None, UnknownKeys::Report).is_err());
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// A stream file before one destination, with both kinds of destinations in a dual one.
fn dual(peer: &Peer) -> String {
    format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_address: http://{0}\ngrpc_forward_address: {0}\n",
        peer.address
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zlib_bomb_of_a_gigabyte_is_refused_in_bounded_memory() {
    let peer = Peer::http().await;
    block_in_place(|| {
        let mut proxy = Proxy::start(&dual(&peer));
        let address = proxy.http();
        let mut bomb = ZlibEncoder::new(Vec::new(), Compression::fast());
        let spaces = vec![b' '; 1 << 20];
        for _ in 0..1024 {
            bomb.write_all(&spaces).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        let before = proxy.memory();
        for _ in 0..4 {
            let answer = post(address, "Content-Encoding: deflate\r\n", &bomb);
            assert_eq!(answer.status, 413, "{}", answer.text());
        }
        let after = proxy.memory();
        let grown = (after - before) >> 20;
        println!(
            "four bombs of {} bytes for a gigabyte each: {grown} MiB more at most",
            bomb.len()
        );
        // 64 MiB are inflated of each; threads and their allocator may keep some of that for a while.
        assert!(grown < 512, "{grown} MiB");
        assert_eq!(get(address, "/healthcheck").status, 200);
        assert_eq!(proxy.program.terminate().code(), Some(0));
    });
}

/// Changes bytes, cuts, and repeats parts.
fn mutate(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..8) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.usize(..bytes.len());
        match rng.u8(..4) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes.truncate(at),
            2 => {
                let end = (at + rng.usize(..64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.insert(at, rng.u8(..)),
        }
    }
}

/// Sends bytes as they are; the answer, if any, does not matter.
fn throw(address: SocketAddr, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return;
    };
    let _written = stream.write_all(bytes).is_ok();
    let _ended = stream.shutdown(std::net::Shutdown::Write).is_ok();
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let _read = stream.read(&mut [0; 512]).is_ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_goes_on_after_whatever_was_sent() {
    let peer = Peer::http().await;
    let mut proxy = block_in_place(|| Proxy::start(&dual(&peer)));
    let (http, grpc) = block_in_place(|| (proxy.http(), proxy.grpc()));
    let mut rng = fastrand::Rng::with_seed(6);
    let request = [
        &b"POST /import HTTP/1.1\r\nHost: p\r\nContent-Encoding: deflate\r\nContent-Length: 900\r\n\r\n"[..],
        &support::bytes("local-captures/v13.2.0-http/request.body.deflate"),
    ]
    .concat();
    let list = support::bytes("local-captures/v13.2.0-grpc/metriclist.bin");
    block_in_place(|| {
        for _ in 0..150 {
            for (address, start) in [
                (http, &request[..]),
                (grpc, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x01\x05\0\0\0\x01"[..]),
            ] {
                let mut bytes = start.to_vec();
                mutate(&mut bytes, &mut rng);
                throw(address, &bytes);
            }
        }
    });
    for round in 0..200 {
        let mut bytes = list.clone();
        mutate(&mut bytes, &mut rng);
        let framed = client::framed(&bytes);
        let path = [SEND_METRICS, SEND_METRICS_V2][round % 2];
        let outcome = client::call(grpc, path, framed).await;
        // OK, or the code of what cannot be read.
        assert!(matches!(outcome.code, 0 | 13), "{outcome:?}");
    }
    block_in_place(|| {
        assert_eq!(get(http, "/healthcheck").status, 200);
        let whole = support::bytes("inputs/synthetic300.json");
        assert_eq!(post(http, "", &whole).status, 202);
        assert_eq!(proxy.program.terminate().code(), Some(0));
        let panics = proxy.program.stderr();
        assert!(
            !panics.iter().any(|line| line.contains("panicked")),
            "{panics:#?}"
        );
    });
}
