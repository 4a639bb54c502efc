//! The side that connects: whom it trusts, and what it shows.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::danger::ServerCertVerifier,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;

use super::{
    Error, Identity, Pem, Versions, pem, provider,
    verify::{AnyServer, Servers},
};

/// What a client is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose certificates are trusted.
    pub roots: Roots,
    /// Whether servers are verified at all.
    pub verification: Verification,
    /// What is shown to servers that ask for a certificate.
    pub identity: Option<Identity>,
    /// The host name or address that the server's certificate must be for, and that is asked for, instead of the one that
    /// is connected to.
    pub server_name: Option<String>,
    /// The versions that may be spoken.
    pub versions: Versions,
    /// The application protocols to offer, the preferred one first. A client of HTTP that sets them itself gets none here.
    pub alpn: Vec<&'static [u8]>,
}

impl Settings {
    /// The system's authorities, no certificate of our own, every version, no application protocols.
    pub const SYSTEM: Self = Self {
        roots: Roots::System,
        verification: Verification::Full,
        identity: None,
        server_name: None,
        versions: Versions::ALL,
        alpn: Vec::new(),
    };
}

/// Whose certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those that the system's authorities have issued. `SSL_CERT_FILE` and `SSL_CERT_DIR` say where these are, as for
    /// OpenSSL and Go.
    System,
    /// Those that authorities in this file have issued.
    Authorities(Pem),
    /// Those that authorities in this file have issued, and the certificates of this file themselves, whoever issued them
    /// and whatever for. Their names and dates count all the same.
    ///
    /// That is what a program in Go makes of a file with roots; rustls takes no certificate for both a root and a server's.
    Pinned {
        /// The file.
        certificates: Pem,
        /// Whether a pinned certificate may have its name where none belongs any more.
        common_name: CommonName,
    },
    /// Nobody's.
    Nobody,
}

/// What the common name of a certificate without alternative names is worth. It has been deprecated since 2000, and Go has
/// refused it since 1.15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommonName {
    /// Nothing: such a certificate has no name.
    Ignored,
    /// It is the server's name or address if the certificate itself is trusted, and only then. Logged once as a warning.
    CountsWhenPinned,
}

/// Whether servers are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Chain, dates, purpose and name.
    Full,
    /// **Insecure**: nothing is verified, so that anybody on the way can be the server. Roots are not read.
    InsecureSkipVerify,
}

/// What connections are made with. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Client {
    /// Reads the files that `settings` name. To follow changed files, make another one.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let server_name = match &settings.server_name {
            Some(name) => Some(parse_name(name)?),
            None => None,
        };
        let verifier: Arc<dyn ServerCertVerifier> = match settings.verification {
            Verification::InsecureSkipVerify => Arc::new(AnyServer),
            Verification::Full => {
                let (roots, pins, common_name) = trusted(&settings.roots)?;
                Arc::new(Servers {
                    roots,
                    pins,
                    common_name,
                    name: server_name.clone(),
                    warned: AtomicBool::new(false),
                })
            }
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&settings.versions.supported()?)
            .map_err(Error::Refused)?
            // "Dangerous" is any verifier but the one of rustls.
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(
                    pem::certificates(&identity.certificates)?,
                    pem::key(&identity.key)?,
                )
                .map_err(|reason| pem::mismatch(identity, &reason))?,
        };
        config.alpn_protocols = settings.alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self {
            config: Arc::new(config),
            server_name,
        })
    }

    /// Returns the configuration for a library that connects by itself.
    ///
    /// It verifies the name of the settings, if there is one. Which name the server is asked for is up to that library.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Returns the name of the settings, for a library that takes it.
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }

    /// Speaks TLS on `stream`, which is connected to `host` (a name or an address, without port), `limit` at most.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
        limit: Duration,
    ) -> io::Result<TlsStream<S>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => parse_name(host)
                .map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        timeout(limit, connector.connect(name, stream)).await?
    }
}

fn parse_name(name: &str) -> Result<ServerName<'static>, Error> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| Error::ServerName(name.to_owned()))
}

type Trusted = (RootCertStore, Vec<CertificateDer<'static>>, CommonName);

fn trusted(roots: &Roots) -> Result<Trusted, Error> {
    let alone = |roots| (roots, Vec::new(), CommonName::Ignored);
    Ok(match roots {
        Roots::Nobody => alone(RootCertStore::empty()),
        Roots::System => alone(system()?),
        Roots::Authorities(source) => alone(pem::roots(source)?),
        Roots::Pinned {
            certificates,
            common_name,
        } => {
            let pins = pem::certificates(certificates)?;
            let mut roots = RootCertStore::empty();
            // One that cannot be a root can still be a server's.
            let _counts = roots.add_parsable_certificates(pins.iter().cloned());
            (roots, pins, *common_name)
        }
    })
}

fn system() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system has hundreds, and some that are odd.
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let reason = found.errors.first().map(ToString::to_string);
    Err(Error::System(
        reason.unwrap_or_else(|| "there is none".to_owned()),
    ))
}
