//! Kubernetes over HTTPS with a server that checks the token: services, pods, a pod's own surroundings, a token that changes on disk.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod support;

use std::{
    fs,
    sync::{Arc, Mutex},
};

use serde_json::json;
use shared::{
    testing::{eventually, pki::Authority},
    tls::server::Clients,
};
use support::{Mpp, api::Api, prometheus::Prometheus, tls::server_config};
use tempfile::TempDir;

/// An API server that knows one token, and what it was asked.
fn kubernetes(authority: &Authority, token: &Arc<Mutex<String>>, port: u16) -> Api {
    let token = Arc::clone(token);
    let tls = server_config(authority, Clients::Ignored);
    Api::start(Some(tls), move |asked| {
        if asked.header("authorization") != format!("Bearer {}", token.lock().unwrap()) {
            return (401, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401}).to_string());
        }
        let target = asked.line.split(' ').nth(1).unwrap();
        if target == "/api/v1/namespaces/monitoring/endpoints/prometheus" {
            return (200, json!({
                "kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": "prometheus", "namespace": "monitoring"},
                "subsets": [{
                    "addresses": [{"ip": "127.0.0.1"}, {"ip": "127.0.0.2"}],
                    "notReadyAddresses": [{"ip": "127.0.0.9"}],
                    "ports": [{"name": "other", "port": 1, "protocol": "TCP"}, {"name": "web", "port": port, "protocol": "TCP"}],
                }],
            }).to_string());
        }
        if target.starts_with("/api/v1/namespaces/monitoring/pods?labelSelector=") {
            let pod = |name: &str, ip: &str, ready: &str| {
                json!({
                    "metadata": {"name": name, "namespace": "monitoring"},
                    "spec": {"containers": [{"name": "prometheus", "ports": [{"name": "web", "containerPort": port, "protocol": "TCP"}]}]},
                    "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
                })
            };
            return (200, json!({
                "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                "items": [pod("p-0", "127.0.0.1", "True"), pod("p-1", "127.0.0.3", "True"), pod("p-2", "127.0.0.9", "False")],
            }).to_string());
        }
        (404, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404}).to_string())
    })
}

#[test]
fn a_service_and_pods_are_found_over_https_and_a_token_that_rotates_on_disk_is_followed() {
    let (port, _servers) = Prometheus::start_on_one_port();
    let authority = Authority::new("test");
    let token = Arc::new(Mutex::new("first".to_owned()));
    let api = kubernetes(&authority, &token, port);
    for (args, target, addresses) in [
        (
            ["--kube-service-name", "prometheus", "--kube-port", "web"],
            "GET /api/v1/namespaces/monitoring/endpoints/prometheus",
            ["127.0.0.1", "127.0.0.2"],
        ),
        (
            [
                "--kube-pod-label-selector",
                "app in (prometheus),tier!=test",
                "--kube-port",
                "web",
            ],
            "GET /api/v1/namespaces/monitoring/pods?labelSelector=app",
            ["127.0.0.1", "127.0.0.3"],
        ),
    ] {
        "first".clone_into(&mut token.lock().unwrap());
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        fs::write(folder.path().join("token"), "first\n").unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": format!("https://127.0.0.1:{}", api.port), "certificate-authority": "ca.pem"}}],
            "users": [{"name": "u", "user": {"tokenFile": "token"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        });
        fs::write(
            folder.path().join("kubeconfig.yaml"),
            kubeconfig.to_string(),
        )
        .unwrap();
        let mpp = Mpp::spawn(
            folder,
            &[
                &args[..],
                &[
                    "--kubeconfig",
                    "kubeconfig.yaml",
                    "--kube-namespace",
                    "monitoring",
                    "--routing-strategy",
                    "random",
                    "--selection-interval",
                    "200ms",
                ],
            ]
            .concat(),
            &[],
        );
        mpp.wait_until_answering(2);
        let expected: Vec<String> = addresses
            .iter()
            .map(|address| format!("http://{address}:{port}"))
            .collect();
        let selected = || -> Vec<String> {
            let rows = mpp.candidates().into_iter();
            rows.filter(|(_, selected)| *selected)
                .map(|(address, _)| address)
                .collect()
        };
        assert_eq!(selected(), expected);
        let asked = api.asked();
        assert!(
            asked
                .iter()
                .any(|asked| asked.line.starts_with(target) && asked.answered == 200),
            "{asked:?}"
        );
        // The token changes on disk, as bound service account tokens do; the old one is refused from now on.
        mpp.write("token", "second\n");
        "second".clone_into(&mut token.lock().unwrap());
        eventually("the new token to be used", || {
            let asked = api.asked();
            let last = asked.last()?;
            (last.header("authorization") == "Bearer second" && last.answered == 200).then_some(())
        });
        eventually("servers to be found with it", || {
            (selected() == expected).then_some(())
        });
        assert_eq!(mpp.get("/x").status, 200);
    }
    // The selector goes out whole: dropping the part that is not understood would mean every pod (L2).
    let selectors: Vec<String> = api
        .asked()
        .iter()
        .filter(|asked| asked.line.contains("labelSelector"))
        .map(|asked| asked.line.clone())
        .collect();
    assert!(
        selectors[0].contains("tier") && selectors[0].contains("test"),
        "{selectors:?}"
    );
}

#[test]
fn a_pod_finds_its_cluster_by_its_surroundings() {
    let (port, _servers) = Prometheus::start_on_one_port();
    let authority = Authority::new("test");
    let token = Arc::new(Mutex::new("pod".to_owned()));
    let api = kubernetes(&authority, &token, port);
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("ca.crt", authority.pem()),
        ("token", "pod".to_owned()),
        ("namespace", "other".to_owned()),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let account = folder.path().to_str().unwrap().to_owned();
    let api_port = api.port.to_string();
    let mpp = Mpp::spawn(
        folder,
        &[
            "--kube-service-name",
            "prometheus",
            "--kube-namespace",
            "monitoring",
            "--kube-port",
            &port.to_string(),
        ],
        &[
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", &api_port),
            ("MPP_KUBE_SERVICE_ACCOUNT_FOLDER", &account),
        ],
    );
    mpp.wait_until_answering(2);
    assert_eq!(mpp.get("/x").status, 200);
    mpp.program.wait_for_line("Using in-cluster kubeconfig");
}
