//! The gateway's address: what Go's `net/url` and HTTP client make of the flag's text with a path appended.
//!
//! Nothing is normalised but slashes at the end, which are cut: with one, the real gateway redirects, and every batch is lost.

use std::fmt::{self, Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use shared::config::secret::Secret;
use thiserror::Error;

/// Why an address cannot be posted to. The texts are Go's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UrlError {
    /// The text is not a URL; shown without the request's prefix.
    #[error("parse {text:?}: {reason}")]
    Parse {
        /// The text with the path appended.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is a URL, but not one of a gateway.
    #[error("Post {text:?}: {reason}")]
    Unsupported {
        /// The text with the path appended.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where to post: scheme, host, and what stands before the path of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Whether TLS is spoken.
    pub(crate) https: bool,
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// The port, that of the scheme if none is given.
    pub(crate) port: u16,
    /// Host and port as written, for the header `Host`.
    pub(crate) authority: String,
    /// The value of the header `Authorization`.
    pub(crate) authorization: Option<Secret>,
    /// The user's name, for messages.
    user: Option<String>,
    /// Path and query as written.
    base: String,
}

impl Target {
    /// Reads the text of the flag, for requests to `path`, which only the texts of errors need.
    pub(crate) fn parse(flag: &str, path: &str) -> Result<Self, UrlError> {
        let trimmed = flag.trim_end_matches('/');
        let text = format!("{trimmed}{path}");
        let parse_error = |reason: &str| UrlError::Parse {
            text: text.clone(),
            reason: reason.to_owned(),
        };
        let unsupported = |reason: String| UrlError::Unsupported {
            text: text.clone(),
            reason,
        };
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err(parse_error("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = scheme_of(trimmed).map_err(parse_error)?;
        let https = match scheme.as_str() {
            "https" => true,
            "http" => false,
            "" if first_segment_has_colon(trimmed) => {
                return Err(parse_error(
                    "first path segment in URL cannot contain colon",
                ));
            }
            other => {
                return Err(unsupported(format!(
                    "unsupported protocol scheme {other:?}"
                )));
            }
        };
        let no_host = || unsupported("http: no Host in request URL".to_owned());
        let rest = rest.strip_prefix("//").ok_or_else(no_host)?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, base) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user_info, authority) = match authority.rsplit_once('@') {
            Some((user_info, authority)) => (Some(user_info), authority),
            None => (None, authority),
        };
        let (host, port) = split_authority(authority).map_err(|reason| parse_error(&reason))?;
        if host.is_empty() {
            return Err(no_host());
        }
        let default_port = if https { 443 } else { 80 };
        Ok(Self {
            https,
            host,
            port: port.unwrap_or(default_port),
            authority: authority.to_owned(),
            authorization: user_info.map(basic),
            user: user_info.map(|info| info.split(':').next().unwrap_or(info).to_owned()),
            base: base.to_owned(),
        })
    }

    /// Returns what the request line names for `path`.
    pub(crate) fn path(&self, path: &str) -> String {
        let whole = format!("{}{path}", self.base);
        let rooted = if whole.starts_with('/') {
            whole
        } else {
            format!("/{whole}")
        };
        escape(&rooted)
    }

    /// Returns the URL of `path` without user and password, for `Referer` and for requests to a proxy.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme(), self.authority)
    }

    /// Returns the URL of `path` as Go's messages show it: with the user, without the password.
    pub(crate) fn shown(&self, path: &str) -> String {
        match &self.user {
            Some(user) => format!("{}://{user}:***@{}{path}", self.scheme(), self.authority),
            None => self.url(path),
        }
    }

    /// Returns `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.base)
    }
}

/// Cuts the flag's text into addresses: at commas that a new `http://` or `https://` follows.
pub(crate) fn split_list(flag: &str) -> Vec<&str> {
    let mut addresses = Vec::new();
    let mut rest = flag;
    let mut from = 0;
    while let Some(comma) = rest.get(from..).and_then(|tail| tail.find(',')) {
        let at = from + comma;
        let (head, tail) = rest.split_at(at);
        let next = tail.trim_start_matches([',', ' ']);
        if next.starts_with("http://") || next.starts_with("https://") {
            addresses.push(head.trim_end());
            rest = next;
            from = 0;
        } else {
            from = at + 1;
        }
    }
    addresses.push(rest);
    addresses
}

