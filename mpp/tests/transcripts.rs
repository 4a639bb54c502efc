//! The recorded runs that are more than exchanges: tunnels, streams, clients that leave, files left behind, signals, rounds that hang,
//! TLS towards a server, two locators, the log. Each is repeated.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
};

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::testing::{PATIENCE, eventually, golden, pki::Authority, wire::free_tcp_port};
use support::{
    Mpp,
    client::{connect, read_line, read_response, request},
    exchange::{self, RecordedRequest, Step},
    prometheus::{Gate, Manners, Prometheus, Reply},
    tls::TlsFront,
    trio::Trio,
};
use tempfile::TempDir;

/// A run: its name, how it is repeated, and what is different by which row of the specification; empty where nothing is.
type Run = (&'static str, fn(&Value), &'static str);

const STREAMING: &[Run] = &[
    (
        "websocket",
        websocket,
        "R8: the query once; 6: the tunnel ends with the server's side",
    ),
    ("websocket-refused", websocket_refused, "R8: the query once"),
    (
        "streaming",
        streaming,
        "R6: the first byte comes at once; A1",
    ),
    ("client-disconnect", client_disconnect, ""),
    (
        "temp-files",
        temp_files,
        "6: nothing is left behind, as nothing is written",
    ),
    (
        "signals",
        signals,
        "Z1: SIGTERM and SIGINT drain, SIGHUP reads again; 11: SIGQUIT dumps no stacks of Go's",
    ),
    (
        "selection-hang-at-run-time",
        selection_hang,
        "S2: no retry waits for a server that hangs",
    ),
];

const TLS_AND_STATUS: &[Run] = &[
    (
        "https-unverifiable",
        https_unverifiable,
        "L6: -k is for Prometheus too",
    ),
    ("https-verified", https_verified, "H1, A1"),
    ("both-affinity-status", both_affinity_status, ""),
    ("two-locators-one-fails", two_locators_one_fails, ""),
    (
        "verbose-log",
        verbose_log,
        "10: no credentials, no dumps of requests; Z2: round trips at debug",
    ),
];

#[test]
fn the_recorded_tunnels_streams_files_signals_and_hangs_are_repeated() {
    repeat("http/streaming-websocket-signals-tempfiles.json", STREAMING);
}

#[test]
fn the_recorded_runs_over_tls_with_status_pages_and_logs_are_repeated() {
    repeat(
        "http/tls-affinity-status-locators-verbose.json",
        TLS_AND_STATUS,
    );
}

fn repeat(file: &str, runs: &[Run]) {
    let recorded: Vec<Value> = golden::json(support::golden(file));
    let names: Vec<&str> = recorded
        .iter()
        .map(|scenario| scenario["scenario"].as_str().unwrap())
        .collect();
    let known: Vec<&str> = runs.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, known);
    for (scenario, (name, run, _)) in recorded.iter().zip(runs) {
        println!("{name}");
        run(scenario);
    }
    let deviating = runs.iter().filter(|(.., row)| !row.is_empty()).count();
    println!(
        "transcripts: {} runs of {file}, {deviating} deviate as listed",
        runs.len()
    );
}

/// A typed part of a scenario.
fn part<T: for<'de> Deserialize<'de>>(value: &Value) -> T {
    T::deserialize(value).unwrap()
}

const ROUND_PER_HOUR: [&str; 2] = ["--selection-interval", "1h"];

