//! Our own pages: `/mpp/health`, `/mpp/ready`, `/mpp/metrics`, `/mpp/status` and `/mpp/status.json`. Everything else belongs to
//! the servers.
//!
//! The path must match exactly once its escapes are read; method and query do not matter. Pinned by
//! `tests/golden/mpp/http/routing-requests.json`.

mod exposition;
pub mod metrics;
pub mod status;

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};

use crate::{
    endpoint::{escaped_byte, percent_decoded},
    proxy::{body::ResponseBody, refusal::PLAIN},
};

/// What the pages are about.
#[derive(Debug)]
pub struct Admin {
    /// What the metrics page and the status page read.
    pub(crate) metrics: metrics::Metrics,
    /// What the status page reads beside that.
    pub(crate) status: status::Status,
    /// Whether load balancers are to send nothing more.
    pub(crate) leaving: Arc<AtomicBool>,
}

impl Admin {
    /// Answers a request for one of our pages.
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Option<Response<ResponseBody>> {
        let path = request.uri().path();
        if !path.starts_with("/mpp") && !path.contains('%') {
            return None;
        }
        match decoded(path).as_ref() {
            "/mpp/health" => Some(self.health()),
            "/mpp/ready" => Some(self.ready()),
            "/mpp/metrics" => Some(self.metrics.page(request.headers())),
            "/mpp/status" => Some(page(
                HeaderValue::from_static("text/html; charset=utf-8"),
                self.status.html(&self.metrics),
            )),
            "/mpp/status.json" => Some(page(
                HeaderValue::from_static("application/json"),
                self.status.json(&self.metrics),
            )),
            _ => None,
        }
    }

    /// Always good while we serve, whatever the servers do: load balancers use it.
    fn health(&self) -> Response<ResponseBody> {
        if self.leaving.load(Relaxed) {
            return unavailable("shutting down");
        }
        page(PLAIN, "OK")
    }

    /// Good while there is somebody to ask.
    fn ready(&self) -> Response<ResponseBody> {
        let selection = self.metrics.selector.current();
        match selection.targets.iter().any(|target| !target.is_ejected()) {
            _ if self.leaving.load(Relaxed) => unavailable("shutting down"),
            true => page(PLAIN, "OK"),
            false => unavailable("no Prometheus server is selected"),
        }
    }
}

fn page(kind: HeaderValue, text: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(text.into()));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn unavailable(text: &'static str) -> Response<ResponseBody> {
    let mut response = page(PLAIN, text);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Says whether every `%` of a path is followed by two digits.
pub(crate) fn is_well_escaped(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| escaped_byte(&bytes[at..]).is_some())
}

fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    Cow::Owned(String::from_utf8_lossy(&percent_decoded(path)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_before_a_path_is_compared() {
        assert_eq!(decoded("/mpp/%68ealth"), "/mpp/health");
        assert_eq!(decoded("/mpp/health"), "/mpp/health");
        assert_eq!(decoded("/%zz%4"), "/%zz%4");
    }

    #[test]
    fn a_bad_escape_is_found() {
        assert!(is_well_escaped("/a%2Fb"));
        assert!(!is_well_escaped("/x%zz"));
        assert!(!is_well_escaped("/x%2"));
    }
}
