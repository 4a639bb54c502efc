//! What is done beyond the original on the way to gateways: failover, client certificates, reload, time limits.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use shared::testing::pki::{Authority, named};
use support::{
    Certificates, Proxy, command,
    gateway::{Action, Gateway, Tls, answer, ping_then},
    loopback, port, spawn, wait_for_count,
};

#[test]
fn with_several_addresses_the_first_that_works_is_used_and_the_first_again_when_it_is_back() {
    let first = Gateway::friendly();
    let address = first.address;
    let second = Gateway::friendly();
    let both = format!(
        "{},http://localhost:{}",
        first.flag(),
        second.address.port()
    );
    let proxy = Proxy::start(&[&both]);
    proxy.send(b"one 1 1\n");
    wait_for_count("lines", 1, || first.taken_lines());
    drop(first);
    proxy.send(b"two 1 1\n");
    wait_for_count("lines", 1, || second.taken_lines());
    let first = Gateway::friendly_at(address);
    let mut sent = 0;
    shared::testing::eventually("the first gateway to be used again", || {
        proxy.send(b"more 1 1\n");
        sent += 1;
        wait_for_count("lines", sent, || {
            first.taken_lines() + second.taken_lines() - 1
        });
        (first.taken_lines() > 0).then_some(())
    });
}

#[test]
fn a_client_certificate_is_shown_to_a_gateway_that_wants_one() {
    let certificates = Certificates::new();
    let path = |name: &str| certificates.path(name).display().to_string();
    let clients = Authority::new("clients");
    let folder = tempfile::tempdir().unwrap();
    clients
        .issue(&named(&["proxy"]))
        .write(folder.path(), "client");
    let read = |name: &str| fs::read(certificates.path(name)).unwrap();
    let tls = Tls::build(
        &read("server.pem"),
        &read("server.key"),
        &[&rustls::version::TLS13],
        Some(clients.pem().as_bytes()),
    );
    let gateway = Gateway::start(Some(tls), ping_then(Action::received()));
    let cert = format!("-cert={}", path("ca.pem"));
    let own = |end: &str| {
        folder
            .path()
            .join(format!("client.{end}"))
            .display()
            .to_string()
    };
    let proxy = Proxy::start(&[
        &gateway.flag(),
        &cert,
        &format!("-client-cert={}", own("pem")),
        &format!("-client-key={}", own("key")),
    ]);
    proxy.send(b"a 1 1\n");
    wait_for_count("lines", 1, || gateway.taken_lines());

    let mut without = spawn(command().args([gateway.flag(), cert]));
    assert_eq!(without.wait().code(), Some(1));
    without.wait_for_line("tls: certificate required");
}

#[test]
fn sighup_reads_the_key_again_and_held_batches_go_out() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, "old\n").unwrap();
    let revoked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let script = {
        let revoked = std::sync::Arc::clone(&revoked);
        move |_: &str, _: usize| {
            let now = revoked.load(std::sync::atomic::Ordering::Relaxed);
            Action::Real(if now { "new" } else { "old" })
        }
    };
    let gateway = Gateway::start(None, script);
    let proxy = Proxy::start(&[&gateway.flag(), &format!("-api-key-file={}", key.display())]);
    revoked.store(true, std::sync::atomic::Ordering::Relaxed);
    proxy.send(b"a 1 1\n");
    wait_for_count("refusals", 2, || {
        proxy.metric("batch_retries_total{reason=\"unauthorized\"}")
    });
    fs::write(&key, "new\n").unwrap();
    proxy.program.signal(Signal::SIGHUP);
    wait_for_count("batches", 1, || proxy.metric("batches_sent_total"));
    assert_eq!(proxy.metric("reloads_total{result=\"success\"}"), 1);
    // A key that cannot be read leaves the old one in use.
    fs::remove_file(&key).unwrap();
    proxy.program.signal(Signal::SIGHUP);
    proxy.program.wait_for_line("reload: open ");
    proxy.send(b"b 1 1\n");
    wait_for_count("batches", 2, || proxy.metric("batches_sent_total"));
}

#[test]
fn retry_after_is_honoured() {
    let gateway = Gateway::start(None, |path, number| match (path, number) {
        ("/ping", _) => Action::status(200, "key is valid\n"),
        (_, 1) => Action::Answer(answer(
            503,
            &[("Retry-After".to_owned(), "2".to_owned())],
            b"later\n",
        )),
        _ => Action::received(),
    });
    let proxy = Proxy::start(&[&gateway.flag()]);
    proxy.send(b"a 1 1\n");
    wait_for_count("lines", 1, || gateway.taken_lines());
    let requests = gateway.requests();
    let wait = requests[2].at - requests[1].at;
    assert!(wait >= Duration::from_secs(2), "{wait:?}");
}

#[test]
fn a_batch_that_is_refused_for_too_long_is_dropped_and_the_next_goes_out() {
    let gateway = Gateway::start(None, |path, number| match (path, number) {
        ("/ping", _) => Action::status(200, "key is valid\n"),
        (_, 1..=3) => Action::status(500, "cannot\n"),
        _ => Action::received(),
    });
    let proxy = Proxy::start(&[&gateway.flag(), "-retry-for=1ns", "-workers=1"]);
    proxy.send(b"poison 1 1\n");
    wait_for_count("drops", 1, || {
        proxy.metric("lines_dropped_total{reason=\"retries_exhausted\"}")
    });
    proxy.send(b"a 1 1\n");
    shared::testing::eventually("the next batch", || {
        proxy.send(b"a 1 1\n");
        (gateway.taken_lines() > 0).then_some(())
    });
}

#[test]
fn an_answer_that_comes_before_a_large_body_is_sent_is_read() {
    let gateway = Gateway::start(
        None,
        ping_then(Action::Early(answer(413, &[], b"too big\n"))),
    );
    let proxy = Proxy::start(&[&gateway.flag()]);
    let mut lines = String::new();
    for i in 0..4_999_u64 {
        let noise: String = (0..200)
            .map(|j: u64| {
                char::from(
                    33 + (i.wrapping_mul(j * j + 7).wrapping_mul(2_654_435_761) >> 7) as u8 % 90,
                )
            })
            .collect();
        lines.extend([noise.as_str(), "\n"]);
    }
    proxy.send(lines.as_bytes());
    proxy.program.wait_for_line("[gateway] too big");
    wait_for_count("drops", 4_999, || {
        proxy.metric("lines_dropped_total{reason=\"too_large\"}")
    });
}

#[test]
fn start_anyway_begins_without_a_gateway_and_delivers_when_it_is_there() {
    let address = loopback(port());
    let flag = format!("-gateway=http://localhost:{}", address.port());
    let proxy = Proxy::start(&[&flag, "-start-anyway"]);
    proxy.program.wait_for_line("connect: connection refused");
    proxy.send(b"a 1 1\n");
    wait_for_count("refused connections", 2, || {
        proxy.metric("batch_retries_total{reason=\"connect\"}")
    });
    let gateway = Gateway::friendly_at(address);
    wait_for_count("lines", 1, || gateway.taken_lines());
}

#[test]
fn a_tls_handshake_that_is_never_answered_has_a_limit() {
    let certificates = Certificates::new();
    let listener = std::net::TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut program = spawn(command().args([
        format!("-gateway=https://localhost:{port}"),
        format!("-cert={}", certificates.path("ca.pem").display()),
    ]));
    assert_eq!(program.wait().code(), Some(1));
    program.wait_for_line("net/http: TLS handshake timeout");
}
