//! What each signal does to a proxy with one open connection that holds a line.

use std::io::Write as _;

use nix::sys::signal::Signal;
use shared::testing::{eventually, wire::connect};

use crate::{
    How, cases,
    normal::{difference, log_of, recorded_log},
    replay::Replay,
    support::{Certificates, loopback, wait_for_count},
    verdict::batches_of,
};

/// What becomes of it, and the row of the table of fixes where that is not what was recorded.
enum End {
    /// Status 0, and the line is delivered: row 15 where the original dies, or loses it.
    Drained,
    /// It goes on; then it is asked to end. Reloading is ours.
    GoesOn,
    /// The signal's default action: there is no Go here whose stack could be printed.
    Dies,
}

#[test]
fn signals_do_what_was_recorded_or_better() {
    let certificates = Certificates::new();
    let cases = cases(How::Signal);
    for case in &cases {
        let (signal, end) = match case.as_str() {
            "signals/sigint" => (Signal::SIGINT, End::Drained),
            "signals/sigterm" => (Signal::SIGTERM, End::Drained),
            "signals/sighup" => (Signal::SIGHUP, End::GoesOn),
            "signals/sigpipe" => (Signal::SIGPIPE, End::GoesOn),
            "signals/sigusr1" => (Signal::SIGUSR1, End::GoesOn),
            "signals/sigquit" => (Signal::SIGQUIT, End::Dies),
            other => panic!("{other}"),
        };
        replay(&Replay::new(case, &certificates), signal, &end);
    }
    println!("{} signals replayed", cases.len());
}

fn replay(replay: &Replay<'_>, signal: Signal, end: &End) {
    let case = &replay.case;
    let gateway = replay.gateway().unwrap();
    let mut program = replay.spawn();
    program.wait_for_line("Runstats started");
    replay.wait_until_listening(&mut program);
    let mut open = connect(loopback(replay.lines_port));
    open.write_all(b"some.test.data 1337 1469802654\n").unwrap();
    program.signal(signal);
    if matches!(end, End::GoesOn) {
        let mut other = connect(loopback(replay.lines_port));
        other.write_all(b"afterwards 1 1\n").unwrap();
        drop(other);
        wait_for_count(case, 1, || gateway.taken_lines());
        program.signal(Signal::SIGINT);
    }
    eventually(&format!("{case}: the end"), || program.exited());
    let status = program.wait();
    let mut expected = recorded_log(&replay.capture);
    let delivered = match end {
        End::Drained => 1,
        End::GoesOn => 2,
        End::Dies => 0,
    };
    if delivered > 0 {
        assert_eq!(status.code(), Some(0), "{case}");
        expected.insert("Shutting down".to_owned());
        expected.insert("[worker #N] sending batch (1 data points)".to_owned());
        expected.insert("[worker #N] D [gateway] Batch Received".to_owned());
    } else {
        assert_eq!(status.code(), None, "{case}");
        expected.retain(|line| !line.contains("SIGQUIT") && !line.contains(".("));
        expected.retain(|line| !line.ends_with("()"));
    }
    if signal == Signal::SIGHUP {
        expected.insert("key and certificates read again".to_owned());
    }
    assert_eq!(batches_of(&gateway.requests()).len(), delivered, "{case}");
    let got = log_of(program.stderr());
    let wrong = difference("log", &expected, &got);
    assert!(wrong.is_empty(), "{case}: {wrong:#?}");
}
