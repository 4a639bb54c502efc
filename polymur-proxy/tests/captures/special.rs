//! Captures with more than one server, or with a client that never stops.

use std::{io::Write as _, time::Duration};

use nix::sys::signal::Signal;
use shared::testing::wire::connect;

use crate::{
    How, cases,
    normal::{difference, log_of, recorded_log},
    recorded::capture,
    replay::Replay,
    support::{
        Certificates, command,
        gateway::{Action, Gateway, ping_then},
        loopback, port, spawn,
    },
};

/// More than any system buffers for a connection of loopback.
const FLOOD: usize = 64 << 20;

#[test]
fn a_gateway_that_never_answers_makes_the_sender_wait_as_recorded() {
    let certificates = Certificates::new();
    let [case] = &cases(How::Flood)[..] else {
        panic!("one capture");
    };
    let mut replay = Replay::new(case, &certificates);
    replay.words.push("-drain-timeout=1s".to_owned());
    let (_, port) = replay.gateway_port.unwrap();
    let gateway = Gateway::start_at(loopback(port), replay.tls(), ping_then(Action::Hang));
    let mut program = replay.spawn();
    program.wait_for_line("Runstats started");
    replay.wait_until_listening(&mut program);
    let mut sender = connect(loopback(replay.lines_port));
    sender
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let block = b"back.pressure.metric.name 1 1500000000\n".repeat(1_000);
    let mut accepted = 0;
    // As recorded: until the window stays shut for 2 s.
    while sender.write_all(&block).is_ok() {
        accepted += block.len();
        assert!(accepted < FLOOD, "nothing held the sender back");
    }
    program.wait_for_line("Incoming queue capacity 2 reached");
    let first = gateway
        .requests()
        .into_iter()
        .find(|it| it.path() == "/ingest");
    let body = first.unwrap().text().unwrap();
    assert_eq!(body, block.repeat(5), "the first batch holds 5000 lines");
    program.signal(Signal::SIGINT);
    assert_eq!(program.wait().code(), Some(0));
    let mut got = log_of(program.stderr());
    // Row 15: what cannot be delivered is counted.
    got.retain(|line| !line.starts_with("gave up delivering"));
    let wrong = difference("log", &recorded_log(&replay.capture), &got);
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{case}: {accepted} bytes accepted; the original took 5000280");
}

#[test]
fn http_proxy_is_used_without_cert_as_recorded() {
    let [case, other_side] = &cases(How::Proxied)[..] else {
        panic!("two captures");
    };
    let (here, there) = (capture(case), capture(other_side));
    let proxy_server = Gateway::start(None, |_, _| Action::status(200, "via proxy"));
    let lines = loopback(port());
    let mut program = spawn(
        command()
            .env("HTTP_PROXY", format!("http://{}", proxy_server.address))
            .args([
                "-gateway=http://gw.example:23071".to_owned(),
                "-api-key=test-key".to_owned(),
                format!("-listen-addr={lines}"),
                format!("-stat-addr=127.0.0.1:{}", port()),
            ]),
    );
    connect(lines)
        .write_all(b"some.test.data 1337 1469802654\n")
        .unwrap();
    program.wait_for_line("[gateway] via proxy");
    program.signal(Signal::SIGINT);
    assert_eq!(program.wait().code(), Some(0));
    let without_length = |head: &str| {
        let lines = head
            .split("\r\n")
            .filter(|line| !line.starts_with("Content-Length"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let requests = proxy_server.requests();
    let recorded = there["requests"].as_array().unwrap();
    assert_eq!(requests.len(), recorded.len());
    for (request, recorded) in requests.iter().zip(recorded) {
        let expected = recorded["head"].as_str().unwrap();
        assert_eq!(without_length(&request.head), without_length(expected));
    }
    let body = requests[1].text().unwrap();
    assert_eq!(body, b"some.test.data 1337 1469802654\n");
    let got = log_of(program.stderr());
    let wrong = difference("log", &recorded_log(&here), &got);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
