//! Prometheus servers behind TLS: certificates are checked, unless `--insecure-certs` says otherwise, and everything works as without.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
};

use shared::testing::{PATIENCE, eventually, pki::Authority};
use support::{
    Mpp,
    client::{connect, read_response, request},
    prometheus::{Manners, Prometheus, Reply},
    rows,
    tls::TlsFront,
};
use tempfile::TempDir;

/// mpp that trusts `authority`, before these addresses.
fn start(authority: &Authority, addresses: &[String], args: &[&str]) -> Mpp {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    fs::write(folder.path().join("endpoints.txt"), addresses.join("\n")).unwrap();
    let files = ["--endpoints-file", "endpoints.txt"];
    let rounds = ["--selection-interval", "1h"];
    Mpp::spawn(
        folder,
        &[&files, &rounds, args].concat(),
        &[("SSL_CERT_FILE", "ca.pem")],
    )
}

fn server() -> Prometheus {
    Prometheus::start("b1", Manners::good("1"))
}

#[test]
fn a_server_of_a_known_authority_is_served_over_connections_that_are_kept() {
    let authority = Authority::new("known");
    let server = server();
    let front = TlsFront::start(&authority, "127.0.0.1", &server);
    let mpp = start(&authority, &[front.url()], &[]);
    mpp.wait_until_answering(1);
    let probes = front.handshakes();
    let mut stream = connect(mpp.port, PATIENCE).unwrap();
    for _ in 0..10 {
        stream
            .write_all(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nquery=up")
            .unwrap();
        let answer = read_response(&mut stream, false).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("mpp.servedby"), Some(front.url().as_str()));
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 10);
    let host = format!("host: 127.0.0.1:{}\r\n", front.port);
    assert!(seen[0].head.to_lowercase().contains(&host), "{seen:?}");
    assert_eq!(seen[0].body, b"query=up");
    // The clients' connection was plain.
    assert!(
        seen[0]
            .head
            .to_lowercase()
            .contains("x-forwarded-proto: http\r\n")
    );
    assert_eq!(front.handshakes() - probes, 1);
}

/// Starts mpp before a server whose certificate must not be taken, and returns why it is not selected.
fn refused(trusted: &Authority, issuer: &Authority, name: &str, args: &[&str]) -> String {
    let server = server();
    let front = TlsFront::start(issuer, name, &server);
    let mpp = start(trusted, &[front.url()], args);
    mpp.wait_for_rounds(1);
    assert_eq!(mpp.get("/x").status, 503);
    assert_eq!(mpp.candidates(), [(front.url(), false)]);
    // Not a byte of a request goes to a server that is not who it should be.
    assert!(server.probes().is_empty() && server.seen().is_empty());
    eventually("the server to notice", || {
        (front.refusals() > 0).then_some(())
    });
    rows(&mpp.status())[0]["reason"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_server_of_an_unknown_authority_is_refused_without_insecure_certs() {
    let (trusted, unknown) = (Authority::new("same name"), Authority::new("same name"));
    for args in [&[][..], &["-k", "false"], &["--insecure-certs", "maybe"]] {
        let reason = refused(&trusted, &unknown, "127.0.0.1", args);
        assert!(reason.contains("invalid peer certificate"), "{reason}");
    }
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new("known");
    let reason = refused(&authority, &authority, "127.0.0.9", &[]);
    assert!(reason.contains("certificate"), "{reason}");
}

#[test]
fn insecure_certs_takes_any_certificate_for_probes_requests_and_tunnels() {
    let (trusted, unknown) = (Authority::new("known"), Authority::new("unknown"));
    for flag in ["-k", "--insecure-certs", "--insecure"] {
        let server = server();
        let front = TlsFront::start(&unknown, "elsewhere.example", &server);
        let mpp = start(&trusted, &[front.url()], &[flag, "true"]);
        mpp.wait_until_answering(1);
        assert_eq!(mpp.candidates(), [(front.url(), true)]);
        assert_eq!(mpp.get("/x").status, 200);
        server.set(|manners| manners.proxied = Reply::Echo);
        let mut stream = connect(mpp.port, PATIENCE).unwrap();
        stream
            .write_all(
                b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .unwrap();
        assert_eq!(read_response(&mut stream, false).unwrap().status, 101);
        stream.write_all(b"quit").unwrap();
        let mut echo = [0; 9];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"echo:quit");
        assert_eq!(front.refusals(), 0, "{flag}");
    }
}

#[test]
fn a_server_that_comes_back_with_a_foreign_certificate_fails_no_request() {
    let (trusted, unknown) = (Authority::new("known"), Authority::new("unknown"));
    let best = Prometheus::start("best", Manners::good("3000"));
    let other = server();
    let front = TlsFront::start(&trusted, "127.0.0.1", &best);
    let mpp = start(&trusted, &[front.url(), other.url()], &[]);
    mpp.wait_until_answering(2);
    assert_eq!(
        mpp.get("/x").header("mpp.servedby"),
        Some(front.url().as_str())
    );
    let (url, port) = (front.url(), front.port);
    drop(front);
    let seen = best.seen().len();
    let front = eventually("the port to be free again", || {
        std::net::TcpListener::bind(("127.0.0.1", port)).ok()?;
        Some(TlsFront::start_on(port, &unknown, "127.0.0.1", &best))
    });
    let answer = mpp.get("/x");
    assert_eq!(
        (answer.status, answer.header("mpp.servedby")),
        (200, Some(other.url().as_str()))
    );
    assert_eq!(best.seen().len(), seen);
    eventually("the server to notice", || {
        (front.refusals() > 0).then_some(())
    });
    let retries = format!("mpp_retries_by_reason_total{{backend=\"{url}\",reason=\"connect\"}}");
    assert_eq!(mpp.metric(&retries), 1.0);
}

#[test]
fn an_answer_that_breaks_off_under_tls_ends_the_clients_connection() {
    let authority = Authority::new("known");
    let server = server();
    let front = TlsFront::start(&authority, "127.0.0.1", &server);
    let mpp = start(&authority, &[front.url()], &[]);
    mpp.wait_until_answering(1);
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart";
    server.set(|manners| manners.proxied = Reply::RawThenClose(cut.to_vec()));
    let answer = request(mpp.port, b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.complete), (200, false));
    assert_eq!(answer.text(), "part");
}
