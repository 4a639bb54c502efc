//! Reload, quit, signals, shutdown.

#![allow(clippy::unwrap_used, reason = "a failed test says what it expected")]

mod support;

use std::{fs, thread, time::Duration};

use nix::sys::signal::Signal;
use shared::testing::eventually;
use tempfile::TempDir;

use support::{
    Promxy, bytes_of,
    client::request,
    groups,
    stub::{Reply, Stub},
};

/// A server that has one series, and takes its time.
fn server(delay: Duration) -> Stub {
    Stub::start(move |asked| {
        let time = asked
            .parameters()
            .into_iter()
            .find(|(name, _)| name == "time");
        let time = time.map_or_else(|| "0".to_owned(), |(_, time)| time);
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"__name__":"up"}},"value":[{time},"1"]}}]}}}}"#
        );
        Reply::After(delay, Box::new(Reply::json(body)))
    })
}

fn config(stub: &Stub, version: u32) -> String {
    format!(
        "promxy:\n  server_groups:\n  - labels: {{v: {version}}}\n    static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        stub.port
    )
}

/// Returns the label that the configuration in force adds.
fn version(promxy: &Promxy) -> Option<String> {
    let text = promxy.get("/api/v1/query?query=up&time=1").text();
    let (_, rest) = text.split_once("\"v\":\"")?;
    Some(rest.split('"').next()?.to_owned())
}

const LIFECYCLE: &str = "--web.enable-lifecycle";

#[test]
fn a_reload_switches_whole_or_not_at_all() {
    let stub = server(Duration::ZERO);
    let promxy = Promxy::start(&config(&stub, 1), &[LIFECYCLE]).ready();
    assert_eq!(version(&promxy).as_deref(), Some("1"));
    let gauge = || {
        promxy
            .metrics("prometheus_config_last_reload_successful")
            .join("")
    };
    assert_eq!(gauge(), "prometheus_config_last_reload_successful 1");

    promxy.write_config(&config(&stub, 2));
    let answer = promxy.send("POST", "/-/reload", &[], b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert_eq!(version(&promxy).as_deref(), Some("2"));
    let page = promxy.get("/api/v1/status/config").text();
    assert!(
        page.contains("v: \\\"2\\\"") || page.contains("v: 2"),
        "{page}"
    );

    // Not YAML: the old state stays, and so does the time of the last success.
    let before = promxy.metrics("prometheus_config_last_reload_success_timestamp_seconds");
    promxy.write_config("promxy: [");
    let answer = promxy.send("PUT", "/-/reload", &[], b"");
    assert_eq!(answer.status, 500);
    assert!(
        answer
            .text()
            .starts_with("failed to reload config: error loading cfg: error unmarshaling config: "),
        "{}",
        answer.text()
    );
    assert_eq!(gauge(), "prometheus_config_last_reload_successful 0");
    assert_eq!(
        promxy.metrics("prometheus_config_last_reload_success_timestamp_seconds"),
        before
    );
    assert_eq!(version(&promxy).as_deref(), Some("2"));
    promxy
        .program
        .wait_for_line("Error reloading config: error loading cfg: ");

    // A part that cannot be put into force: nothing is.
    for broken in [
        config(&stub, 3) + "    http_client: {tls_config: {ca_file: /nonexistent}}\n",
        config(&stub, 3) + "global: {query_log_file: /nonexistent/x.log}\n",
    ] {
        promxy.write_config(&broken);
        let answer = promxy.send("POST", "/-/reload", &[], b"");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (
                500,
                "failed to reload config: one or more errors occurred while applying new configuration\n"
            )
        );
        assert_eq!(version(&promxy).as_deref(), Some("2"));
    }

    fs::remove_file(promxy.path("config.yaml")).unwrap();
    let answer = promxy.send("POST", "/-/reload", &[], b"");
    assert_eq!(
        answer.text(),
        "failed to reload config: error loading cfg: error loading config: open config.yaml: no such file or directory\n"
    );
    assert_eq!(version(&promxy).as_deref(), Some("2"));
}

