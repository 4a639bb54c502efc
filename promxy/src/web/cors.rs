//! What browsers want to know before a page may read an answer.

use http::{
    HeaderMap, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN, VARY,
    },
};
use shared::regex::Regex;

/// Adds the headers to an answer; `allowed` says which origins may read it.
pub fn complete(request: &HeaderMap, answer: &mut HeaderMap, allowed: &Regex) {
    answer.insert(VARY, HeaderValue::from_static("Origin"));
    let origin = request.get(ORIGIN).filter(|origin| !origin.is_empty());
    let Some(origin) = origin else {
        return;
    };
    let fixed = [
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "Accept, Authorization, Content-Type, Origin",
        ),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ];
    for (name, value) in fixed {
        answer.insert(name, HeaderValue::from_static(value));
    }
    if origin.to_str().is_ok_and(|origin| allowed.is_match(origin)) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}
