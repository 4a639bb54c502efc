//! Real proxy against real gateway: ours against a gateway that does the same.

use std::{
    collections::BTreeSet,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use nix::sys::signal::Signal;
use serde_json::Value;
use shared::testing::wire::connect;

use crate::{
    How, cases,
    replay::Replay,
    support::{
        Certificates,
        gateway::{Action, Gateway},
        loopback, wait_for_count,
    },
};

/// The key that the gateways of these captures know.
const DEV_KEY: &str = "123";
const REVOKED_KEY: &str = "2f1e1518c317c3b11a6184ab";

#[test]
fn end_to_end_captures_deliver_what_was_recorded_or_more() {
    let certificates = Certificates::new();
    let mut wrong = Vec::new();
    let cases = cases(How::EndToEnd);
    for case in &cases {
        let found = replay(case, &certificates);
        wrong.extend(found.into_iter().map(|text| format!("{case}: {text}")));
    }
    println!("{} end-to-end captures replayed", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Plays the steps, and returns what is different from what was recorded.
fn replay(case: &str, certificates: &Certificates) -> Vec<String> {
    let replay = Replay::new(case, certificates);
    let (_, port) = replay.gateway_port.unwrap();
    let revoked = Arc::new(AtomicBool::new(false));
    let start = || {
        let revoked = Arc::clone(&revoked);
        let own_key = case == "e2e/key_revoked";
        Gateway::start_at(loopback(port), replay.tls(), move |_, _| {
            match (own_key, revoked.load(Relaxed)) {
                (false, _) => Action::Real(DEV_KEY),
                (true, false) => Action::Real(REVOKED_KEY),
                (true, true) => Action::Real("none"),
            }
        })
    };
    let mut gateway = Some(start());
    let mut program = replay.spawn();
    let (mut before, mut sent, mut due) = (Vec::new(), BTreeSet::new(), 0);
    let arrived = |before: &[u8], gateway: &Option<Gateway>| {
        let now = gateway.as_ref().map_or(Vec::new(), Gateway::taken);
        [before, &now].concat()
    };
    if replay.expected_exit() == 0 {
        program.wait_for_line("Runstats started");
        replay.wait_until_listening(&mut program);
        for step in replay.capture["steps"].as_array().unwrap() {
            match Step::read(step.as_str().unwrap()) {
                Step::Connections(lines) => {
                    for text in lines {
                        let ingests = gateway.as_ref().map_or(0, Gateway::ingests);
                        connect(loopback(replay.lines_port))
                            .write_all(text.as_bytes())
                            .unwrap();
                        sent.extend(text.lines().map(str::to_owned));
                        if let Some(gateway) = &gateway {
                            wait_for_count("requests", ingests as u64 + 1, || {
                                gateway.ingests() as u64
                            });
                        }
                    }
                    if !revoked.load(Relaxed) {
                        due = sent.len();
                    }
                }
                Step::Stop => {
                    before = arrived(&before, &gateway);
                    gateway = None;
                }
                Step::Start => {
                    program.wait_for_line("connect: connection refused");
                    gateway = Some(start());
                }
                Step::Revoke => revoked.store(true, Relaxed),
            }
        }
        if revoked.load(Relaxed) {
            // Each batch is refused once: three of one line, and one of many.
            wait_for_count("refusals", 4, || {
                let lines = program.stderr();
                lines
                    .iter()
                    .filter(|line| line.ends_with("invalid key"))
                    .count() as u64
            });
        }
        wait_for_count(case, due as u64, || {
            memchr::memchr_iter(b'\n', &arrived(&before, &gateway)).count() as u64
        });
        program.signal(Signal::SIGINT);
    }
    let status = program.wait();
    let mut wrong = Vec::new();
    if status.code().map(i64::from) != Some(replay.expected_exit()) {
        wrong.push(format!("exit: {status}"));
    }
    let got: Vec<String> = String::from_utf8(arrived(&before, &gateway))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    // What the real gateway passed on, and all that was sent where it lost everything (row 12).
    let recorded = replay.capture["destination_lines"].as_u64().unwrap() as usize;
    let expected = if case == "e2e/trailing_slash" {
        sent.len()
    } else {
        recorded
    };
    let distinct: BTreeSet<String> = got.iter().cloned().collect();
    if (got.len(), distinct.len()) != (expected, expected) || !distinct.is_subset(&sent) {
        wrong.push(format!(
            "{} lines arrived, {} distinct, expected {expected}",
            got.len(),
            distinct.len()
        ));
    }
    for line in replay.capture["destination_first_lines"]
        .as_array()
        .unwrap()
    {
        if !distinct.contains(line.as_str().unwrap()) {
            wrong.push(format!("line missing: {line}"));
        }
    }
    // There is some batch: none is expected only where pings fail.
    wrong.extend(replay.compare_logs(&program, &[vec![b'\n']]));
    wrong
}

/// What was done, in the captures' words.
enum Step {
    /// Text for each of some connections.
    Connections(Vec<String>),
    Stop,
    Start,
    Revoke,
}

impl Step {
    fn read(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let name = || {
            words
                .iter()
                .find_map(|word| word.strip_suffix(".N"))
                .unwrap()
        };
        match words[..] {
            ["gateway", "stopped"] => Self::Stop,
            ["gateway", "started", "again"] => Self::Start,
            ["key", "deleted", ..] => Self::Revoke,
            ["one", "connection", "with", count, "points", ..] => {
                let lines = (0..count.parse().unwrap())
                    .map(|n: u64| format!("{}.{n} {n} {}\n", name(), 1_500_000_000 + n));
                Self::Connections(vec![lines.collect()])
            }
            [count, "one-point", "connections", ..] => Self::Connections(
                (0..count.parse().unwrap())
                    .map(|n: u64| format!("{}.{n} {n} 1500000000\n", name()))
                    .collect(),
            ),
            _ => panic!("a step that nobody has described: {text}"),
        }
    }
}

/// The replies of the real gateway, request by request, against those of the gateway that the tests here use in its place.
#[test]
fn the_gateway_of_these_tests_answers_as_the_real_one() {
    let [case] = &cases(How::GatewayReplies)[..] else {
        panic!("one capture");
    };
    crate::gateway_replies::replay(&crate::recorded::capture(case));
}

/// A value that stands for nothing was asked for.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}
