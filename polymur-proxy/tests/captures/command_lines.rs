//! Command lines and environments, and requests to the runstats port.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::Shutdown,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use shared::testing::{eventually, golden as load, wire::connect};

use crate::support::{BINARY, command, gateway::Gateway, golden, loopback, open, port, spawn};

/// Log lines without their time.
fn texts(lines: &[String]) -> BTreeSet<String> {
    lines
        .iter()
        .map(|line| line.get(20..).unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn every_recorded_command_line_is_read_as_recorded() {
    let recorded: Value = load::json(golden("cli/flags.json"));
    let busy = std::net::TcpListener::bind(loopback(0)).unwrap();
    let busy_port = busy.local_addr().unwrap().port().to_string();
    let (mut replayed, mut wrong) = (0, Vec::new());
    for result in recorded["results"].as_array().unwrap() {
        replayed += 1;
        let [listen, stat] = [port().to_string(), port().to_string()];
        let here = |text: &str| {
            text.replace("23201", &listen)
                .replace("23202", &stat)
                .replace("60303", &busy_port)
        };
        let words: Vec<String> = result["argv"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| here(word.as_str().unwrap()))
            .collect();
        let mut started = command();
        for (name, value) in result["env"].as_object().unwrap() {
            started.env(name, here(value.as_str().unwrap()));
        }
        let mut program = spawn(started.args(&words));
        let status = result["exit_status"].as_i64().unwrap();
        let stderr: Vec<String> = result["stderr"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| here(line.as_str().unwrap()))
            .collect();
        if stderr.iter().any(|line| line.ends_with("Shutting down")) {
            program.wait_for_line("Runstats started");
            // Signals are taken over once everything is bound.
            eventually("the signal to be taken", || {
                program.signal(Signal::SIGHUP);
                program
                    .stderr()
                    .iter()
                    .any(|line| line.contains("read again"))
                    .then_some(())
            });
            program.signal(Signal::SIGINT);
        }
        let got = program.wait();
        if got.code().map(i64::from) != Some(status) {
            wrong.push(format!(
                "{words:?}: expected {status}, got {got}: {:#?}",
                program.stderr()
            ));
            continue;
        }
        if status == 2
            || words
                .iter()
                .any(|word| word.starts_with("-h") || word == "--help")
        {
            wrong.extend(compare_usage(&words, &stderr, &program.stderr()));
        } else {
            let (expected, mut got) = (texts(&stderr), texts(&program.stderr()));
            got.retain(|line| !line.starts_with("drained ") && !line.contains("read again"));
            // Row 21: a variable that does not parse is named.
            got.retain(|line| !line.ends_with(" and is ignored"));
            // The original starts its listeners side by side: which has logged when one fails is a race.
            let relevant = |lines: &BTreeSet<String>| -> BTreeSet<String> {
                let race = |line: &&String| status != 1 || !line.contains(" started: ");
                lines.iter().filter(race).cloned().collect()
            };
            let same = relevant(&expected) == relevant(&got);
            if !same {
                wrong.push(format!("{words:?}: expected {expected:#?}, got {got:#?}"));
            }
        }
    }
    println!("{replayed} command lines and environments replayed");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The usage page has all that the original's has, in its order, and more flags; row 28 corrects one text.
fn compare_usage(words: &[String], expected: &[String], got: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut rest = got.iter();
    for line in expected {
        let line = line
            .replace("[100 points max per batch]", "[5000 points max per batch]")
            .replace("Usage of polymur-proxy:", &format!("Usage of {BINARY}:"));
        if !rest.any(|candidate| *candidate == line) {
            wrong.push(format!("{words:?}: missing in its place: {line:?}"));
        }
    }
    wrong
}

#[test]
fn runstats_replies_are_as_recorded() {
    let recorded: Value = load::json(golden("runstats/replies.json"));
    let gateway = Gateway::friendly();
    let [lines, stat] = [loopback(port()), loopback(port())];
    let _proxy = spawn(command().env("TZ", "America/New_York").args([
        gateway.flag(),
        format!("-listen-addr={lines}"),
        format!("-stat-addr={stat}"),
    ]));
    let shape = |reply: &[u8]| -> Option<Vec<String>> {
        let value: Value = serde_json::from_slice(reply).ok()?;
        let names = value["runtime-meminfo"].as_object()?.keys().cloned();
        let start = value["service"]["start-time"].as_str()?;
        assert!(
            start.len() == 25 && (start.ends_with("-05:00") || start.ends_with("-04:00")),
            "{start}"
        );
        Some(
            names
                .chain(value["service"].as_object()?.keys().cloned())
                .collect(),
        )
    };
    let mut replayed = 0;
    for reply in recorded["replies"].as_array().unwrap() {
        // Those without bytes are described in words: they follow below.
        let Some(sent) = reply["sent"].as_object() else {
            continue;
        };
        let case = reply["case"].as_str().unwrap();
        if reply["ended_by"] == "timeout" {
            continue;
        }
        replayed += 1;
        let sent = match sent.get("text") {
            Some(text) => text.as_str().unwrap().as_bytes().to_vec(),
            None => load::bytes(sent["b64"].as_str().unwrap()),
        };
        let mut stream = open(stat);
        stream.write_all(&sent).unwrap();
        if reply["half_closed_after_send"] == true {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let mut got = Vec::new();
        // Row 18: what is sent beyond 8 bytes no longer costs the reply.
        stream.read_to_end(&mut got).unwrap();
        let expected = match reply["reply"].get("text") {
            Some(text) => text.as_str().unwrap().as_bytes().to_vec(),
            None => load::bytes(reply["reply"]["b64"].as_str().unwrap()),
        };
        match shape(&expected) {
            Some(names) => {
                assert_eq!(shape(&got), Some(names), "{case}");
                let lines = |text: &[u8]| memchr::memchr_iter(b'\n', text).count();
                assert_eq!(lines(&got), lines(&expected), "{case}");
            }
            None => assert_eq!(got, expected, "{case}"),
        }
    }
    println!("{replayed} runstats requests replayed");
    assert!(replayed > 15);

    // In two segments: only the first counts.
    let mut split = open(stat);
    split.write_all(b"sta").unwrap();
    let mut got = String::new();
    split.read_to_string(&mut got).unwrap();
    assert_eq!(got, "Not a command: sta\n");
    // Row 18: a silent client blocks nobody.
    let _silent = connect(stat);
    let mut other = open(stat);
    other.write_all(b"stats").unwrap();
    let mut got = String::new();
    other.read_to_string(&mut got).unwrap();
    assert!(got.starts_with("{\n  \"runtime-meminfo\": {\n    \"Alloc\": "));
}
