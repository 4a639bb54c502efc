//! What is under `deploy/`: every example is started and carries a line; dashboard and alerts use metrics that exist.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use shared::testing::{
    pki::{Authority, named},
    wire::connect,
};
use support::{
    Certificates, Proxy, command, fetch, gateway::Gateway, loopback, port, spawn, wait_for_count,
};

/// The variables of an example.
fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

/// Starts a proxy with these variables, moved to loopback and to files that exist, and sends a line through it.
#[track_caller]
fn carries_a_line(what: &str, variables: Vec<(String, String)>) {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let copy = |from: &str, to: &str| {
        let bytes = fs::read(certificates.path(from)).unwrap();
        fs::write(folder.path().join(to), bytes).unwrap();
    };
    copy("ca.pem", "gateway.pem");
    copy("server.pem", "listen.pem");
    copy("server.key", "listen.key");
    Authority::new("clients")
        .issue(&named(&["proxy"]))
        .write(folder.path(), "client");
    fs::write(folder.path().join("key"), "123\n").unwrap();
    let gateway = Gateway::start(Some(certificates.server("server")), |_, _| {
        support::gateway::Action::Real("123")
    });
    let address = format!("https://localhost:{}", gateway.address.port());
    let lines = loopback(port());
    let (mut tls, mut merged) = (false, false);
    let mut started = command();
    started.env("POLYMUR_PROXY_LISTEN_ADDR", lines.to_string());
    started.env("POLYMUR_PROXY_STAT_ADDR", loopback(port()).to_string());
    for (name, value) in variables {
        let value = match name.trim_start_matches("POLYMUR_PROXY_") {
            "GATEWAY" if value.contains(',') => format!("{address},{address}"),
            "GATEWAY" => address.clone(),
            "API_KEY" => "123".to_owned(),
            "LISTEN_ADDR" | "STAT_ADDR" => continue,
            "UDP_ADDR" | "PICKLE_ADDR" | "METRICS_ADDR" => loopback(port()).to_string(),
            "SPOOL_DIR" => path("spool"),
            other => {
                tls |= other == "LISTEN_CERT";
                merged |= other == "MERGE_CONNECTIONS";
                value.replace("/etc/polymur-proxy/", &path(""))
            }
        };
        started.env(name, value);
    }
    let mut program = spawn(&mut started);
    if tls {
        // Another test speaks TLS to it; that it is there is enough here.
        connect(lines);
        assert!(merged);
    } else {
        std::io::Write::write_all(&mut connect(lines), b"a.b 1 1500000000\n").unwrap();
        wait_for_count(what, 1, || gateway.taken_lines());
    }
    assert!(
        program.terminate().success(),
        "{what}: {:#?}",
        program.stderr()
    );
    let stderr = program.stderr();
    assert!(
        !stderr.iter().any(|line| line.contains("is ignored")),
        "{what}: {stderr:#?}"
    );
}

#[test]
fn every_example_carries_a_line_and_ends_in_order() {
    let mut examples = 0;
    for entry in fs::read_dir(deploy("examples/polymur-proxy")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        carries_a_line(&path.display().to_string(), variables(&text));
        examples += 1;
    }
    assert_eq!(examples, 5);
}

#[test]
fn the_kubernetes_configuration_carries_a_line() {
    let manifest = fs::read_to_string(deploy("kubernetes/polymur-proxy.yaml")).unwrap();
    let lines = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("  POLYMUR_PROXY_"));
    let variables = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (
            format!("POLYMUR_PROXY_{name}"),
            value.trim_matches('"').to_owned(),
        )
    });
    let variables: Vec<_> = variables.collect();
    assert!(variables.len() > 5);
    carries_a_line("kubernetes", variables);
}

#[test]
fn every_variable_of_examples_is_one_of_a_flag() {
    let mut help = spawn(command().arg("-h"));
    assert!(help.wait().success());
    let page = help.stderr().join("\n");
    for entry in fs::read_dir(deploy("examples/polymur-proxy")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for (name, _) in variables(&text) {
            assert!(page.contains(&format!("[{name}]")), "{name}");
        }
    }
}

#[test]
fn dashboard_and_alerts_use_metrics_that_exist() {
    let gateway = Gateway::friendly();
    let proxy = Proxy::start(&[&gateway.flag()]);
    let page = fetch(proxy.metrics, "/metrics");
    let exposed: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let dashboard = fs::read_to_string(deploy("dashboards/polymur-proxy.json")).unwrap();
    let _valid: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    for text in [
        dashboard,
        fs::read_to_string(deploy("alerts/polymur-proxy.yaml")).unwrap(),
    ] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let used: BTreeSet<&str> = words
            .filter(|word| word.starts_with("polymur_proxy_") || word.starts_with("process_"))
            .collect();
        assert!(used.len() > 5);
        let unknown: Vec<_> = used.difference(&exposed).collect();
        assert!(unknown.is_empty(), "not exposed: {unknown:?}");
    }
}
