//! Sockets to destinations, with TLS or without.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::config::outbound::ForwardTls;

/// Whether a destination is spoken to over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    Tls,
}

/// Where a ring member is reached. The name stays what is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As the header `Host` has it; an IPv6 address in brackets.
    pub(crate) authority: String,
    /// The path before `/import`, as the original makes it by appending text.
    pub(crate) path: String,
    /// If the name has a scheme.
    pub(crate) security: Option<Security>,
}

impl Target {
    /// Reads a member's name: `host:port`, `http://host:port/path`, and also Consul's `fd00::1:8128`, which the original
    /// hashes but cannot dial.
    pub(crate) fn read(name: &str) -> Result<Self, String> {
        let (security, rest) = match name.split_once("://") {
            Some(("http", rest)) => (Some(Security::Plain), rest),
            Some(("https", rest)) => (Some(Security::Tls), rest),
            Some((scheme, _)) => return Err(format!("unsupported protocol scheme {scheme:?}")),
            None => (None, name),
        };
        let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = split_port(address);
        let port = match (port, security) {
            (Some(port), _) => port.parse().map_err(|_| format!("invalid port {port:?}"))?,
            (None, Some(Security::Tls)) => 443,
            (None, _) => 80,
        };
        if host.is_empty() {
            return Err("no host".to_owned());
        }
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            address.to_owned()
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            authority,
            path: path.to_owned(),
            security,
        })
    }
}

fn split_port(address: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return (host, rest.strip_prefix(':'));
    }
    match address.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (address, None),
    }
}

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    dial_timeout: Duration,
    /// Whether gRPC has TLS.
    pub(crate) grpc: Security,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("grpc", &self.grpc)
            .finish_non_exhaustive()
    }
}

/// The version of HTTP that a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

impl Connector {
    /// Reads the files that `tls` names.
    pub(crate) fn new(tls: &ForwardTls, dial_timeout: Duration) -> Result<Self, String> {
        let mut config = client_config(tls)?;
        let http1 = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            dial_timeout,
            grpc: if tls.enabled {
                Security::Tls
            } else {
                Security::Plain
            },
            http1,
            http2: Arc::new(config),
            server_name: tls.server_name.clone(),
        })
    }

    /// Connects, within the time limit for dialling.
    pub(crate) async fn connect(&self, target: &Target, version: Version) -> io::Result<Socket> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "context deadline exceeded");
        timeout(self.dial_timeout, self.dial(target, version))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn dial(&self, target: &Target, version: Version) -> io::Result<Socket> {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        // Batches are written whole: waiting for more would only delay their end.
        stream.set_nodelay(true)?;
        let security = target.security.unwrap_or(match version {
            Version::Http1 => Security::Plain,
            Version::Http2 => self.grpc,
        });
        if security == Security::Plain {
            return Ok(Socket::Plain(stream));
        }
        let config = match version {
            Version::Http1 => &self.http1,
            Version::Http2 => &self.http2,
        };
        let name = self.server_name.as_ref().unwrap_or(&target.host).clone();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await?;
        Ok(Socket::Tls(Box::new(stream)))
    }
}

fn client_config(tls: &ForwardTls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &tls.ca_file {
        let wrong = |reason: &dyn fmt::Display| format!("{}: {reason}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|reason| wrong(&reason))? {
            let certificate = certificate.map_err(|reason| wrong(&reason))?;
            roots.add(certificate).map_err(|reason| wrong(&reason))?;
        }
    } else if tls.enabled {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // One that cannot be read is one that nobody is signed by.
            let _added = roots.add(certificate).is_ok();
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|reason| reason.to_string())?
        .with_root_certificates(roots);
    let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|reason| format!("{}: {reason}", cert.display()));
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|reason| format!("{}: {reason}", key.display()))?;
    builder
        .with_client_auth_cert(chain?, key)
        .map_err(|reason| reason.to_string())
}

/// A connection to a destination.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! both {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket.get_mut() {
            Socket::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Socket::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        both!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        both!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        both!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        both!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        both!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ring_members_are_addresses() {
        let f = |name: &str, host: &str, port: u16, authority: &str, path: &str| {
            let target = Target::read(name).unwrap();
            let found = (
                &*target.host,
                target.port,
                &*target.authority,
                &*target.path,
            );
            assert_eq!(found, (host, port, authority, path), "{name}");
        };
        f("10.0.0.1:8127", "10.0.0.1", 8127, "10.0.0.1:8127", "");
        f("http://veneur", "veneur", 80, "veneur", "");
        f("https://v:1/a/", "v", 1, "v:1", "/a/");
        // Consul's form of an IPv6 address, and the proper one.
        f("fd00::1:8128", "fd00::1", 8128, "[fd00::1]:8128", "");
        f("http://[::1]:8128", "::1", 8128, "[::1]:8128", "");
        assert!(Target::read("tcp://x:1").is_err());
        assert!(Target::read("x:port").is_err());
        assert!(Target::read("").is_err());
    }
}