#[test]
fn sighup_reloads_without_the_lifecycle_flag() {
    let stub = server(Duration::ZERO);
    let promxy = Promxy::start(&config(&stub, 1), &[]).ready();
    promxy.write_config(&config(&stub, 6));
    promxy.program.signal(Signal::SIGHUP);
    eventually("the new configuration", || {
        (version(&promxy).as_deref() == Some("6")).then_some(())
    });
    promxy
        .program
        .wait_for_line("level=info msg=\"Reloading config\"");
    for path in ["/-/reload", "/-/quit"] {
        let answer = promxy.send("POST", path, &[], b"");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (403, "Lifecycle API is not enabled.")
        );
        let answer = promxy.get(path);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (405, "Only POST or PUT requests allowed")
        );
        let answer = promxy.send("DELETE", path, &[], b"");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET, OPTIONS, POST, PUT"))
        );
    }
}

#[test]
fn targets_of_removed_groups_leave_the_metrics() {
    let stub = server(Duration::ZERO);
    let two = groups(&[&[stub.port], &[stub.port]]);
    let promxy = Promxy::start(&two, &[LIFECYCLE]).ready();
    let targets = || promxy.metrics("server_group_targets");
    assert_eq!(targets().len(), 2, "{:?}", targets());
    promxy.write_config(&groups(&[&[stub.port]]).replace("group-a", "only"));
    assert_eq!(promxy.send("POST", "/-/reload", &[], b"").status, 200);
    assert_eq!(
        targets(),
        ["server_group_targets{name=\"only\",ordinal=\"0\"} 1"]
    );
}

#[test]
fn quit_ends_the_process_in_order() {
    let stub = server(Duration::ZERO);
    let mut promxy = Promxy::start(
        &config(&stub, 1),
        &[LIFECYCLE, "--http.shutdown-delay=200ms"],
    )
    .ready();
    let answer = promxy.send("POST", "/-/quit", &[], b"");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "Requesting termination... Goodbye!")
    );
    assert_eq!(promxy.program.wait().code(), Some(0));
}

#[test]
fn a_signal_is_told_before_the_listener_closes() {
    let stub = server(Duration::ZERO);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut promxy = Promxy::start(&config(&stub, 1), &["--http.shutdown-delay=3s"]).ready();
        promxy.program.signal(signal);
        let ready = eventually("the end of readiness", || {
            let ready = promxy.get("/-/ready");
            (ready.status == 503).then_some(ready)
        });
        assert_eq!(ready.text(), "Promxy is Stopping.\n");
        assert_eq!(promxy.get("/-/healthy").status, 200);
        assert_eq!(version(&promxy).as_deref(), Some("1"));
        promxy
            .program
            .wait_for_line("promxy received exit signal, starting graceful shutdown");
        promxy
            .program
            .wait_for_line("promxy delaying shutdown by 3s");
        promxy
            .program
            .wait_for_line("promxy exiting with timeout: 1m0s");
        assert_eq!(promxy.program.wait().code(), Some(0));
    }
}

/// Sends a query whose answer takes so long, then a signal; returns the query's answer.
fn in_flight(delay: Duration, args: &[&str]) -> (Option<u16>, Option<i32>) {
    let stub = server(delay);
    let mut promxy = Promxy::start(&config(&stub, 1), args).ready();
    let port = promxy.port;
    let query = thread::spawn(move || {
        request(port, &bytes_of("GET", "/api/v1/query?query=up", &[], b""))
            .map(|answer| answer.status)
    });
    eventually("the query", || (!stub.asked().is_empty()).then_some(()));
    promxy.program.signal(Signal::SIGTERM);
    let code = promxy.program.wait().code();
    (query.join().unwrap(), code)
}

#[test]
fn requests_under_way_are_answered_within_the_timeout_and_cut_behind_it() {
    let answered = in_flight(
        Duration::from_millis(1500),
        &["--http.shutdown-delay=0s", "--http.shutdown-timeout=15s"],
    );
    assert_eq!(answered, (Some(200), Some(0)));
    let cut = in_flight(
        Duration::from_secs(15),
        &["--http.shutdown-delay=0s", "--http.shutdown-timeout=300ms"],
    );
    assert_eq!(cut, (None, Some(0)));
}