/// The scheme in lower case, and what follows its colon. No scheme is an empty one.
fn scheme_of(text: &str) -> Result<(String, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => {
                let (scheme, rest) = text.split_at(at);
                let rest = rest.strip_prefix(':').unwrap_or(rest);
                return Ok((scheme.to_ascii_lowercase(), rest));
            }
            _ => break,
        }
    }
    Ok((String::new(), text))
}

fn first_segment_has_colon(text: &str) -> bool {
    let segment = text.split('/').next().unwrap_or(text);
    segment.contains(':')
}

fn split_authority(authority: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest
                .split_once(']')
                .ok_or_else(|| "missing ']' in host".to_owned())?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let Some(port) = port.filter(|port| !port.is_empty()) else {
        return Ok((host.to_owned(), None));
    };
    let number = port
        .parse()
        .map_err(|_| format!("invalid port \":{port}\" after host"))?;
    Ok((host.to_owned(), Some(number)))
}

fn basic(user_info: &str) -> Secret {
    let decoded = unescape(user_info);
    let with_colon = if decoded.contains(&b':') {
        decoded
    } else {
        [decoded.as_slice(), b":"].concat()
    };
    Secret::new(format!("Basic {}", STANDARD.encode(with_colon)))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    out
}

/// What may not stand in a request line as it is.
fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if (b'!'..=b'~').contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_appended_to_the_text_and_nothing_else_happens() {
        let f = |flag: &str, authority: &str, path: &str| {
            let target = Target::parse(flag, "/ingest").unwrap();
            assert_eq!(
                (target.authority.as_str(), target.path("/ingest").as_str()),
                (authority, path)
            );
        };
        f("https://h", "h", "/ingest");
        f("https://h:8443/pfx/v1", "h:8443", "/pfx/v1/ingest");
        f("http://h/x?y=1", "h", "/x?y=1/ingest");
        f("http://h?y=1", "h", "/?y=1/ingest");
        f("HTTPS://[::1]:8443", "[::1]:8443", "/ingest");
        f("https://h/a b", "h", "/a%20b/ingest");
        // Fixed: slashes at the end lose all data.
        f("https://h/", "h", "/ingest");
        f("https://h//", "h", "/ingest");
    }

    #[test]
    fn what_is_no_gateway_is_refused_in_the_words_of_go() {
        let f = |flag: &str, text: &str| {
            assert_eq!(Target::parse(flag, "/ping").unwrap_err().to_string(), text);
        };
        f("", "Post \"/ping\": unsupported protocol scheme \"\"");
        f(
            "localhost:443",
            "Post \"localhost:443/ping\": unsupported protocol scheme \"localhost\"",
        );
        f(
            "127.0.0.1:443",
            "parse \"127.0.0.1:443/ping\": first path segment in URL cannot contain colon",
        );
        f(
            "ftp://h:1",
            "Post \"ftp://h:1/ping\": unsupported protocol scheme \"ftp\"",
        );
        f(
            "http://h:x",
            "parse \"http://h:x/ping\": invalid port \":x\" after host",
        );
        f("http:", "Post \"http:/ping\": http: no Host in request URL");
    }

    #[test]
    fn user_and_password_become_a_header_and_are_not_shown() {
        let target = Target::parse("https://us%40er:pa:ss@h:1", "/ping").unwrap();
        let header = target.authorization.as_ref().map(Secret::reveal);
        assert_eq!(header, Some("Basic dXNAZXI6cGE6c3M="));
        assert_eq!(target.url("/ping"), "https://h:1/ping");
        assert_eq!(target.shown("/ping"), "https://us%40er:***@h:1/ping");
        assert!(!format!("{target:?}").contains("pa:ss"));
    }

    #[test]
    fn a_list_is_cut_where_a_new_address_begins() {
        let f = |flag: &str, addresses: &[&str]| assert_eq!(split_list(flag), addresses, "{flag}");
        f("https://a", &["https://a"]);
        f("", &[""]);
        f(
            "https://a,https://b, http://c",
            &["https://a", "https://b", "http://c"],
        );
        f("https://a/x,y?z=1,2", &["https://a/x,y?z=1,2"]);
        f("https://a/x,y,http://b", &["https://a/x,y", "http://b"]);
    }
}
