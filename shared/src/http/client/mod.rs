//! An HTTP client with all that Prometheus' clients can be told (feature `http-client`): TLS, authentication, proxies,
//! headers, redirects and limits.
//!
//! One [`Client`] stands for one configured peer. It keeps connections, tokens and certificates, and reads files of secrets
//! again for each request. Bodies arrive as they are: whoever asks for a compressed one unpacks it.

mod body;
mod credential;
mod dial;
mod error;
mod link;
pub mod oauth2;
mod pool;
pub mod proxy;
mod redirect;
pub mod sigv4;
mod tls_source;
mod transport;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;

pub use self::{
    body::Body,
    credential::{Authentication, Credential},
    error::{ClientError, Kind},
};
use self::{
    oauth2::Tokens,
    redirect::Hop,
    transport::{Parts, Transport},
};
use crate::tls;

/// What a client is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Sent with requests that do not name their sender, and to token servers.
    pub user_agent: Option<String>,
    /// What is trusted and shown on TLS connections. Its application protocols are not looked at; see `versions`. Changed
    /// files are read again for new connections.
    pub tls: tls::client::Settings,
    /// How requests are authenticated.
    pub authentication: Authentication,
    /// Headers that are added to every request, each with its values.
    pub headers: Vec<(String, Vec<Credential>)>,
    /// The proxy in between.
    pub proxy: proxy::Settings,
    /// What becomes of redirects.
    pub redirects: Redirects,
    /// The versions of HTTP.
    pub versions: Versions,
    /// How long connecting may take, the look-up of the name included.
    pub dial: Duration,
    /// What becomes of connections that are not in use.
    pub idle: Idle,
}

impl Settings {
    /// The system's authorities and nothing else; redirects are followed; limits as Prometheus has them.
    pub const PLAIN: Self = Self {
        user_agent: None,
        tls: tls::client::Settings::SYSTEM,
        authentication: Authentication::None,
        headers: Vec::new(),
        proxy: proxy::Settings::NONE,
        redirects: Redirects::Follow,
        versions: Versions::Http1And2,
        dial: Duration::from_secs(30),
        idle: Idle::PROMETHEUS,
    };
}

/// What becomes of redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    /// They are followed, ten requests at most. Another host gets no credentials and none of the configured headers.
    Follow,
    /// They are answers like all others.
    Return,
}

/// The versions of HTTP that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 where TLS agrees on it, and HTTP/1.1.
    Http1And2,
}

/// What becomes of connections that are not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// How many are kept for all hosts together; those of HTTP/2 are not counted.
    pub connections: usize,
    /// How many are kept for one host.
    pub per_host: usize,
    /// How long they are kept.
    pub timeout: Duration,
}

impl Idle {
    /// As Prometheus' clients have it.
    pub const PROMETHEUS: Self = Self {
        connections: 20_000,
        per_host: 1_000,
        timeout: Duration::from_secs(300),
    };
}

/// A client of one configured peer. Cloning is cheap; clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    transport: Transport,
    authentication: Authentication,
    tokens: Option<Tokens>,
    headers: Vec<(HeaderName, Vec<Credential>)>,
    user_agent: Option<HeaderValue>,
    redirects: Redirects,
}

