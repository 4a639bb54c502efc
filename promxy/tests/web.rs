//! The listener: prefixes, pages, users, browsers, the access log, metrics.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod support;

use std::{collections::HashSet, fmt::Write as _, fs, path::Path};

use serde::Deserialize;
use serde_json::Value;
use shared::testing::eventually;
use tempfile::TempDir;

use support::{
    Promxy, golden, groups,
    recorded::Case,
    stub::{Reply, Stub},
};

/// A server that has nothing.
fn nothing() -> Stub {
    Stub::start(|asked| {
        let data = match asked.path() {
            "/api/v1/query" => r#"{"resultType":"vector","result":[]}"#,
            "/api/v1/metadata" => "{}",
            _ => "[]",
        };
        Reply::json(format!(r#"{{"status":"success","data":{data}}}"#))
    })
}

#[derive(Deserialize)]
struct Transcript {
    id: String,
    #[serde(default)]
    argv_extra: Vec<String>,
    web_config: Option<String>,
    requests: Vec<Curl>,
}

#[derive(Deserialize)]
struct Curl {
    cmd: String,
    response: String,
}

/// Requests that are answered otherwise than by the original: transcript, path, reason.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    (
        "ext_url_prefix",
        "/px/query",
        "the recorded program was built without pages",
    ),
    (
        "ext_url_prefix_route_root",
        "/query",
        "the recorded program was built without pages",
    ),
    (
        "ext_url_prefix",
        "/px/api/v1/metadata?metric=up",
        "S13: CORS as for the rest of the API",
    ),
    (
        "ext_url_prefix_route_root",
        "/api/v1/metadata?metric=up",
        "S13: CORS as for the rest of the API",
    ),
    (
        "ext_url_prefix",
        "/px/api/v1/status/config",
        "S13: CORS as for the rest of the API",
    ),
    (
        "ext_url_prefix_route_root",
        "/api/v1/status/config",
        "S13: CORS as for the rest of the API",
    ),
    (
        "ext_url_prefix_route_root",
        "/debug/pprof/cmdline",
        "S24: there are no profiles, with a prefix or without",
    ),
];

/// Runs the transcripts over plain HTTP; those over TLS are in the tests of the web configuration itself.
#[test]
fn prefixes_users_and_origins_are_as_recorded() {
    let transcripts: Vec<Transcript> = golden("web_config_and_prefix.jsonl");
    let stub = nothing();
    let (mut same, mut deviating, mut over_tls) = (0, 0, 0);
    let mut failures = Vec::new();
    for transcript in &transcripts {
        if ["tls", "mtls", "full", "legacy"].contains(&transcript.id.as_str()) {
            over_tls += transcript.requests.len();
            continue;
        }
        let folder = TempDir::new().unwrap();
        if let Some(text) = &transcript.web_config {
            fs::write(folder.path().join("web.yml"), text).unwrap();
        }
        let args: Vec<&str> = transcript
            .argv_extra
            .iter()
            .map(|arg| {
                if arg.starts_with("--web.config.file") {
                    "--web.config.file=web.yml"
                } else {
                    arg.as_str()
                }
            })
            .collect();
        let promxy = Promxy::start_in(folder, &groups(&[&[stub.port]]), &args, &[]);
        for curl in &transcript.requests {
            let got = run(&promxy, &curl.cmd);
            let expected = heads_of(&curl.response);
            let known = DEVIATIONS.iter().any(|(id, path, _)| {
                transcript.id == *id && curl.cmd.ends_with(&format!("127.0.0.1:25160{path}"))
            });
            match (got == expected, known) {
                (true, false) => same += 1,
                (false, true) => deviating += 1,
                (true, true) => failures.push(format!(
                    "{}: {} does not deviate any more",
                    transcript.id, curl.cmd
                )),
                (false, false) => failures.push(format!(
                    "{}: {}\nexpected {expected:#?}\ngot {got:#?}",
                    transcript.id, curl.cmd
                )),
            }
        }
    }
    println!(
        "web_config_and_prefix.jsonl: {same} answers the same, {deviating} in the table of deviations, {over_tls} over TLS not run here"
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert_eq!(deviating, DEVIATIONS.len());
}

/// Runs a recorded command and returns status and telling headers.
fn run(promxy: &Promxy, command: &str) -> Vec<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let words: Vec<&str> = command.split(' ').collect();
    let url = words.iter().find(|word| word.starts_with("http")).unwrap();
    let url = words
        .iter()
        .rev()
        .find(|word| word.starts_with("http://127"))
        .unwrap_or(url);
    let path = url
        .splitn(4, '/')
        .nth(3)
        .map_or_else(|| "/".to_owned(), |path| format!("/{path}"));
    let mut headers = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let next = words.get(place + 1).copied().unwrap_or_default();
        match *word {
            "-u" => headers.push(("Authorization", format!("Basic {}", STANDARD.encode(next)))),
            "-H" if next == "Origin:" => headers.push(("Origin", words[place + 2].to_owned())),
            "-H" if next == "Authorization:" => {
                headers.push((
                    "Authorization",
                    format!("{} {}", words[place + 2], words[place + 3]),
                ));
            }
            _ => {}
        }
    }
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let response = promxy.send("GET", &path, &headers, b"");
    let mut head = format!("{}\n", response.status_line);
    for (name, value) in &response.headers {
        writeln!(head, "{name}: {value}").unwrap();
    }
    heads_of(&head)
}

