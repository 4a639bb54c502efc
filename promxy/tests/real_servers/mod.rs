//! Real Prometheus servers with data of a test, and promxy before two of them beside one that holds everything.
//!
//! `PROMETHEUS_BIN` (2.42, with promtool beside it) and `PROMETHEUS3_BIN` (3.5) say where the servers are; `.ci/servers` brings
//! them. Without them a test says that it skips; `REQUIRE_REAL_SERVERS=1` turns that into a failure.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use shared::testing::{client::Response, process::Program, wire::free_tcp_port};
use tempfile::TempDir;

use crate::dataset::{RegionLabel, Times, series};
use crate::support::{LONG, Promxy, bytes_of, client::request_within};
pub(crate) use crate::support::{eventually_long, form, required};

/// Where the programs are.
pub(crate) struct Binaries {
    pub(crate) v2: PathBuf,
    pub(crate) v3: PathBuf,
    pub(crate) promtool: PathBuf,
}

/// Returns where the programs are, or says that a test skips.
pub(crate) fn binaries() -> Option<Binaries> {
    let (v2, v3) = (required("PROMETHEUS_BIN")?, required("PROMETHEUS3_BIN")?);
    let promtool = v2.with_file_name("promtool");
    Some(Binaries { v2, v3, promtool })
}

/// A server. Killed when dropped.
pub(crate) struct Prometheus {
    pub(crate) port: u16,
    folder: TempDir,
    _program: Program,
}

impl Prometheus {
    /// Starts a server with a configuration, and waits until it answers.
    #[track_caller]
    pub(crate) fn start(binary: &Path, config: &str) -> Self {
        Self::start_in(TempDir::new().unwrap(), binary, config)
    }

    /// Starts a server that holds series, which are given as OpenMetrics text.
    #[track_caller]
    pub(crate) fn holding(binary: &Path, config: &str, promtool: &Path, series: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let text = folder.path().join("series.om");
        fs::write(&text, series).unwrap();
        let made = Command::new(promtool)
            .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
            .args([&text, &folder.path().join("data")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self::start_in(folder, binary, config)
    }

    #[track_caller]
    fn start_in(folder: TempDir, binary: &Path, config: &str) -> Self {
        let port = free_tcp_port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("prometheus.yml"), config).unwrap();
        let program = Program::spawn(
            Command::new(binary)
                .arg(format!("--config.file={}", path("prometheus.yml")))
                .arg(format!("--storage.tsdb.path={}", path("data")))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--enable-feature=exemplar-storage"),
        );
        eventually_long("Prometheus to be ready", || {
            let bytes = bytes_of("GET", "/-/ready", &[], b"");
            let answer = request_within(port, &bytes, LONG)?;
            (answer.status == 200).then_some(())
        });
        Self {
            port,
            folder,
            _program: program,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Asks a server on loopback.
#[track_caller]
pub(crate) fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let bytes = bytes_of(method, path, headers, body.as_bytes());
    request_within(port, &bytes, LONG).unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

/// Asks for a path with parameters, and returns the data of the answer.
#[track_caller]
pub(crate) fn data(port: u16, path: &str, params: &[(&str, &str)]) -> Value {
    let answer = send(port, "GET", &format!("{path}?{}", form(params)), &[], "");
    let mut body: Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.text()));
    assert_eq!(answer.status, 200, "{path} {params:?}: {body}");
    body["data"].take()
}

/// Writes what all servers have together.
pub(crate) fn everything(times: Times) -> String {
    series(&["east", "west"], times, RegionLabel::Written)
}

/// promxy before two servers, and beside them a server that holds what both have.
pub(crate) struct Stand {
    pub(crate) times: Times,
    pub(crate) promxy: Promxy,
    pub(crate) whole: Prometheus,
    _parts: [Prometheus; 2],
}

impl Stand {
    /// Starts everything. `global` is a part of promxy's configuration.
    #[track_caller]
    pub(crate) fn start(binaries: &Binaries, times: Times, config: &str, global: &str) -> Self {
        let Binaries { v3, promtool, .. } = binaries;
        let parts = ["east", "west"].map(|region| {
            let text = series(&[region], times, RegionLabel::LeftToPromxy);
            Prometheus::holding(v3, config, promtool, &text)
        });
        let whole = Prometheus::holding(v3, config, promtool, &everything(times));
        let mut groups = format!("{global}promxy:\n  server_groups:\n");
        for (part, region) in parts.iter().zip(["east", "west"]) {
            let port = part.port;
            writeln!(
                groups,
                "  - {{static_configs: [{{targets: ['127.0.0.1:{port}']}}], labels: {{dc: {region}}}}}"
            )
            .unwrap();
        }
        Self {
            times,
            promxy: Promxy::start(&groups, &[]).ready(),
            whole,
            _parts: parts,
        }
    }

    pub(crate) fn promxy_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.promxy.port)
    }
}
