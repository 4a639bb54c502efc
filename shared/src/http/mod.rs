//! HTTP serving: an accept loop with limits and drain ([`serve`]), with TLS too (`serve_tls`, feature `tls`), and as
//! a file in Prometheus' form says (`web_config`, feature `web-config`). Clients must keep a [`pace`]. The other side is `client`
//! (feature `http-client`).
//!
//! `axum` is used as a router only; the loop is our own because `axum::serve` has no time limits. Handlers get the address
//! of the client by [`axum::extract::ConnectInfo`].

#[cfg(feature = "http-client")]
pub mod client;
pub mod pace;
#[cfg(feature = "tls")]
mod secured;
#[cfg(feature = "web-config")]
pub mod web_config;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{Request, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
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

use self::pace::{Answer, Answers, Arriving, Paced};
#[cfg(feature = "tls")]
pub use self::secured::serve_tls;
use crate::{lifecycle::Tasks, listen::Places};

/// What one client may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// From the end of the answer before to the end of a request's head; also for the handshake of TLS.
    pub request_head: Duration,
    /// How long a client may take nothing of an answer, or send next to nothing of a request's body. Over HTTP/2, how long it
    /// may be silent when it is asked whether it is there.
    pub stall: Duration,
    /// How long requests under way may take to finish once the server is to stop.
    pub drain: Duration,
}

impl Limits {
    /// For pages that only operators and scrapers read.
    pub const ADMIN: Self = Self {
        connections: 64,
        request_head: Duration::from_secs(10),
        stall: pace::STALL,
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
struct Protocol {
    connections: Builder<Answers>,
    limits: Limits,
}

impl Protocol {
    fn new(limits: Limits) -> Self {
        let mut connections = Builder::new(Answers::new(limits.stall));
        connections
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.request_head)
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.stall)
            .keep_alive_timeout(limits.stall);
        Self {
            connections,
            limits,
        }
    }

    /// Answers the requests of one connection until it ends.
    async fn speak<S>(&self, stream: S, peer: SocketAddr, router: Router, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Limits {
            stall,
            request_head,
            ..
        } = self.limits;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            let version = request.version();
            let answering = router
                .clone()
                .oneshot(request.map(|body| Arriving::new(body, stall)));
            async move {
                let response = answering.await;
                if version != Version::HTTP_2 {
                    return response;
                }
                response.map(|response| response.map(|body| Body::new(Answer::new(body))))
            }
        });
        let stream = Paced::new(stream, stall).opening_within(request_head);
        let connection = self
            .connections
            .serve_connection(TokioIo::new(stream), service);
        if let Err(reason) = watcher.watch(connection).await {
            debug!(%peer, reason, "http connection ended early");
        }
    }
}
