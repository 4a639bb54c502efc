//! gRPC through the real program: broken calls are answered as recorded, and health, TLS and its reloading work.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;

use shared::testing::{self, eventually};
use tokio::task::block_in_place;
use veneur_proxy::proto::forwardrpc::{SEND_METRICS, SEND_METRICS_V2};

use peers::Peer;
use program::{
    Proxy,
    client::{call, call_with, framed, ok},
    ready,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_calls_end_as_recorded_and_alone() {
    let peer = Peer::grpc().await;
    for generation in ["forward_addresses", "grpc_forward_address"] {
        let value = if generation == "forward_addresses" {
            format!("['{}']", peer.address)
        } else {
            peer.address.to_string()
        };
        let file = format!(
            "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\n{generation}: {value}\n"
        );
        let mut proxy = block_in_place(|| Proxy::start(&file));
        let address = block_in_place(|| proxy.grpc());
        let mut checked = 0;
        let mut f =
            async |path: &str, headers: &[(&str, &str)], body: Vec<u8>, code: u32, text: &str| {
                let outcome = call_with(address, path, headers, body).await;
                assert_eq!(outcome.code, code, "{path} {text}: {outcome:?}");
                assert!(outcome.text.contains(text), "{path} {text}: {outcome:?}");
                checked += 1;
            };
        for method in [SEND_METRICS, SEND_METRICS_V2] {
            f(
                method,
                &[("grpc-encoding", "gzip")],
                framed(b"x"),
                12,
                "grpc: Decompressor is not installed for grpc-encoding \"gzip\"",
            )
            .await;
            let large = framed(&vec![0; (4 << 20) + 1]);
            f(
                method,
                &[],
                large,
                8,
                "grpc: received message larger than max (4194305 vs. 4194304)",
            )
            .await;
            f(method, &[], framed(b"\x0a\x05x"), 13, "").await;
            f(
                method,
                &[],
                framed(b"whole")[..7].to_vec(),
                13,
                "unexpected EOF",
            )
            .await;
            f(method, &[("grpc-encoding", "identity")], framed(b""), 0, "").await;
        }
        // No stream is too short; a call without its message is broken.
        f(SEND_METRICS_V2, &[], Vec::new(), 0, "").await;
        f(SEND_METRICS, &[], Vec::new(), 13, "").await;
        f(
            "/forwardrpc.Forward/Nope",
            &[],
            framed(b""),
            12,
            "unknown method Nope for service forwardrpc.Forward",
        )
        .await;
        f(
            "/grpc.reflection.v1.ServerReflection/Info",
            &[],
            framed(b""),
            12,
            "unknown service",
        )
        .await;
        // The largest message that is allowed is.
        let metric = [&b"\x0a\xfb\xff\xff\x01"[..], &vec![b'n'; (4 << 20) - 5]].concat();
        assert_eq!(metric.len(), 4 << 20);
        f(SEND_METRICS_V2, &[], framed(&metric), 0, "").await;
        println!("{generation}: {checked} calls");
        block_in_place(|| proxy.program.terminate());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_before_a_corrupt_message_of_a_stream_are_taken() {
    let peer = Peer::grpc().await;
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_addresses: ['{}']\n",
        peer.address
    );
    let mut proxy = block_in_place(|| Proxy::start(&file));
    let (http, address) = block_in_place(|| (proxy.http(), proxy.grpc()));
    ready(http);
    let body = [
        framed(b"\x0a\x01a"),
        framed(b"\x0a\x01b"),
        framed(b"\x0a\x05x"),
    ]
    .concat();
    assert_eq!(call(address, SEND_METRICS_V2, body).await.code, 13);
    block_in_place(|| {
        eventually("two metrics", || {
            (peer.messages(SEND_METRICS_V2).len() == 2).then_some(())
        });
    });
    // A name that is not UTF-8 passes.
    assert_eq!(
        call(address, SEND_METRICS, framed(b"\x0a\x03\x0a\x01\xff")).await,
        ok()
    );
    block_in_place(|| {
        eventually("the third", || {
            (peer.messages(SEND_METRICS_V2).last()? == &b"\x0a\x01\xff"[..]).then_some(())
        });
        proxy.program.terminate();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_health_says_whether_metrics_can_be_taken() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let peer = Peer::grpc().await;
    let start = |address: &str| {
        let file = format!(
            "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_addresses: ['{address}']\ndial_timeout: 200ms\n"
        );
        block_in_place(|| Proxy::start(&file))
    };
    let mut good = start(&peer.address.to_string());
    ready(block_in_place(|| good.http()));
    let address = block_in_place(|| good.grpc());
    let serving = call(address, CHECK, framed(b"")).await;
    assert_eq!((serving.code, &serving.body[5..]), (0, &b"\x08\x01"[..]));
    let named = call(address, CHECK, framed(b"\x0a\x12forwardrpc.Forward")).await;
    assert_eq!((named.code, &named.body[5..]), (0, &b"\x08\x01"[..]));
    assert_eq!(call(address, CHECK, framed(b"\x0a\x01x")).await.code, 5);
    let mut bad = start("127.0.0.1:1");
    let address = block_in_place(|| bad.grpc());
    let down = call(address, CHECK, framed(b"")).await;
    assert_eq!((down.code, &down.body[5..]), (0, &b"\x08\x02"[..]));
    block_in_place(|| {
        good.program.terminate();
        bad.program.terminate();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_served_checks_clients_and_is_reloaded_on_sighup() {
    use shared::{
        testing::pki::{Authority, named},
        tls::{H2, Pem, client},
    };
    let peer = Peer::grpc().await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("testing");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ca.pem"), authority.pem()).unwrap();
    authority
        .issue(&named(&["localhost"]))
        .write(folder.path(), "server");
    let identity = authority
        .issue(&named(&["client"]))
        .write(folder.path(), "client");
    let tls = format!(
        "tls: {{ca_file: {0}/ca.pem, cert_file: {0}/server.pem, key_file: {0}/server.key, client_auth: require}}",
        folder.path().display()
    );
    let file = format!(
        "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\ngrpc_tls_address: 127.0.0.1:0\nforward_addresses: ['{}']\n{tls}\n",
        peer.address
    );
    let mut proxy = block_in_place(|| Proxy::start(&file));
    let address = block_in_place(|| proxy.grpc_tls());
    let settings = |authority: &Authority, identity| {
        let mut settings = client::Settings::SYSTEM;
        std::fs::write(path("trusted.pem"), authority.pem()).unwrap();
        settings.roots = client::Roots::Authorities(Pem::File(path("trusted.pem")));
        settings.identity = identity;
        settings.alpn = vec![H2];
        client::Client::new(&settings).unwrap()
    };
    let connect = async |client: &client::Client| {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        client.connect("localhost", stream, testing::PATIENCE).await
    };
    let good = settings(&authority, Some(identity.clone()));
    let stream = connect(&good).await.unwrap();
    let outcome =
        program::client::call_on(stream, SEND_METRICS, &[], framed(b"\x0a\x03\x0a\x01x")).await;
    assert_eq!(outcome, ok());
    // Without a certificate nothing comes through; TLS 1.3 tells the client only afterwards.
    let anonymous = settings(&authority, None);
    if let Ok(mut stream) = connect(&anonymous).await {
        let refused = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
        assert!(!matches!(refused, Ok(1..)), "{refused:?}");
    }
    // Another authority signs the server's new certificate.
    let other = Authority::new("other");
    other
        .issue(&named(&["localhost"]))
        .write(folder.path(), "server");
    connect(&settings(&other, Some(identity.clone())))
        .await
        .unwrap_err();
    proxy.program.signal(nix::sys::signal::Signal::SIGHUP);
    block_in_place(|| proxy.program.wait_for_line("reloaded the files of TLS"));
    connect(&settings(&other, Some(identity))).await.unwrap();
    block_in_place(|| assert_eq!(proxy.program.terminate().code(), Some(0)));
}
