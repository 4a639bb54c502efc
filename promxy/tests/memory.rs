//! Targets that never stop to send: the query fails with a reason, and the process keeps its size.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; sizes are shown"
)]

mod support;

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use promxy::remote::{
    frames,
    messages::{Chunk, ChunkedReadResponse, ChunkedSeries},
};
use support::Promxy;

/// More than anything here may take, and a fraction of what is sent.
const MOST_MIB: u64 = 700;

/// Sends a head, and then pieces, until nobody reads them. Returns the port.
fn endless(head: Vec<u8>, piece: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (head, piece) = (head.clone(), piece.clone());
            thread::spawn(move || send(stream, &head, &piece));
        }
    });
    port
}

fn send(mut stream: TcpStream, head: &[u8], piece: &[u8]) {
    let mut request = [0; 16_384];
    let _either_way = stream.read(&mut request).is_ok();
    if stream.write_all(head).is_ok() && !piece.is_empty() {
        while stream.write_all(piece).is_ok() {}
    }
}

/// An answer without a length, whose body begins so.
fn head(more: &str, begin: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{more}Connection: close\r\n\r\n{begin}").into_bytes()
}

fn many(piece: &str) -> Vec<u8> {
    piece.repeat((64 << 10) / piece.len() + 1).into_bytes()
}

fn gzip(letter: u8, mebibytes: usize) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..mebibytes {
        packed.write_all(&vec![letter; 1 << 20]).unwrap();
    }
    packed.finish().unwrap()
}

/// A frame of a remote read with this chunk.
fn frame(kind: i32, data: Vec<u8>) -> Vec<u8> {
    let chunk = Chunk {
        min_time_ms: 0,
        max_time_ms: 1,
        kind,
        data,
    };
    frames::write(&ChunkedReadResponse {
        chunked_series: vec![ChunkedSeries {
            labels: Vec::new(),
            chunks: vec![chunk],
        }],
        query_index: 0,
    })
}

/// Returns the most memory that the process has had since the last call, in MiB, with what it has now.
fn peak(promxy: &Promxy) -> (u64, u64) {
    let folder = format!("/proc/{}", promxy.program.id());
    let status = fs::read_to_string(format!("{folder}/status")).unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    fs::write(format!("{folder}/clear_refs"), "5").unwrap();
    (of("VmHWM:") / 1024, of("VmRSS:") / 1024)
}

const LIST: &str = r#"{"status":"success","data":{"resultType":"vector","result":["#;

#[test]
fn targets_that_send_without_end_make_errors_and_no_memory() {
    let json = |begin: &str, piece: &str| endless(head("", begin), many(piece));
    let mut packed = head("Content-Encoding: gzip\r\n", "");
    packed.extend(gzip(b' ', 1024));
    let stream_head = head("Content-Type: application/x-streamed-protobuf\r\n", "");
    let stream = |frame: Vec<u8>| endless([&*stream_head, &frame].concat(), frame);
    // A chunk of histograms that says it has as many buckets as bits.
    let mut buckets = vec![0xff, 0xff, 0, 0, 0b0101_1111];
    buckets.resize(40 << 20, 0x55);
    let cases = [
        (
            "series",
            json(LIST, r#"{"metric":{"i":"1"},"value":[1700000000,"1"]},"#),
            "too many samples",
        ),
        (
            "one label",
            json(&format!("{LIST}{{\"metric\":{{\"a\":\""), "x"),
            "labels are too long",
        ),
        (
            "many labels",
            json(&format!("{LIST}{{\"metric\":{{"), "\"a\\\"[\":\"x\","),
            "labels are too long",
        ),
        (
            "samples",
            json(
                &format!("{LIST}{{\"metric\":{{}},\"values\":["),
                r#"[1700000000,"1"],"#,
            ),
            "too many samples",
        ),
        ("no JSON", json("", "garbage"), "too long for an answer"),
        ("spaces", json(LIST, " "), ""),
        (
            "HTML",
            json("<html>", "<p>login</p>"),
            "too long for an answer",
        ),
        (
            "headers",
            endless(b"HTTP/1.1 200 OK\r\n".to_vec(), many("X-More: yes\r\n")),
            "net/http: ",
        ),
        (
            "one header",
            endless(b"HTTP/1.1 200 OK\r\nX-More: ".to_vec(), many("y")),
            "net/http: ",
        ),
        (
            "a bomb",
            endless(packed, Vec::new()),
            "too long for an answer",
        ),
        (
            "half a body",
            endless(head("Content-Length: 9999999\r\n", LIST), Vec::new()),
            "unexpected EOF",
        ),
        ("frames", stream(frame(1, vec![0, 0])), ""),
        (
            "large frames",
            stream(vec![0xff, 0xff, 0xff, 0x7f]),
            "too large",
        ),
        ("histograms", stream(frame(3, buckets)), "span"),
    ];
    let mut config = String::from("promxy:\n  server_groups:\n");
    for (name, port, _) in &cases {
        let is_remote = matches!(*name, "frames" | "large frames" | "histograms");
        write!(
            config,
            "  - static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n    labels: {{case: '{name}'}}\n    remote_read: {is_remote}\n"
        )
        .unwrap();
    }
    let args = [
        "--query.max-samples=200000",
        "--access-log-destination=none",
    ];
    let promxy = Promxy::start(&config, &args).ready();
    let (_, idle) = peak(&promxy);
    println!("idle: {idle} MiB");
    for (name, _, expected) in &cases {
        let range = if matches!(*name, "frames" | "large frames" | "histograms") {
            "[5m]"
        } else {
            ""
        };
        let query = format!("up%7Bcase%3D%22{}%22%7D{range}", name.replace(' ', "%20"));
        let answer = promxy.get(&format!("/api/v1/query?timeout=4s&query={query}"));
        let text = answer.text();
        let (peak, now) = peak(&promxy);
        println!(
            "{name}: at most {peak} MiB, then {now} MiB; {} {}",
            answer.status,
            text.chars().take(200).collect::<String>()
        );
        assert!(matches!(answer.status, 422 | 503), "{name}: {text}");
        // Whatever it is that cannot be told from a slow answer runs out of time.
        let is_late = answer.status == 503;
        assert!(is_late || text.contains(expected), "{name}: {text}");
        assert!(peak < MOST_MIB, "{name}: {peak} MiB");
        assert_eq!(promxy.get("/-/healthy").status, 200);
    }
}
