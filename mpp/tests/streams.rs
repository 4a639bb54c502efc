//! The recorded tunnels, streams, clients that leave, files left behind, signals and rounds that hang, repeated.

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
use serde_json::Value;
use shared::testing::{PATIENCE, eventually};
use support::{
    Mpp,
    client::{connect, read_line, request},
    exchange::{self, RecordedRequest, Step},
    prometheus::{Gate, Reply},
    transcript::{Run, compare_exchange, part, repeat},
    trio::Trio,
};
use tempfile::TempDir;

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

#[test]
fn the_recorded_tunnels_streams_files_signals_and_hangs_are_repeated() {
    repeat("http/streaming-websocket-signals-tempfiles.json", STREAMING);
}

const ROUND_PER_HOUR: [&str; 2] = ["--selection-interval", "1h"];

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
