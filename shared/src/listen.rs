//! TCP listeners with a long queue; accepting from them: a bounded number of places, and patience with what goes wrong.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs, lookup_host},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::warn;

/// How many connections wait in the kernel until they are accepted, if the system lets them. Who finds the queue full waits for
/// a second and more, health checks too.
const QUEUE: i32 = 4096;

/// How long a listener rests when the system cannot give it a connection.
const REST: Duration = Duration::from_millis(100);

/// Listens on an address, without blocking. All addresses of IPv6 (`[::]`) include those of IPv4.
pub fn tcp(address: SocketAddr) -> io::Result<StdListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(QUEUE)?;
    Ok(socket.into())
}

/// Listens on all addresses of both families, or of IPv4 where the system has no other.
pub fn tcp_everywhere(port: u16) -> io::Result<StdListener> {
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    tcp((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|reason| match reason.kind() {
        AddrInUse | PermissionDenied => Err(reason),
        _ => tcp((Ipv4Addr::UNSPECIFIED, port).into()),
    })
}

/// Listens on the first address of a place that can be listened on; not on another one because somebody else listens on the first.
/// Needs a running tokio runtime.
pub async fn tcp_at(place: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for address in lookup_host(place).await? {
        match tcp(address) {
            Ok(listener) => return TcpListener::from_std(listener),
            Err(reason) if reason.kind() == io::ErrorKind::AddrInUse => return Err(reason),
            Err(reason) => refused = reason,
        }
    }
    Err(refused)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hundreds_of_clients_wait_to_be_accepted() {
        let listener = tcp_at("localhost:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
        let number = most.trim().parse().unwrap_or(128).min(400);
        let mut clients = Vec::new();
        for _ in 0..number {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(clients.len(), number);
        listener.accept().await.unwrap();
    }

    #[test]
    fn everywhere_is_both_families() {
        let listener = tcp_everywhere(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp_everywhere(port).unwrap_err();
    }
}
