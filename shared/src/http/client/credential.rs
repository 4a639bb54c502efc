//! What authenticates requests: names, passwords, tokens, and the headers made of them.

use std::{fs, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderValue;

use super::{
    error::{ClientError, Kind, words},
    oauth2, sigv4,
};
use crate::config::secret::Secret;

/// A secret that is written down, or stands in a file that is read for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Written down.
    Inline(Secret),
    /// In a file, without the white space around it.
    File(PathBuf),
}

impl Credential {
    /// Returns the secret. `what` names it in the error.
    pub(crate) fn read(&self, what: &str) -> Result<Secret, ClientError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => match fs::read_to_string(path) {
                Ok(text) => Ok(Secret::new(text.trim())),
                Err(reason) => {
                    let (path, reason) = (path.display(), words(&reason));
                    Err(ClientError::new(
                        Kind::Authentication,
                        format!(
                            "unable to read {what}: unable to read file {path}: open {path}: {reason}"
                        ),
                    ))
                }
            },
        }
    }
}

/// How requests are authenticated. A request that has an `Authorization` header already keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all.
    None,
    /// By name and password.
    Basic {
        /// The name.
        username: Credential,
        /// The password; absent means empty.
        password: Option<Credential>,
    },
    /// By a header: `Bearer` and a token.
    Header {
        /// The word in front; empty for none.
        scheme: String,
        /// What follows it, if anything.
        credential: Option<Credential>,
    },
    /// By a token from a token server.
    OAuth2(Box<oauth2::Settings>),
    /// By a signature, for AWS.
    SigV4(sigv4::Settings),
}

/// Makes the header of a name and a password.
pub(super) fn basic(username: &str, password: &str) -> Result<HeaderValue, ClientError> {
    let encoded = BASE64_STANDARD.encode(format!("{username}:{password}"));
    header("Basic", &encoded)
}

/// Makes a header of a word and a secret.
pub(super) fn header(scheme: &str, secret: &str) -> Result<HeaderValue, ClientError> {
    let space = if scheme.is_empty() || secret.is_empty() {
        ""
    } else {
        " "
    };
    value(&format!("{scheme}{space}{secret}"), "Authorization")
}

/// Makes the value of a header, which is not printed.
pub(super) fn value(text: &str, name: &str) -> Result<HeaderValue, ClientError> {
    let value = HeaderValue::from_bytes(text.as_bytes());
    let mut value = value.map_err(|_| {
        let text = format!("net/http: invalid header field value for {name:?}");
        ClientError::new(Kind::Authentication, text)
    })?;
    value.set_sensitive(true);
    Ok(value)
}
