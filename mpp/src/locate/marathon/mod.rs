//! Addresses from Marathon: the hosts and first ports of the tasks of some applications, with the DC/OS login where there is one.
//!
//! Pinned by `tests/golden/mpp/locators/marathon.json`. Members of a Marathon cluster are tried in order; the one that answered last
//! is tried first. A token that is refused is replaced once per question.

mod login;

use std::{fmt, time::Duration};

use http::{
    HeaderValue, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde::Deserialize;
use thiserror::Error;
use tracing::{error, warn};

use super::{Found, LocateError};
use crate::{config, endpoint::Endpoint};
use login::{Login, LoginError};

/// For one question to one member.
const ANSWER: Duration = Duration::from_secs(5);
/// For the connection.
const CONNECT: Duration = Duration::from_secs(2);
/// What `Accept` and `Content-Type` say.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The path of Marathon behind the DC/OS admin router.
const ADMIN_ROUTER_PATH: &str = "/marathon";

/// Why there is no Marathon.
#[derive(Debug, Error)]
pub enum MarathonError {
    /// The list of URLs. The text is the original's.
    #[error("Failed to construct marathon client: endpoint is blank")]
    Blank,
    /// The first URL without its scheme. The text is the original's.
    #[error("Failed to construct marathon client: missing scheme on (first) endpoint")]
    MissingScheme,
    /// A URL.
    #[error("bad URL {0:?}")]
    Url(String),
    /// The login.
    #[error("Failed to construct marathon client: {0}")]
    Login(#[from] LoginError),
    /// TLS.
    #[error("{0}")]
    Tls(#[from] shared::tls::Error),
    /// The HTTP client.
    #[error("{0}")]
    Client(#[from] reqwest::Error),
    /// No member answers. The text is the original's.
    #[error("all the Marathon hosts are presently down")]
    Down,
    /// A refusal.
    #[error("Marathon API error: {text}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it says.
        text: String,
    },
    /// An answer that is none.
    #[error("Marathon API error: {0}")]
    Answer(String),
}

impl MarathonError {
    /// The number that the original's log has for it.
    fn code(&self) -> u8 {
        match self {
            Self::Refused { status, .. } => match status.as_u16() {
                400 => 0,
                401 => 1,
                403 => 2,
                404 => 3,
                500.. => 7,
                _ => 8,
            },
            _ => 8,
        }
    }
}

/// Applications of a Marathon.
#[derive(Debug)]
pub struct MarathonLocator {
    shown: String,
    client: reqwest::Client,
    members: Vec<String>,
    /// The member that answered last.
    best: usize,
    apps: Vec<String>,
    login: Option<Login>,
    authorization: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Answer {
    app: App,
}

#[derive(Deserialize)]
struct App {
    #[serde(default)]
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    #[serde(default)]
    host: String,
    #[serde(default)]
    ports: Vec<u16>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl MarathonLocator {
    /// Logs in if there is a secret, and asks whether Marathon is there.
    pub async fn connect(config: &config::Marathon) -> Result<Self, MarathonError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(crate::tls::for_client(config.insecure_certs)?)
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()?;
        let login = match &config.principal_secret {
            Some(secret) => Some(Login::new(
                secret.reveal(),
                config.auth_endpoint.as_deref(),
            )?),
            None => None,
        };
        let mut locator = Self {
            shown: format!(
                "*marathonlocator.marathonLocator{{url: {}, apps: [{}]}}",
                config
                    .urls
                    .split(',')
                    .map(without_credentials)
                    .collect::<Vec<_>>()
                    .join(","),
                config.apps.join(" ")
            ),
            client,
            members: members(&config.urls, login.is_some())?,
            best: 0,
            apps: config.apps.clone(),
            login,
            authorization: None,
        };
        locator.log_in().await?;
        locator.get("/ping").await?;
        Ok(locator)
    }

    pub(super) async fn locate(&mut self) -> Result<Found, LocateError> {
        let mut found = Found::default();
        let mut renewed = false;
        for app in self.apps.clone() {
            let mut answer = self.app(&app).await;
            let refused = matches!(
                &answer,
                Err(MarathonError::Refused {
                    status: StatusCode::UNAUTHORIZED,
                    ..
                })
            );
            if refused && self.login.is_some() && !renewed {
                renewed = true;
                self.log_in()
                    .await
                    .map_err(|reason| LocateError::Marathon(reason.to_string()))?;
                answer = self.app(&app).await;
            }
            match answer {
                Ok(answer) => collect(&app, answer, &mut found),
                Err(reason) => error!(
                    "Failed to resolve marathon application '{app}': {}, {reason}",
                    reason.code()
                ),
            }
        }
        if found.endpoints.is_empty() {
            for what in found.skipped {
                warn!("Locator {self} skipped {what}");
            }
            return Err(LocateError::Empty);
        }
        Ok(found)
    }

    async fn log_in(&mut self) -> Result<(), LoginError> {
        if let Some(login) = &self.login {
            self.authorization = Some(login.authorization(&self.client).await?);
        }
        Ok(())
    }

    async fn app(&mut self, id: &str) -> Result<Answer, MarathonError> {
        let id = id.strip_prefix('/').unwrap_or(id);
        let body = self.get(&format!("/v2/apps/{id}")).await?;
        serde_json::from_slice(&body).map_err(|reason| MarathonError::Answer(reason.to_string()))
    }

    /// Asks one member after the other, until one answers with anything but an error of its own.
    async fn get(&mut self, path: &str) -> Result<Vec<u8>, MarathonError> {
        for step in 0..self.members.len() {
            let place = (self.best + step) % self.members.len();
            let mut request = self
                .client
                .get(format!("{}{path}", self.members[place]))
                .header(ACCEPT, JSON)
                .header(CONTENT_TYPE, JSON);
            if let Some(authorization) = &self.authorization {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let Ok(response) = request.send().await else {
                continue;
            };
            let status = response.status();
            if status.is_server_error() {
                continue;
            }
            let Ok(body) = response.bytes().await else {
                continue;
            };
            self.best = place;
            if status.is_success() {
                return Ok(body.to_vec());
            }
            let text = serde_json::from_slice(&body).map_or_else(
                |_| String::from_utf8_lossy(&body).trim().to_owned(),
                |refusal: Refusal| refusal.message,
            );
            return Err(MarathonError::Refused { status, text });
        }
        Err(MarathonError::Down)
    }
}

impl fmt::Display for MarathonLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn collect(app: &str, answer: Answer, found: &mut Found) {
    for Task { host, ports } in answer.app.tasks {
        let Some(port) = ports.first() else {
            found
                .skipped
                .push(format!("a task of {app} on {host:?}: it has no ports"));
            continue;
        };
        match Endpoint::parse(&format!("http://{host}:{port}")) {
            Ok(endpoint) => found.endpoints.push(endpoint),
            Err(reason) => found
                .skipped
                .push(format!("a task of {app} on {host:?}: {reason}")),
        }
    }
}

/// The base URLs: later ones without a scheme take that of the first.
fn members(urls: &str, logs_in: bool) -> Result<Vec<String>, MarathonError> {
    let mut scheme = None;
    let mut members = Vec::new();
    for url in urls.split(',') {
        let url = url.trim();
        if url.is_empty() {
            return Err(MarathonError::Blank);
        }
        let own = ["http://", "https://"]
            .into_iter()
            .find(|scheme| url.starts_with(scheme));
        let full = match (own, scheme) {
            (Some(own), _) => {
                scheme.get_or_insert(own);
                url.to_owned()
            }
            (None, Some(scheme)) => format!("{scheme}{url}"),
            (None, None) => return Err(MarathonError::MissingScheme),
        };
        let parsed = url::Url::parse(&full)
            .map_err(|_| MarathonError::Url(without_credentials(url).to_owned()))?;
        let base = full.trim_end_matches('/');
        let has_path = !parsed.path().trim_matches('/').is_empty();
        members.push(if logs_in && !has_path {
            format!("{base}{ADMIN_ROUTER_PATH}")
        } else {
            base.to_owned()
        });
    }
    Ok(members)
}

fn without_credentials(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_share_the_scheme_of_the_first() {
        let f = |urls: &str, logs_in: bool, expected: &[&str]| {
            assert_eq!(members(urls, logs_in).unwrap(), expected, "{urls}");
        };
        f("http://a:1,b:2", false, &["http://a:1", "http://b:2"]);
        f("https://a:1/", false, &["https://a:1"]);
        f("https://a:1/", true, &["https://a:1/marathon"]);
        f("http://a:1/service/m", true, &["http://a:1/service/m"]);
        for bad in ["", "a:1", "http://a:1,,b"] {
            assert!(members(bad, false).is_err(), "{bad}");
        }
    }
}
