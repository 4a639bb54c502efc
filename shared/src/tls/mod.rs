//! TLS for servers and clients: files and private authorities, reloading, pinning (feature `tls`).
//!
//! [`server`] makes what a listener needs, [`client`] what a connector needs; both from PEM that stands in files or in the
//! text of a configuration. [`Stream`] is a connection with or without. The cryptography is always that of aws-lc-rs and is passed on explicitly: nothing here looks at
//! the process-wide default provider.

mod certificate;
pub mod client;
mod error;
mod pem;
pub mod server;
mod stream;
mod verify;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use rustls::{
    SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};

#[cfg(feature = "kubernetes")]
pub(crate) use self::pem::certificates;
pub use self::{error::Error, stream::Stream};
use crate::config::secret::Secret;

/// HTTP/2 in the list of application protocols.
pub const H2: &[u8] = b"h2";

/// HTTP/1.1 in the list of application protocols.
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// Something in PEM, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file, which is read again with every reload.
    File(PathBuf),
    /// In the configuration itself.
    Text(Secret),
}

/// Prints where it stands, never what.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text(_) => f.write_str("inline PEM"),
        }
    }
}

/// What one side shows to prove who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those that lead from it to an authority, if any.
    pub certificates: Pem,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: Pem,
}

/// A version of the protocol. Older ones do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The versions that may be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub least: Version,
    /// The newest. Must not be older than `least`.
    pub most: Version,
}

impl Versions {
    /// TLS 1.2 and 1.3.
    pub const ALL: Self = Self {
        least: Version::Tls12,
        most: Version::Tls13,
    };

    fn supported(self) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
        if self.least > self.most {
            return Err(Error::NoVersion);
        }
        let spoken = [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)];
        let allowed = self.least..=self.most;
        let spoken = spoken
            .into_iter()
            .filter(|(version, _)| allowed.contains(version));
        Ok(spoken.map(|(_, spoken)| spoken).collect())
    }
}

/// Returns the one source of cryptography, for those who build a configuration of rustls themselves.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
