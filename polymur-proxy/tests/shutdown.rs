//! The end of the process: everything that was accepted is delivered or spooled, in bounded time.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use nix::sys::signal::Signal;
use shared::testing::wire::connect;
use support::{
    Proxy,
    gateway::{Action, Gateway, ping_then},
    numbered, wait_for_count,
};

const SENDERS: u64 = 4;

#[test]
fn sigterm_and_sigint_under_load_deliver_every_accepted_line() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let gateway = Gateway::friendly();
        let mut proxy = Proxy::start(&[&gateway.flag(), "-verbose=false", "-drain-timeout=60s"]);
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (address, stop) = (proxy.lines, Arc::clone(&stop));
                thread::spawn(move || {
                    let mut stream = connect(address);
                    let block = numbered(0..100);
                    // Until the proxy hangs up.
                    while !stop.load(Relaxed) && stream.write_all(&block).is_ok() {}
                })
            })
            .collect();
        wait_for_count("lines", 50_000, || proxy.metric("lines_sent_total"));
        let began = Instant::now();
        proxy.program.signal(signal);
        let status = proxy.wait();
        let took = began.elapsed();
        stop.store(true, Relaxed);
        for sender in senders {
            sender.join().unwrap();
        }
        let summary = proxy.summary();
        assert!(status.success());
        proxy.program.wait_for_line("Shutting down");
        println!(
            "{signal}: {} lines accepted, {} sent, {} arrived, {} cut by the end of their connection, {took:.1?}",
            summary.taken,
            summary.sent,
            gateway.taken_lines(),
            summary.dropped
        );
        assert_eq!(summary.taken, summary.sent + summary.dropped);
        assert_eq!(gateway.taken_lines(), summary.sent);
        // A connection that was cut within a line has lost that line, and its sender knows.
        assert!(summary.dropped <= SENDERS);
    }
}

#[test]
fn an_open_connection_with_one_line_is_flushed() {
    let gateway = Gateway::friendly();
    let mut proxy = Proxy::start(&[&gateway.flag()]);
    let mut stream = connect(proxy.lines);
    stream.write_all(b"a.b 1 2\nhalf a li").unwrap();
    wait_for_count("bytes", 17, || proxy.metric("bytes_received_total"));
    let (status, summary) = proxy.finish();
    assert!(status.success());
    // Half a line is not taken for a line.
    assert_eq!((summary.taken, summary.sent, summary.dropped), (2, 1, 1));
    assert_eq!(gateway.taken(), b"a.b 1 2\n");
}

#[test]
fn the_end_comes_in_bounded_time_when_the_gateway_hangs() {
    let gateway = Gateway::start(None, ping_then(Action::Hang));
    let mut proxy = Proxy::start(&[
        &gateway.flag(),
        "-drain-timeout=500ms",
        "-queue-cap=1",
        "-workers=1",
    ]);
    proxy.send(&numbered(0..20_000));
    wait_for_count("requests", 1, || gateway.ingests() as u64);
    let (status, summary) = proxy.finish();
    assert!(status.success());
    assert_eq!((summary.taken, summary.sent), (20_000, 0));
    assert_eq!(summary.dropped, 20_000);
    proxy
        .program
        .wait_for_line("gave up delivering lines=20000");
}

#[test]
fn sighup_does_not_end_it() {
    let gateway = Gateway::friendly();
    let proxy = Proxy::start(&[&gateway.flag()]);
    proxy.program.signal(Signal::SIGHUP);
    proxy
        .program
        .wait_for_line("key and certificates read again");
    for ignored in [Signal::SIGUSR1, Signal::SIGPIPE] {
        proxy.program.signal(ignored);
    }
    proxy.send(b"a 1 1\n");
    wait_for_count("lines", 1, || gateway.taken_lines());
}
