//! Why the API has no answer, and what clients hear.

use http::StatusCode;

use super::write_json;
use crate::{
    message::answer::{self, JSON, Response},
    servergroup::decode::Annotations,
    upstream::{FailureKind, UpstreamError},
};

/// An error of the API.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: u16,
    kind: &'static str,
    message: String,
    annotations: Annotations,
}

impl ApiError {
    /// Makes an error of any status and type.
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            annotations: Annotations::default(),
        }
    }

    /// The request makes no sense.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(400, "bad_data", message)
    }

    /// A parameter makes no sense.
    pub fn invalid(parameter: &str, reason: impl std::fmt::Display) -> Self {
        let name = promql::format::quote(parameter.as_bytes());
        Self::bad_data(format!("invalid parameter {name}: {reason}"))
    }

    /// There is no such thing here.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "internal", message)
    }

    /// It is switched off.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(500, "unavailable", message)
    }

    /// The time is over.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(503, "timeout", message)
    }

    /// Adds what was said beside the error.
    #[must_use]
    pub fn with(mut self, annotations: Annotations) -> Self {
        self.annotations = annotations;
        self
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns what the client hears.
    pub fn response(&self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = write_json::error(self.kind, &self.message, &self.annotations);
        answer::whole(status, JSON, body)
    }
}

impl From<UpstreamError> for ApiError {
    fn from(error: UpstreamError) -> Self {
        match error.kind {
            FailureKind::Timeout => Self::timeout(error.message),
            FailureKind::Execution | FailureKind::TooMuch => {
                Self::new(422, "execution", error.message)
            }
        }
    }
}
