//! Tokens from a token server, for a client that has its own credentials (RFC 6749, section 4.4).
//!
//! A token is kept until shortly before it expires. While one request fetches the next, others use the old one as long as it
//! is good; when it is not, they wait for the one that fetches.

use std::{fmt, time::Duration};

use parking_lot::Mutex;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    credential::{self, Credential},
    error::{ClientError, Kind},
    proxy,
    transport::Transport,
};
use crate::{config::secret::Secret, tls};

/// How long the token server may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The largest answer that is read.
const LARGEST_ANSWER: usize = 1 << 20;

/// How long before its end a token is replaced, unless that is more than a tenth of its life.
const EARLY: Duration = Duration::from_secs(60);

/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(10);

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who asks.
    pub client_id: String,
    /// The asker's secret; absent means empty. A file is read for each token.
    pub client_secret: Option<Credential>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// The URL of the token server.
    pub token_url: String,
    /// More parameters.
    pub endpoint_params: Vec<(String, Secret)>,
    /// How the token server is trusted.
    pub tls: tls::client::Settings,
    /// The proxy in front of the token server.
    pub proxy: proxy::Settings,
}

/// Tokens of one server.
pub(super) struct Tokens {
    settings: Settings,
    user_agent: Option<HeaderValue>,
    transport: Transport,
    state: Mutex<State>,
    /// Whoever holds its permit fetches.
    turn: Semaphore,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// How the server takes the client's secret, once that is known.
    style: Option<Style>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    /// When it is replaced, and when it is no longer used; `None`: never.
    times: Option<(Instant, Instant)>,
}

