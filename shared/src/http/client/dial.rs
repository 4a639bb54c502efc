//! Making connections: dialling, proxies, TLS, and the limits of each.

use std::{
    future::{Ready, ready},
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Uri, header};
use hyper_util::{client::legacy::connect::proxy::SocksV5, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};
use tower::Service as _;

use super::{
    error::{self, ClientError, Kind, words},
    proxy::{Language, Proxies, Proxy, bare},
    tls_source::TlsSource,
};
use crate::tls::{self, H2};

/// How long a handshake of TLS may take, and how long a proxy may take to connect.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The largest answer of a proxy to `CONNECT`.
const LARGEST_CONNECT_ANSWER: usize = 16 << 10;

/// A connection to a server or its proxy.
pub(super) struct Dialled {
    pub(super) stream: Box<dyn Io>,
    /// Whether a proxy reads the requests, and so needs whole URLs.
    pub(super) is_proxied: bool,
    /// Whether HTTP/2 was agreed on.
    pub(super) is_http2: bool,
}

/// Makes the connections of a client.
#[derive(Debug)]
pub(super) struct Dialler {
    pub(super) tls: TlsSource,
    pub(super) proxies: Arc<Proxies>,
    /// How long connecting may take, the look-up of the name included.
    pub(super) limit: Duration,
}

impl Dialler {
    /// Connects to the host of a URL, or to its proxy.
    pub(super) async fn connect(&self, uri: &Uri) -> Result<Dialled, ClientError> {
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(ClientError::no_host)?;
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let proxy = self.proxies.of(uri);
        let is_socks = proxy.is_some_and(|proxy| proxy.language == Language::Socks5);
        let stream: Box<dyn Io> = match proxy {
            None => Box::new(self.dial(host, port).await?),
            Some(proxy) => self.reach(proxy, is_tls, uri).await.map_err(|error| {
                let text = format!("proxyconnect tcp: {error}");
                let outer = ClientError::new(Kind::Connect, text);
                if error.is_timeout() {
                    outer.timed_out()
                } else {
                    outer
                }
            })?,
        };
        if !is_tls {
            return Ok(Dialled {
                stream,
                is_proxied: proxy.is_some() && !is_socks,
                is_http2: false,
            });
        }
        let stream = self.secure(host, stream).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        Ok(Dialled {
            stream: Box::new(stream),
            is_proxied: false,
            is_http2,
        })
    }

    /// Connects to a proxy, and lets it connect to `host` if requests are to be encrypted all the way.
    async fn reach(
        &self,
        proxy: &Proxy,
        is_tunnel: bool,
        uri: &Uri,
    ) -> Result<Box<dyn Io>, ClientError> {
        let stream = self.dial(&proxy.host, proxy.port).await?;
        let mut stream: Box<dyn Io> = match proxy.language {
            Language::Http => Box::new(stream),
            Language::Https => {
                let client = self.tls.for_proxy()?;
                Box::new(handshake(&client, &proxy.host, stream).await?)
            }
            Language::Socks5 => {
                let asked = in_time(socks(stream, proxy, uri));
                return asked.await.map(|stream| Box::new(stream) as _);
            }
        };
        if is_tunnel {
            let headers = &self.proxies.connect_headers;
            in_time(tunnel(&mut stream, proxy, headers, uri)).await?;
        }
        Ok(stream)
    }

    async fn secure(
        &self,
        host: &str,
        stream: Box<dyn Io>,
    ) -> Result<tls::client::TlsStream<Box<dyn Io>>, ClientError> {
        let client = self.tls.current()?;
        handshake(&client, host, stream).await
    }