impl Client {
    /// Reads the certificates that `settings` name; connects to nothing yet. Must be called within a runtime of tokio.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let user_agent = settings.user_agent.as_deref();
        let user_agent = user_agent.map(|text| {
            HeaderValue::from_str(text)
                .map_err(|_| ClientError::new(Kind::Settings, "the user agent is not a header"))
        });
        let user_agent = user_agent.transpose()?;
        let mut parts = Parts {
            tls: &settings.tls,
            proxy: &settings.proxy,
            versions: settings.versions,
            dial: settings.dial,
            idle: settings.idle,
        };
        let transport = Transport::new(&parts)?;
        let tokens = match &settings.authentication {
            Authentication::OAuth2(oauth2) => {
                parts.tls = &oauth2.tls;
                parts.proxy = &oauth2.proxy;
                let transport = Transport::new(&parts)?;
                Some(Tokens::new(oauth2, user_agent.clone(), transport))
            }
            _ => None,
        };
        let headers = settings.headers.into_iter().map(|(name, values)| {
            let parsed: Result<HeaderName, _> = name.parse();
            let parsed = parsed.map_err(|_| {
                let text = format!("net/http: invalid header field name {name:?}");
                ClientError::new(Kind::Settings, text)
            })?;
            Ok((parsed, values))
        });
        Ok(Self(Arc::new(Inner {
            transport,
            tokens,
            headers: headers.collect::<Result<_, ClientError>>()?,
            authentication: settings.authentication,
            user_agent,
            redirects: settings.redirects,
        })))
    }

    /// Sends a request, whose URL must be complete, and returns the head of its answer with the body still to come.
    ///
    /// The head must come within `headers_within`, connecting included; for each request anew where redirects are followed.
    /// Without it, there is a limit of a quarter of an hour. May be dropped at any time.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        headers_within: Option<Duration>,
    ) -> Result<Response<Body>, ClientError> {
        let inner = &self.0;
        let (head, body) = request.into_parts();
        let mut hop = Hop {
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            body,
            location: None,
            is_trusted: true,
        };
        if let Some(agent) = &inner.user_agent
            && !hop.headers.contains_key(header::USER_AGENT)
        {
            hop.headers.insert(header::USER_AGENT, agent.clone());
        }
        for number in 1.. {
            let at = |error: ClientError, hop: &Hop| match &hop.location {
                Some(location) => error.at(location),
                None => error,
            };
            let sent = inner.send(&hop, headers_within).await;
            let response = sent.map_err(|error| at(error, &hop))?;
            if inner.redirects == Redirects::Return {
                return Ok(response);
            }
            let Some(next) = hop.next(&response)? else {
                return Ok(response);
            };
            if number == redirect::MOST {
                let text = format!("stopped after {} redirects", redirect::MOST);
                return Err(at(ClientError::new(Kind::Redirect, text), &next));
            }
            hop = next;
        }
        unreachable!("the loop above ends by itself")
    }
}

impl Inner {
    /// Sends one request, with what authenticates it if its host may see that.
    async fn send(
        &self,
        hop: &Hop,
        headers_within: Option<Duration>,
    ) -> Result<Response<Body>, ClientError> {
        let mut request = Request::new(hop.body.clone());
        *request.method_mut() = hop.method.clone();
        *request.uri_mut() = hop.uri.clone();
        *request.headers_mut() = hop.headers.clone();
        if hop.is_trusted {
            for (name, values) in &self.headers {
                for credential in values {
                    let secret = credential.read("header")?;
                    let value = credential::value(secret.reveal(), name.as_str())?;
                    request.headers_mut().append(name, value);
                }
            }
            self.authenticate(&mut request).await?;
        }
        let shown = request.headers().get(header::AUTHORIZATION).cloned();
        let request = request.map(Full::new);
        let response = self.transport.send(request, headers_within).await?;
        if let (StatusCode::UNAUTHORIZED, Some(tokens), Some(shown)) =
            (response.status(), &self.tokens, shown)
        {
            tokens.forget(&shown);
        }
        Ok(response)
    }

    async fn authenticate(&self, request: &mut Request<Bytes>) -> Result<(), ClientError> {
        if request.headers().contains_key(header::AUTHORIZATION) {
            return Ok(());
        }
        let value = match &self.authentication {
            Authentication::None => return Ok(()),
            Authentication::Basic { username, password } => {
                let username = username.read("basic auth username")?;
                let password = password.as_ref();
                let password = password
                    .map(|password| password.read("basic auth password"))
                    .transpose()?;
                let password = password.as_ref().map_or("", |password| password.reveal());
                credential::basic(username.reveal(), password)?
            }
            Authentication::Header { scheme, credential } => {
                let secret = credential.as_ref();
                let secret = secret
                    .map(|secret| secret.read("authorization credentials"))
                    .transpose()?;
                let secret = secret.as_ref().map_or("", |secret| secret.reveal());
                credential::header(scheme, secret)?
            }
            Authentication::OAuth2(_) => match &self.tokens {
                Some(tokens) => Box::pin(tokens.header()).await?,
                None => return Ok(()),
            },
            Authentication::SigV4(settings) => {
                return sigv4::sign(settings, request, Timestamp::now());
            }
        };
        request.headers_mut().insert(header::AUTHORIZATION, value);
        Ok(())
    }
}
