//! Why a query has no answer.

use std::fmt;

use promql::QueryError;

use crate::{
    servergroup::decode::Annotations,
    upstream::{FailureKind, UpstreamError},
};

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryFailure {
    /// What kind of failure it is.
    pub kind: QueryFailureKind,
    /// What clients see.
    pub message: String,
    /// What servers said before.
    pub annotations: Annotations,
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFailureKind {
    /// The query or its parameters are wrong.
    BadData,
    /// It cannot be evaluated, or a server failed.
    Execution,
    /// The time was over, here or at a server.
    Timeout,
    /// Somebody cancelled it.
    Canceled,
    /// This program is at fault.
    Internal,
}

impl QueryFailureKind {
    /// Returns the HTTP API's status code and error type.
    pub fn http(self) -> (u16, &'static str) {
        match self {
            Self::BadData => (400, "bad_data"),
            Self::Execution => (422, "execution"),
            Self::Timeout => (503, "timeout"),
            Self::Canceled => (499, "canceled"),
            Self::Internal => (500, "internal"),
        }
    }
}

impl QueryFailure {
    /// Returns a failure with nothing said before.
    pub fn new(kind: QueryFailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            annotations: Annotations::default(),
        }
    }

    /// The time was over while something was done: `query queue`, `query execution`, `expression evaluation`.
    pub(super) fn timed_out(doing: &str) -> Self {
        Self::new(
            QueryFailureKind::Timeout,
            format!("query timed out in {doing}"),
        )
    }

    /// A request failed. `prefix` says what the engine was doing with the answer.
    pub(super) fn of_fetch(error: &UpstreamError, prefix: &str) -> Self {
        match error.kind {
            FailureKind::Execution => Self::new(
                QueryFailureKind::Execution,
                format!("{prefix}{}", error.message),
            ),
            FailureKind::Timeout => Self::new(
                QueryFailureKind::Timeout,
                format!("{prefix}{}", error.message),
            ),
            // The limit is the query's own, not something that happened at a server. Of samples the original says no more.
            FailureKind::TooMuch if is_of_samples(error) => QueryError::TooManySamples.into(),
            FailureKind::TooMuch => Self::new(QueryFailureKind::Execution, &*error.message),
        }
    }
}

fn is_of_samples(error: &UpstreamError) -> bool {
    let text = QueryError::TooManySamples.to_string();
    error.message.ends_with(&text)
}

impl From<QueryError> for QueryFailure {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::Parse(_) | QueryError::BadData(_) => QueryFailureKind::BadData,
            QueryError::Execution(_) | QueryError::TooManySamples | QueryError::Storage(_) => {
                QueryFailureKind::Execution
            }
            QueryError::Timeout(_) => QueryFailureKind::Timeout,
            QueryError::Canceled(_) => QueryFailureKind::Canceled,
        };
        Self::new(kind, error.to_string())
    }
}

impl fmt::Display for QueryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryFailure {}