/// How a server takes the client's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Header,
    Form,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(
        settings: &Settings,
        user_agent: Option<HeaderValue>,
        transport: Transport,
    ) -> Self {
        Self {
            settings: settings.clone(),
            user_agent,
            transport,
            state: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }

    /// Returns the header that authenticates a request now.
    pub(super) async fn header(&self) -> Result<HeaderValue, ClientError> {
        let current = self.usable();
        if let Some((token, true)) = current {
            return Ok(token);
        }
        let _turn = if let Some((token, _)) = current {
            // It is good for a while: whoever comes first fetches the next.
            let Ok(turn) = self.turn.try_acquire() else {
                return Ok(token);
            };
            turn
        } else {
            let turn = self.turn.acquire().await;
            turn.map_err(|_| failed("the token source has ended"))?
        };
        // Somebody may have been here in between.
        if let Some((token, true)) = self.usable() {
            return Ok(token);
        }
        match self.fetch().await {
            Ok(token) => {
                let header = token.header.clone();
                self.state().token = Some(token);
                Ok(header)
            }
            Err(error) => self.usable().map(|(token, _)| token).ok_or(error),
        }
    }

    /// Forgets a token that a server has refused.
    pub(super) fn forget(&self, refused: &HeaderValue) {
        let mut state = self.state();
        if state
            .token
            .as_ref()
            .is_some_and(|token| token.header == refused)
        {
            state.token = None;
        }
    }

    /// Returns the token if it can be used, and whether it is fresh.
    fn usable(&self) -> Option<(HeaderValue, bool)> {
        let state = self.state();
        let token = state.token.as_ref()?;
        let Some((replace, end)) = token.times else {
            return Some((token.header.clone(), true));
        };
        let now = Instant::now();
        (now < end).then(|| (token.header.clone(), now < replace))
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Asks for a token. Which way the server takes the secret is found out by trying, as Go's client does.
    async fn fetch(&self) -> Result<Token, ClientError> {
        let style = self.state().style;
        let first = self.ask(style.unwrap_or(Style::Header)).await;
        let (token, style) = match (first, style) {
            (Err(Refusal::Status(_)), None) => (self.ask(Style::Form).await, Style::Form),
            (first, style) => (first, style.unwrap_or(Style::Header)),
        };
        match token {
            Ok(token) => {
                self.state().style = Some(style);
                Ok(token)
            }
            Err(Refusal::Status(error) | Refusal::Other(error)) => Err(error),
        }
    }

    async fn ask(&self, style: Style) -> Result<Token, Refusal> {
        let request = self.request(style).map_err(Refusal::Other)?;
        let asked = Instant::now();
        let prefix = |error: ClientError| {
            let text = format!("Post \"{}\": {error}", self.settings.token_url);
            let outer = ClientError::new(Kind::Authentication, text);
            Refusal::Other(if error.is_timeout() {
                outer.timed_out()
            } else {
                outer
            })
        };
        let response = self.transport.send(request, Some(DEADLINE)).await;
        let (head, body) = response.map_err(prefix)?.into_parts();
        let body = timeout(DEADLINE, Limited::new(body, LARGEST_ANSWER).collect()).await;
        let body = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => {
                let text = format!("oauth2: cannot fetch token: {error}");
                return Err(Refusal::Other(failed(text)));
            }
            Err(_) => {
                let text = "oauth2: cannot fetch token: the answer took too long";
                return Err(Refusal::Other(failed(text).timed_out()));
            }
        };
        if !head.status.is_success() {
            return Err(Refusal::Status(refused(head.status, &body)));
        }
        read(&body, asked).map_err(Refusal::Other)
    }

    fn request(&self, style: Style) -> Result<Request<Full<Bytes>>, ClientError> {
        let settings = &self.settings;
        let secret = match &settings.client_secret {
            None => Secret::new(""),
            Some(secret) => secret.read("client secret")?,
        };
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        if style == Style::Form {
            form.append_pair("client_id", &settings.client_id);
            if !secret.reveal().is_empty() {
                form.append_pair("client_secret", secret.reveal());
            }
        }
        form.append_pair("grant_type", "client_credentials");
        if !settings.scopes.is_empty() {
            form.append_pair("scope", &settings.scopes.join(" "));
        }
        for (name, value) in &settings.endpoint_params {
            form.append_pair(name, value.reveal());
        }
        let mut request = Request::post(&settings.token_url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if style == Style::Header {
            let encoded = |text: &str| {
                url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
            };
            let header =
                credential::basic(&encoded(&settings.client_id), &encoded(secret.reveal()))?;
            request = request.header(header::AUTHORIZATION, header);
        }
        if let Some(agent) = &self.user_agent {
            request = request.header(header::USER_AGENT, agent);
        }
        request
            .body(Full::new(form.finish().into()))
            .map_err(|error| failed(error.to_string()))
    }
}

/// Why there is no token.
enum Refusal {
    /// The server says so.
    Status(ClientError),
    Other(ClientError),
}

fn failed(text: impl Into<String>) -> ClientError {
    ClientError::new(Kind::Authentication, text)
}

fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    let body = String::from_utf8_lossy(body.get(..1024).unwrap_or(body)).into_owned();
    let reason = status.canonical_reason().unwrap_or_default();
    let status = status.as_u16();
    failed(format!(
        "oauth2: cannot fetch token: {status} {reason}\nResponse: {body}"
    ))
}

fn read(body: &[u8], asked: Instant) -> Result<Token, ClientError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        access_token: String,
        #[serde(default)]
        token_type: String,
        #[serde(default)]
        expires_in: serde_json::Value,
    }
    let answer: Answer = serde_json::from_slice(body)
        // The answer holds secrets, so that it is not shown.
        .map_err(|error| {
            let (line, column) = (error.line(), error.column());
            failed(format!(
                "oauth2: cannot parse json: line {line}, column {column}"
            ))
        })?;
    if answer.access_token.is_empty() {
        return Err(failed("oauth2: server response missing access_token"));
    }
    let scheme = match answer.token_type.to_ascii_lowercase().as_str() {
        "" | "bearer" => "Bearer",
        "mac" => "MAC",
        "basic" => "Basic",
        _ => &answer.token_type,
    };
    let seconds = match &answer.expires_in {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let life = seconds
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let times = life.and_then(|life| {
        // A token that lives shorter than the margin is used for as long as it lives.
        let end = asked.checked_add(life.saturating_sub(MARGIN.min(life / 10)))?;
        let replace = asked.checked_add(life.saturating_sub((EARLY + MARGIN).min(life / 5)))?;
        Some((replace, end))
    });
    Ok(Token {
        header: credential::header(scheme, &answer.access_token)?,
        times,
    })
}
