//! Accepting connections: a bounded number of places, and patience with what goes wrong.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::warn;

/// How long a listener rests when the system cannot give it a connection.
const REST: Duration = Duration::from_millis(100);

/// How many connections there may be at a time.
#[derive(Debug)]
pub(crate) struct Places(Arc<Semaphore>);

/// One of them, taken until it is dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl Places {
    pub(crate) fn new(number: usize) -> Self {
        Self(Arc::new(Semaphore::new(number)))
    }

    /// Waits for a free place and then for a connection. Cancel-safe.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> (TcpStream, SocketAddr, Place) {
        let place = Arc::clone(&self.0).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, place),
                Err(reason) if is_peer_fault(&reason) => {}
                Err(reason) => {
                    // Out of descriptors, most likely: waiting gives them time to come back.
                    warn!(%reason, "cannot accept connections");
                    sleep(REST).await;
                }
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
