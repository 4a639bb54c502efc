//! HTTP serving: an accept loop with limits and drain ([`serve`]).
//!
//! `axum` is used as a router only; the loop is our own because `axum::serve` has no time limits.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::lifecycle::Tasks;

/// What one client may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// From the first byte of a request to the end of its head.
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
    let stop = tasks.stop_token();
    let group = tasks.clone();
    tasks.spawn("http server", async move {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(limits.connections));
        let mut connections = Builder::new(TokioExecutor::new());
        connections
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.request_head);
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            let Some((stream, peer, place)) = accepted else {
                break;
            };
            let service = TowerToHyperService::new(router.clone());
            let connection = connections
                .serve_connection(TokioIo::new(stream), service)
                .into_owned();
            let connection = graceful.watch(connection);
            group.spawn("http connection", async move {
                if let Err(reason) = connection.await {
                    debug!(%peer, reason, "http connection ended early");
                }
                drop(place);
            });
        }
        drop(listener);
        if timeout(limits.drain, graceful.shutdown()).await.is_err() {
            warn!("http requests were still under way when the drain deadline came");
        }
    });
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Waits for a free place and then for a connection. `None` when places are no longer given, which does not happen.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = places.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, place)),
            Err(reason) if is_peer_fault(&reason) => {}
            Err(reason) => {
                // Out of descriptors, most likely: waiting gives them time to come back.
                warn!(%reason, "cannot accept connections");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_peer_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
