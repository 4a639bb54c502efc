//! Answers as Go's `net/http` words them.

use axum::body::Body;
use http::{
    HeaderValue, Method, StatusCode,
    header::{CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS},
};

/// An answer to a request.
pub type Response = http::Response<Body>;

/// The content type of plain text.
pub const PLAIN: &str = "text/plain; charset=utf-8";
/// The content type of pages.
pub const HTML: &str = "text/html; charset=utf-8";
/// The content type of the API.
pub const JSON: &str = "application/json";

/// Makes an answer.
pub fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Makes an answer with nothing but a status.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Makes an error in plain text; a line feed is added.
pub fn error(status: StatusCode, text: &str) -> Response {
    let mut response = whole(status, PLAIN, format!("{text}\n"));
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Makes the answer to a path that is not there.
pub fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// Sends a client elsewhere.
pub fn redirect(method: &Method, status: StatusCode, location: &str) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    let shown = location
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;");
    let mut response = if *method == Method::GET {
        whole(
            status,
            HTML,
            format!("<a href=\"{shown}\">{reason}</a>.\n\n"),
        )
    } else {
        empty(status)
    };
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
