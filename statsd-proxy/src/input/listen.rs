//! Binding the sockets that lines and operators come in by.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    os::unix::{fs::FileTypeExt as _, fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

use super::{datagram::DatagramSocket, datagram::enlarge_receive_buffer};
use crate::config::{Bind, BindHost, UnixBind};

/// Binds `sockets` UDP sockets to one port; the kernel spreads senders over them.
pub(crate) fn udp(
    bind: &Bind,
    sockets: usize,
    receive_buffer: usize,
) -> io::Result<Vec<DatagramSocket>> {
    let mut address = address(bind)?;
    if sockets > 1 && address.port() != 0 {
        // Sockets that share a port also share it with another process of the same user. A port in use must be an error,
        // so it is first bound without sharing.
        drop(udp_socket(address, Sharing::No)?);
    }
    let sharing = if sockets > 1 {
        Sharing::Yes
    } else {
        Sharing::No
    };
    let mut bound = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let socket = udp_socket(address, sharing)?;
        if bound.is_empty() {
            // Port 0 has become a real one, which the others are to share.
            address = socket.local_addr()?.as_socket().unwrap_or(address);
        }
        enlarge_receive_buffer(&socket, receive_buffer, "the UDP listener")?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        bound.push(DatagramSocket::Udp(socket.into()));
    }
    Ok(bound)
}

/// Binds a TCP listener. Needs a running tokio runtime.
pub(crate) fn tcp(bind: &Bind) -> io::Result<TcpListener> {
    TcpListener::from_std(shared::listen::tcp(address(bind)?)?)
}

/// Binds a Unix stream listener. Needs a running tokio runtime.
pub(crate) fn unix_stream(bind: &UnixBind) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(&bind.path, Type::STREAM)?;
    let listener = UnixListener::bind(&bind.path)?;
    Ok((listener, SocketFile::made(bind)?))
}

/// Binds a Unix datagram socket.
pub(crate) fn unix_datagram(
    bind: &UnixBind,
    receive_buffer: usize,
) -> io::Result<(DatagramSocket, SocketFile)> {
    remove_stale(&bind.path, Type::DGRAM)?;
    let socket = Socket::from(std::os::fd::OwnedFd::from(UnixDatagram::bind(&bind.path)?));
    let file = SocketFile::made(bind)?;
    enlarge_receive_buffer(&socket, receive_buffer, "the Unix datagram listener")?;
    let socket = UnixDatagram::from(std::os::fd::OwnedFd::from(socket));
    Ok((DatagramSocket::Unix(socket), file))
}

/// The file of a Unix socket; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    fn made(bind: &UnixBind) -> io::Result<Self> {
        let file = Self(bind.path.clone());
        if let Some(mode) = bind.mode {
            fs::set_permissions(&bind.path, fs::Permissions::from_mode(mode))?;
        }
        Ok(file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(reason) = fs::remove_file(&self.0) {
            warn!(path = %self.0.display(), %reason, "cannot remove the socket file");
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Yes,
    No,
}

fn udp_socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // Everything means both families; one IPv6 address means that address.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if sharing == Sharing::Yes {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What a bind host comes down to. May look up a name.
fn address(bind: &Bind) -> io::Result<SocketAddr> {
    let ip = match &bind.host {
        BindHost::Address(ip) => *ip,
        BindHost::AllIpv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        BindHost::All => all_families(),
        BindHost::Name(name) => match (name.as_str(), bind.port)
            .to_socket_addrs()
            .map(|mut found| found.next())
        {
            Ok(Some(address)) => address.ip(),
            failure => {
                warn!(host = name, reason = ?failure.err(), "the host to listen on does not resolve; listening on all addresses");
                all_families()
            }
        },
        BindHost::Invalid(reason) => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason.clone()));
        }
    };
    Ok(SocketAddr::new(ip, bind.port))
}

/// One IPv6 socket takes both families, unless this machine has no IPv6.
fn all_families() -> IpAddr {
    match Socket::new(Domain::IPV6, Type::DGRAM, None) {
        Ok(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// Removes a socket file that nobody listens on any more. A file that is no socket is left alone, and binding fails.
fn remove_stale(path: &Path, kind: Type) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    let probe = Socket::new(Domain::UNIX, kind, None)?;
    match probe.connect(&socket2::SockAddr::unix(path)?) {
        Err(reason) if reason.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}
