//! Following redirects as Go's client does.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use url::Url;

use super::error::{ClientError, Kind};

/// How many requests are made before giving up.
pub(super) const MOST: usize = 10;

/// One request on the way.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Where the redirect that led here pointed to, as it was written.
    pub(super) location: Option<String>,
    /// Whether the first host is still the one that is asked, so that secrets may be shown.
    pub(super) is_trusted: bool,
}

impl Hop {
    /// Returns the next request if `response` is a redirect, and `None` if it is an answer.
    pub(super) fn next<B>(&self, response: &Response<B>) -> Result<Option<Self>, ClientError> {
        let keeps_body = match response.status() {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => false,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            _ => return Ok(None),
        };
        let Some(location) = response.headers().get(header::LOCATION) else {
            return if keeps_body {
                Ok(None)
            } else {
                Err(ClientError::new(
                    Kind::Redirect,
                    format!(
                        "{} response missing Location header",
                        response.status().as_u16()
                    ),
                ))
            };
        };
        let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
        let refused = |reason: &str| {
            let text = format!("failed to parse Location header {location:?}: {reason}");
            ClientError::new(Kind::Redirect, text).at(&location)
        };
        let here =
            Url::parse(&self.uri.to_string()).map_err(|error| refused(&error.to_string()))?;
        let there = here
            .join(&location)
            .map_err(|error| refused(&error.to_string()))?;
        if !matches!(there.scheme(), "http" | "https") {
            let text = format!("unsupported protocol scheme \"{}\"", there.scheme());
            return Err(ClientError::new(Kind::Redirect, text).at(&location));
        }
        let uri: Uri = there
            .as_str()
            .split('#')
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|_| refused("not a URL"))?;
        let is_same_host = self.uri.host() == uri.host();
        let loses_tls = self.uri.scheme_str() == Some("https") && there.scheme() == "http";
        let is_trusted = self.is_trusted && is_same_host && !loses_tls;
        let mut next = Self {
            uri,
            location: Some(location),
            is_trusted,
            ..self.clone()
        };
        if !keeps_body {
            if next.method != Method::HEAD {
                next.method = Method::GET;
            }
            next.body = Bytes::new();
            for name in [
                header::CONTENT_TYPE,
                header::CONTENT_LENGTH,
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::TRANSFER_ENCODING,
            ] {
                next.headers.remove(name);
            }
        }
        if !is_trusted {
            for name in [
                header::AUTHORIZATION,
                header::COOKIE,
                header::WWW_AUTHENTICATE,
                header::PROXY_AUTHORIZATION,
            ] {
                next.headers.remove(name);
            }
        }
        // It is made from the URL.
        next.headers.remove(header::HOST);
        Ok(Some(next))
    }
}
