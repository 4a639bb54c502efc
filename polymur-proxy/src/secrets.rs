//! What is read from files at the start and again on SIGHUP: the API key and the client's certificates.

use std::{fs, path::Path};

use shared::{
    config::secret::Secret,
    tls::{
        Identity, Pem,
        client::{Client, CommonName, Roots, Settings},
    },
};
use thiserror::Error;

use crate::{
    config::GatewayConfig,
    gateway::{exchange::is_header_value, reason::system_text},
};

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// It cannot be read; as Go says it.
    #[error("open {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// `-cert` names a file without a certificate. The text is the original's.
    #[error("Error parsing certificate")]
    NoCertificate,
    /// The certificates cannot be used.
    #[error("{0}")]
    Tls(shared::tls::Error),
    /// The key cannot stand in a header.
    #[error("{path}: the key has a byte that no header can carry")]
    Key {
        /// The file.
        path: String,
    },
}

/// Reads the key: from its file if there is one.
pub(crate) fn key(config: &GatewayConfig) -> Result<Secret, SecretsError> {
    let Some(path) = &config.key_file else {
        return Ok(config.key.clone());
    };
    let text = String::from_utf8_lossy(&read(path)?)
        .trim_end_matches(['\r', '\n'])
        .to_owned();
    if !is_header_value(&text) {
        return Err(SecretsError::Key {
            path: path.display().to_string(),
        });
    }
    Ok(Secret::new(text))
}

/// Reads the certificates. `-cert` is read also for http, as in the original; the system's only for https.
pub(crate) fn tls(config: &GatewayConfig, https: bool) -> Result<Option<Client>, SecretsError> {
    let roots = match &config.certificates {
        Some(path) => {
            let text = read(path)?;
            if memchr::memmem::find(&text, b"-----BEGIN CERTIFICATE-----").is_none() {
                return Err(SecretsError::NoCertificate);
            }
            Roots::Pinned {
                certificates: Pem::File(path.clone()),
                common_name: CommonName::CountsWhenPinned,
            }
        }
        None if https => Roots::System,
        None => return Ok(None),
    };
    let identity = config.identity.clone().map(|(certificate, key)| Identity {
        certificates: Pem::File(certificate),
        key: Pem::File(key),
    });
    let settings = Settings {
        roots,
        identity,
        ..Settings::SYSTEM
    };
    Client::new(&settings).map(Some).map_err(SecretsError::Tls)
}

fn read(path: &Path) -> Result<Vec<u8>, SecretsError> {
    fs::read(path).map_err(|reason| SecretsError::Open {
        path: path.display().to_string(),
        reason: system_text(&reason),
    })
}