/// Sends what was sent and compares what came of it; `change` makes the recorded exchange the expected one.
fn compare_exchange(
    step: &Step,
    port: u16,
    servers: &[(&str, &Prometheus)],
    recorded: impl Fn(&str) -> String,
    change: impl Fn(&mut exchange::Facts),
) -> TcpStream {
    let mut stream = connect(port, PATIENCE).unwrap();
    stream.write_all(step.client_sent.as_bytes()).unwrap();
    let answer = read_response(&mut stream, false);
    let seen: Vec<_> = servers
        .iter()
        .flat_map(|(name, server)| {
            let seen = server.take_seen().into_iter();
            seen.map(move |seen| ((*name).to_owned(), seen))
        })
        .collect();
    let mut want = exchange::wanted(step);
    change(&mut want);
    let got = exchange::got(answer.as_ref(), &seen, recorded);
    let differences = exchange::differences(&want, &got);
    assert!(
        differences.is_empty(),
        "{}\n{}",
        step.label,
        differences.join("\n")
    );
    stream
}

fn target_once(facts: &mut exchange::Facts) {
    assert_eq!(facts["target"], "/ws?x=1?x=1");
    facts.insert("target".to_owned(), "/ws?x=1".to_owned());
}

fn websocket(recorded: &Value) {
    let servers = Trio::usual();
    servers[1].set(|manners| manners.proxied = Reply::Echo);
    let mpp = servers.front(&ROUND_PER_HOUR);
    let step = Step {
        label: "websocket".to_owned(),
        client_sent: part(&recorded["client_sent"]),
        backend_saw: vec![RecordedRequest {
            backend: "b2".to_owned(),
            head: part(&recorded["backend_saw"]),
            body: String::new(),
        }],
        client_got: part(&recorded["client_got_handshake"]),
    };
    let mut stream = compare_exchange(
        &step,
        mpp.port,
        &[("b2", &servers[1])],
        |text| servers.recorded(text),
        target_once,
    );
    let frames: Vec<String> = part(&recorded["frames_both_ways"]);
    for frame in frames {
        let sent = frame.strip_prefix("echo:").unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        let mut echo = vec![0; frame.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(String::from_utf8(echo).unwrap(), frame);
    }
    // Recorded: the client's side stays open.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    for line in part::<Vec<String>>(&recorded["metrics"]) {
        let line = servers.real(&line);
        assert!(mpp.metrics().contains(&line), "{line}");
    }
}

fn websocket_refused(recorded: &Value) {
    let mut servers = Trio::usual();
    servers[2].set(|manners| manners.proxied = Reply::Echo);
    let mpp = servers.front(&ROUND_PER_HOUR);
    servers[1].stop();
    let steps: Vec<Step> = part(&recorded["steps"]);
    for step in &steps {
        compare_exchange(
            step,
            mpp.port,
            &[("b1", &servers[0]), ("b3", &servers[2])],
            |text| servers.recorded(text),
            target_once,
        );
    }
}

fn streaming(recorded: &Value) {
    let servers = Trio::usual();
    let mpp = servers.front(&ROUND_PER_HOUR);
    let client_got: String = part(&recorded["client_got"]);
    let (head, body) = client_got.split_once("\r\n\r\n").unwrap();
    let events: Vec<&str> = body.split_inclusive("\n\n").collect();
    let gate = Gate::default();
    let pieces = events.iter().map(|event| event.as_bytes().to_vec());
    servers[1].set(|manners| manners.proxied = Reply::Stream(pieces.collect(), gate.clone()));
    let mut stream = connect(mpp.port, PATIENCE).unwrap();
    stream
        .write_all(b"GET /api/v1/notifications/live HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut ours = String::new();
    while !ours.ends_with("\r\n\r\n") {
        ours += &(read_line(&mut stream).unwrap() + "\n");
    }
    for line in ["Content-Type: text/event-stream", "Mpp.servedby: "] {
        assert!(head.contains(line) && ours.to_lowercase().contains(&line.to_lowercase()));
    }
    // The server sends an event only once the client has the one before it.
    for event in &events {
        let size = read_line(&mut stream).unwrap();
        assert_eq!(usize::from_str_radix(size.trim(), 16), Ok(event.len()));
        let mut got = vec![0; event.len() + 2];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), format!("{event}\r\n"));
        gate.open();
    }
    assert_eq!(read_line(&mut stream).unwrap(), "0\r");
}

