//! The front behind a web configuration file: TLS, basic auth and headers in Prometheus' form.
//!
//! The accept loop, the handshakes and the guard are `shared`'s; here requests are only handed over. Without such a file the
//! shorter way through [`super`] is taken.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use shared::{
    http::{
        Limits,
        web_config::{WebConfig, serve_web},
    },
    lifecycle::Tasks,
};
use tokio::net::TcpListener;

use super::{Front, HEAD};
use crate::proxy::{Client, body::ClientBody};

/// What a request needs to be answered.
#[derive(Debug, Clone)]
struct Worker {
    front: Arc<Front>,
    number: usize,
    tls: bool,
}

/// Serves on `listener` as `web` has it, until `tasks` is stopped.
pub(super) fn serve(
    tasks: &Tasks,
    listener: TcpListener,
    web: Arc<WebConfig>,
    front: Arc<Front>,
    number: usize,
) {
    let limits = Limits {
        connections: front.places.available_permits().max(1),
        request_head: HEAD,
        drain: front.drain,
    };
    let tls = web.is_secured();
    let router = Router::new()
        .fallback(answer)
        .with_state(Worker { front, number, tls });
    serve_web(tasks, listener, web, router, limits);
}

async fn answer(
    State(worker): State<Worker>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let client = Client::new(peer.ip().to_canonical(), worker.tls, worker.number);
    let request = request.map(ClientBody::Guarded);
    let response = worker.front.answer(&client, request).await;
    response.map(axum::body::Body::new)
}
