//! Behind real Prometheus servers, 2.x and 3.x: the default strategy selects, switches when one stops, and returns.
//!
//! `PROMETHEUS_BIN` and `PROMETHEUS3_BIN` say where they are (`.ci/servers` brings them). Without them the test says that it
//! skips; `REQUIRE_REAL_SERVERS=1` turns that into a failure.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and a skipped test says so"
)]

mod support;

use std::{env, fs, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use shared::testing::{eventually, process::Program, wire::free_tcp_port};
use support::{Mpp, client::request_within};
use tempfile::TempDir;

struct Server {
    binary: String,
    folder: TempDir,
    port: u16,
    program: Program,
}

impl Server {
    fn start(binary: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let port = free_tcp_port();
        let config = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 200ms}}\nscrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
        );
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let program = launch(binary, &folder, port);
        let server = Self {
            binary: binary.to_owned(),
            folder,
            port,
            program,
        };
        server.wait_until_it_has_samples();
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn restart(&mut self) {
        self.program = launch(&self.binary, &self.folder, self.port);
        self.wait_until_it_has_samples();
    }

    fn wait_until_it_has_samples(&self) {
        for _ in 0..3 {
            eventually_long("prometheus to answer", || {
                let bytes =
                    b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
                let answer = request_within(self.port, bytes, Duration::from_secs(5))?;
                answer.text().contains("\"1\"").then_some(())
            });
        }
    }
}

fn launch(binary: &str, folder: &TempDir, port: u16) -> Program {
    let path = |name: &str| folder.path().join(name).display().to_string();
    Program::spawn(
        Command::new(binary)
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    )
}

/// Real servers take their time on a busy machine.
fn eventually_long<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "gave up waiting for {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_default_strategy_selects_switches_when_one_stops_and_returns() {
    let variables = ["PROMETHEUS_BIN", "PROMETHEUS3_BIN"];
    let binaries: Vec<String> = variables
        .iter()
        .filter_map(|name| env::var(name).ok())
        .filter(|path| !path.is_empty())
        .collect();
    if binaries.len() < variables.len() {
        assert!(
            env::var("REQUIRE_REAL_SERVERS").is_err(),
            "{variables:?} are not all set"
        );
        println!("SKIPPED: no Prometheus ({variables:?})");
        return;
    }
    let mut servers: Vec<Server> = Vec::new();
    // The first one is the older process, and so has ingested more when the second comes.
    for binary in &binaries {
        servers.push(Server::start(binary));
    }
    let endpoints: String = servers.iter().map(|server| server.url() + "\n").collect();
    let mpp = Mpp::start(&endpoints, &["--selection-interval", "500ms"]);
    mpp.wait_for_rounds(2);
    let selected = || -> Option<String> {
        let status = mpp.status();
        let rows = status["backends"].as_array()?.clone();
        let row = rows.iter().find(|row| row["selected"] == true)?;
        Some(row["address"].as_str()?.to_owned())
    };
    let first = eventually("a selection", selected);
    let status = mpp.status();
    assert_eq!(
        status["runtime"]["comparison"],
        "prometheus_tsdb_head_samples_appended_total"
    );
    let versions: Vec<String> = status["backends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["version"].as_str().unwrap_or_default().to_owned())
        .collect();
    let place = servers
        .iter()
        .position(|server| server.url() == first)
        .unwrap();
    let query = || -> Value {
        let answer = mpp.get("/api/v1/query?query=up");
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_slice(&answer.body).unwrap()
    };
    assert_eq!(query()["data"]["result"][0]["value"][1], "1");
    servers[place].program.signal(Signal::SIGTERM);
    servers[place].program.wait();
    // Not one query fails meanwhile.
    let second = eventually("the other to be selected", || {
        assert_eq!(query()["status"], "success");
        selected().filter(|address| *address != first)
    });
    servers[place].restart();
    // The restarted one counts from nothing: it returns to the rows at once, and to service when the other stops.
    eventually("the first to be viable again", || {
        let status = mpp.status();
        let rows = status["backends"].as_array()?.clone();
        rows.iter()
            .any(|row| row["address"] == first.as_str() && row["state"] == "standby")
            .then_some(())
    });
    let other = 1 - place;
    servers[other].program.signal(Signal::SIGTERM);
    servers[other].program.wait();
    eventually("the first to be selected again", || {
        assert_eq!(query()["status"], "success");
        selected().filter(|address| *address == first)
    });
    println!("real servers: {versions:?}; {first}, then {second}, then {first} again");
}

#[test]
fn every_strategy_works_with_every_version() {
    for variable in ["PROMETHEUS_BIN", "PROMETHEUS3_BIN"] {
        let Some(binary) = env::var(variable).ok().filter(|path| !path.is_empty()) else {
            assert!(
                env::var("REQUIRE_REAL_SERVERS").is_err(),
                "{variable} is not set"
            );
            println!("SKIPPED: no Prometheus ({variable})");
            continue;
        };
        let server = Server::start(&binary);
        for strategy in [
            "single-most-data",
            "random",
            "minimum-history:1s",
            "most-history",
            "round-robin",
            "least-requests",
        ] {
            let mpp = Mpp::start(
                &server.url(),
                &[
                    "--routing-strategy",
                    strategy,
                    "--selection-interval",
                    "500ms",
                ],
            );
            eventually("a selection", || {
                (mpp.metric("mpp_selected_backends") == 1.0).then_some(())
            });
            let post = "POST /api/v1/query HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\nquery=up";
            let answer = support::client::request(mpp.port, post.as_bytes()).unwrap();
            assert_eq!(answer.status, 200, "{strategy}: {answer:?}");
        }
        // A notifications stream, which version 3 opens with every page, must not be held back.
        println!("real servers: all strategies with {binary}");
    }
}
