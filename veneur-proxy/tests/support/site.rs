//! A Consul and a Kubernetes, as a proxy finds them through its environment.

use std::{convert::Infallible, fs, net::SocketAddr, path::Path, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path as Parts, RawQuery},
    response::IntoResponse as _,
    routing::get,
};
use futures_util::stream;
use serde_json::{Value, json};
use shared::{
    http::{Limits, serve, serve_tls},
    lifecycle::Tasks,
    testing::pki::{Authority, named},
    tls::server::{Server, Settings},
};
use tokio::net::TcpListener;

const LOOPBACK: &str = "127.0.0.1:0";

/// Consul and Kubernetes in one. They know one destination for HTTP and one for gRPC.
pub(crate) struct Site {
    consul: SocketAddr,
    kubernetes: SocketAddr,
    tasks: Tasks,
}

impl Site {
    /// Starts both, and makes `folder` a service account.
    pub(crate) async fn start(
        http: SocketAddr,
        grpc: SocketAddr,
        authority: &Authority,
        folder: &Path,
    ) -> Self {
        fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
        fs::write(folder.join("token"), "token").unwrap();
        fs::write(folder.join("namespace"), "veneur").unwrap();
        let entries = move |Parts(name): Parts<String>, RawQuery(query): RawQuery| async move {
            if query.is_some_and(|query| query.contains("index=7")) {
                // Nothing ever changes here: who waits for that, waits.
                std::future::pending::<()>().await;
            }
            let address = if name.ends_with("grpc") { grpc } else { http };
            let entries = json!([{
                "Node": {"Node": "n", "Address": address.ip()},
                "Service": {"ID": name, "Service": name, "Address": "", "Port": address.port()},
                "Checks": [],
            }]);
            ([("X-Consul-Index", "7")], Json(entries)).into_response()
        };
        let pods = pods(http, grpc);
        let slices = slices(grpc);
        let listed = |list: Value| {
            get(async move |RawQuery(query): RawQuery| {
                if query.is_some_and(|query| query.contains("watch=")) {
                    // The head comes at once, and then no event.
                    let events = stream::pending::<Result<Vec<u8>, Infallible>>();
                    return Body::from_stream(events).into_response();
                }
                Json(list.clone()).into_response()
            })
        };
        let router = Router::new()
            .route("/v1/health/service/{name}", get(entries))
            .route("/api/v1/pods", listed(pods))
            .route(
                "/apis/discovery.k8s.io/v1/namespaces/veneur/endpointslices",
                listed(slices),
            );
        let tasks = Tasks::new();
        let plain = TcpListener::bind(LOOPBACK).await.unwrap();
        let secured = TcpListener::bind(LOOPBACK).await.unwrap();
        let site = Self {
            consul: plain.local_addr().unwrap(),
            kubernetes: secured.local_addr().unwrap(),
            tasks: tasks.clone(),
        };
        let issued = authority.issue(&named(&["127.0.0.1"])).identity();
        let tls = Arc::new(Server::new(Settings::new(issued, &[])).unwrap());
        serve(&tasks, plain, router.clone(), Limits::ADMIN);
        serve_tls(&tasks, secured, tls, router, Limits::ADMIN);
        site
    }

    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let (host, port) = (self.kubernetes.ip(), self.kubernetes.port());
        [
            ("CONSUL_HTTP_ADDR", self.consul.to_string()),
            ("KUBERNETES_SERVICE_HOST", host.to_string()),
            ("KUBERNETES_SERVICE_PORT", port.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn pods(http: SocketAddr, grpc: SocketAddr) -> Value {
    let ports = json!([
        {"name": "grpc", "containerPort": grpc.port(), "protocol": "TCP"},
        {"name": "http", "containerPort": http.port(), "protocol": "TCP"},
    ]);
    json!({
        "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"},
        "items": [{
            "metadata": {"name": "global-0", "namespace": "veneur", "labels": {"app": "veneur-global"}},
            "spec": {"containers": [{"name": "global", "image": "veneur", "ports": ports}]},
            "status": {
                "phase": "Running", "podIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }],
    })
}

fn slices(grpc: SocketAddr) -> Value {
    json!({
        "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"resourceVersion": "7"},
        "items": [{
            "metadata": {
                "name": "veneur-global-grpc-1", "namespace": "veneur",
                "labels": {"kubernetes.io/service-name": "veneur-global-grpc"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
            "ports": [
                {"name": "grpc", "port": grpc.port(), "protocol": "TCP"},
            ],
        }],
    })
}
