//! Gateways that go and come back, as the captures of outages describe them.

use std::io::{Read as _, Write as _};

use nix::sys::signal::Signal;
use shared::testing::wire::connect;

use crate::{
    How, cases,
    normal::log_of,
    recorded::recorded_batches,
    replay::Replay,
    support::{
        self, Certificates,
        gateway::{Action, Gateway, ping_then},
        loopback,
    },
};

#[test]
fn outages_lose_nothing_as_recorded() {
    let certificates = Certificates::new();
    let replayed = [
        ("failure/outage_clean_close_then_refused", "held", 3, 2),
        ("failure/outage_no_cert_flag", "held", 3, 2),
        ("failure/outage_refused_workers1", "lost", 3, 4),
        ("failure/outage_refused_workers3", "lost", 5, 4),
        ("failure/outage_wrong_certificate", "held", 3, 2),
        ("v1.0.0/outage_refused_workers1", "lost", 3, 4),
    ];
    let mut names: Vec<_> = replayed.iter().map(|(case, ..)| *case).collect();
    names.sort_unstable();
    assert_eq!(names, cases(How::Outage));
    for (case, word, missed, after) in replayed {
        let replay = Replay::new(case, &certificates);
        let (_, gateway_port) = replay.gateway_port.unwrap();
        let start = |certificate: &str| {
            let tls = certificates.server(certificate);
            Gateway::start_at(
                loopback(gateway_port),
                Some(tls),
                ping_then(Action::received()),
            )
        };
        let mut program = replay.spawn();
        let first = {
            let gateway = start("server");
            replay.wait_until_listening(&mut program);
            let send = |name: &str, number: usize| {
                let line = format!("{name}.x {number} 1500000000\n");
                connect(loopback(replay.lines_port))
                    .write_all(line.as_bytes())
                    .unwrap();
            };
            send("before", 0);
            support::wait_for_count(case, 1, || gateway.taken_lines());
            gateway.taken()
        };
        let wrong = case
            .ends_with("wrong_certificate")
            .then(|| start("self_leaf"));
        let send = |name: String, number: usize| {
            let line = format!("{name}.x {number} 1500000000\n");
            connect(loopback(replay.lines_port))
                .write_all(line.as_bytes())
                .unwrap();
        };
        for number in 0..missed {
            send(format!("{word}{number}"), number);
        }
        let reason = match wrong {
            Some(_) => {
                "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            }
            None => "connect: connection refused",
        };
        program.wait_for_line(reason);
        drop(wrong);
        let gateway = start("server");
        for number in 0..after {
            send(format!("after{number}"), number);
        }
        let arrived = || [first.clone(), gateway.taken()].concat();
        // The original lost a batch that met a connection being closed, and the tag of 2016 all of them; we do not.
        let expected = 1 + missed + after;
        support::wait_for_count(case, expected as u64, || {
            memchr::memchr_iter(b'\n', &arrived()).count() as u64
        });
        let mut lines: Vec<String> = String::from_utf8(arrived())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        let mut recorded: Vec<String> = recorded_batches(replay.requests())
            .into_iter()
            .map(|batch| String::from_utf8(batch).unwrap().trim_end().to_owned())
            .collect();
        recorded.sort();
        recorded.dedup();
        if word == "lost" {
            assert!(
                recorded.iter().all(|line| lines.contains(line)),
                "{case}: {recorded:?} {lines:?}"
            );
        } else {
            assert_eq!(lines, recorded, "{case}");
        }
        // Row 6: each batch is a request of its own.
        for request in gateway.requests() {
            assert!(recorded_members(&request.body) <= 1, "{case}");
        }
        program.signal(Signal::SIGINT);
        assert_eq!(program.wait().code(), Some(0), "{case}");
        // The bracket that is missing in the original is missing here.
        let log = log_of(program.stderr());
        let failures = log.iter().filter(|line| line.contains(reason));
        for line in failures {
            assert!(
                line.starts_with("[worker #N] gateway]: Post \"https://localhost:P/ingest\": "),
                "{case}: {line}"
            );
        }
    }
    println!("{} outages replayed", names.len());
}

/// How many gzip members a body has.
fn recorded_members(body: &[u8]) -> usize {
    let mut rest = body;
    let mut members = 0;
    while !rest.is_empty() {
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        decoder.read_to_end(&mut Vec::new()).unwrap();
        rest = decoder.into_inner();
        members += 1;
    }
    members
}
