//! The gRPC servers, plain and with TLS: HTTP/2 by hyper, and the little of gRPC that two methods need.
//!
//! A general library decodes each message into a value; here a call is answered from the bytes of its body.
//!
//! * `framing`: messages in a body
//! * `status`: how a call ends, and its answer
//! * `service`: the calls
//! * `health`: `grpc.health.v1`
//! * this file: connections, and how long they may live

mod framing;
mod health;
mod service;
mod status;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use shared::{
    http::pace::{Paced, STALL},
    lifecycle::Tasks,
    tls::server::Server,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

pub(crate) use self::service::Service;
use self::status::Reply;
use crate::{
    config::GrpcServer,
    listen::{self, Accepted, Listener},
    telemetry::Arrival,
};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 4096;
/// Calls at a time on one connection.
const CALLS: u32 = 1024;
/// How much a sender may have under way on a call and on a connection, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The largest piece in which a sender may send, in bytes.
const FRAME: u32 = 64 << 10;
/// How long calls under way may take once the server is to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How often a connection without calls looks at the clock.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// Serves as a task of `tasks` until that group is stopped; then lets calls finish.
pub(crate) fn serve(
    tasks: &Tasks,
    listener: Listener,
    tls: Option<Arc<Server>>,
    limits: GrpcServer,
    service: Arc<Service>,
) {
    let connections = tasks.clone();
    tasks.spawn("grpc server", async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        while let Some((accepted, place)) = listen::next(&listener, &places, &connections).await {
            let Accepted::Tcp(stream, _) = accepted else {
                continue;
            };
            let connection = Connection {
                limits: limits.clone(),
                service: Arc::clone(&service),
                tasks: connections.clone(),
            };
            let tls = tls.clone();
            connections.spawn("grpc connection", async move {
                let telemetry = Arc::clone(connection.service.telemetry());
                telemetry.arrival(&Arrival::ConnectionBegan);
                connection.handshake(stream, tls).await;
                telemetry.arrival(&Arrival::ConnectionEnded);
                drop(place);
            });
        }
    });
}

struct Connection {
    limits: GrpcServer,
    service: Arc<Service>,
    tasks: Tasks,
}

impl Connection {
    /// Waits for the client to speak, for as long as a connection may take to come about, and serves it.
    async fn handshake(self, stream: TcpStream, tls: Option<Arc<Server>>) {
        let (patience, stop) = (self.limits.connection_timeout, self.tasks.stop_token());
        match tls {
            None => {
                let mut byte = [0];
                let first = timeout(patience, stream.peek(&mut byte));
                if matches!(stop.run_until_cancelled(first).await, Some(Ok(Ok(1..)))) {
                    self.serve(stream).await;
                }
            }
            Some(tls) => match stop.run_until_cancelled(tls.accept(stream, patience)).await {
                Some(Ok(stream)) => self.serve(stream).await,
                Some(Err(reason)) => debug!(error = %reason, "TLS handshake failed"),
                None => {}
            },
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S) {
        let calls = Arc::new(AtomicUsize::new(0));
        let service = service_fn(|request| {
            let call = UnderWay::begin(&calls);
            let service = Arc::clone(&self.service);
            async move { Ok::<_, Infallible>(answer(&service, request, call).await) }
        });
        let mut connection = std::pin::pin!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME)
                .max_concurrent_streams(CALLS)
                .keep_alive_interval(self.limits.ping_interval)
                .keep_alive_timeout(self.limits.ping_timeout)
                .serve_connection(TokioIo::new(Paced::new(stream, STALL)), service)
        );
        let (stop, age) = (self.tasks.stop_token(), self.age());
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            grace = async {
                tokio::select! {
                    () = stop.cancelled() => Some(DRAIN),
                    () = age => self.limits.max_connection_age_grace,
                    () = self.idle(&calls) => None,
                }
            } => {
                connection.as_mut().graceful_shutdown();
                match grace {
                    Some(grace) => timeout(grace, connection).await.ok(),
                    None => Some(connection.await),
                }
            }
        };
        if let Some(Err(reason)) = ended {
            debug!(error = %reason, "grpc connection ended early");
        }
    }

    /// Waits until the connection is too old; a tenth more or less, so that not all are renewed at once.
    async fn age(&self) {
        match self.limits.max_connection_age {
            Some(age) => tokio::time::sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until there has been no call for too long.
    async fn idle(&self, calls: &AtomicUsize) {
        let Some(limit) = self.limits.max_connection_idle else {
            return std::future::pending().await;
        };
        let tick = IDLE_TICK.min(limit);
        let mut since = Instant::now();
        while since.elapsed() < limit {
            sleep_until(Instant::now() + tick).await;
            if calls.load(Relaxed) > 0 {
                since = Instant::now();
            }
        }
    }
}

/// A call that is counted until its answer has been sent.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(calls: &Arc<AtomicUsize>) -> Self {
        calls.fetch_add(1, Relaxed);
        Self(Arc::clone(calls))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// An answer, and the call that ends with it.
struct Counted {
    reply: Reply,
    _call: UnderWay,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.reply).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }
}

async fn answer(
    service: &Service,
    request: Request<Incoming>,
    call: UnderWay,
) -> Response<Counted> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let response = if grpc {
        service.answer(request).await
    } else {
        not_grpc()
    };
    response.map(|reply| Counted { reply, _call: call })
}

/// Refuses what is no gRPC call, as gRPC over HTTP/2 wants it.
fn not_grpc() -> Response<Reply> {
    let mut response = Response::new(Reply::Nothing);
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let accepted = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::ACCEPT, accepted);
    response
}
