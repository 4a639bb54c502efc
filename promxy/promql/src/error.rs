//! Why a query has no result, in the reference's words.

use crate::parser::ParseError;
use crate::storage::StorageError;

/// Why a query has no result. `Display` writes the text that users see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The text is no query.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A query's parameters cannot be used.
    #[error("{0}")]
    BadData(String),
    /// The query cannot be evaluated on its data.
    #[error("{0}")]
    Execution(String),
    /// More samples than allowed would be held at once.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// The time is over.
    #[error("query timed out in {0}")]
    Timeout(Stage),
    /// Somebody cancelled the query.
    #[error("query was canceled in {0}")]
    Canceled(Stage),
    /// Storage failed.
    #[error("expanding series: {0}")]
    Storage(#[from] StorageError),
}

impl QueryError {
    pub(crate) fn execution(text: impl Into<String>) -> Self {
        Self::Execution(text.into())
    }

    /// Whether the query was ended from outside.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Canceled(_))
    }

    /// Two series of a result have the same labels.
    pub(crate) fn duplicate_labels() -> Self {
        Self::execution("vector cannot contain metrics with the same labelset")
    }

    /// Returns the HTTP API's status code and error type.
    pub fn http(&self) -> (u16, &'static str) {
        match self {
            Self::Parse(_) | Self::BadData(_) => (400, "bad_data"),
            Self::Execution(_) | Self::TooManySamples | Self::Storage(_) => (422, "execution"),
            Self::Timeout(_) => (503, "timeout"),
            Self::Canceled(_) => (499, "canceled"),
        }
    }
}

/// What a query was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before evaluation.
    Execution,
    /// In evaluation.
    Evaluation,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Execution => "query execution",
            Self::Evaluation => "expression evaluation",
        })
    }
}
