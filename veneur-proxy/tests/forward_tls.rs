//! TLS to destinations on real sockets: authorities, names, our own certificate, `https://` members, and reloading.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "support/outbound.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod outbound;
#[path = "support/peers.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod peers;
mod program;
mod support;

use std::{path::Path, sync::Arc};

use nix::sys::signal::Signal;
use shared::{
    testing::{
        eventually,
        pki::{Authority, named},
    },
    tls::{
        H2, HTTP_1_1, Identity, Pem,
        server::{Clients, Server, Settings, Trust},
    },
};
use tokio::task::block_in_place;
use veneur_proxy::observe::Loss;

use outbound::{Outbound, try_start, until};
use peers::{Manner, Peer, Speaks};
use program::{Proxy, client};

/// A destination with TLS on a port of its choice.
async fn peer(speaks: Speaks, identity: Identity, clients: Clients) -> Peer {
    let alpn = match speaks {
        Speaks::Http => HTTP_1_1,
        Speaks::Grpc => H2,
    };
    let mut settings = Settings::new(identity, &[alpn]);
    settings.clients = clients;
    let server = Arc::new(Server::new(settings).unwrap());
    let any = "127.0.0.1:0".parse().unwrap();
    Peer::bind_tls(any, speaks, Manner::Takes, Some(server)).await
}

/// The files of `forward_tls`, those of an authority and a certificate of ours.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(authority: &Authority) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.trust(authority);
        authority
            .issue(&named(&["proxy"]))
            .write(files.path(), "own");
        files
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn trust(&self, authority: &Authority) {
        std::fs::write(self.path().join("ca.pem"), authority.pem()).unwrap();
    }

    fn trusted(&self) -> Trust {
        Trust {
            authorities: Pem::File(self.path().join("ca.pem")),
            names: Vec::new(),
        }
    }

    /// A stream file.
    fn stream(&self, peer: &Peer, more: &str) -> String {
        let folder = self.path().display();
        format!(
            "forward_addresses: ['{}']\nforward_tls: {{enabled: true, ca_file: {folder}/ca.pem, cert_file: {folder}/own.pem, key_file: {folder}/own.key{more}}}\n",
            peer.address
        )
    }
}

fn list() -> Vec<u8> {
    support::bytes("inputs/synthetic300.metriclist.bin")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_goes_to_a_destination_that_wants_a_certificate_and_has_another_name() {
    let authority = Authority::new("testing");
    let files = Files::new(&authority);
    let identity = authority.issue(&named(&["global.internal"])).identity();
    for protocol in ["stream", "unary", "auto"] {
        let wants = Clients::Verified(files.trusted());
        let peer = peer(Speaks::Grpc, identity.clone(), wants).await;
        let file = files.stream(&peer, ", server_name: global.internal");
        let running = Outbound::start(&format!("{file}forward_protocol: {protocol}\n")).await;
        running.list(&list()).await;
        let sums = running.end().await;
        assert_eq!((sums.delivered(), peer.metrics()), (300, 300), "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_of_another_authority_is_a_failed_dial_and_its_metrics_are_counted() {
    let (authority, other) = (Authority::new("testing"), Authority::new("testing"));
    let files = Files::new(&authority);
    let identity = other.issue(&named(&["127.0.0.1"])).identity();
    let peer = peer(Speaks::Grpc, identity, Clients::Ignored).await;
    let more = "http_address: 127.0.0.1:0\ngrpc_address: 127.0.0.1:0\nforward_protocol: stream\n";
    let file = format!("{}{more}", files.stream(&peer, ""));
    let mut proxy = block_in_place(|| Proxy::start(&file));
    let (http, grpc) = block_in_place(|| (proxy.http(), proxy.grpc()));
    block_in_place(|| {
        let failed = proxy.program.wait_for_line("failed to dial destination");
        assert!(failed.contains("certificate"), "{failed}");
        assert_eq!(program::get(http, "/healthcheck").status, 503);
    });
    let taken = client::call(
        grpc,
        "/forwardrpc.Forward/SendMetrics",
        client::framed(&list()),
    );
    assert_eq!(taken.await.code, 0);
    block_in_place(|| {
        // There is nobody in the ring.
        let loss = r#"reason="no-destination""#;
        eventually("the loss on the page", || {
            let page = program::get(http, "/metrics").text();
            let lost = |line: &&str| line.contains(loss) && line.ends_with(" 300");
            page.lines().any(|line| lost(&line)).then_some(())
        });
        // From here on it is trusted, and dialled again by itself.
        files.trust(&other);
        proxy.program.signal(Signal::SIGHUP);
        proxy.program.wait_for_line("reloaded the files of TLS");
        eventually("health", || {
            (program::get(http, "/healthcheck").status == 204).then_some(())
        });
    });
    let taken = client::call(
        grpc,
        "/forwardrpc.Forward/SendMetrics",
        client::framed(&list()),
    );
    assert_eq!(taken.await.code, 0);
    until("what came after", || peer.metrics() == 300).await;
    block_in_place(|| {
        // Broken files change nothing.
        std::fs::write(files.path().join("ca.pem"), "no certificate").unwrap();
        proxy.program.signal(Signal::SIGHUP);
        proxy
            .program
            .wait_for_line("cannot reload the files of TLS");
        assert_eq!(program::get(http, "/healthcheck").status, 204);
        assert_eq!(proxy.program.terminate().code(), Some(0));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_members_are_posted_to_over_tls_and_wrong_names_are_losses() {
    let authority = Authority::new("testing");
    let files = Files::new(&authority);
    for (name, delivered) in [("127.0.0.1", 300), ("elsewhere", 0)] {
        let identity = authority.issue(&named(&[name])).identity();
        let peer = peer(Speaks::Http, identity, Clients::Ignored).await;
        let running = Outbound::start(&format!(
            "forward_address: https://{}\nforward_timeout: 2s\nforward_tls_ca_file: {}/ca.pem\n",
            peer.address,
            files.path().display()
        ))
        .await;
        let mut batch = running
            .destinations
            .batch(veneur_proxy::forward::Inbound::Http, None);
        let body = support::bytes("inputs/synthetic300.json");
        let text = veneur_proxy::json_metric::ImportBody::open(b"", &body, 1 << 20).unwrap();
        batch.import(&text).unwrap();
        running.destinations.accept(batch).await;
        let sums = running.end().await;
        assert_eq!(
            (sums.delivered(), peer.metrics() as u64),
            (delivered, delivered)
        );
        let lost = sums.lost().get(&Loss::Timeout).copied().unwrap_or(0);
        assert_eq!(lost, 300 - delivered);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let authority = Authority::new("testing");
    let files = Files::new(&authority);
    let peer = Peer::grpc().await;
    std::fs::write(files.path().join("own.key"), "nothing").unwrap();
    let refused = try_start(&files.stream(&peer, ""), &[], None).await;
    let text = refused.err().unwrap().to_string();
    assert!(
        text.starts_with("cannot set up TLS to destinations: "),
        "{text}"
    );
    assert!(text.contains("own.key"), "{text}");
}