/// Returns the status and the headers that clients look at, sorted.
fn heads_of(text: &str) -> Vec<String> {
    const TELLING: [&str; 11] = [
        "location",
        "www-authenticate",
        "content-type",
        "vary",
        "access-control-allow-origin",
        "access-control-allow-methods",
        "access-control-allow-headers",
        "access-control-expose-headers",
        "x-frame-options",
        "x-xss-protection",
        "x-content-type-options",
    ];
    let mut lines = text.lines();
    let status = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .nth(1)
        .unwrap_or_default();
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let name = name.to_lowercase();
            TELLING
                .contains(&name.as_str())
                .then(|| format!("{name}: {value}"))
        });
    let mut all: Vec<String> = headers.collect();
    all.sort();
    all.insert(0, status.to_owned());
    all
}

/// Paths of the user interface that are answered otherwise, with the reason.
const UI_DEVIATIONS: &[(&str, &str)] = &[
    (
        "GET /assets/index-BGNavk_Y.js",
        "there is one page without assets",
    ),
    (
        "GET /assets/index-BcytBn6b.css",
        "there is one page without assets",
    ),
    ("GET /debug/pprof/", "S24: there are no profiles"),
];

#[test]
fn paths_of_the_user_interface_have_their_statuses() {
    let cases: Vec<Case> = golden("ui_paths.jsonl");
    let stub = nothing();
    let promxy = Promxy::start(&groups(&[&[stub.port]]), &[]).ready();
    let (mut same, mut deviating) = (0, 0);
    let mut failures = Vec::new();
    for case in &cases {
        let response = promxy.send(&case.request.method, &case.request.target, &[], b"");
        let location = |name: &str| {
            let headers = case.response.headers.iter();
            let mut named = headers.filter(|(other, _)| other.eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| value.clone())
        };
        let is_same = case.response.status == Some(response.status)
            && location("Location").as_deref() == response.header("location")
            && location("Allow").as_deref() == response.header("allow");
        let known = UI_DEVIATIONS.iter().any(|(id, _)| *id == case.id);
        match (is_same, known) {
            (true, false) => same += 1,
            (false, true) => deviating += 1,
            (true, true) => failures.push(format!("{} does not deviate any more", case.id)),
            (false, false) => failures.push(format!(
                "{}: expected {:?}, got {} {:?}",
                case.id, case.response.status, response.status, response.headers
            )),
        }
    }
    println!(
        "ui_paths.jsonl: {same} of {} statuses the same, {deviating} in the table of deviations",
        cases.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_access_log_has_a_line_for_each_request() {
    let stub = nothing();
    let config = groups(&[&[stub.port]]);
    let promxy = Promxy::start(&config, &[]).ready();
    promxy.get("/api/v1/query?query=up%7Ba%3D%22b%22%7D&time=123456789");
    promxy.post("/api/v1/query?x=2", "query=1&x=+y&time=1");
    promxy.get(&format!("/nope?q={}", "a".repeat(400)));
    promxy.get("/a%20b/%3Cx%3E%0A?y=1");
    let line = promxy.program.wait_for_line("/a b/<x>");
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(
        line.contains("] \"GET /a b/<x>\\n HTTP/1.1 404 19\" 0.0"),
        "{line}"
    );
    assert!(line.ends_with(" y=1"), "{line}");
    let line = promxy
        .program
        .wait_for_line("\"POST /api/v1/query HTTP/1.1 200 68\"");
    assert!(line.ends_with(" query=1&x=+y&time=1&x=2"), "{line}");
    promxy
        .program
        .wait_for_line("\"GET /api/v1/query HTTP/1.1 200 63\"");
    let line = promxy.program.wait_for_line("/nope");
    assert!(line.ends_with(&format!(" q={}", "a".repeat(254))), "{line}");

    let args = [
        "--log-format=json",
        "--access-log-destination=STDERR",
        "--log-max-form-prefix=20",
    ];
    let promxy = Promxy::start(&config, &args).ready();
    promxy.get("/api/v1/query?query=up%7Ba%3D%22b%22%7D");
    let line = promxy.program.wait_for_line("\"path\":\"/api/v1/query\"");
    assert!(promxy.program.stdout().is_empty());
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["remoteAddr"], "127.0.0.1");
    assert_eq!(line["query"], "query=up%7Ba%3D%22b%");
    assert_eq!(line["responseBytes"], 63);

    let promxy = Promxy::start(&config, &["--access-log-destination=none"]).ready();
    promxy.get("/nope");
    assert!(promxy.program.stdout().is_empty());
}

/// Families that are ours to have: those of the original that speak of the proxy and not of Go, of rules, of Alertmanagers, of
/// remote write, or of scraping.
const EXPECTED: [&str; 25] = [
    "server_group_request_duration_seconds",
    "server_group_targets",
    "promxy_build_info",
    "prometheus_config_last_reload_success_timestamp_seconds",
    "prometheus_config_last_reload_successful",
    "process_reload_time_seconds",
    "prometheus_ready",
    "prometheus_engine_queries",
    "prometheus_engine_queries_concurrent_max",
    "prometheus_engine_query_duration_seconds",
    "prometheus_engine_query_log_enabled",
    "prometheus_engine_query_log_failures_total",
    "prometheus_engine_query_samples_total",
    "prometheus_http_request_duration_seconds",
    "prometheus_http_requests_total",
    "prometheus_http_response_size_bytes",
    "prometheus_remote_read_handler_queries",
    "prometheus_web_federation_errors_total",
    "prometheus_web_federation_warnings_total",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
];

#[test]
fn the_metrics_have_the_originals_families() {
    let stub = nothing();
    let promxy = Promxy::start(&groups(&[&[stub.port]]), &[]).ready();
    promxy.get("/api/v1/query?query=up");
    let page = promxy.get("/metrics");
    assert_eq!(
        page.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
    );
    let page = page.text();
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/surface/metrics_families.tsv");
    let families = fs::read_to_string(&path).unwrap();
    let recorded = path.with_file_name("metrics_full.txt");
    let recorded = fs::read_to_string(recorded).unwrap();
    let mut found = 0;
    for row in families.lines().skip(1) {
        let mut columns = row.split('\t');
        let (name, kind) = (columns.next().unwrap(), columns.next().unwrap());
        let labels: HashSet<&str> = columns
            .next()
            .unwrap_or_default()
            .split(',')
            .filter(|label| !label.is_empty())
            .collect();
        if !EXPECTED.contains(&name) {
            continue;
        }
        assert!(
            page.contains(&format!("# TYPE {name} {kind}\n")),
            "{name} {kind}\n{page}"
        );
        let help = format!("# HELP {name} ");
        let mut helps = recorded.lines().filter(|line| line.starts_with(&help));
        let help = helps.next().unwrap();
        assert!(page.lines().any(|line| line == help), "{help}\n{page}");
        let sample = page
            .lines()
            .find(|line| line.starts_with(name) && !line.starts_with('#'))
            .unwrap_or_else(|| panic!("no sample of {name}"));
        let inside = sample
            .split_once('{')
            .map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
        let names: HashSet<&str> = inside
            .split("\",")
            .filter_map(|pair| pair.split_once('='))
            .map(|(label, _)| label)
            .filter(|label| !["le", "quantile"].contains(label))
            .collect();
        assert_eq!(names, labels, "{sample}");
        found += 1;
    }
    println!(
        "metrics_families.tsv: {found} of {} families; the others speak of Go, rules, Alertmanagers, remote write or scraping",
        families.lines().count() - 1
    );
    assert_eq!(found, EXPECTED.len());
    eventually("a count of the query", || {
        let lines =
            promxy.metrics("prometheus_http_requests_total{code=\"200\",handler=\"/query\"} ");
        (lines == ["prometheus_http_requests_total{code=\"200\",handler=\"/query\"} 1"])
            .then_some(())
    });
}

#[test]
fn bodies_that_are_too_long_and_paths_that_are_broken_are_refused() {
    let stub = nothing();
    let promxy = Promxy::start(&groups(&[&[stub.port]]), &[]).ready();
    let long = format!("query={}", "1".repeat(11 << 20));
    let bytes = support::bytes_of(
        "POST",
        "/api/v1/query",
        &[("Content-Type", "application/x-www-form-urlencoded")],
        long.as_bytes(),
    );
    if let Some(answer) = support::client::request(promxy.port, &bytes) {
        assert_eq!(answer.status, 413);
    }
    assert_eq!(promxy.get("/%zz").status, 400);
    assert_eq!(promxy.get("/-/healthy").status, 200);
}

#[test]
fn a_form_in_parts_is_read_and_flags_have_their_names() {
    let stub = nothing();
    let promxy = Promxy::start(&groups(&[&[stub.port]]), &["--web.enable-lifecycle"]).ready();
    let body = b"--x\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\n1\r\n--x--\r\n";
    let answer = promxy.send(
        "POST",
        "/api/v1/query",
        &[("Content-Type", "multipart/form-data; boundary=x")],
        body,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let flags: Value = serde_json::from_str(&promxy.get("/api/v1/status/flags").text()).unwrap();
    assert_eq!(flags["data"]["web.enable-lifecycle"], "true");
    assert_eq!(flags["data"]["query.timeout"], "2m0s");
}

#[test]
fn metrics_come_in_the_form_that_a_scraper_accepts() {
    let stub = nothing();
    let promxy = Promxy::start(&support::groups(&[&[stub.port]]), &[]).ready();
    let scrape = |accept: &str| promxy.send("GET", "/metrics", &[("Accept", accept)], b"");
    let kind = |form: &str| format!("{form}; charset=utf-8; escaping=underscores");
    for accept in ["", "*/*", "text/plain", "application/vnd.google.protobuf"] {
        let page = scrape(accept);
        let expected = kind("text/plain; version=0.0.4");
        assert_eq!(page.header("content-type"), Some(&*expected), "{accept}");
        assert!(!page.text().contains("# EOF"));
    }
    // As Prometheus 3.5 asks.
    let page = scrape(
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    );
    let expected = kind("application/openmetrics-text; version=1.0.0");
    assert_eq!(page.header("content-type"), Some(&*expected));
    let text = page.text();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    for line in [
        "# TYPE prometheus_web_federation_errors counter",
        "prometheus_web_federation_errors_total 0.0",
        "prometheus_ready 1.0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}
