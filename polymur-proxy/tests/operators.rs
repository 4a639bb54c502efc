//! What operators see: command lines, the console output, runstats, own metrics, `/metrics` and `/healthz`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::Shutdown,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use shared::testing::{PATIENCE, eventually, golden as load, wire::connect};
use support::{
    BINARY, Proxy, command, fetch, gateway::Gateway, golden, loopback, numbered, open, port, spawn,
    wait_for_count,
};

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

#[test]
fn console_out_prints_every_batch_and_looks_at_no_gateway() {
    for case in [
        "two_partial_batches",
        "full_batch_then_more",
        "empty_first",
        "ignores_gateway",
    ] {
        let recorded: Value = load::json(golden(&format!("console/{case}.json")));
        let mut words = vec!["-console-out"];
        if case == "ignores_gateway" {
            words.extend(["-gateway=https://127.0.0.1:1", "-cert=/nonexistent"]);
        }
        let proxy = Proxy::start(&words);
        let mut sent = Vec::new();
        for client in recorded["clients"].as_array().unwrap() {
            let mut all = Vec::new();
            for step in client["steps"].as_array().unwrap() {
                if let Some(bytes) = step.get("send") {
                    all.extend_from_slice(&match bytes.get("text") {
                        Some(text) => text.as_str().unwrap().as_bytes().to_vec(),
                        None => numbered(0..5_001),
                    });
                }
            }
            proxy.send(&all);
            sent.extend(all);
        }
        // Row 14: the original stops printing after the first short batch.
        let expected: BTreeSet<String> = String::from_utf8(sent)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        let printed = || proxy.program.stdout().into_iter().collect::<BTreeSet<_>>();
        eventually(&format!("{case}: all lines"), || {
            (printed() == expected).then_some(())
        });
        let first: Vec<&str> = recorded["stdout"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .take(5)
            .collect();
        for line in first {
            assert!(expected.contains(line), "{case}: {line}");
        }
    }
}

#[test]
fn own_metrics_have_the_recorded_names() {
    let recorded: Value = load::json(golden("metrics/flush_2s.json"));
    let gateway = Gateway::friendly();
    let _proxy = Proxy::start(&[&gateway.flag(), "-metrics-flush=1"]);
    wait_for_count("own lines", 52, || gateway.taken_lines());
    let names = |text: &str| -> BTreeSet<String> {
        text.lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                assert_eq!(words.len(), 3, "{line}");
                let (_, name) = words[0].split_once(".polymur.").unwrap();
                assert!(
                    words[1].parse::<f64>().is_ok() && words[2].parse::<u64>().is_ok(),
                    "{line}"
                );
                name.to_owned()
            })
            .collect()
    };
    let batch = gateway
        .requests()
        .into_iter()
        .find(|request| request.path() == "/ingest")
        .unwrap();
    let got = names(&String::from_utf8(batch.text().unwrap()).unwrap());
    let member = &recorded["requests"][2]["gzip_members"][0]["decoded"];
    assert_eq!(got, names(member["text"].as_str().unwrap()));
    assert_eq!(got.len(), 26);
}

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
