//! HTTP over TLS.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::debug;

use super::{Accepted, Limits, Protocol, run};
use crate::{lifecycle::Tasks, tls::server::Server};

/// What a client hears that speaks plain HTTP where TLS is spoken. Go's server says the same.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// How long a client may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves `router` on `listener` as [`serve`](super::serve) does, over TLS as `tls` has it when a connection is made.
///
/// The application protocols of `tls` say which versions of HTTP clients can choose.
pub fn serve_tls(
    tasks: &Tasks,
    listener: TcpListener,
    tls: Arc<Server>,
    router: Router,
    limits: Limits,
) {
    run_secured(tasks, listener, move || tls.config(), router, limits);
}

/// Serves over TLS as `config` says for each connection.
pub(super) fn run_secured(
    tasks: &Tasks,
    listener: TcpListener,
    config: impl Fn() -> Arc<ServerConfig> + Send + 'static,
    router: Router,
    limits: Limits,
) {
    let protocol = Protocol::new(limits);
    let stop = tasks.stop_token();
    run(tasks, listener, limits, move |accepted| {
        let (protocol, router) = (protocol.clone(), router.clone());
        let (acceptor, stop) = (TlsAcceptor::from(config()), stop.clone());
        async move {
            let Accepted {
                stream,
                peer,
                watcher,
            } = accepted;
            let handshake = shake_hands(&acceptor, stream, limits.request_head);
            match stop.run_until_cancelled(handshake).await {
                Some(Ok(stream)) => protocol.speak(stream, peer, router, watcher).await,
                Some(Err(reason)) => debug!(%peer, %reason, "tls handshake failed"),
                None => {}
            }
        }
    });
}

/// Waits for the client's first byte, then for the handshake, each no longer than `limit`. Plain HTTP is told so.
pub(super) async fn shake_hands(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    limit: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    if timeout(limit, speaks_plainly(&stream)).await?? {
        timeout(FAREWELL, dismiss(stream)).await??;
        return Err(io::Error::other("plain HTTP instead of TLS"));
    }
    timeout(limit, acceptor.accept(stream)).await?
}

/// Returns whether the client begins with a method instead of a handshake. Takes nothing away.
async fn speaks_plainly(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let there = stream.peek(&mut first).await?;
    Ok(there > 0 && first[0].is_ascii_uppercase())
}

async fn dismiss(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN_HTTP).await?;
    stream.shutdown().await?;
    // What is closed before all was read is reset, and takes the answer with it.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
