//! What `deploy/` says of this tool is true: every example starts and serves; dashboard and alerts use metrics that exist; the
//! Kubernetes manifest names flags that exist.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use mpp::flags::FLAGS;
use support::{
    Mpp,
    client::request,
    prometheus::{Manners, Prometheus, Reply},
};
use tempfile::TempDir;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap()
}

#[test]
fn every_example_serves() {
    let servers = ["b1", "b2"].map(|name| Prometheus::start(name, Manners::good("1")));
    let mut seen = 0;
    for entry in fs::read_dir(deploy("examples/mpp")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "env") {
            continue;
        }
        seen += 1;
        let folder = TempDir::new().unwrap();
        let endpoints = read("examples/mpp/endpoints")
            .replace("http://127.0.0.1:19091", &servers[0].url())
            .replace("http://127.0.0.1:19092", &servers[1].url());
        fs::write(folder.path().join("endpoints"), endpoints).unwrap();
        fs::copy(
            deploy("examples/mpp/web.yml"),
            folder.path().join("web.yml"),
        )
        .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let variables: Vec<(&str, &str)> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .collect();
        let mut mpp = Mpp::spawn(folder, &[], &variables);
        let password = text.contains("MPP_WEB_CONFIG_FILE");
        let credentials = if password {
            "Authorization: Basic YWRtaW46YWRtaW4=\r\n"
        } else {
            ""
        };
        let ask = |credentials: &str| {
            let bytes =
                format!("GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{credentials}\r\n");
            request(mpp.port, bytes.as_bytes()).unwrap().status
        };
        assert_eq!(ask(credentials), 200, "{}", path.display());
        if password {
            assert_eq!(ask(""), 401);
        }
        assert!(
            !mpp.program
                .stderr()
                .iter()
                .any(|line| line.contains("skipped")),
            "{}",
            path.display()
        );
        assert!(mpp.program.terminate().success(), "{}", path.display());
    }
    assert_eq!(seen, 5);
}

#[test]
fn dashboard_and_alerts_use_metrics_that_exist() {
    let servers = ["b1", "b2"].map(|name| Prometheus::start(name, Manners::good("1")));
    let endpoints: String = servers.iter().map(|server| server.url() + "\n").collect();
    let mpp = Mpp::start(&endpoints, &["--routing-strategy", "random"]);
    mpp.wait_until_answering(2);
    // A retry and a hit of a cookie bring the families that are there only then.
    servers[0].set(|manners| manners.proxied = Reply::Status(502, "bad"));
    for server in &servers {
        let bytes = format!(
            "GET /x HTTP/1.1\r\nHost: h\r\nCookie: MPP.Route={}\r\n\r\n",
            server.url()
        );
        assert_eq!(request(mpp.port, bytes.as_bytes()).unwrap().status, 200);
    }
    let known: BTreeSet<String> = mpp
        .metrics()
        .iter()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
        .collect();
    for file in ["dashboards/mpp.json", "alerts/mpp.yaml"] {
        let text = read(file);
        let used: BTreeSet<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("mpp_") || word.starts_with("process_"))
            .collect();
        assert!(used.len() > 3, "{file}");
        for name in used {
            assert!(
                known.contains(name),
                "{file}: {name} is not among {known:?}"
            );
        }
    }
}

#[test]
fn manifests_and_units_name_variables_that_exist() {
    let known: Vec<&str> = FLAGS
        .iter()
        .flat_map(|flag| flag.environment)
        .copied()
        .collect();
    for file in ["kubernetes/mpp.yaml", "systemd/mpp.service"] {
        let text = read(file);
        let used: BTreeSet<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("MPP_") && *word != "MPP_")
            .collect();
        assert!(!used.is_empty(), "{file}");
        for name in used {
            assert!(known.contains(&name), "{file}: {name}");
        }
    }
}
