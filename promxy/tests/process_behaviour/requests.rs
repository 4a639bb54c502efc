//! What of a request goes on to servers, and what is logged of it.

use std::thread;

use serde_json::{Value, json};
use shared::testing::eventually;
use tempfile::TempDir;

use super::{
    compare::{Steps, access_log, answer, logs},
    server::Server,
};
use crate::support::Promxy;

pub(crate) fn run(steps: &Steps) {
    thread::scope(|scope| {
        scope.spawn(|| forwarded_headers(steps));
        scope.spawn(|| access_logs(steps));
    });
}

/// Requests that ask servers something, by the name under which they were recorded.
const ASKING: [(&str, &str); 6] = [
    ("query", "/api/v1/query?query=up"),
    ("series", "/api/v1/series?match[]=up"),
    ("labels", "/api/v1/labels"),
    ("label_values", "/api/v1/label/job/values"),
    ("metadata", "/api/v1/metadata"),
    ("federate", "/federate?match[]=up"),
];

/// How headers are named: as recorded, arguments, variables.
type Way = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

fn forwarded_headers(steps: &Steps) {
    let ways: [Way; 6] = [
        (
            "--proxy-headers=X-A --proxy-headers=X-B",
            &["--proxy-headers=X-A", "--proxy-headers=X-B"],
            &[],
        ),
        ("--proxy-headers=X-A,X-B", &["--proxy-headers=X-A,X-B"], &[]),
        (
            "PROXY_HEADERS=X-A,X-B",
            &[],
            &[("PROXY_HEADERS", "X-A,X-B")],
        ),
        ("PROXY_HEADERS=X-A", &[], &[("PROXY_HEADERS", "X-A")]),
        (
            "--proxy-headers=Authorization",
            &["--proxy-headers=Authorization"],
            &[],
        ),
        ("none", &[], &[]),
    ];
    for (way, args, variables) in ways {
        let step = format!("proxy headers: {way}");
        let server = Server::start();
        let folder = TempDir::new().unwrap();
        let promxy = Promxy::start_in(folder, &server.config(7), args, variables).ready();
        let recorded = steps.recorded(&step, "downstream_headers");
        let mut shown = serde_json::Map::new();
        for (name, target) in ASKING {
            let before = server.stub.asked().len();
            let headers = [("X-A", "1"), ("X-B", "2"), ("Authorization", "Bearer zz")];
            assert_eq!(promxy.send("GET", target, &headers, b"").status, 200);
            let asked = server.stub.asked()[before..].to_vec();
            let asked = asked.first().unwrap();
            // Each program has its own name.
            let mut sent = vec![recorded[name][0].clone()];
            for known in ["X-A", "X-B", "Authorization"] {
                let value = asked.header(&known.to_ascii_lowercase());
                sent.extend(value.map(|value| json!([known, value])));
            }
            shown.insert(name.to_owned(), Value::from(sent));
        }
        let shown = Value::from(shown).to_string();
        steps.shown(&step, &[("downstream_headers", shown)]);
    }
}

fn access_logs(steps: &Steps) {
    let server = Server::start();
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let args = ["--log-format=json", "--log-max-form-prefix=20"];
    let promxy = Promxy::start(&server.config(7), &args);
    promxy.get("/api/v1/query?query=up%7Ba%3D%22b%22%7D&time=123456789");
    promxy.send("POST", "/api/v1/query", &form, b"query=1&x=+y");
    promxy.get("/nope");
    promxy.get("/api/v1/notifications");
    let step = "json access log, --log-max-form-prefix=20";
    steps.shown(step, &[("stdout", lines(&promxy, 4))]);

    let promxy = Promxy::start(&server.config(7), &[]);
    promxy.get("/api/v1/query?query=up%7Ba%3D%22b%22%7D&time=123456789");
    promxy.send("POST", "/api/v1/query?x=2", &form, b"query=1&x=+y");
    promxy.get(&format!("/nope?q={}", "a".repeat(400)));
    promxy.get("/a%20b/%3Cx%3E?y=1");
    steps.shown("text access log", &[("stdout", lines(&promxy, 4))]);

    let args = ["--access-log-destination=none"];
    let promxy = Promxy::start(&server.config(7), &args);
    promxy.program.wait_for_line("TLS is");
    let before = promxy.program.stderr().len();
    let r = answer(&promxy.get("/api/v1/notifications"));
    let log = promxy.program.stderr()[before..].join("\n");
    let shown = [("r", r), ("logs", logs(log.lines()))];
    steps.shown("access log none: panic in a handler", &shown);
}

/// Waits for so many lines on standard output.
fn lines(promxy: &Promxy, count: usize) -> String {
    let lines = eventually("lines of the access log", || {
        let lines = promxy.program.stdout();
        (lines.len() >= count).then_some(lines)
    });
    access_log(lines.iter().map(String::as_str))
}