fn client_disconnect(recorded: &Value) {
    let servers = Trio::usual();
    let mpp = servers.front(&ROUND_PER_HOUR);
    servers[1].set(|manners| manners.proxied = Reply::Hang);
    let results: Vec<(String, f64)> = part(&recorded["result"]);
    let requests = [
        "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
    ];
    for (number, (bytes, (result, _))) in requests.iter().zip(&results).enumerate() {
        assert_eq!(result, "backend connection closed by mpp");
        let mut stream = connect(mpp.port, PATIENCE).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        eventually("the request to be under way", || {
            (servers[1].seen().len() == number + 1).then_some(())
        });
        drop(stream);
        eventually("the server's connection to end", || {
            (servers[1].deserted() == number + 1).then_some(())
        });
    }
}

fn temp_files(recorded: &Value) {
    let folder = TempDir::new().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let servers = Trio::usual();
    fs::write(folder.path().join("endpoints.txt"), servers.endpoints()).unwrap();
    let mut mpp = Mpp::spawn(
        folder,
        &[
            "--endpoints-file",
            "endpoints.txt",
            "--selection-interval",
            "1h",
            "--eject-after",
            "0",
        ],
        &[("TMPDIR", temporary.to_str().unwrap())],
    );
    mpp.wait_until_answering(3);
    let long = vec![b'y'; 3_000_000];
    let whole = |status: &str| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            long.len()
        );
        [head.as_bytes(), &long].concat()
    };
    let cut = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2dc6c0\r\n",
        &long[..1_951_445],
    ]
    .concat();
    let files: BTreeMap<String, Vec<Value>> = part(&recorded["files"]);
    for step in files.keys() {
        let (reply, sent, complete) = match step.as_str() {
            "after a 3 MB response" => (Reply::Raw(whole("200 OK")), 0, true),
            "after a 3 MB request body" => (Reply::Served, long.len(), true),
            "after a 3 MB response with status 502 (discarded, retried once)" => {
                (Reply::Raw(whole("502 Bad Gateway")), 0, true)
            }
            "after a chunked 3 MB response cut short" => {
                (Reply::RawThenClose(cut.clone()), 0, false)
            }
            "after exit" => continue,
            other => panic!("no step is known for {other:?}"),
        };
        servers[1].set(|manners| manners.proxied = reply);
        let head = format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: {sent}\r\n\r\n");
        let answer = request(mpp.port, &[head.as_bytes(), &long[..sent]].concat()).unwrap();
        assert_eq!((answer.status, answer.complete), (200, complete), "{step}");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{step}");
    }
    assert!(mpp.program.terminate().success());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

