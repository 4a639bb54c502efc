//! The front: one listener, and a few worker threads that accept from it.
//!
//! Each worker has a runtime of its own on its own thread, and its own idle connections to servers: a request is handled from
//! first to last byte on one thread, which saves the wake-ups between threads that a shared runtime would need for it.

mod conversation;
mod lengths;

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, Response, Version, header::HOST};
use hyper::body::Incoming;
use shared::{http::web_config::WebConfig, lifecycle::Tasks, listen};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::warn;

use self::conversation::Connection;
use crate::{
    admin::Admin,
    proxy::{Client, Proxy, body::ResponseBody, refusal},
};

/// Worker threads. Two serve some tens of thousands of requests a second, which no Prometheus behind them does.
pub const WORKERS: usize = 2;
/// How long a client may be silent before and between requests, and how long the head of a request may take.
const HEAD: Duration = Duration::from_secs(60);
/// The longest head of a request, and the most that is read ahead of a slow server.
const BUFFER: usize = 64 << 10;
/// How long a worker rests when the system cannot give it a connection: out of descriptors, most likely.
const REST: Duration = Duration::from_millis(100);

/// What connections of clients need.
#[derive(Debug)]
pub struct Front {
    /// The way of requests.
    pub proxy: Arc<Proxy>,
    /// Our own pages.
    pub admin: Arc<Admin>,
    /// Connections at a time, over all workers.
    pub places: Arc<Semaphore>,
    /// TLS, basic auth and headers, where there is a file for them.
    pub web: Option<Arc<WebConfig>>,
}

/// Binds the listener: an address, or all of both families where the system has IPv6.
pub fn bind(address: Option<IpAddr>, port: u16) -> io::Result<StdListener> {
    match address {
        Some(address) => listen::tcp((address, port).into()),
        None => listen::tcp_everywhere(port),
    }
}

impl Front {
    /// Starts the workers: they accept until `listening` is stopped, and serve what they have accepted until `serving` is.
    pub fn start(
        self,
        listening: &Tasks,
        serving: &Tasks,
        listener: &StdListener,
    ) -> io::Result<()> {
        let front = Arc::new(self);
        for number in 0..WORKERS {
            let listener = listener.try_clone()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let worker = Worker {
                number,
                front: Arc::clone(&front),
                listening: listening.clone(),
                connections: serving.child(),
            };
            serving.spawn_thread(format!("worker {number}"), move || {
                runtime.block_on(worker.run(listener));
            })?;
        }
        Ok(())
    }
}

/// One worker thread.
struct Worker {
    number: usize,
    front: Arc<Front>,
    listening: Tasks,
    connections: Tasks,
}

impl Worker {
    async fn run(self, listener: StdListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(reason) => {
                warn!("worker {} cannot listen: {reason}", self.number);
                return;
            }
        };
        let stop = self.listening.stop_token();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.accept(&listener) => accepted,
            };
            let (stream, peer, place) = accepted;
            let connection = Connection {
                front: Arc::clone(&self.front),
                worker: self.number,
                peer,
                listening: self.listening.clone(),
            };
            let cut = self.connections.stop_token();
            self.connections.spawn("client", async move {
                let _cut = cut.run_until_cancelled(connection.serve(stream)).await;
                drop(place);
            });
        }
        drop(listener);
        // The runtime must live as long as its connections; the deadline is the application's.
        loop {
            let drained = self.connections.drain(Duration::from_secs(3600)).await;
            if drained == shared::lifecycle::Drained::Completely {
                return;
            }
        }
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let place = Arc::clone(&self.front.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, place),
                Err(reason) => {
                    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
                    if !matches!(
                        reason.kind(),
                        ConnectionAborted | ConnectionRefused | ConnectionReset
                    ) {
                        warn!("cannot accept connections: {reason}");
                        sleep(REST).await;
                    }
                }
            }
        }
    }
}

impl Front {
    async fn answer(&self, client: &Client, request: Request<Incoming>) -> Response<ResponseBody> {
        if let Err(reason) = check(&request) {
            return refusal::bad_request(&reason);
        }
        if request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return Response::new(ResponseBody::EMPTY);
        }
        match self.admin.answer(&request) {
            Some(response) => response,
            None => self.proxy.serve(client, request).await,
        }
    }
}

/// Refuses what hyper lets pass and Go's server does not.
fn check<B>(request: &Request<B>) -> Result<(), &'static str> {
    if request.method() == Method::CONNECT {
        return Err("this is no forward proxy");
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err("too many Host headers"),
        (None, _) if request.version() == Version::HTTP_11 => {
            return Err("missing required Host header");
        }
        (Some(host), None) if !host.as_bytes().iter().all(|c| is_host_byte(*c)) => {
            return Err("malformed Host header");
        }
        _ => {}
    }
    if !crate::admin::is_well_escaped(request.uri().path()) {
        return Err("bad escape in the path");
    }
    Ok(())
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%@".contains(&byte)
}
