//! Asking a server what the strategies compare: its metrics page, whether it answers queries, and how far its data goes back.
//!
//! Every question has a limit, and servers are asked side by side, so that a silent one costs nobody anything.

pub mod answer;
pub mod scrape;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::AUTHORIZATION;
use thiserror::Error;
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use answer::Answer;
use scrape::{Page, Scanner};

/// For the connection of a probe; the original's.
const CONNECT: Duration = Duration::from_secs(1);
/// For a whole metrics page; the original's.
const METRICS: Duration = Duration::from_secs(3);
/// For the query that says whether a server is viable; the original's.
const VIABLE: Duration = Duration::from_secs(1);
/// For the query for old data.
const HISTORY: Duration = Duration::from_secs(3);
/// The longest metrics page that is read.
const LONGEST_PAGE: usize = 256 << 20;
/// The longest answer to a query that is read; `up` has one series per target.
const LONGEST_ANSWER: usize = 64 << 20;

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProbeError {
    /// No answer.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimeOut(Duration),
    /// An answer with another status than 2xx. The text is the original's.
    #[error("bad_response: bad response code {0}")]
    Status(u16),
    /// A page or an answer without end.
    #[error("the answer is too long")]
    TooLong,
    /// An answer that is not what the query API says.
    #[error("{0}")]
    Answer(String),
}

/// What one probe found out.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The metrics page.
    pub page: Result<Page, ProbeError>,
    /// Whether the query `up` is answered; only asked if there is a page.
    pub viable: Result<(), ProbeError>,
    /// The answer of `max(up)` at the time that was asked for, as the status page shows it; `None` if it was not asked.
    pub history: Option<Result<String, ProbeError>>,
}

/// Asks servers.
#[derive(Debug, Clone)]
pub struct Prober {
    client: reqwest::Client,
}

impl Prober {
    /// Makes a prober with its own connections.
    pub fn new(tls: rustls::ClientConfig) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("mpp/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(1)
            .no_proxy()
            .build()?;
        Ok(Self { client })
    }

    /// Asks for everything that a round needs; `history_at` is the moment, in seconds, from which data is wanted.
    pub async fn probe(&self, endpoint: &Endpoint, history_at: Option<f64>) -> Probe {
        let page = self.page(endpoint).await;
        if let Err(error) = &page {
            return Probe {
                viable: Err(error.clone()),
                page,
                history: None,
            };
        }
        let viable = self.viable(endpoint, VIABLE).await;
        let history = match history_at {
            Some(moment) if viable.is_ok() => Some(self.history(endpoint, moment).await),
            _ => None,
        };
        Probe {
            page,
            viable,
            history,
        }
    }

    /// Says whether the query `up` is answered within `limit`.
    pub async fn viable(&self, endpoint: &Endpoint, limit: Duration) -> Result<(), ProbeError> {
        let answer = self.query(endpoint, "up", unix_now(), limit).await?;
        answer.check().map_err(ProbeError::Answer)
    }

    async fn history(&self, endpoint: &Endpoint, moment: f64) -> Result<String, ProbeError> {
        let answer = self.query(endpoint, "max(up)", moment, HISTORY).await?;
        answer.vector_text().map_err(ProbeError::Answer)
    }

    async fn page(&self, endpoint: &Endpoint) -> Result<Page, ProbeError> {
        let read = async {
            let mut response = self.get(endpoint, "/metrics", &[]).await?;
            let mut scanner = Scanner::default();
            let mut length = 0;
            while let Some(chunk) = response.chunk().await.map_err(|e| unreachable_text(&e))? {
                length += chunk.len();
                if length > LONGEST_PAGE {
                    return Err(ProbeError::TooLong);
                }
                scanner.feed(&chunk);
            }
            Ok(scanner.finish())
        };
        timeout(METRICS, read)
            .await
            .unwrap_or(Err(ProbeError::TimeOut(METRICS)))
    }

    async fn query(
        &self,
        endpoint: &Endpoint,
        query: &str,
        moment: f64,
        limit: Duration,
    ) -> Result<Answer, ProbeError> {
        let read = async {
            let time = format!("{moment:.3}");
            let parameters = [("query", query), ("time", &time)];
            let mut response = self.get(endpoint, "/api/v1/query", &parameters).await?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|e| unreachable_text(&e))? {
                if body.len() + chunk.len() > LONGEST_ANSWER {
                    return Err(ProbeError::TooLong);
                }
                body.extend_from_slice(&chunk);
            }
            Answer::parse(&body).map_err(ProbeError::Answer)
        };
        timeout(limit, read)
            .await
            .unwrap_or(Err(ProbeError::TimeOut(limit)))
    }

    async fn get(
        &self,
        endpoint: &Endpoint,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<reqwest::Response, ProbeError> {
        let mut url = format!("{}{path}", endpoint.address());
        if !parameters.is_empty() {
            let query: String = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(parameters)
                .finish();
            url = format!("{url}?{query}");
        }
        let mut request = self.client.get(url);
        if let Some(credentials) = endpoint.authorization() {
            request = request.header(AUTHORIZATION, credentials.reveal());
        }
        let response = request
            .send()
            .await
            .map_err(|reason| unreachable_text(&reason))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(ProbeError::Status(response.status().as_u16()))
        }
    }
}

fn unreachable_text(error: &reqwest::Error) -> ProbeError {
    ProbeError::Unreachable(chain(error))
}

/// The whole chain of reasons: the first alone says only that a request failed. Without the address, which may have a password.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut reasons = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(reason) = source {
        reasons.push(reason.to_string());
        source = reason.source();
    }
    if reasons.is_empty() {
        return "request failed".to_owned();
    }
    reasons.join(": ")
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
