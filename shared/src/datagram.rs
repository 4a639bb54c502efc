//! Sending datagrams to a peer that is known by name.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
};

use tokio::net::{UdpSocket, lookup_host};

/// Binds a UDP socket to any port and connects it to the first address that `host:port` stands for.
///
/// Looking the name up may take as long as the system's resolver likes: the caller sets the limit.
///
/// # Errors
///
/// The name is not found, or the system has no socket for its family.
pub async fn connect(address: &str) -> io::Result<UdpSocket> {
    let address = lookup_host(address)
        .await?
        .next()
        .ok_or(io::ErrorKind::NotFound)?;
    let socket = if address.is_ipv4() {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?
    } else {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await?
    };
    socket.connect(address).await?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_datagram_reaches_a_peer_of_either_family() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(peer) = UdpSocket::bind(any).await else {
                continue;
            };
            let address = peer.local_addr().unwrap().to_string();
            let socket = connect(&address).await.unwrap();
            socket.send(b"x").await.unwrap();
            let mut bytes = [0; 8];
            assert_eq!(peer.recv(&mut bytes).await.unwrap(), 1);
        }
        assert!(connect("no port").await.is_err());
    }
}
