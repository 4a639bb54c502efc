//! Why a TLS configuration cannot be made. Every text names the place that is to blame.

use std::{fmt::Display, io, path::PathBuf};

use super::Pem;

/// Why a configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// What was read does not hold what it should.
    #[error("{place}: {reason}")]
    Unusable {
        /// The file, or that it is text of the configuration.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates of the system cannot be had.
    #[error("no certificate of the system's authorities can be read: {0}")]
    System(String),
    /// The newest version is older than the oldest.
    #[error("the highest TLS version is below the lowest")]
    NoVersion,
    /// Of the cipher suites or curves that were chosen, none can be used with the versions that were chosen.
    #[error("none of the chosen {0} can be used")]
    NothingChosen(&'static str),
    /// A name is not one that a certificate can have.
    #[error("not a host name or address: {0:?}")]
    ServerName(String),
    /// rustls refuses what was built.
    #[error("{0}")]
    Refused(rustls::Error),
}

impl Error {
    /// Blames `place`.
    pub(super) fn unusable(place: &Pem, reason: impl Display) -> Self {
        Self::Unusable {
            place: place.to_string(),
            reason: reason.to_string(),
        }
    }
}
