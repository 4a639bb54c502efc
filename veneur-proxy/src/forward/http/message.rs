//! Requests with the headers of the original, and what their answers say.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use super::{super::connect::Target, Fate, Unsent};
use crate::{config::Generation, forward::TraceContext, observe::Failure};

/// How much of an answer is kept for the log.
const SHOWN_ANSWER: usize = 1024;

/// Makes a request with the headers that the original sends.
pub(super) fn request(
    method: &Method,
    target: &Target,
    path: &str,
    body: Bytes,
    generation: Generation,
    trace: Option<TraceContext>,
) -> Result<Request<Full<Bytes>>, Unsent> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, &target.authority)
        .header(USER_AGENT, "Go-http-client/1.1")
        .header(CONTENT_ENCODING, "deflate")
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT_ENCODING, "gzip")
        .body(Full::new(body))
        .map_err(|reason| Unsent {
            failure: Failure::Io(reason.to_string()),
            fate: Fate::NotSent,
        })?;
    trace_headers(generation, trace, request.headers_mut());
    Ok(request)
}

/// Writes the trace of a request: the one it came with, or a new one; the span is always new.
fn trace_headers(generation: Generation, trace: Option<TraceContext>, headers: &mut HeaderMap) {
    let random = || fastrand::i64(1..);
    let (span, parent) = (random(), random());
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if generation == Generation::Legacy {
        let (parent, resource, trace_id) = match trace {
            Some(trace) => (parent, "/import", trace.trace_id),
            None => (0, "http.PostHelper", span),
        };
        set("parentid", parent.to_string());
        set("resource", resource.to_owned());
        set("spanid", span.to_string());
        set("traceid", trace_id.to_string());
    } else {
        let trace_id = trace.map_or_else(random, |trace| trace.trace_id);
        set("ot-tracer-sampled", "true".to_owned());
        set("ot-tracer-spanid", format!("{span:x}"));
        set("ot-tracer-traceid", format!("{trace_id:x}"));
    }
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    /// Its beginning.
    body: BytesMut,
}

impl Answer {
    pub(super) fn refusal(&self, request_length: usize) -> Unsent {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
        Unsent {
            failure: Failure::Status {
                status: self.status.as_u16(),
                headers: headers.collect::<Vec<_>>().join("\n"),
                body: String::from_utf8_lossy(&self.body).into_owned(),
                request_length,
            },
            fate: Fate::Answered,
        }
    }
}

/// Reads an answer to its end, so that its connection can be used again.
pub(super) async fn answer(response: http::Response<Incoming>) -> Result<Answer, Unsent> {
    let (head, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        // The status counts, and that is there.
        let Ok(frame) = frame else {
            break;
        };
        if let Some(data) = frame.data_ref() {
            let room = SHOWN_ANSWER.saturating_sub(body.len()).min(data.len());
            body.extend_from_slice(&data[..room]);
        }
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// Where an answer points, if it does.
pub(super) fn redirect(from: &Target, answer: &Answer) -> Option<(Target, String)> {
    if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.headers.get(LOCATION)?.to_str().ok()?;
    if location.starts_with('/') {
        return Some((from.clone(), location.to_owned()));
    }
    let mut target = Target::read(location)
        .ok()
        .filter(|to| to.security.is_some())?;
    let path = std::mem::take(&mut target.path);
    let path = if path.is_empty() {
        "/".to_owned()
    } else {
        path
    };
    Some((target, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_read_relative_to_where_they_come_from() {
        let f = |location: &'static str, expected: Option<(&str, &str)>| {
            let answer = Answer {
                status: StatusCode::TEMPORARY_REDIRECT,
                headers: HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]),
                body: BytesMut::new(),
            };
            let found = redirect(&Target::read("a:1").unwrap(), &answer);
            let found = found
                .as_ref()
                .map(|(target, path)| (target.authority.as_str(), path.as_str()));
            assert_eq!(found, expected, "{location}");
        };
        f("/x", Some(("a:1", "/x")));
        f("http://b:2/y?z", Some(("b:2", "/y?z")));
        f("http://b:2", Some(("b:2", "/")));
        f("nowhere", None);
    }
}
