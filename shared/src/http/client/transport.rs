//! From a request to the head of its answer, on a connection that is there or a new one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri, header,
    uri::{Authority, PathAndQuery},
};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;

use super::{
    Idle, Versions,
    body::{Body, Lent},
    dial::{Dialled, Dialler},
    error::{self, ClientError, Kind},
    link::{Failed, Link, Outgoing},
    pool::{Kept, Place, Pool},
    proxy::{self, Proxies},
    tls_source::TlsSource,
};
use crate::tls::{self, H2, HTTP_1_1};

/// How long an answer's head is waited for when nobody says.
const LONGEST_WAIT: Duration = Duration::from_secs(900);

/// What sends requests, and the connections that it keeps. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    dialler: Arc<Dialler>,
    pool: Pool,
}

/// What a transport is made of.
pub(super) struct Parts<'a> {
    pub(super) tls: &'a tls::client::Settings,
    pub(super) proxy: &'a proxy::Settings,
    pub(super) versions: Versions,
    pub(super) dial: Duration,
    pub(super) idle: Idle,
}

impl Transport {
    pub(super) fn new(parts: &Parts<'_>) -> Result<Self, ClientError> {
        let mut tls = parts.tls.clone();
        tls.alpn = match parts.versions {
            Versions::Http1 => vec![HTTP_1_1],
            Versions::Http1And2 => vec![H2, HTTP_1_1],
        };
        let dialler = Dialler {
            tls: TlsSource::new(tls)?,
            proxies: Arc::new(Proxies::new(parts.proxy)?),
            limit: parts.dial,
        };
        Ok(Self {
            dialler: Arc::new(dialler),
            pool: Pool::new(parts.idle),
        })
    }

    /// Sends a request as it is, and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        headers_within: Option<Duration>,
    ) -> Result<Response<Body>, ClientError> {
        let is_plain = match request.uri().scheme_str() {
            Some("http") => true,
            Some("https") => false,
            scheme => {
                let scheme = scheme.unwrap_or_default();
                let text = format!("unsupported protocol scheme \"{scheme}\"");
                return Err(ClientError::new(Kind::Request, text));
            }
        };
        if is_plain
            && let Some(proxy) = self.dialler.proxies.of(request.uri())
            && let Some(authorization) = &proxy.authorization
        {
            request
                .headers_mut()
                .insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        let limit = headers_within.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        match timeout(limit, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(ClientError::new(
                Kind::Timeout,
                "net/http: timeout awaiting response headers",
            )),
        }
    }

    /// Sends a request on a connection that waits for one, or on a new one if there is none that stands. One that the server has
    /// closed before anything was sent says nothing about the request.
    async fn exchange(&self, mut request: Outgoing) -> Result<Response<Body>, ClientError> {
        let uri = request.uri().clone();
        let place = Place::of(&uri).ok_or_else(ClientError::no_host)?;
        loop {
            let (connection, is_new) = match self.pool.take(&place) {
                Some(kept) => (kept, false),
                // What connecting holds is large, and most requests do not connect.
                None => (Box::pin(self.connect(&uri, &place)).await?, true),
            };
            let sent = match connection {
                Kept::Own(link) => self.send_on(link, &place, request).await,
                Kept::Shared(mut shared) => {
                    let sent = shared.try_send_request(request).await;
                    sent.map(|response| response.map(|body| Body::new(body, None)))
                        .map_err(Failed::from)
                }
            };
            request = match sent {
                Ok(response) => return Ok(response),
                Err(Failed {
                    unsent: Some(unsent),
                    ..
                }) if !is_new => *unsent,
                Err(failed) => return Err(error::of(&failed.reason)),
            };
            *request.uri_mut() = uri.clone();
        }
    }

    async fn send_on(
        &self,
        mut link: Link,
        place: &Place,
        mut request: Outgoing,
    ) -> Result<Response<Body>, Failed> {
        let uri = request.uri();
        if !request.headers().contains_key(header::HOST) {
            let host = host(uri);
            request.headers_mut().insert(header::HOST, host);
        }
        if !link.is_proxied {
            *request.uri_mut() = path(request.uri());
        }
        let response = link.send(request).await?;
        let lent = Lent {
            link,
            place: place.clone(),
            pool: self.pool.clone(),
        };
        Ok(response.map(|incoming| Body::new(incoming, Some(Box::new(lent)))))
    }

    /// Makes a connection.
    async fn connect(&self, uri: &Uri, place: &Place) -> Result<Kept, ClientError> {
        let Dialled {
            stream,
            is_proxied,
            is_http2,
        } = self.dialler.connect(uri).await?;
        if !is_http2 {
            let link = Link::open(stream, is_proxied).await;
            return link.map(Kept::Own).map_err(|reason| error::of(&reason));
        }
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream));
        let (shared, driver) = handshake.await.map_err(|reason| error::of(&reason))?;
        self.pool.share(place.clone(), shared.clone(), driver);
        Ok(Kept::Shared(shared))
    }
}

/// Returns the host of a URL, with its port unless that is the scheme's own.
fn host(uri: &Uri) -> HeaderValue {
    let host = uri.host().unwrap_or_default();
    let own = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let written = uri.authority().map_or("", Authority::as_str);
    let bare = written.rsplit_once('@').map_or(written, |(_, bare)| bare);
    let text = match uri.port_u16() {
        Some(port) if port != own => bare,
        _ => host,
    };
    // What stands in a URL can stand in a header.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// Returns what of a URL a server is told.
fn path(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned();
    Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
}
