//! TLS settings of connections to come.

use std::{fs, path::PathBuf, time::SystemTime};

use parking_lot::Mutex;

use tracing::warn;

use super::error::{ClientError, Kind, words};
use crate::tls::{self, HTTP_1_1, Pem, client::Roots};

/// TLS settings whose files are read again when they change, for connections to come.
#[derive(Debug)]
pub(super) struct TlsSource {
    settings: tls::client::Settings,
    files: Vec<PathBuf>,
    current: Mutex<Option<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    stamps: Vec<Option<(SystemTime, u64)>>,
    client: tls::client::Client,
}

impl TlsSource {
    /// Reads the files, so that a missing one is told at once. The system's authorities are read when they are needed.
    pub(super) fn new(settings: tls::client::Settings) -> Result<Self, ClientError> {
        let authorities = match &settings.roots {
            Roots::Authorities(pem) => Some(pem),
            Roots::Pinned { certificates, .. } => Some(certificates),
            Roots::System | Roots::Nobody => None,
        };
        let identity = settings.identity.as_ref();
        let identity = identity.map(|identity| [&identity.certificates, &identity.key]);
        let all = authorities
            .into_iter()
            .chain(identity.into_iter().flatten());
        let files = all.filter_map(|pem| match pem {
            Pem::File(path) => Some(path.clone()),
            Pem::Text(_) => None,
        });
        let is_plain = authorities.is_none() && identity.is_none();
        let source = Self {
            files: files.collect(),
            settings,
            current: Mutex::new(None),
        };
        if !is_plain {
            source.current()?;
        }
        Ok(source)
    }

    /// Returns what the next connection is to be made with.
    pub(super) fn current(&self) -> Result<tls::client::Client, ClientError> {
        let stamps: Vec<_> = self.files.iter().map(stamp).collect();
        let mut current = self.current.lock();
        if let Some(loaded) = &*current
            && loaded.stamps == stamps
        {
            return Ok(loaded.client.clone());
        }
        match tls::client::Client::new(&self.settings) {
            Ok(client) => {
                *current = Some(Loaded {
                    stamps,
                    client: client.clone(),
                });
                Ok(client)
            }
            Err(reason) => match &mut *current {
                Some(loaded) => {
                    warn!(%reason, "changed TLS files cannot be used; those read before stay in use");
                    loaded.stamps = stamps;
                    Ok(loaded.client.clone())
                }
                None => Err(ClientError::new(Kind::Settings, self.text_of(&reason))),
            },
        }
    }

    /// Returns what connections to a proxy are made with: the same trust, and HTTP/1.1.
    pub(super) fn for_proxy(&self) -> Result<tls::client::Client, ClientError> {
        let settings = tls::client::Settings {
            alpn: vec![HTTP_1_1],
            server_name: None,
            ..self.settings.clone()
        };
        tls::client::Client::new(&settings)
            .map_err(|reason| ClientError::new(Kind::Settings, self.text_of(&reason)))
    }

    /// Says what is wrong in Go's words where it is a missing file.
    fn text_of(&self, error: &tls::Error) -> String {
        let tls::Error::File { path, reason } = error else {
            return error.to_string();
        };
        let is_authority =
            matches!(&self.settings.roots, Roots::Authorities(Pem::File(file)) if file == path);
        let what = if is_authority {
            "unable to read CA cert: "
        } else {
            ""
        };
        let (path, reason) = (path.display(), words(reason));
        format!("{what}unable to read file {path}: open {path}: {reason}")
    }
}

fn stamp(file: &PathBuf) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
