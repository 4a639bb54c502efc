//! Listen addresses in Go's form: `host:port`, `:port` for all interfaces, `[::1]:port`, service names, nothing at all for
//! any port of all interfaces; and errors in Go's words.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};

use crate::gateway::reason::system_text;

/// Why an address cannot be listened on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ListenError(String);

/// Binds a TCP listener.
pub(crate) async fn tcp(address: &str) -> Result<(TcpListener, SocketAddr), ListenError> {
    let place = resolve("tcp", address).await?;
    let bind = || {
        let listener = TcpListener::from_std(shared::listen::tcp(place)?)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bind().map_err(|reason: io::Error| bind_error("tcp", address, &reason))
}

/// Binds a UDP socket with as large a receive buffer as the kernel grants.
pub(crate) async fn udp(address: &str) -> Result<(UdpSocket, SocketAddr), ListenError> {
    const RECEIVE_BUFFER: usize = 8 << 20;
    let place = resolve("udp", address).await?;
    let bind = || {
        let domain = Domain::for_address(place);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if place.is_ipv6() {
            // All interfaces means those of both versions.
            socket.set_only_v6(!place.ip().is_unspecified())?;
        }
        let _granted = socket.set_recv_buffer_size(RECEIVE_BUFFER).is_ok();
        socket.bind(&SockAddr::from(place))?;
        let socket = UdpSocket::from_std(socket.into())?;
        let bound = socket.local_addr()?;
        Ok((socket, bound))
    };
    bind().map_err(|reason: io::Error| bind_error("udp", address, &reason))
}

fn bind_error(network: &str, address: &str, reason: &io::Error) -> ListenError {
    ListenError(format!(
        "listen {network} {address}: bind: {}",
        system_text(reason)
    ))
}

async fn resolve(network: &str, address: &str) -> Result<SocketAddr, ListenError> {
    let refuse = |reason: String| ListenError(format!("listen {network}: {reason}"));
    if address.is_empty() {
        return Ok(all_interfaces(0));
    }
    let (host, port) = split(address)
        .ok_or_else(|| refuse(format!("address {address}: missing port in address")))?;
    let port = port_number(network, port).map_err(refuse)?;
    if host.is_empty() {
        return Ok(all_interfaces(port));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found: Vec<SocketAddr> = match tokio::net::lookup_host((host, port)).await {
        Ok(found) => found.collect(),
        Err(_) => Vec::new(),
    };
    // One address, that of IPv4 where there are both, as Go.
    let best = found.iter().find(|place| place.is_ipv4()).or(found.first());
    match best {
        Some(place) => Ok(*place),
        None => Err(refuse(format!("lookup {host}: no such host"))),
    }
}

fn all_interfaces(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

fn split(address: &str) -> Option<(&str, &str)> {
    match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            Some((host, after.strip_prefix(':')?))
        }
        None => address
            .rsplit_once(':')
            .filter(|(host, _)| !host.contains(':')),
    }
}

fn port_number(network: &str, port: &str) -> Result<u16, String> {
    if port.is_empty() {
        return Ok(0);
    }
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return port
            .parse()
            .map_err(|_| format!("address {port}: invalid port"));
    }
    let services = fs::read_to_string("/etc/services").unwrap_or_default();
    service_port(&services, network, port)
        .ok_or_else(|| format!("lookup {network}/{port}: unknown port"))
}

/// Looks a service up in the text of `/etc/services`.
fn service_port(services: &str, network: &str, name: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (service, place) = (words.next()?, words.next()?);
        let (port, protocol) = place.split_once('/')?;
        let named = service == name || words.any(|alias| alias == name);
        (named && protocol == network)
            .then(|| port.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_those_of_go() {
        let f = async |address: &str, expected: Result<&str, &str>| {
            let found = resolve("tcp", address).await;
            let expected = expected
                .map(|place| place.parse().unwrap())
                .map_err(|text| ListenError(text.to_owned()));
            assert_eq!(found, expected, "{address}");
        };
        f("127.0.0.1:2003", Ok("127.0.0.1:2003")).await;
        f("localhost:2003", Ok("127.0.0.1:2003")).await;
        f("[::1]:2003", Ok("[::1]:2003")).await;
        f(":2003", Ok("[::]:2003")).await;
        f("", Ok("[::]:0")).await;
        f(
            "127.0.0.1",
            Err("listen tcp: address 127.0.0.1: missing port in address"),
        )
        .await;
        f(
            "127.0.0.1:99999",
            Err("listen tcp: address 99999: invalid port"),
        )
        .await;
        f(
            "127.0.0.1:graphite-x",
            Err("listen tcp: lookup tcp/graphite-x: unknown port"),
        )
        .await;
    }

    #[test]
    fn services_have_aliases_and_protocols() {
        let services = "# comment\ngraphite 2003/tcp carbon # Graphite\ngraphite 2004/udp\n";
        assert_eq!(service_port(services, "tcp", "carbon"), Some(2003));
        assert_eq!(service_port(services, "udp", "graphite"), Some(2004));
        assert_eq!(service_port(services, "tcp", "comment"), None);
    }
}
