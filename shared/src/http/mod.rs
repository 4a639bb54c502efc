//! HTTP serving: an accept loop with limits and drain ([`serve`]), with TLS too (`serve_tls`, feature `tls`), and as
//! a file in Prometheus' form says (`web_config`, feature `web-config`). The other side is `client` (feature `http-client`).
//!
//! `axum` is used as a router only; the loop is our own because `axum::serve` has no time limits. Handlers get the address
//! of the client by [`axum::extract::ConnectInfo`].

#[cfg(feature = "http-client")]
pub mod client;
#[cfg(feature = "tls")]
mod secured;
#[cfg(feature = "web-config")]
pub mod web_config;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::ServiceExt as _;
use tracing::{debug, warn};

#[cfg(feature = "tls")]
pub use self::secured::serve_tls;
use crate::{lifecycle::Tasks, listen::Places};

/// What one client may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// From the first byte of a request to the end of its head; also for the handshake of TLS.
    pub request_head: Duration,
    /// How long requests under way may take to finish once the server is to stop.
    pub drain: Duration,
}

impl Limits {
    /// For pages that only operators and scrapers read.
    pub const ADMIN: Self = Self {
        connections: 64,
        request_head: Duration::from_secs(10),
        drain: Duration::from_secs(2),
    };
}

/// Serves `router` on `listener` as a task of `tasks`, until that group is stopped; then lets requests finish.
pub fn serve(tasks: &Tasks, listener: TcpListener, router: Router, limits: Limits) {
    let protocol = Protocol::new(limits);
    run(tasks, listener, limits, move |accepted| {
        let (protocol, router) = (protocol.clone(), router.clone());
        async move {
            let Accepted {
                stream,
                peer,
                watcher,
            } = accepted;
            protocol.speak(stream, peer, router, watcher).await;
        }
    });
}

/// A connection that the loop has accepted.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    /// Tells the connection of the drain, which waits until this is dropped.
    watcher: Watcher,
}

/// The accept loop; each connection becomes a task that `converse` makes.
fn run<F>(
    tasks: &Tasks,
    listener: TcpListener,
    limits: Limits,
    mut converse: impl FnMut(Accepted) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let stop = tasks.stop_token();
    let group = tasks.clone();
    tasks.spawn("http server", async move {
        let graceful = GracefulShutdown::new();
        let places = Places::new(limits.connections);
        loop {
            let (stream, peer, place) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = places.accept(&listener) => accepted,
            };
            let watcher = graceful.watcher();
            let conversation = converse(Accepted {
                stream,
                peer,
                watcher,
            });
            group.spawn("http connection", async move {
                conversation.await;
                drop(place);
            });
        }
        drop(listener);
        if timeout(limits.drain, graceful.shutdown()).await.is_err() {
            warn!("http requests were still under way when the drain deadline came");
        }
    });
}

/// HTTP/1.1 and HTTP/2, within limits.
#[derive(Clone)]
struct Protocol(Builder<TokioExecutor>);

impl Protocol {
    fn new(limits: Limits) -> Self {
        let mut connections = Builder::new(TokioExecutor::new());
        connections
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.request_head);
        Self(connections)
    }

    /// Answers the requests of one connection until it ends.
    async fn speak<S>(&self, stream: S, peer: SocketAddr, router: Router, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let connection = self.0.serve_connection(TokioIo::new(stream), service);
        if let Err(reason) = watcher.watch(connection).await {
            debug!(%peer, reason, "http connection ended early");
        }
    }
}
