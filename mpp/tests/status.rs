//! The status page, as bytes and as a browser shows it, its JSON, and the metrics page.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and golden tests print their counts"
)]

mod support;

use std::{
    collections::BTreeSet,
    env, fs,
    io::Read as _,
    process::{Command, Stdio},
};

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;
use shared::testing::{eventually, golden};
use support::{
    Mpp,
    client::{Response, request},
    prometheus::{Manners, Prometheus, Reply},
    trio::Trio,
};

fn stage(args: &[&str]) -> (Trio, Mpp) {
    let mut servers = Trio::usual();
    servers[2].stop();
    let mpp = Mpp::start(&servers.endpoints(), args);
    mpp.wait_until_answering(2);
    assert_eq!(mpp.get("/x").status, 200);
    (servers, mpp)
}

#[test]
fn the_page_names_every_server_with_its_state_and_asks_nothing_of_others() {
    let (servers, mpp) = stage(&["--affinity-options", "cookies,sourceip"]);
    let answer = mpp.get("/mpp/status?x=1");
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let page = answer.text();
    for text in [
        "<title>Multi-Prometheus Proxy Cluster Info</title>",
        "<a href=\"/\">MPP</a>",
        "Runtime Information",
        "Build Information",
        "Prometheus Endpoints",
        "Selector Strategy",
        "Comparison Metric",
        "Selection Interval",
        "Affinity Options Enabled",
        "cookies sourceip",
        "GoVersion",
        "prometheus_local_storage_ingested_samples_total",
        "unavailable",
        "1.5.2",
        "http-equiv=\"refresh\"",
    ] {
        assert!(page.contains(text), "{text} is missing:\n{page}");
    }
    for server in servers.iter() {
        assert!(
            page.contains(&format!("href=\"{}/status\"", server.url())),
            "{page}"
        );
    }
    for foreign in ["<script", "<link", "src=", "@import", "//cdn", "//maxcdn"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn the_json_says_the_same() {
    let (servers, mpp) = stage(&[]);
    let status = mpp.status();
    let rows = status["backends"].as_array().unwrap();
    let states: Vec<&str> = rows
        .iter()
        .map(|row| row["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["standby", "selected", "down"]);
    assert_eq!(rows[1]["address"], servers[1].url());
    assert_eq!(rows[1]["version"], "1.5.2");
    assert_eq!(rows[1]["samples"], 3000.0);
    assert_eq!(rows[1]["requests"], 1);
    assert!(rows[1]["latency_seconds"]["p99"].as_f64().unwrap() > 0.0);
    assert!(
        rows[2]["reason"]
            .as_str()
            .unwrap()
            .contains("no metrics page"),
        "{}",
        rows[2]
    );
    assert_eq!(status["selection"]["stale"], false);
}

/// Skipped, and said so, where there is no browser; demanded in CI.
#[test]
fn a_browser_shows_the_rows_and_draws_the_page() {
    let chromium = env::var("CHROMIUM_BIN")
        .ok()
        .filter(|path| !path.is_empty());
    let Some(chromium) = chromium.or_else(|| {
        fs::metadata("/usr/bin/chromium")
            .is_ok()
            .then(|| "/usr/bin/chromium".to_owned())
    }) else {
        assert!(
            env::var("REQUIRE_REAL_SERVERS").is_err(),
            "CHROMIUM_BIN is not set"
        );
        println!("SKIPPED: no chromium (CHROMIUM_BIN)");
        return;
    };
    let (servers, mpp) = stage(&[]);
    let url = format!("http://127.0.0.1:{}/mpp/status", mpp.port);
    let browse = |args: &[&str]| {
        let profile = tempfile::TempDir::new().unwrap();
        let output = Command::new(&chromium)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(args)
            .arg(&url)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // What the browser made of the page: its own serialisation of the document.
    let document = browse(&["--dump-dom"]);
    for (server, state) in servers.iter().zip(["standby", "selected", "down"]) {
        let row = document
            .split("<tr ")
            .find(|row| row.contains(&server.url()))
            .unwrap_or_else(|| panic!("no row of {}: {document}", server.url()));
        assert!(row.starts_with(&format!("class=\"{state}\"")), "{row}");
    }
    for (name, size) in [("desktop", "1280,900"), ("phone", "390,844")] {
        let file = mpp.folder.path().join(format!("{name}.png"));
        browse(&[
            &format!("--window-size={size}"),
            &format!("--screenshot={}", file.display()),
        ]);
        let image = fs::read(&file).unwrap();
        assert!(
            image.starts_with(b"\x89PNG") && image.len() > 10_000,
            "{name}: {} bytes",
            image.len()
        );
        if let Ok(folder) = env::var("SCREENSHOT_FOLDER") {
            fs::copy(&file, format!("{folder}/{name}.png")).unwrap();
        }
        println!("status page: {name} screenshot of {} bytes", image.len());
    }
}

#[derive(Deserialize)]
struct Negotiation {
    request: String,
    response_head: String,
    #[serde(default)]
    body_first_bytes_hex: String,
}

fn scrape(mpp: &Mpp, recorded: &Negotiation) -> Response {
    const PROTOBUF: &str =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=";
    let (method, headers) = match recorded.request.as_str() {
        "plain" => ("GET", String::new()),
        "POST" => ("POST", "Content-Length: 0\r\n".to_owned()),
        "HEAD" => ("HEAD", String::new()),
        "Accept text/plain" => ("GET", "Accept: text/plain\r\n".to_owned()),
        "Accept of Prometheus 2.42" => ("GET", "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n".to_owned()),
        "Accept of Prometheus 3.5 with protobuf first" => ("GET", "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1\r\n".to_owned()),
        "Accept delimited protobuf" => ("GET", format!("Accept: {PROTOBUF}delimited\r\n")),
        "Accept text protobuf" => ("GET", format!("Accept: {PROTOBUF}text\r\n")),
        "Accept compact-text protobuf" => ("GET", format!("Accept: {PROTOBUF}compact-text\r\n")),
        header => ("GET", format!("{header}\r\n")),
    };
    let bytes = format!("{method} /mpp/metrics HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    request(mpp.port, bytes.as_bytes()).unwrap()
}

#[test]
fn scrapes_are_answered_in_the_recorded_formats() {
    let (_servers, mpp) = stage(&[]);
    let recorded: Vec<Negotiation> = golden::json(support::golden("metrics/negotiation.json"));
    for case in &recorded {
        let answer = scrape(&mpp, case);
        let header = |name: &str| {
            case.response_head
                .split("\r\n")
                .filter_map(|line| line.split_once(": "))
                .find(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        assert_eq!(answer.status, 200, "{}", case.request);
        for name in ["content-type", "content-encoding"] {
            assert_eq!(
                answer.header(name),
                header(name),
                "{}: {name}",
                case.request
            );
        }
        assert!(
            answer.header("content-length").is_some(),
            "{}",
            case.request
        );
        let body = if answer.header("content-encoding") == Some("gzip") {
            assert!(case.body_first_bytes_hex.starts_with("1f8b"));
            let mut text = Vec::new();
            GzDecoder::new(answer.body.as_slice())
                .read_to_end(&mut text)
                .unwrap();
            text
        } else {
            answer.body.clone()
        };
        if case.request != "HEAD" {
            let text = String::from_utf8_lossy(&body);
            assert!(text.contains("mpp_selection_events"), "{}", case.request);
        }
    }
    println!("metrics: {} ways to ask", recorded.len());
}

#[test]
fn the_recorded_families_are_there_with_their_types_labels_and_help() {
    let (servers, mpp) = stage(&["--routing-strategy", "random"]);
    // A cookie that hits, and a server that fails once.
    let cookie = |server: &Prometheus| {
        let bytes = format!(
            "GET /x HTTP/1.1\r\nHost: h\r\nCookie: MPP.Route={}\r\n\r\n",
            server.url()
        );
        request(mpp.port, bytes.as_bytes()).unwrap()
    };
    cookie(&servers[0]);
    servers[1].set(|manners| manners.proxied = Reply::Status(502, "bad"));
    cookie(&servers[1]);
    let recorded = fs::read_to_string(support::golden("metrics/mpp-metrics.txt")).unwrap();
    let ours = mpp.metrics();
    let facts = |lines: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
        lines
            // Families of Go's run time mean nothing elsewhere.
            .filter(|line| !line.contains(" go_") && !line.starts_with("go_"))
            .map(|line| {
                if line.starts_with('#') {
                    return line.to_owned();
                }
                // Names of labels, not their values.
                let series = line.rsplit_once(' ').unwrap().0;
                let mut shape = String::new();
                let mut quoted = false;
                for c in series.chars() {
                    quoted ^= c == '"';
                    if !quoted || c == '"' {
                        shape.push(c);
                    }
                }
                shape
            })
            .collect()
    };
    let recorded = facts(&mut recorded.lines());
    let ours_facts = facts(&mut ours.iter().map(String::as_str));
    let missing: Vec<&String> = recorded
        .difference(&ours_facts)
        // The same meaning in other words.
        .filter(|line| !line.starts_with("# HELP process_"))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    // M1: the retry is told of the server that failed.
    let retries = format!("mpp_retries{{backend=\"{}\"}} 1", servers[1].url());
    assert!(ours.contains(&retries), "{ours:#?}");
    for added in [
        "mpp_request_duration_seconds_bucket{",
        "mpp_retries_by_reason_total{",
        "mpp_backend_ejections_total{",
        "mpp_backend_in_flight{",
        "mpp_selection_age_seconds ",
    ] {
        assert!(ours.iter().any(|line| line.starts_with(added)), "{added}");
    }
    println!("metrics: {} recorded lines are there", recorded.len());
}

#[test]
fn ready_says_whether_anybody_serves_and_health_that_we_do() {
    let server = Prometheus::start("b1", Manners::good("1"));
    let mpp = Mpp::start("http://127.0.0.1:1\n", &["--selection-interval", "200ms"]);
    mpp.wait_for_rounds(1);
    assert_eq!(
        (mpp.get("/mpp/health").status, mpp.get("/mpp/ready").status),
        (200, 503)
    );
    mpp.write("endpoints.txt", &server.url());
    eventually("a server to be selected", || {
        (mpp.get("/mpp/ready").status == 200).then_some(())
    });
    let status: Value = mpp.status();
    assert_eq!(status["backends"].as_array().unwrap().len(), 1);
}
