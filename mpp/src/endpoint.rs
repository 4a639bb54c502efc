//! The address of a Prometheus server, as a locator gives it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Uri, uri::Authority};
use shared::config::secret::Secret;
use thiserror::Error;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Not a URL at all.
    #[error("not a URL: {0}")]
    NotAUrl(String),
    /// Another scheme than http and https.
    #[error("scheme {0:?} is neither http nor https")]
    Scheme(String),
    /// No host, or a port that is not one.
    #[error("no host and port")]
    NoHost,
    /// A query string or a fragment, to which no path can be appended.
    #[error("a query string or fragment has no place in an address")]
    Query,
}

/// The address of a server: where it is probed (with its path and credentials) and where requests go (its origin).
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    address: String,
    origin: String,
    authority: String,
    host: String,
    port: u16,
    tls: bool,
    authorization: Option<Secret>,
}

impl Endpoint {
    /// Reads an address; `http://` is assumed where no scheme is given.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = with_scheme
            .parse()
            .map_err(|reason| EndpointError::NotAUrl(format!("{reason}")))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            other => return Err(EndpointError::Scheme(other.unwrap_or_default().to_owned())),
        };
        if uri.query().is_some() || text.contains('#') {
            return Err(EndpointError::Query);
        }
        let full = uri.authority().ok_or(EndpointError::NoHost)?.as_str();
        let (user_info, authority) = match full.rsplit_once('@') {
            Some((user_info, authority)) => (Some(user_info), authority),
            None => (None, full),
        };
        let authority_alone: Authority = authority.parse().map_err(|_| EndpointError::NoHost)?;
        let host = Some(authority_alone.host())
            .filter(|host| !host.is_empty())
            .ok_or(EndpointError::NoHost)?;
        let given_port = authority
            .strip_prefix(host)
            .ok_or(EndpointError::NoHost)?
            .strip_prefix(':');
        let port = match given_port {
            None | Some("") => 80 + 363 * u16::from(tls),
            Some(digits) => digits.parse().map_err(|_| EndpointError::NoHost)?,
        };
        let scheme = if tls { "https" } else { "http" };
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            address: format!("{scheme}://{authority}{path}"),
            origin: format!("{scheme}://{authority}"),
            authority: authority.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls,
            authorization: user_info.map(|text| {
                Secret::new(format!("Basic {}", STANDARD.encode(percent_decoded(text))))
            }),
        })
    }

    /// Returns the address without credentials and without a slash at its end: what is shown, and what paths are appended to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns `scheme://host:port`: the name of a server in metrics, headers and cookies.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns `host:port` as it was written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, that of the scheme if none was written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says whether the server speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns the header `Authorization` of probes, where the address has credentials.
    pub fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Replaces every `%XX` by its byte; what is no escape stays.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = escaped_byte(&bytes[at..]);
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    out
}

/// Returns the byte that `%XX` at the start of `text` stands for.
pub(crate) fn escaped_byte(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |c: u8| char::from(c).to_digit(16);
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_an_origin_and_a_path() {
        let f = |text: &str, address: &str, origin: &str, host: &str, port: u16| {
            let endpoint = Endpoint::parse(text).unwrap();
            let got = (
                endpoint.address(),
                endpoint.origin(),
                endpoint.host(),
                endpoint.port(),
            );
            assert_eq!(got, (address, origin, host, port), "{text}");
        };
        f("http://h:1", "http://h:1", "http://h:1", "h", 1);
        f("HTTP://h:1/", "http://h:1", "http://h:1", "h", 1);
        f("h:1", "http://h:1", "http://h:1", "h", 1);
        f("http://h", "http://h", "http://h", "h", 80);
        f("https://h", "https://h", "https://h", "h", 443);
        f("http://h:1/prom/", "http://h:1/prom", "http://h:1", "h", 1);
        f(
            "http://[::1]:9090",
            "http://[::1]:9090",
            "http://[::1]:9090",
            "::1",
            9090,
        );
        f("http://u:p@h:1", "http://h:1", "http://h:1", "h", 1);
    }

    #[test]
    fn credentials_are_for_probes_and_not_for_eyes() {
        let endpoint = Endpoint::parse("http://u:p%40ss@h:1").unwrap();
        assert_eq!(endpoint.authorization().unwrap().reveal(), "Basic dTpwQHNz");
        assert!(!format!("{endpoint:?} {endpoint}").contains("p@ss"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "http://",
            "ftp://h:1",
            "http://[::1",
            "http://h:1?x=1",
            "http://h:99999",
            "http://a:1,http://b:2",
            "not a url",
            "http://h:x",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text:?}");
        }
    }
}
