//! What `deploy/` says of this tool is true: every example starts and answers; dashboard and alerts use metrics that exist; the
//! manifest's configuration and the unit's flags are ones that promxy takes.

#![allow(clippy::unwrap_used, reason = "a failed test says what it expected")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use promxy::{config, flags::Flags};
use tempfile::TempDir;

use support::{
    Promxy, groups,
    stub::{Reply, Stub},
};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap()
}

fn server() -> Stub {
    Stub::start(|_| {
        Reply::json(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#)
    })
}

#[test]
fn every_example_answers() {
    let servers: Vec<Stub> = (0..4).map(|_| server()).collect();
    let with_ports = |text: String| {
        let places = (1..).zip(&servers);
        places.fold(text, |text, (place, server)| {
            text.replace(
                &format!("127.0.0.1:1909{place}"),
                &format!("127.0.0.1:{}", server.port),
            )
        })
    };
    let mut seen = 0;
    for entry in fs::read_dir(deploy("examples/promxy")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        let loaded = config::parse(&text).unwrap();
        assert_eq!(loaded.warnings, [""; 0], "{}", path.display());
        let folder = TempDir::new().unwrap();
        let targets = with_ports(read("examples/promxy/targets.json"));
        fs::write(folder.path().join("targets.json"), targets).unwrap();
        let promxy = Promxy::start_in(folder, &with_ports(text), &[], &[]).ready();
        let answer = promxy.get("/api/v1/query?query=up");
        assert_eq!(answer.status, 200, "{}: {}", path.display(), answer.text());
        let asked: usize = servers.iter().map(|server| server.asked().len()).sum();
        assert!(asked >= seen, "{}", path.display());
    }
    assert_eq!(seen, 7);
}

#[test]
fn dashboard_and_alerts_use_metrics_that_exist() {
    let server = server();
    let promxy = Promxy::start(&groups(&[&[server.port]]), &[]).ready();
    promxy.get("/api/v1/query?query=up");
    let known: BTreeSet<String> = promxy
        .metrics("")
        .iter()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
        .collect();
    for file in ["dashboards/promxy.json", "alerts/promxy.yaml"] {
        let text = read(file);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let prefixes = ["prometheus_", "process_", "server_group_", "promxy_"];
        let used: BTreeSet<&str> = words
            .filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
            .collect();
        assert!(used.len() > 2, "{file}");
        for name in used {
            assert!(
                known.contains(name),
                "{file}: {name} is not among {known:?}"
            );
        }
    }
}

#[test]
fn manifest_and_unit_have_what_promxy_takes() {
    let manifest = read("kubernetes/promxy.yaml");
    let (_, rest) = manifest.split_once("config.yaml: |\n").unwrap();
    let config: Vec<&str> = rest
        .split("\n---")
        .next()
        .unwrap()
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect();
    assert_eq!(config::parse(&config.join("\n")).unwrap().warnings, [""; 0]);
    let flags = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- --"));
    let unit = read("systemd/promxy.service");
    let unit = unit
        .lines()
        .find(|line| line.starts_with("ExecStart="))
        .unwrap()
        .to_owned();
    let words = unit.split(' ').filter_map(|word| word.strip_prefix("--"));
    let mut seen = 0;
    for flag in flags.chain(words) {
        let argv = ["promxy".to_owned(), format!("--{flag}")].map(Into::into);
        assert!(Flags::parse(argv, |_| None).is_ok(), "{flag}");
        seen += 1;
    }
    assert!(seen > 6);
}
