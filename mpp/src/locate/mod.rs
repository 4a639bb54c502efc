//! Where the addresses of servers come from. Each locator is asked anew in every round of selection.

pub mod file;
pub mod kubernetes;
pub mod marathon;

use std::fmt;

use thiserror::Error;

use crate::endpoint::Endpoint;

/// What a locator found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Addresses, in the locator's order; one that is listed twice counts twice.
    pub endpoints: Vec<Endpoint>,
    /// What it could not use, and why; in words for the log.
    pub skipped: Vec<String>,
}

/// Why a locator found nothing.
#[derive(Debug, Error)]
pub enum LocateError {
    /// The file cannot be read.
    #[error("open {path}: {}", as_go_says(.reason))]
    File {
        /// The file.
        path: String,
        /// Why not.
        reason: std::io::Error,
    },
    /// The file has no usable line. The text is the original's.
    #[error("Unable to locate any potential endpoints")]
    Empty,
    /// Kubernetes gave no answer, or a bad one.
    #[error("kubernetes api: {0}")]
    Kubernetes(String),
    /// Marathon gave no answer, or a bad one.
    #[error("{0}")]
    Marathon(String),
}

/// A source of addresses.
#[derive(Debug)]
pub enum Locator {
    /// A file with one address per line.
    File(file::FileLocator),
    /// A service or pods in Kubernetes.
    Kubernetes(Box<kubernetes::KubernetesLocator>),
    /// Applications in Marathon.
    Marathon(marathon::MarathonLocator),
}

impl Locator {
    /// Asks the source. Ends in a time that each locator bounds.
    pub async fn locate(&mut self) -> Result<Found, LocateError> {
        match self {
            Self::File(file) => file.locate().await,
            Self::Kubernetes(kubernetes) => kubernetes.locate().await,
            Self::Marathon(marathon) => marathon.locate().await,
        }
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{file}"),
            Self::Kubernetes(kubernetes) => write!(f, "{kubernetes}"),
            Self::Marathon(marathon) => write!(f, "{marathon}"),
        }
    }
}

/// The words of the operating system as Go prints them, without their number.
fn as_go_says(reason: &std::io::Error) -> String {
    let text = reason.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}
