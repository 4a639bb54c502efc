//! What operators and scrapers ask a tool that serves nothing else by HTTP.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio_util::sync::CancellationToken;

use super::{Registry, Source};

/// Returns a router with `/metrics`, the families of `source` and of the process, and `/healthz`: 200 with `ok`, or 503 with
/// `ending` once that token is cancelled.
pub fn router(source: Arc<dyn Source>, ending: CancellationToken) -> Router {
    let registry = Arc::new(Registry::new(vec![source]));
    let health = move || async move {
        if ending.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "ending\n")
        } else {
            (StatusCode::OK, "ok\n")
        }
    };
    Router::new()
        .route("/metrics", get(move || async move { print(&registry) }))
        .route("/healthz", get(health))
}

fn print(registry: &Registry) -> Response {
    match registry.page() {
        Ok(page) => ([(CONTENT_TYPE, super::CONTENT_TYPE)], page).into_response(),
        Err(reason) => {
            let text = format!("cannot print metrics: {reason}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}
