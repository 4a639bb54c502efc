//! What `deploy/` says of this tool is true: every example, and the configuration in the Kubernetes manifest, is accepted without
//! a warning.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use promxy::config;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

#[test]
fn every_example_is_accepted_without_a_warning() {
    let mut seen = 0;
    for entry in fs::read_dir(deploy("examples/promxy")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let loaded = config::load(&path).unwrap();
        assert_eq!(loaded.warnings, [""; 0], "{}", path.display());
        assert!(!loaded.config.server_groups.is_empty());
    }
    assert_eq!(seen, 8);
}

#[test]
fn the_manifests_configuration_is_accepted_without_a_warning() {
    let manifest = fs::read_to_string(deploy("kubernetes/promxy.yaml")).unwrap();
    let (_, rest) = manifest.split_once("  config.yaml: |\n").unwrap();
    let (text, _) = rest.split_once("---").unwrap();
    let text: String = text
        .lines()
        .map(|line| line.replacen("    ", "", 1) + "\n")
        .collect();
    let loaded = config::parse(&text).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(loaded.config.server_groups[0].discovery.len(), 1);
}
