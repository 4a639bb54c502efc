//! Failures in the words of Go's network stack, which is what people grep the log for.

use std::{io, net::SocketAddr};

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, pki_types::UnixTime};

use crate::counters::RetryReason;

/// Why a request has no answer: the text after `Post "URL": `, and what it counts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) reason: RetryReason,
}

impl Failure {
    pub(crate) fn new(reason: RetryReason, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            reason,
        }
    }

    /// A connection could not be opened.
    pub(crate) fn dial(address: SocketAddr, reason: &io::Error) -> Self {
        let text = if reason.kind() == io::ErrorKind::TimedOut && reason.raw_os_error().is_none() {
            "i/o timeout".to_owned()
        } else {
            format!("connect: {}", system_text(reason))
        };
        Self::new(RetryReason::Connect, format!("dial tcp {address}: {text}"))
    }

    /// A name could not be looked up.
    pub(crate) fn lookup(host: &str) -> Self {
        Self::new(
            RetryReason::Connect,
            format!("dial tcp: lookup {host}: no such host"),
        )
    }

    /// A TLS handshake failed.
    pub(crate) fn handshake(host: &str, reason: &io::Error) -> Self {
        if reason.kind() == io::ErrorKind::TimedOut {
            return Self::new(RetryReason::Tls, "net/http: TLS handshake timeout");
        }
        let inner = reason.get_ref();
        let text = match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => {
                format!(
                    "tls: failed to verify certificate: x509: {}",
                    certificate_text(host, why)
                )
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                format!("remote error: tls: {}", alert_text(*alert))
            }
            Some(other) => format!("tls: {other}"),
            None if reason.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            None => system_text(reason),
        };
        Self::new(RetryReason::Tls, text)
    }

    /// A connection broke while the answer was read. With TLS 1.3 a gateway that wants another certificate says so only here.
    pub(crate) fn broken_read(ends: &str, reason: &io::Error) -> Self {
        let inner = reason.get_ref();
        let text = match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => {
                format!("remote error: tls: {}", alert_text(*alert))
            }
            _ => format!("read tcp {ends}: read: {}", system_text(reason)),
        };
        Self::new(RetryReason::Closed, text)
    }

    /// `-http-timeout` is over.
    pub(crate) fn timeout() -> Self {
        Self::new(
            RetryReason::Timeout,
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        )
    }
}

/// What the operating system says, in lower case and without its number.
pub(crate) fn system_text(reason: &io::Error) -> String {
    let text = reason.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

fn certificate_text(host: &str, why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "certificate has expired or is not yet valid: current time {} is after {}",
            utc(*time),
            utc(*not_after)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "certificate has expired or is not yet valid: current time {} is before {}",
            utc(*time),
            utc(*not_before)
        ),
        CertificateError::Expired | CertificateError::NotValidYet => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "certificate relies on legacy Common Name field, use SANs instead".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
            format!("certificate is valid for {}, not {host}", names.join(", "))
        }
        CertificateError::NotValidForName => format!("certificate is not valid for {host}"),
        other => format!("{other:?}"),
    }
}

/// rustls shows names as `DnsName("a")`.
fn bare_name(shown: &str) -> &str {
    let inner = shown.split_once('(').map_or(shown, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

fn utc(time: UnixTime) -> String {
    let second = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::ProtocolVersion => "protocol version not supported".to_owned(),
        AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
        AlertDescription::BadCertificate => "bad certificate".to_owned(),
        AlertDescription::CertificateRequired => "certificate required".to_owned(),
        AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
        AlertDescription::InternalError => "internal error".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn failures_read_as_those_of_go() {
        let address = "127.0.0.1:1".parse().unwrap();
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(
            Failure::dial(address, &refused).text,
            "dial tcp 127.0.0.1:1: connect: connection refused"
        );
        let expired = CertificateError::ExpiredContext {
            time: UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000)),
            not_after: UnixTime::since_unix_epoch(Duration::from_secs(1_600_000_000)),
        };
        let wrapped = io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::InvalidCertificate(expired),
        );
        assert_eq!(
            Failure::handshake("h", &wrapped).text,
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: \
             current time 2023-11-14T22:13:20Z is after 2020-09-13T12:26:40Z"
        );
    }
}
