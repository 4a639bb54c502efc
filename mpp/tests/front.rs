//! The end of a front that was told to stop, and a beginning that must not be.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod support;

use std::{fs, net::TcpStream, thread};

use nix::sys::signal::Signal;
use shared::testing::{eventually, process::Program};
use support::{
    Mpp,
    client::request,
    prometheus::{Gate, Manners, Prometheus, Reply},
};
use tempfile::TempDir;

/// mpp before one server, with a request under way that the server answers as `reply` says.
fn with_a_request_under_way(
    reply: Reply,
    args: &[&str],
) -> (
    Prometheus,
    Mpp,
    thread::JoinHandle<Option<support::client::Response>>,
) {
    let server = Prometheus::start("b1", Manners::good("1"));
    let mpp = Mpp::start(&server.url(), args);
    mpp.wait_until_answering(1);
    server.set(|manners| manners.proxied = reply);
    let port = mpp.port;
    let client = thread::spawn(move || request(port, b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"));
    eventually("the request to be under way", || {
        (!server.seen().is_empty()).then_some(())
    });
    (server, mpp, client)
}

#[test]
fn sigterm_with_drain_delay_tells_load_balancers_first_and_lets_requests_finish() {
    let gate = Gate::default();
    let (_server, mut mpp, client) = with_a_request_under_way(
        Reply::Held(gate.clone(), Box::new(Reply::Served)),
        &["--drain-delay", "3s"],
    );
    mpp.program.signal(Signal::SIGTERM);
    eventually("health to say so", || {
        (mpp.get("/mpp/health").status == 503).then_some(())
    });
    eventually("the listener to close", || {
        TcpStream::connect(("127.0.0.1", mpp.port))
            .is_err()
            .then_some(())
    });
    gate.open();
    assert_eq!(client.join().unwrap().unwrap().status, 200);
    let status = mpp.program.wait();
    assert!(status.success(), "{status:?}");
}

#[test]
fn sigterm_cuts_what_takes_longer_than_drain_timeout() {
    let (_server, mut mpp, client) =
        with_a_request_under_way(Reply::Hang, &["--drain-timeout", "300ms"]);
    assert!(mpp.program.terminate().success());
    assert!(client.join().unwrap().is_none());
    mpp.program.wait_for_line("still under way");
}

#[test]
fn a_bad_web_config_file_names_itself_and_nothing_starts() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("web.yml"), "tls_server_config: [").unwrap();
    let mut command = support::command(folder.path(), &[]);
    command.args([
        "--endpoints-file",
        "e",
        "--port",
        "0",
        "--listen-address",
        "127.0.0.1",
        "--web-config-file",
        "web.yml",
    ]);
    let mut program = Program::spawn(&mut command);
    assert_eq!(program.wait().code(), Some(1));
    program.wait_for_line("web.yml");
}
