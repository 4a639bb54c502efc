//! The file as it is written: strict, as Prometheus reads it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};

/// The sections. A file with none of them, but other keys, is of the old form.
const SECTIONS: [&str; 3] = [
    "tls_server_config",
    "http_server_config",
    "basic_auth_users",
];

/// A file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) tls_server_config: Option<TlsSection>,
    pub(super) http_server_config: Option<HttpSection>,
    pub(super) basic_auth_users: Option<BTreeMap<String, String>>,
    /// Whether the keys of `tls_server_config` stand on top.
    #[serde(skip)]
    pub(super) is_legacy: bool,
}

/// What is said about TLS.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSection {
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) client_auth_type: Option<String>,
    pub(super) client_ca_file: Option<String>,
    pub(super) client_allowed_sans: Option<Vec<String>>,
    pub(super) cipher_suites: Option<Vec<String>>,
    pub(super) curve_preferences: Option<Vec<String>>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
    /// Without effect in Go, and here.
    #[serde(rename = "prefer_server_cipher_suites")]
    pub(super) _prefer_server_cipher_suites: Option<bool>,
}

/// What is said about HTTP.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HttpSection {
    pub(super) http2: Option<bool>,
    pub(super) headers: Option<BTreeMap<String, String>>,
}

impl Document {
    /// Reads the text of a file. An error names the line.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        #[expect(
            clippy::zero_sized_map_values,
            reason = "a set would not read a mapping"
        )]
        let keys: Option<BTreeMap<String, IgnoredAny>> = parse(text)?;
        let keys = keys.unwrap_or_default();
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let mut document = if SECTIONS.iter().any(|section| keys.contains_key(*section)) {
            parse::<Self>(text)?
        } else {
            Self {
                tls_server_config: Some(parse(text)?),
                is_legacy: true,
                ..Self::default()
            }
        };
        // A section that says nothing is not there.
        let said = document.tls_server_config.take();
        document.tls_server_config = said.filter(|section| !section.is_empty());
        Ok(document)
    }
}

impl TlsSection {
    /// Returns the files that are named.
    pub(super) fn files(&self, folder: &Path) -> impl Iterator<Item = PathBuf> {
        let files = [&self.cert_file, &self.key_file, &self.client_ca_file];
        let named = files.into_iter().flatten().filter(|file| !file.is_empty());
        named.map(|file| folder.join(file))
    }

    /// Returns whether nothing is said about certificates, and of clients nothing is wanted.
    fn is_empty(&self) -> bool {
        let texts = [
            &self.cert,
            &self.key,
            &self.client_ca,
            &self.cert_file,
            &self.key_file,
            &self.client_ca_file,
            &self.client_auth_type,
        ];
        texts.into_iter().flatten().all(String::is_empty)
    }
}

fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|reason| reason.to_string())
}
