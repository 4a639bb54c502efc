//! HTTP/1 on one listener, with limits and an end.
//!
//! The original sets no limits but those of the machine. Ours are far from what a veneur needs.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::{
    http::pace::{Paced, STALL},
    lifecycle::Tasks,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::listen::{self, Accepted, Listener};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 4096;
/// How long a request's head may take, and how long a connection may be silent between two. Veneurs flush every ten seconds.
const HEAD: Duration = Duration::from_secs(300);
/// How much of a request a connection reads at a time, in bytes.
const READ: usize = 64 * 1024;
/// How long requests under way may take once the server is to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// An answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers a request of `client`, who has no address on a Unix socket.
    fn answer(
        &self,
        request: Request<Incoming>,
        client: Option<SocketAddr>,
    ) -> impl Future<Output = Answer> + Send;
}

/// Serves as a task of `tasks` until that group is stopped; then lets requests finish.
pub(crate) fn http<H: Handler>(tasks: &Tasks, listener: Listener, handler: Arc<H>) {
    let connections = tasks.clone();
    tasks.spawn("http server", async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let stop = connections.stop_token();
        while let Some((accepted, place)) = listen::next(&listener, &places, &connections).await {
            let (handler, stop) = (Arc::clone(&handler), stop.clone());
            connections.spawn("http connection", async move {
                match accepted {
                    Accepted::Tcp(stream, peer) => {
                        connection(stream, Some(peer), handler, stop).await;
                    }
                    Accepted::Unix(stream) => {
                        connection(stream, None, handler, stop).await;
                    }
                }
                drop(place);
            });
        }
    });
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    stream: S,
    client: Option<SocketAddr>,
    handler: Arc<H>,
    stop: CancellationToken,
) {
    let service = service_fn(|request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(handler.answer(request, client).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(READ)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(Paced::new(stream, STALL)), service)
    );
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(DRAIN, connection).await.ok()
        }
    };
    if let Some(Err(reason)) = ended {
        debug!(error = %reason, "http connection ended early");
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers with a status and nothing else.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        let length = HeaderValue::from_static("0");
        answer.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    answer
}

/// Answers with a body.
pub(crate) fn page(kind: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    let length = HeaderValue::from(body.len());
    let mut answer = Response::new(Full::new(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    // Said even where the body is not sent, as to HEAD.
    answer.headers_mut().insert(header::CONTENT_LENGTH, length);
    answer
}

/// Answers with text.
pub(crate) fn text(body: impl Into<Bytes>) -> Answer {
    page(TEXT, body)
}

/// Refuses, as Go's `http.Error` does: the text and a line feed.
pub(crate) fn error(status: StatusCode, reason: &str) -> Answer {
    let mut answer = text(format!("{reason}\n"));
    *answer.status_mut() = status;
    let nosniff = HeaderValue::from_static("nosniff");
    answer
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}

/// What is not there.
pub(crate) fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "404 page not found")
}
