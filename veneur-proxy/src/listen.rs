//! Where HTTP is served, in the forms of the original (`github.com/zenazn/goji/bind`):
//!
//! | written | means |
//! |---|---|
//! | `host:port`, `:port` | TCP |
//! | `/run/veneur.sock`, `./veneur.sock` | a Unix socket, made by us |
//! | `fd@3` | a listening socket that was inherited |
//! | `einhorn@0` | the same, as the supervisor Einhorn counts |

use std::{
    fmt, fs, io,
    io::Write as _,
    net::SocketAddr,
    os::{
        fd::{AsFd as _, OwnedFd, RawFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use shared::lifecycle::Tasks;
use socket2::Socket;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// A bound listener.
#[derive(Debug)]
pub(crate) enum Listener {
    /// Of TCP.
    Tcp(TcpListener),
    /// Of a Unix socket, and its file if we made it.
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "kept to be dropped")] Option<SocketFile>,
    ),
}

/// The file of a Unix socket; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _removed = fs::remove_file(&self.0).is_ok();
    }
}

/// A connection, and how logs and tags call the client.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(tokio::net::UnixStream),
}

impl Listener {
    /// Binds `address`. `variable` looks up the environment, for Einhorn.
    pub(crate) async fn bind(
        address: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> io::Result<Self> {
        if let Some(number) = address.strip_prefix("fd@") {
            return Self::inherited(parse(number)?);
        }
        if let Some(number) = address.strip_prefix("einhorn@") {
            return Self::einhorn(parse(number)?, variable);
        }
        if address.starts_with(['/', '.']) {
            // What an earlier process left behind is in the way; a file of another kind is not ours to remove.
            if UnixStream::connect(address).is_err() && is_socket(address) {
                fs::remove_file(address)?;
            }
            let listener = UnixListener::bind(address)?;
            return Ok(Self::Unix(listener, Some(SocketFile(address.into()))));
        }
        tcp(address).await.map(Self::Tcp)
    }

    fn inherited(number: RawFd) -> io::Result<Self> {
        let socket = Socket::from(duplicate(number)?);
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.is_unix() {
            Ok(Self::Unix(UnixListener::from_std(socket.into())?, None))
        } else {
            Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
        }
    }

    /// Takes a socket of Einhorn's, and tells it that this worker is up.
    fn einhorn(number: RawFd, variable: &dyn Fn(&str) -> Option<String>) -> io::Result<Self> {
        let name = format!("EINHORN_FD_{number}");
        let missing = || io::Error::other(format!("{name} is not set: not started by Einhorn"));
        let listener = Self::inherited(parse(&variable(&name).ok_or_else(missing)?)?)?;
        if let Some(path) = variable("EINHORN_SOCK_PATH") {
            let mut socket = UnixStream::connect(path)?;
            socket.set_write_timeout(Some(Duration::from_secs(5)))?;
            let pid = std::process::id();
            socket
                .write_all(format!("{{\"command\":\"worker:ack\",\"pid\":{pid}}}\n").as_bytes())?;
        }
        Ok(listener)
    }

    /// Waits for a connection.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, peer))
            }
            Self::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("?"),
            },
            Self::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                write!(
                    f,
                    "{}",
                    path.map_or("?".into(), |path| path.display().to_string())
                )
            }
        }
    }
}

/// Binds a TCP address; without a host, all addresses of either family.
pub(crate) async fn tcp(address: &str) -> io::Result<TcpListener> {
    match address.strip_prefix(':') {
        Some(port) => TcpListener::from_std(shared::listen::tcp_everywhere(parse(port)?)?),
        None => shared::listen::tcp_at(address).await,
    }
}

fn parse<N: std::str::FromStr>(number: &str) -> io::Result<N> {
    let wrong = |_| io::Error::other(format!("{number:?} is not a number"));
    number.parse().map_err(wrong)
}

fn is_socket(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket())
}

/// Duplicates a descriptor that is known by its number alone.
///
/// A number is no owned descriptor, and to claim that it is would be unsafe. So it is sent to ourselves: what the kernel
/// hands out at the other end is ours.
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixDatagram::pair()?;
    theirs.set_nonblocking(true)?;
    let rights = [number];
    sendmsg::<()>(
        std::os::fd::AsRawFd::as_raw_fd(&ours),
        &[io::IoSlice::new(b"f")],
        &[ControlMessage::ScmRights(&rights)],
        MsgFlags::empty(),
        None,
    )?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut received = RecvAncillaryBuffer::new(&mut space);
    recvmsg(
        theirs.as_fd(),
        &mut [io::IoSliceMut::new(&mut [0])],
        &mut received,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptor = received.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::Error::other("no descriptor came back"))
}

/// Waits for a place among the connections, then for a connection, through failures that are not ours; `None` when `tasks` is
/// stopped. While there is no place, connections wait in the kernel's queue.
pub(crate) async fn next(
    listener: &Listener,
    places: &Arc<Semaphore>,
    tasks: &Tasks,
) -> Option<(Accepted, OwnedSemaphorePermit)> {
    let stop = tasks.stop_token();
    let place = stop.run_until_cancelled(Arc::clone(places).acquire_owned());
    let place = place.await?.ok()?;
    loop {
        let accepted = stop.run_until_cancelled(listener.accept()).await?;
        match accepted {
            Ok(accepted) => return Some((accepted, place)),
            Err(reason) if is_peer_fault(&reason) => {}
            Err(reason) => {
                // Out of descriptors, most likely: waiting gives them time to come back.
                tracing::warn!(error = %reason, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_peer_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[tokio::test]
    async fn an_inherited_socket_is_served_by_its_number() {
        use std::os::fd::AsRawFd as _;
        let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = theirs.local_addr().unwrap();
        let number = theirs.as_raw_fd();
        let listener = Listener::bind(&format!("fd@{number}"), &none)
            .await
            .unwrap();
        drop(theirs);
        let _client = TcpStream::connect(address).await.unwrap();
        assert!(matches!(listener.accept().await, Ok(Accepted::Tcp(..))));
        // Einhorn says which number belongs to its place.
        let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let variable =
            |name: &str| (name == "EINHORN_FD_0").then(|| theirs.as_raw_fd().to_string());
        let listener = Listener::bind("einhorn@0", &variable).await.unwrap();
        assert_eq!(
            listener.to_string(),
            theirs.local_addr().unwrap().to_string()
        );
        Listener::bind("einhorn@1", &variable).await.unwrap_err();
        Listener::bind("fd@9999", &none).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_stale_unix_socket_is_replaced_and_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let address = path.to_str().unwrap();
        let listener = Listener::bind(address, &none).await.unwrap();
        Listener::bind(address, &none).await.unwrap_err();
        assert_eq!(listener.to_string(), address);
        drop(listener);
        assert!(!path.exists());
        fs::write(&path, "not a socket").unwrap();
        Listener::bind(address, &none).await.unwrap_err();
        assert!(path.exists());
    }

    #[tokio::test]
    async fn tcp_addresses_may_lack_a_host() {
        let listener = Listener::bind(":0", &none).await.unwrap();
        assert!(matches!(listener, Listener::Tcp(_)));
        Listener::bind("127.0.0.1:http!", &none).await.unwrap_err();
        Listener::bind("nowhere", &none).await.unwrap_err();
    }
}