#[test]
fn queries_wait_for_a_place_and_are_listed_while_they_run() {
    let stub = server(Duration::from_millis(700));
    let args = [
        "--query.max-concurrency=1",
        "--storage.path=data",
        "--query.timeout=1s",
    ];
    let promxy = Promxy::start(&config(&stub, 1), &args).ready();
    let port = promxy.port;
    let queries: Vec<_> = (0..3)
        .map(|_| {
            thread::spawn(move || {
                request(port, &bytes_of("GET", "/api/v1/query?query=up", &[], b"")).unwrap()
            })
        })
        .collect();
    let listed = eventually("a running query", || {
        let file = fs::read(promxy.path("data/queries.active")).ok()?;
        assert_eq!(file.len(), 1001);
        file.starts_with(b"[{\"query\":\"up\",\"timestamp_sec\":")
            .then_some(file)
    });
    assert_eq!(listed.last(), Some(&b','));
    let mut answers: Vec<(u16, String)> = queries
        .into_iter()
        .map(|query| query.join().unwrap())
        .map(|answer| (answer.status, answer.text()))
        .collect();
    answers.sort();
    assert_eq!(answers[0].0, 200);
    // The third has waited for all of its time.
    assert_eq!(answers[2].0, 503, "{answers:?}");
    assert!(
        answers[2].1.contains("\"errorType\":\"timeout\""),
        "{answers:?}"
    );
}

#[test]
fn queries_that_a_crash_has_ended_are_logged_at_the_next_start() {
    let stub = server(Duration::from_secs(15));
    let args = ["--query.max-concurrency=2", "--storage.path=data"];
    let mut promxy = Promxy::start(&config(&stub, 1), &args).ready();
    let port = promxy.port;
    let query =
        thread::spawn(move || request(port, &bytes_of("GET", "/api/v1/query?query=up", &[], b"")));
    eventually("the query", || (!stub.asked().is_empty()).then_some(()));
    promxy.program.kill();
    assert!(query.join().unwrap().is_none());
    let Promxy { folder, .. } = promxy;
    let promxy = Promxy::start_in(folder, &config(&stub, 1), &args, &[]);
    let line = promxy
        .program
        .wait_for_line("These queries didn't finish in prometheus' last run:");
    assert!(
        line.contains("component=activeQueryTracker queries=\"[{\\\"query\\\":\\\"up\\\",\\\"timestamp_sec\\\":"),
        "{line}"
    );
}

#[test]
fn queries_are_logged_and_the_file_is_opened_again_by_a_reload() {
    let stub = server(Duration::ZERO);
    let config = config(&stub, 1) + "global: {query_log_file: q.log}\n";
    let promxy = Promxy::start(&config, &[LIFECYCLE]).ready();
    assert_eq!(
        promxy.metrics("prometheus_engine_query_log_enabled"),
        ["prometheus_engine_query_log_enabled 1"]
    );
    let log = |file: &str| fs::read_to_string(promxy.path(file)).unwrap_or_default();
    promxy.get("/api/v1/query?query=up&time=5");
    let line: serde_json::Value = serde_json::from_str(&log("q.log")).unwrap();
    assert_eq!(line["msg"], "promql query logged");
    assert_eq!(line["params"]["query"], "up");
    assert_eq!(line["params"]["start"], "1970-01-01T00:00:05.000Z");
    assert_eq!(line["params"]["step"], 0);
    assert_eq!(line["httpRequest"]["path"], "/api/v1/query");
    assert_eq!(line["httpRequest"]["clientIP"], "127.0.0.1");
    fs::rename(promxy.path("q.log"), promxy.path("old.log")).unwrap();
    assert_eq!(promxy.send("POST", "/-/reload", &[], b"").status, 200);
    promxy.get("/api/v1/query_range?query=up&start=0&end=60&step=30");
    let line: serde_json::Value = serde_json::from_str(&log("q.log")).unwrap();
    assert_eq!(line["params"]["step"], 30);
    assert_eq!(log("old.log").lines().count(), 1);
    let _folder: &TempDir = &promxy.folder;
}
