//! The side that listens: what it shows, whom it lets in, and how it follows changed files.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::RwLock;

use rustls::{
    CipherSuite, NamedGroup, ServerConfig,
    crypto::CryptoProvider,
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
pub use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::{
    Error, Identity, Pem, Versions, pem, provider,
    verify::{AnyClient, NamedClients},
};
use crate::{lifecycle::Tasks, listen::Places};

/// What a server is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What is shown to clients.
    pub identity: Identity,
    /// What is wanted of them.
    pub clients: Clients,
    /// The versions that may be spoken.
    pub versions: Versions,
    /// The cipher suites that may be used; all that are safe if `None`.
    pub cipher_suites: Option<Vec<CipherSuite>>,
    /// The groups that keys may be agreed on with, the preferred one first; all that are safe if `None`.
    pub groups: Option<Vec<NamedGroup>>,
    /// The application protocols that are taken, the preferred one first. A client that names none of them is refused; one
    /// that names no protocol at all is taken.
    pub alpn: Vec<&'static [u8]>,
}

impl Settings {
    /// A certificate and its key; clients show nothing, and everything is allowed that is safe.
    pub fn new(identity: Identity, alpn: &[&'static [u8]]) -> Self {
        Self {
            identity,
            clients: Clients::Ignored,
            versions: Versions::ALL,
            cipher_suites: None,
            groups: None,
            alpn: alpn.to_vec(),
        }
    }
}

/// What is wanted of clients. Each stands for one of Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clients {
    /// Nothing (`NoClientCert`).
    Ignored,
    /// A certificate, of whomever, if they have one (`RequestClientCert`).
    Asked,
    /// A certificate, of whomever (`RequireAnyClientCert`).
    AnyCertificate,
    /// If they show a certificate, one that is good (`VerifyClientCertIfGiven`).
    VerifiedIfGiven(Trust),
    /// A certificate that is good (`RequireAndVerifyClientCert`).
    Verified(Trust),
}

/// Which certificates of clients are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Who must have issued them.
    pub authorities: Pem,
    /// The alternative names (of DNS, mail, URI or address, exactly) of which they must have one; empty if any will do.
    pub names: Vec<String>,
}

/// A server's configuration, which can be read again while it is in use.
///
/// Connections that are made keep what they were made with; [`Server::reload`] is for those to come.
pub struct Server {
    settings: Settings,
    current: RwLock<Arc<ServerConfig>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Reads the files that `settings` name.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let current = RwLock::new(Arc::new(build(&settings)?));
        Ok(Self { settings, current })
    }

    /// Reads the files again. When there is something wrong with them, what was read before stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        let config = Arc::new(build(&self.settings)?);
        *self.current.write() = config;
        Ok(())
    }

    /// Returns what the next connection is to be made with.
    pub fn config(&self) -> Arc<ServerConfig> {
        let current = self.current.read();
        Arc::clone(&current)
    }

    /// Speaks TLS on `stream`, which a listener gave. The handshake may take `limit` at most.
    pub async fn accept(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.config());
        timeout(limit, acceptor.accept(stream)).await?
    }

    /// Accepts connections of `listener` as a task of `tasks` and does the handshakes, many at a time, so that a slow client
    /// keeps none waiting. For protocols that take connections from elsewhere, such as gRPC.
    ///
    /// Ends when `tasks` is stopped or the receiver is dropped. As many connections wait in the channel as handshakes may
    /// be under way; then more wait in the kernel's queue.
    pub fn incoming(
        self: Arc<Self>,
        tasks: &Tasks,
        listener: TcpListener,
        handshakes: Handshakes,
    ) -> mpsc::Receiver<Connection> {
        let (ready, connections) = mpsc::channel(handshakes.at_a_time);
        let (group, stop) = (tasks.clone(), tasks.stop_token());
        let places = Places::new(handshakes.at_a_time);
        tasks.spawn("tls listener", async move {
            loop {
                let (stream, peer, place) = tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = ready.closed() => break,
                    accepted = places.accept(&listener) => accepted,
                };
                let (server, ready) = (Arc::clone(&self), ready.clone());
                let stop = stop.clone();
                group.spawn("tls handshake", async move {
                    let hand_over = async {
                        match server.accept(stream, handshakes.limit).await {
                            Ok(stream) => {
                                // Nobody takes it any more at the end.
                                let _taken = ready.send(Connection { stream, peer }).await.is_ok();
                            }
                            Err(reason) => debug!(%peer, %reason, "tls handshake failed"),
                        }
                    };
                    let _stopped = stop.run_until_cancelled(hand_over).await;
                    drop(place);
                });
            }
        });
        connections
    }
}

/// What handshakes may cost.
#[derive(Debug, Clone, Copy)]
pub struct Handshakes {
    /// How many may be under way.
    pub at_a_time: usize,
    /// How long one may take.
    pub limit: Duration,
}

/// A connection on which TLS is spoken.
#[derive(Debug)]
pub struct Connection {
    /// What is read from and written to.
    pub stream: TlsStream<TcpStream>,
    /// Who connected.
    pub peer: SocketAddr,
}

fn build(settings: &Settings) -> Result<ServerConfig, Error> {
    let identity = &settings.identity;
    let builder = ServerConfig::builder_with_provider(chosen(settings)?)
        .with_protocol_versions(&settings.versions.supported()?)
        .map_err(|_| Error::NothingChosen("cipher suites"))?
        .with_client_cert_verifier(verifier(&settings.clients)?);
    let mut config = builder
        .with_single_cert(
            pem::certificates(&identity.certificates)?,
            pem::key(&identity.key)?,
        )
        .map_err(|reason| pem::mismatch(identity, &reason))?;
    config.alpn_protocols = settings.alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Returns the cryptography with only what `settings` chose.
fn chosen(settings: &Settings) -> Result<Arc<CryptoProvider>, Error> {
    let all = provider();
    if settings.cipher_suites.is_none() && settings.groups.is_none() {
        return Ok(all);
    }
    let mut some = CryptoProvider::clone(&all);
    if let Some(suites) = &settings.cipher_suites {
        some.cipher_suites
            .retain(|suite| suites.contains(&suite.suite()));
        if some.cipher_suites.is_empty() {
            return Err(Error::NothingChosen("cipher suites"));
        }
    }
    if let Some(groups) = &settings.groups {
        let known = |name: &NamedGroup| all.kx_groups.iter().find(|group| group.name() == *name);
        some.kx_groups = groups.iter().filter_map(known).copied().collect();
        if some.kx_groups.is_empty() {
            return Err(Error::NothingChosen("curves"));
        }
    }
    Ok(Arc::new(some))
}

fn verifier(clients: &Clients) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let (trust, required) = match clients {
        Clients::Ignored => return Ok(Arc::new(NoClientAuth)),
        Clients::Asked => return Ok(Arc::new(AnyClient { mandatory: false })),
        Clients::AnyCertificate => return Ok(Arc::new(AnyClient { mandatory: true })),
        Clients::VerifiedIfGiven(trust) => (trust, false),
        Clients::Verified(trust) => (trust, true),
    };
    let roots = Arc::new(pem::roots(&trust.authorities)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    if !required {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build();
    let inner = inner.map_err(|reason| Error::unusable(&trust.authorities, reason))?;
    Ok(if trust.names.is_empty() {
        inner
    } else {
        let names = trust.names.clone();
        Arc::new(NamedClients { inner, names })
    })
}