    /// Connects to one of the host's addresses. What fails first is what is told.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, ClientError> {
        let deadline = Instant::now() + self.limit;
        let host = bare(host);
        let failed = |text: String| ClientError::new(Kind::Connect, text);
        let addresses: Vec<SocketAddr> = match host.parse() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => match timeout_at(deadline, lookup_host((host, port))).await {
                Ok(Ok(found)) => found.collect(),
                Ok(Err(_)) => {
                    return Err(failed(format!("dial tcp: lookup {host}: no such host")));
                }
                Err(_) => {
                    let text = format!("dial tcp: lookup {host}: i/o timeout");
                    return Err(failed(text).timed_out());
                }
            },
        };
        let mut first = None;
        for (index, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
            let error = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it, small requests wait for acknowledgements.
                    let _set = stream.set_nodelay(true).is_ok();
                    return Ok(stream);
                }
                Ok(Err(reason)) => {
                    let text = format!("dial tcp {address}: connect: {}", words(&reason));
                    failed(text)
                }
                Err(_) => failed(format!("dial tcp {address}: i/o timeout")).timed_out(),
            };
            first.get_or_insert(error);
        }
        Err(first.unwrap_or_else(|| failed(format!("dial tcp: lookup {host}: no such host"))))
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    client: &tls::client::Client,
    host: &str,
    stream: S,
) -> Result<tls::client::TlsStream<S>, ClientError> {
    client
        .connect(host, stream, HANDSHAKE)
        .await
        .map_err(|reason| {
            let tls = |text: String| ClientError::new(Kind::Tls, text);
            match reason.kind() {
                io::ErrorKind::TimedOut => {
                    tls("net/http: TLS handshake timeout".into()).timed_out()
                }
                io::ErrorKind::UnexpectedEof => tls("EOF".into()),
                _ => tls(error::tls_reason(&reason).unwrap_or_else(|| words(&reason))),
            }
        })
}

/// Limits how long a proxy may take to connect.
async fn in_time<T>(asked: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let late = || ClientError::new(Kind::Connect, "i/o timeout").timed_out();
    timeout(HANDSHAKE, asked).await.map_err(|_| late())?
}

/// Returns the host of a URL with a port, the scheme's own if there is none.
fn place(uri: &Uri) -> String {
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    format!("{}:{port}", uri.host().unwrap_or_default())
}

/// A connection that is there already, as what speaks SOCKS takes it.
struct Connected(Option<TcpStream>);

impl tower::Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<Result<TokioIo<TcpStream>, io::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _proxy: Uri) -> Self::Future {
        let taken = self.0.take().map(TokioIo::new);
        ready(taken.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// Asks a SOCKS proxy to connect to the host of a URL, whose name the proxy looks up.
async fn socks(stream: TcpStream, proxy: &Proxy, uri: &Uri) -> Result<TcpStream, ClientError> {
    let mut socks = SocksV5::new(Uri::default(), Connected(Some(stream)));
    if let Some((name, password)) = &proxy.credentials {
        socks = socks.with_auth(name.clone(), password.reveal().to_owned());
    }
    let connected = socks.call(uri.clone()).await.map_err(|error| {
        let reason = error.to_string();
        let reason = reason.trim_start_matches("SOCKS error: ");
        let (host, port, place) = (&proxy.host, proxy.port, place(uri));
        let text = format!("socks connect tcp {host}:{port}->{place}: {reason}");
        ClientError::new(Kind::Connect, text)
    });
    connected.map(TokioIo::into_inner)
}

/// Asks a proxy to connect to the host of a URL.
async fn tunnel(
    stream: &mut Box<dyn Io>,
    proxy: &Proxy,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(), ClientError> {
    let place = place(uri);
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n").into_bytes();
    let authorization = proxy.authorization.iter();
    let authorization = authorization.map(|value| (&header::PROXY_AUTHORIZATION, value));
    let mut add = |(name, value): (&header::HeaderName, &HeaderValue)| {
        request.extend_from_slice(name.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    };
    // As in Go, who is named in the URL counts.
    let is_named = proxy.authorization.is_some();
    let configured = headers.iter();
    let configured =
        configured.filter(|(name, _)| !is_named || *name != header::PROXY_AUTHORIZATION);
    for pair in authorization.chain(configured) {
        add(pair);
    }
    request.extend_from_slice(b"\r\n");
    let broken = |reason: io::Error| ClientError::new(Kind::Connect, words(&reason));
    stream.write_all(&request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    // Byte by byte: what follows the answer belongs to the tunnel.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= LARGEST_CONNECT_ANSWER {
            let text = "the proxy's answer is too large";
            return Err(ClientError::new(Kind::Connect, text));
        }
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(reason) if reason.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ClientError::new(Kind::Connect, "unexpected EOF"));
            }
            Err(reason) => return Err(broken(reason)),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or_default();
    let (version, status) = line.split_once(' ').unwrap_or_default();
    if version.starts_with("HTTP/1.") && status.starts_with("200") {
        return Ok(());
    }
    // Go shows what follows the number.
    let reason = status.split_once(' ').map_or(status, |(_, reason)| reason);
    Err(ClientError::new(Kind::Connect, reason))
}

/// A bidirectional stream, whatever it is made of.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}
