//! The demo as its users run it.

use std::net::{SocketAddr, UdpSocket};

use nix::sys::signal::Signal;
use shared::testing::process::Program;

#[test]
fn everything_arrives_where_the_ring_says() {
    let mut demo = Program::start(env!("CARGO_BIN_EXE_demo"), [] as [&str; 0]);
    let status = demo.wait();
    let (table, errors) = (demo.stdout(), demo.stderr());
    assert!(status.success(), "{table:#?} {errors:#?}");
    assert_eq!(
        table.last().map(String::as_str),
        Some("PASSED: everything arrived where it was expected")
    );
    assert_eq!(errors, [] as [String; 0]);
}

#[test]
fn keep_running_leaves_it_up_until_ctrl_c() {
    let mut demo = Program::start(env!("CARGO_BIN_EXE_demo"), ["--keep-running"]);
    demo.wait_for_line("Ctrl-C");
    let proxy: SocketAddr = demo
        .wait_for_line("lines by UDP")
        .split_whitespace()
        .last()
        .and_then(|address| address.parse().ok())
        .expect("the line ends with the address");
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"visitor:1|c", proxy).unwrap();
    demo.signal(Signal::SIGINT);
    assert!(demo.wait().success(), "{:#?}", demo.stdout());
    let received = demo.wait_for_line("received by the proxy");
    assert!(received.contains(" 140001 "), "{received}");
}
