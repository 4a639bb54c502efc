//! Connections to gateways: opened directly or through a proxy, with TLS or without, and kept for the next request.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use shared::tls::client::Client;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{reason::Failure, url::Target};
use crate::counters::RetryReason;

/// Limits of the parts of connecting; the request's limit counts too.
const CONNECT: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What bytes travel on.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) wire: Box<dyn Wire>,
    /// Both ends, for messages: `LOCAL->REMOTE`.
    pub(crate) ends: String,
    /// Which set of certificates it was made with.
    generation: u64,
    used: Instant,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Whether the other side has closed it or said something unasked.
    fn is_stale(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut self.wire).poll_read(&mut context, &mut buffer);
        !matches!(polled, Poll::Pending)
    }
}

/// What connections are made with.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    /// For https.
    pub(crate) tls: Option<Client>,
    /// Grows when `tls` changes.
    pub(crate) generation: u64,
}

/// Opens a connection to `target`; through `proxy` if there is one.
pub(crate) async fn open(
    target: &Target,
    proxy: Option<&Target>,
    means: &Means,
) -> Result<Connection, Failure> {
    let first = proxy.unwrap_or(target);
    let mut stream = dial(&first.host, first.port).await?;
    let ends = match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(remote)) => format!("{local}->{remote}"),
        _ => String::new(),
    };
    if let Some(proxy) = proxy.filter(|_| target.https) {
        tunnel(&mut stream, target, proxy).await?;
    }
    let wire: Box<dyn Wire> = if target.https {
        let client = means
            .tls
            .as_ref()
            .ok_or_else(|| Failure::new(RetryReason::Tls, "tls: no configuration"))?;
        let secured = client.connect(&target.host, stream, HANDSHAKE).await;
        Box::new(secured.map_err(|reason| Failure::handshake(&target.host, &reason))?)
    } else {
        Box::new(stream)
    };
    Ok(Connection {
        wire,
        ends,
        generation: means.generation,
        used: Instant::now(),
    })
}

/// Tries the addresses of a host in order, and tells of the first that failed if all do.
async fn dial(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port))
        .await
        .map_err(|_| Failure::lookup(host))?
        .collect();
    let mut first_failure = None;
    for address in addresses {
        let connected = timeout(CONNECT, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match connected {
            Ok(stream) => {
                prepare(&stream);
                return Ok(stream);
            }
            Err(reason) => {
                first_failure.get_or_insert_with(|| Failure::dial(address, &reason));
            }
        }
    }
    Err(first_failure.unwrap_or_else(|| Failure::lookup(host)))
}

/// Options that only help: a connection without them works.
fn prepare(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE);
    let _set = stream.set_nodelay(true).is_ok()
        && SockRef::from(stream).set_tcp_keepalive(&keep_alive).is_ok();
}

/// Asks a proxy to pass bytes on to `target`.
async fn tunnel(stream: &mut TcpStream, target: &Target, proxy: &Target) -> Result<(), Failure> {
    const MAX_ANSWER: usize = 16 * 1024;
    let failed = |text: String| Failure::new(RetryReason::Connect, text);
    let place = if target.host.contains(':') {
        format!("[{}]:{}", target.host, target.port)
    } else {
        format!("{}:{}", target.host, target.port)
    };
    let mut request =
        format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: Go-http-client/1.1\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str("Proxy-Authorization: ");
        request.push_str(authorization.reveal());
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Byte by byte, so that nothing behind the empty line is taken from TLS.
        while !answer.ends_with(b"\r\n\r\n") && answer.len() < MAX_ANSWER {
            answer.push(stream.read_u8().await?);
        }
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(CONNECT, asked)
        .await
        .map_err(|_| failed("proxyconnect tcp: i/o timeout".to_owned()))?
        .map_err(|reason| {
            failed(format!(
                "proxyconnect tcp: {}",
                super::reason::system_text(&reason)
            ))
        })?;
    let status = answer.lines().next().unwrap_or_default();
    let (_, status) = status.split_once(' ').unwrap_or(("", status));
    if status.starts_with("200") {
        Ok(())
    } else {
        let words = status.split_once(' ').map_or(status, |(_, words)| words);
        Err(failed(words.to_owned()))
    }
}

/// Connections that wait for the next request.
#[derive(Debug)]
pub(crate) struct Idle {
    connections: Mutex<Vec<Connection>>,
    places: usize,
    limit: Option<Duration>,
}

impl Idle {
    /// Keeps `places` connections; for `limit`, or until the other side closes them.
    pub(crate) fn new(places: usize, limit: Option<Duration>) -> Self {
        Self {
            connections: Mutex::default(),
            places,
            limit,
        }
    }

    /// Takes the connection that was used last and is still good.
    pub(crate) fn take(&self, generation: u64) -> Option<Connection> {
        let mut connections = self.connections.lock();
        while let Some(mut connection) = connections.pop() {
            if self.is_good(&mut connection, generation) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection if there is a place for it.
    pub(crate) fn put(&self, mut connection: Connection) {
        connection.used = Instant::now();
        let mut connections = self.connections.lock();
        if connections.len() < self.places {
            connections.push(connection);
        }
    }

    /// Closes those that are no longer good.
    pub(crate) fn sweep(&self, generation: u64) {
        self.connections
            .lock()
            .retain_mut(|connection| self.is_good(connection, generation));
    }

    fn is_good(&self, connection: &mut Connection, generation: u64) -> bool {
        connection.generation == generation
            && self
                .limit
                .is_none_or(|limit| connection.used.elapsed() < limit)
            && !connection.is_stale()
    }
}
