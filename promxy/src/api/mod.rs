//! The HTTP API: parameters in, JSON out.
//!
//! In reading order:
//!
//! * [`Endpoint`], [`answer()`]: what there is, and who answers it
//! * [`params`]: times, durations, limits, selectors, with Prometheus' words for what is wrong; [`error`]: what clients hear then
//! * [`query`]: instant and range queries, formatting; `parse_query`: syntax trees
//! * [`series`]: series, label names, label values; [`metadata`]: metadata and exemplars
//! * [`status`], [`rules`]: the proxy about itself
//! * [`federate`], [`remote_read`]: samples for other Prometheus servers
//! * [`json`], [`write_json`]: strings; results. [`pieces`]: large results while they are sent
//!
//! What is asked of the server groups goes over [`crate::upstream::Upstream`].

pub mod error;
pub mod federate;
pub mod json;
pub mod metadata;
pub mod params;
mod parse_query;
pub mod pieces;
pub mod query;
pub mod remote_read;
pub mod rules;
pub mod series;
pub mod status;
pub mod write_json;

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, StatusCode, header::CACHE_CONTROL};

use self::{error::ApiError, pieces::Pieces};
use crate::{
    message::{
        Request,
        answer::{self, JSON, Response},
    },
    servergroup::decode::Annotations,
    state::State,
};

/// What the API has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the path of the same name")]
pub enum Endpoint {
    Query,
    QueryRange,
    Exemplars,
    FormatQuery,
    ParseQuery,
    Labels,
    LabelValues,
    Series,
    DropSeries,
    Metadata,
    ScrapePools,
    Targets,
    TargetsMetadata,
    Alertmanagers,
    Alerts,
    Rules,
    Config,
    RuntimeInfo,
    BuildInfo,
    Flags,
    Tsdb,
    WalReplay,
    Notifications,
    NotificationsLive,
    RemoteRead,
    RemoteWrite,
    Otlp,
    Admin,
}

impl Endpoint {
    /// Whether answers are not for browsers: without the headers for them, and never compressed.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::RemoteRead | Self::RemoteWrite | Self::Otlp)
    }
}

/// What is answered if nothing went wrong.
#[derive(Debug)]
pub enum Success {
    /// Data as JSON, and what is said beside it.
    Data(String, Annotations),
    /// The value of a query, and all around it.
    Value(Pieces),
}

impl Success {
    /// Makes an answer of data.
    pub fn new(data: impl Into<String>, annotations: Annotations) -> Self {
        Self::Data(data.into(), annotations)
    }

    /// Makes an answer that nothing is said beside.
    pub fn plain(data: impl Into<String>) -> Self {
        Self::new(data, Annotations::default())
    }

    fn into_body(self) -> Body {
        match self {
            Self::Data(data, annotations) => Body::from(write_json::success(&data, &annotations)),
            Self::Value(pieces) => pieces.into_body(),
        }
    }
}

/// What an endpoint answers. `None` stands for an answer without content.
type Answered = Result<Option<Success>, ApiError>;

/// Answers a request.
pub async fn answer(state: &State, endpoint: Endpoint, request: &Request) -> Response {
    let form = &request.form;
    let answered = match endpoint {
        Endpoint::Query => query::instant(state, request).await,
        Endpoint::QueryRange => query::range(state, request).await,
        Endpoint::FormatQuery => query::format(form),
        Endpoint::ParseQuery => parse_query::parse(form),
        Endpoint::Exemplars => within(state, metadata::exemplars(state, request)).await,
        Endpoint::Metadata => {
            return sorted(within(state, metadata::metadata(state, request)).await);
        }
        Endpoint::Labels => within(state, series::names(state, request)).await,
        Endpoint::LabelValues => within(state, series::values(state, request)).await,
        Endpoint::Series => within(state, series::series(state, request)).await,
        Endpoint::DropSeries => Err(ApiError::internal("not implemented")),
        Endpoint::ScrapePools => Ok(Some(Success::plain(r#"{"scrapePools":[]}"#))),
        Endpoint::Targets => Ok(Some(status::targets(form))),
        Endpoint::TargetsMetadata => status::targets_metadata(form),
        Endpoint::Alertmanagers => Ok(Some(Success::plain(
            r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#,
        ))),
        Endpoint::Alerts => Ok(Some(Success::plain(r#"{"alerts":[]}"#))),
        Endpoint::Rules => rules::rules(request),
        Endpoint::Config => return sorted(Ok(status::config(state))),
        Endpoint::RuntimeInfo => Ok(Some(status::runtime_info(state))),
        Endpoint::BuildInfo => Ok(Some(Success::plain(crate::build_info::json()))),
        Endpoint::Flags => Ok(Some(status::flags(state))),
        Endpoint::Tsdb => status::tsdb(form),
        Endpoint::WalReplay => Ok(Some(Success::plain(r#"{"min":0,"max":0,"current":0}"#))),
        Endpoint::Notifications => Ok(Some(Success::plain("[]"))),
        Endpoint::NotificationsLive => return no_events(),
        Endpoint::Admin => Err(ApiError::unavailable("admin APIs disabled")),
        Endpoint::RemoteRead => return remote_read::answer(state, request).await,
        Endpoint::RemoteWrite => {
            return answer::error(
                StatusCode::NOT_FOUND,
                "remote write receiver needs to be enabled with --web.enable-remote-write-receiver",
            );
        }
        Endpoint::Otlp => {
            return answer::error(
                StatusCode::NOT_FOUND,
                "otlp write receiver needs to be enabled with --web.enable-otlp-receiver",
            );
        }
    };
    match answered {
        Ok(None) => answer::empty(StatusCode::NO_CONTENT),
        Ok(Some(success)) => answer::whole(StatusCode::OK, JSON, success.into_body()),
        Err(error) => error.response(),
    }
}

/// Waits for servers as long as a query may take.
async fn within<T>(
    state: &State,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let limit = state.flags.query_timeout.unwrap_or(Duration::MAX);
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(ApiError::timeout("query timed out in query execution")))
}

/// An answer with its keys in the order of the alphabet, as the original's own handlers write them.
fn sorted(answered: Result<String, ApiError>) -> Response {
    match answered {
        Ok(data) => {
            let body = format!(r#"{{"data":{data},"status":"success"}}"#);
            answer::whole(StatusCode::OK, JSON, body)
        }
        Err(error) => error.response(),
    }
}

/// A stream of events that has none: the client is told to stay away for long.
fn no_events() -> Response {
    const HOUR: &str = "retry: 3600000\n\n";
    let mut response = answer::whole(StatusCode::OK, "text/event-stream", Body::from(HOUR));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
