//! Why a request has no answer. The texts are those of Go's HTTP client, behind its `Post "http://...": `, because people
//! and tests look for them.

use std::{error::Error, io};

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The settings make no client: a file is missing, a URL is none.
    Settings,
    /// The request itself makes no sense: it has no host, or a scheme that is not spoken.
    Request,
    /// Nobody can be connected to, or a proxy refuses.
    Connect,
    /// The handshake of TLS failed.
    Tls,
    /// The head of the answer did not come in time.
    Timeout,
    /// What authenticates the request cannot be had: a file, a token.
    Authentication,
    /// A redirect cannot be followed.
    Redirect,
    /// The connection ended early, or what came is not HTTP.
    Broken,
}

/// Why a request has no answer. Never holds secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ClientError {
    kind: Kind,
    text: String,
    is_timeout: bool,
    redirected_to: Option<String>,
}

impl ClientError {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            is_timeout: kind == Kind::Timeout,
            redirected_to: None,
        }
    }

    /// There is nobody to ask.
    pub(super) fn no_host() -> Self {
        Self::new(Kind::Request, "http: no Host in request URL")
    }

    /// Marks it as due to a time limit.
    pub(super) fn timed_out(mut self) -> Self {
        self.is_timeout = true;
        self
    }

    /// Notes where the last redirect led, as the server wrote it.
    pub(super) fn at(mut self, location: &str) -> Self {
        self.redirected_to = Some(location.to_owned());
        self
    }

    /// Returns what kind of thing went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns whether a time limit ended it, be it for connecting, for the handshake, or for the answer's head.
    pub fn is_timeout(&self) -> bool {
        self.is_timeout
    }

    /// Returns where the last redirect led, as the server wrote it, if redirects are why it failed. Go names this place
    /// instead of the URL that was asked for.
    pub fn redirected_to(&self) -> Option<&str> {
        self.redirected_to.as_deref()
    }
}

/// Finds out what an error of a connection means.
pub(super) fn of(error: &hyper::Error) -> ClientError {
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(reason) = current.downcast_ref::<io::Error>() {
            return of_io(reason);
        }
        cause = current.source();
    }
    of_hyper(error)
}

fn of_hyper(error: &hyper::Error) -> ClientError {
    let text = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "EOF".to_owned()
    } else if error.is_parse() {
        format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}")
    } else {
        error.to_string()
    };
    ClientError::new(Kind::Broken, text)
}

fn of_io(reason: &io::Error) -> ClientError {
    if let Some(tls) = tls_reason(reason) {
        return ClientError::new(Kind::Tls, tls);
    }
    let text = match reason.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        io::ErrorKind::BrokenPipe => format!("write: {}", words(reason)),
        _ => format!("read: {}", words(reason)),
    };
    ClientError::new(Kind::Broken, text)
}

/// Says in Go's words why TLS failed, if it is TLS that did.
pub(super) fn tls_reason(reason: &io::Error) -> Option<String> {
    use rustls::{CertificateError, Error as Tls, InvalidMessage};
    let error = reason.get_ref()?.downcast_ref::<Tls>()?;
    Some(match error {
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        Tls::InvalidCertificate(wrong) => {
            let what = match wrong {
                CertificateError::UnknownIssuer => {
                    "x509: certificate signed by unknown authority".to_owned()
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    format!("x509: certificate has expired or is not yet valid: {wrong}")
                }
                other => format!("x509: {other}"),
            };
            format!("tls: failed to verify certificate: {what}")
        }
        Tls::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
        other => format!("tls: {other}"),
    })
}

/// Prints what the system says as Go does: in lower case, without its number.
pub(super) fn words(reason: &io::Error) -> String {
    let text = reason.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}
