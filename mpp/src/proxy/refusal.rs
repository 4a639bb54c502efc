//! Our own words to clients, all in one place.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HeaderName},
};

use super::body::ResponseBody;
use crate::backend::Failure;

/// The type of all our words.
pub(crate) const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A short text with its status.
pub(crate) fn text(status: StatusCode, words: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(Bytes::from(format!("{words}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PLAIN);
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// No server was ever selected.
pub(crate) fn nobody() -> Response<ResponseBody> {
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        "no Prometheus server is available",
    )
}

/// The servers that were tried have not answered.
pub(crate) fn failed(why: Failure, reason: &str) -> Response<ResponseBody> {
    let status = match why {
        Failure::Hang => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    text(
        status,
        &format!("Prometheus server did not answer: {reason}"),
    )
}

/// The body is longer than the limit.
pub(crate) fn too_large() -> Response<ResponseBody> {
    closing(text(
        StatusCode::PAYLOAD_TOO_LARGE,
        "the request's body is too long",
    ))
}

/// What came is not a request. The connection ends, as nobody knows where the next one would start.
pub(crate) fn bad_request(reason: &impl std::fmt::Display) -> Response<ResponseBody> {
    closing(text(
        StatusCode::BAD_REQUEST,
        &format!("400 Bad Request: {reason}"),
    ))
}

fn closing(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
