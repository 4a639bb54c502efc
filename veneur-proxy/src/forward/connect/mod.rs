//! Connections to destinations, with TLS or without.
//!
//! What TLS is spoken with is read from its files at the start, where the configuration names any, and otherwise when the
//! first `https://` destination is dialled; [`Connector::reload`] reads it again for the connections to come.

mod target;

use std::{fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use shared::tls::{
    self, H2, HTTP_1_1, Identity, Pem, Stream, Versions,
    client::{Client, Roots, Settings, Verification},
};
use tokio::{net::TcpStream, task::spawn_blocking, time::timeout};

pub(crate) use self::target::Target;
use crate::config::outbound::ForwardTls;

/// Whether a destination is spoken to over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    Tls,
}

/// The version of HTTP that a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Makes connections.
pub(crate) struct Connector {
    dial_timeout: Duration,
    settings: ForwardTls,
    /// What the next connections over TLS are made with; none before it was needed.
    clients: ArcSwapOption<Clients>,
}

/// A client for each version of HTTP: they offer different protocols.
#[derive(Debug)]
struct Clients {
    http1: Client,
    http2: Client,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads the files that `settings` name, if there are any or TLS is certain to be spoken.
    pub(crate) fn new(settings: &ForwardTls, dial_timeout: Duration) -> Result<Self, tls::Error> {
        let connector = Self {
            dial_timeout,
            settings: settings.clone(),
            clients: ArcSwapOption::empty(),
        };
        if settings.is_wanted() {
            connector.reload()?;
        }
        Ok(connector)
    }

    /// Reads the files again. When there is something wrong with them, what was read before stays in use.
    pub(crate) fn reload(&self) -> Result<(), tls::Error> {
        let clients = Clients::read(&self.settings)?;
        self.clients.store(Some(Arc::new(clients)));
        Ok(())
    }

    /// Returns how a destination is spoken to. That of gRPC follows the configuration where the ring name does not say
    /// `https`: the `http://` of a member from Kubernetes is a part of its name and nothing else.
    pub(crate) fn security(&self, target: &Target, version: Version) -> Security {
        match (target.security, version) {
            (Some(Security::Tls), _) => Security::Tls,
            (_, Version::Http2) if self.settings.enabled => Security::Tls,
            _ => Security::Plain,
        }
    }

    /// Connects, within the time limit for dialling.
    pub(crate) async fn connect(&self, target: &Target, version: Version) -> io::Result<Stream> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "context deadline exceeded");
        timeout(self.dial_timeout, self.dial(target, version))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn dial(&self, target: &Target, version: Version) -> io::Result<Stream> {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        // Batches are written whole: waiting for more would only delay their end.
        stream.set_nodelay(true)?;
        if self.security(target, version) == Security::Plain {
            return Ok(Stream::Plain(stream));
        }
        let clients = self.clients().await?;
        let client = match version {
            Version::Http1 => &clients.http1,
            Version::Http2 => &clients.http2,
        };
        let stream = client.connect(&target.host, stream, self.dial_timeout);
        Ok(stream.await?.into())
    }

    async fn clients(&self) -> io::Result<Arc<Clients>> {
        if let Some(clients) = self.clients.load_full() {
            return Ok(clients);
        }
        let settings = self.settings.clone();
        let read = spawn_blocking(move || Clients::read(&settings)).await;
        let clients = Arc::new(read.map_err(io::Error::other)?.map_err(io::Error::other)?);
        // Two that come here at once have read the same.
        self.clients.store(Some(Arc::clone(&clients)));
        Ok(clients)
    }
}

impl Clients {
    fn read(settings: &ForwardTls) -> Result<Self, tls::Error> {
        let file = |path: &std::path::PathBuf| Pem::File(path.clone());
        let identity = settings.cert_file.as_ref().zip(settings.key_file.as_ref());
        let client = |protocol| {
            Client::new(&Settings {
                roots: match &settings.ca_file {
                    Some(path) => Roots::Authorities(file(path)),
                    None => Roots::System,
                },
                verification: Verification::Full,
                identity: identity.map(|(certificates, key)| Identity {
                    certificates: file(certificates),
                    key: file(key),
                }),
                server_name: settings.server_name.clone(),
                versions: Versions::ALL,
                alpn: vec![protocol],
            })
        };
        Ok(Self {
            http1: client(HTTP_1_1)?,
            http2: client(H2)?,
        })
    }
}