fn signals(recorded: &Value) {
    let results: BTreeMap<String, Value> = part(&recorded["result"]);
    for (name, result) in &results {
        let signal: Signal = name.parse().unwrap();
        let servers = Trio::usual();
        let mut mpp = servers.front(&ROUND_PER_HOUR);
        let gate = Gate::default();
        servers[1].set(|manners| {
            manners.proxied = Reply::Held(gate.clone(), Box::new(Reply::Served));
        });
        let port = mpp.port;
        let slow = thread::spawn(move || request(port, b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"));
        eventually("the request to be under way", || {
            (!servers[1].seen().is_empty()).then_some(())
        });
        mpp.program.signal(signal);
        match signal {
            Signal::SIGTERM | Signal::SIGINT => {
                eventually("the listener to close", || {
                    TcpStream::connect(("127.0.0.1", port))
                        .is_err()
                        .then_some(())
                });
                gate.open();
                assert_eq!(slow.join().unwrap().unwrap().status, 200, "{name}");
                assert!(mpp.program.wait().success(), "{name}");
            }
            Signal::SIGQUIT => {
                assert!(!mpp.program.wait().success());
                assert!(slow.join().unwrap().is_none());
            }
            _ => {
                if signal == Signal::SIGHUP {
                    mpp.program
                        .wait_for_line("reading the sources of endpoints again");
                } else {
                    assert_eq!(result["process"], "exit status still running");
                }
                assert_eq!(mpp.get("/mpp/health").status, 200);
                gate.open();
                assert_eq!(slow.join().unwrap().unwrap().status, 200, "{name}");
                assert!(mpp.program.exited().is_none(), "{name}");
            }
        }
    }
}

fn selection_hang(recorded: &Value) {
    let servers = Trio::usual();
    let mpp = servers.front(&ROUND_PER_HOUR);
    servers[0].set(|manners| manners.query = Reply::Hang);
    let normal = recorded["normal_request"].as_str().unwrap();
    assert!(normal.starts_with(&mpp.get("/x").status_line));
    servers[1].set(|manners| manners.proxied = Reply::Status(502, "bad"));
    let answer = mpp.get("/x");
    // Recorded: the client gave up after 3 s.
    assert_eq!(
        (answer.status, answer.header("mpp.servedby")),
        (200, Some(servers[2].url().as_str()))
    );
    let line: String = part(&recorded["metrics"][0]);
    assert!(mpp.metrics().contains(&line), "{line}");
}

/// Rows as recorded, settings as recorded.
fn compare_status(recorded: &Value, mpp: &Mpp, real: impl Fn(&str) -> String) {
    let candidates: Vec<Value> = part(&recorded["candidates"]);
    let expected: Vec<(String, bool)> = candidates
        .iter()
        .map(|row| {
            let address = row["endpoint"].as_str().unwrap();
            (real(address), row["selected"].as_bool().unwrap())
        })
        .collect();
    assert_eq!(mpp.candidates(), expected);
    let differences =
        support::runtime_differences(&part(&recorded["status_runtime"]), &mpp.status());
    assert!(differences.is_empty(), "{differences:?}");
}

/// A run's arguments without the port, which is ours.
fn arguments(recorded: &Value) -> Vec<String> {
    let words: Vec<String> = part(&recorded["mpp_args"]);
    let words = words.into_iter();
    words.take_while(|word| word != "--port").collect()
}

/// Starts a run before one server behind TLS.
fn before_tls(recorded: &Value, front: &TlsFront, authority: &Authority) -> Mpp {
    let folder = TempDir::new().unwrap();
    let endpoints: String = part(&recorded["endpoints_file"]);
    let endpoints = endpoints.replace("24005", &front.port.to_string());
    fs::write(folder.path().join("endpoints.txt"), endpoints).unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let environment: BTreeMap<String, String> = recorded.get("env").map(part).unwrap_or_default();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let args = arguments(recorded);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mpp = Mpp::spawn(folder, &args, &environment);
    mpp.wait_until_answering(1);
    mpp
}

fn https_unverifiable(recorded: &Value) {
    let server = Prometheus::start("tls1", Manners::good("1"));
    let authority = Authority::new("unknown");
    let front = TlsFront::start(&authority, "127.0.0.1", &server);
    let mpp = before_tls(recorded, &front, &authority);
    assert_eq!(recorded["candidates"], json!([]));
    assert_eq!(mpp.candidates(), [(front.url(), true)]);
    assert_eq!(mpp.get("/x").status, 200);
    assert_eq!(front.refusals(), 0);
}

fn https_verified(recorded: &Value) {
    let server = Prometheus::start("tls1", Manners::good("1"));
    let authority = Authority::new("known");
    let front = TlsFront::start(&authority, "127.0.0.1", &server);
    let mpp = before_tls(recorded, &front, &authority);
    let port = front.port.to_string();
    compare_status(recorded, &mpp, |text| text.replace("24005", &port));
    let steps: Vec<Step> = part(&recorded["steps"]);
    for step in &steps {
        compare_exchange(
            step,
            mpp.port,
            &[("tls1", &server)],
            |text| text.replace(&port, "24005"),
            |_| {},
        );
    }
    let mut probes: Vec<String> = server
        .probes()
        .iter()
        .map(|line| line.split("&time=").next().unwrap().to_owned())
        .collect();
    probes.sort();
    probes.dedup();
    let asked: Vec<String> = part(&recorded["tls_probes"]);
    let asked = asked
        .iter()
        .map(|line| line.split("&time=").next().unwrap());
    assert_eq!(probes, asked.collect::<Vec<_>>());
}

fn both_affinity_status(recorded: &Value) {
    let servers = Trio::usual();
    let args = arguments(recorded);
    let args: Vec<&str> = args[2..].iter().map(String::as_str).collect();
    let mpp = servers.front(&args);
    compare_status(recorded, &mpp, |text| servers.real(text));
}

fn two_locators_one_fails(recorded: &Value) {
    let servers = Trio::usual();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("endpoints.txt"), servers.endpoints()).unwrap();
    let kubeconfig = json!({
        "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{}", free_tcp_port())}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    fs::write(
        folder.path().join("kubeconfig.yaml"),
        kubeconfig.to_string(),
    )
    .unwrap();
    let args = arguments(recorded);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mpp = Mpp::spawn(folder, &args, &[]);
    mpp.wait_until_answering(3);
    compare_status(recorded, &mpp, |text| servers.real(text));
    for text in [
        "Using kubeconfig kubeconfig.yaml",
        "failed to resolve endpoints: ",
        "New targets differ from current selection []; updating rewriter => [",
    ] {
        let log: Vec<String> = part(&recorded["log"]);
        assert!(log.iter().any(|line| line.contains(text)), "{text}");
        mpp.program.wait_for_line(text);
    }
}

/// Of the recorded lines those that people look for; what is left out is inner life of the original's libraries.
const LOOKED_FOR: &[&str] = &[
    "level=debug msg=\"Got selection lock; performing selection\"",
    "level=debug msg=\"Locator &{endpoints.txt} resolved the following endpoints: [http://127.0.0.1:24001]\"",
    "level=info msg=\"New targets differ from current selection []; updating rewriter => [http://127.0.0.1:24001]\"",
    "level=debug msg=\"Returning selection lock\"",
    "level=debug msg=\"Backend selection is sleeping for 1h0m0s\"",
    "level=info msg=\"mpp is listening on port 24010\"",
];

fn verbose_log(recorded: &Value) {
    let servers = Trio::usual();
    let mpp = Mpp::start(
        &servers[0].url(),
        &[
            "--verbose",
            "--routing-strategy",
            "random",
            "--selection-interval",
            "1h",
        ],
    );
    mpp.wait_until_answering(1);
    let bytes = "GET /x?secret=1 HTTP/1.1\r\nHost: mpp.example:9090\r\nUser-Agent: golden-client/1\r\nAuthorization: Basic dXNlcjpwYXNz\r\n\r\n";
    assert_eq!(request(mpp.port, bytes.as_bytes()).unwrap().status, 200);
    let round_trip = mpp.program.wait_for_line("Round trip: ");
    assert!(round_trip.contains("level=debug"), "{round_trip}");
    assert!(
        round_trip.contains(&format!("{}/x?secret=1, code: 200", servers[0].url())),
        "{round_trip}"
    );
    let log: Vec<String> = part(&recorded["log"]);
    for text in LOOKED_FOR {
        assert!(log.iter().any(|line| line.contains(text)), "{text}");
        let text = servers.real(text).replace("24010", &mpp.port.to_string());
        mpp.program.wait_for_line(&text);
    }
    let ours = mpp.program.stderr().join("\n");
    assert!(log.iter().any(|line| line.contains("dXNlcjpwYXNz")));
    assert!(!ours.contains("dXNlcjpwYXNz"), "{ours}");
}
