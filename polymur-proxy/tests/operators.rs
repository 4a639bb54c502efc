//! What operators see: the rate in the log, `/metrics` and `/healthz`, and why a proxy does not start. Command lines, the
//! console output, runstats and own metrics are in `captures`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use shared::testing::PATIENCE;
use support::{Proxy, command, fetch, gateway::Gateway, numbered, spawn, wait_for_count};

#[test]
fn the_rate_is_logged_every_five_seconds_in_which_lines_came() {
    let gateway = Gateway::friendly();
    let proxy = Proxy::start(&[&gateway.flag()]);
    proxy.send(b"a 1 1\n\nb 2 2\n");
    let line = proxy.program.wait_for_line("Last ");
    assert!(
        line.contains("s: Received 3 data points | Avg: 0."),
        "{line}"
    );
    assert!(line.ends_with("/sec."), "{line}");
}

#[test]
fn metrics_and_health_are_served_on_metrics_addr() {
    let gateway = Gateway::friendly();
    let proxy = Proxy::start(&[&gateway.flag()]);
    proxy.send(&numbered(0..7_000));
    wait_for_count("lines", 7_000, || proxy.metric("lines_sent_total"));
    assert_eq!(proxy.metric("batches_sent_total"), 2);
    assert!(proxy.metric("raw_bytes_sent_total") > 2 * proxy.metric("gzip_bytes_sent_total"));
    assert_eq!(proxy.metric("queue_batches"), 0);
    let up = format!(
        "gateway_up{{gateway=\"http://localhost:{}\"}}",
        gateway.address.port()
    );
    assert_eq!(proxy.metric(&up), 1);
    assert!(fetch(proxy.metrics, "/healthz").ends_with("\r\n\r\nok\n"));
}

#[test]
fn a_key_that_the_gateway_does_not_know_ends_it_with_the_gateways_words() {
    let gateway = Gateway::start(None, |_, _| support::gateway::Action::Real("123"));
    let mut program = spawn(command().args([gateway.flag(), "-api-key=wrong".to_owned()]));
    let began = std::time::Instant::now();
    assert_eq!(program.wait().code(), Some(1));
    assert!(began.elapsed() < PATIENCE);
    program.wait_for_line("[gateway]: invalid key");
}
