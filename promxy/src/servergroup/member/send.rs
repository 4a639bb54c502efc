//! Sending a request to the API of a target, and reading its answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header, response::Parts};
use shared::http::client;

use super::{Failure, Member};
use crate::{
    servergroup::{
        body::Body,
        decode,
        request::{ApiRequest, Method, encode},
    },
    upstream::{Asker, FailureKind},
};

/// How large an answer may be, inflated. Of an answer to a query only the part that is being read is held.
const LARGEST_ANSWER: u64 = 4 << 30;

/// How large a list of series, names or values may be: it is held whole.
const LARGEST_LIST: u64 = 512 << 20;

/// How large an answer may be that says what went wrong.
const LARGEST_ERROR: u64 = 1 << 20;

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const PLAIN: HeaderValue = HeaderValue::from_static("identity");

impl Member {
    /// Sends a request, a second time if the target takes no forms, and returns the answer if it may hold data.
    pub(super) async fn ask(&self, request: &ApiRequest, asker: &Asker) -> Result<Body, Failure> {
        let always = encode(pairs(&self.common.params));
        let params = || request.encoded(&self.common.params);
        let base = format!("{}{}", self.target.url, request.path);
        let with = |query: &str| {
            if query.is_empty() {
                base.clone()
            } else {
                format!("{base}?{query}")
            }
        };
        let headers = || {
            let mut headers = self.headers(asker);
            let encoding = if request.is_packed { GZIP } else { PLAIN };
            headers.entry(header::ACCEPT_ENCODING).or_insert(encoding);
            headers
        };
        if request.method == Method::Form {
            let mut headers = headers();
            headers.insert(header::CONTENT_TYPE, FORM);
            let body = Bytes::from(params());
            let (status, answer) = self
                .send(http::Method::POST, &with(&always), headers, body)
                .await?;
            let takes_no_forms = matches!(
                status,
                StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
            );
            if !takes_no_forms {
                return judged(status, answer, asker).await;
            }
        }
        let (status, answer) = self
            .send(http::Method::GET, &with(&params()), headers(), Bytes::new())
            .await?;
        judged(status, answer, asker).await
    }

    /// As [`Member::ask`], for an answer that is held whole.
    pub(super) async fn ask_list(
        &self,
        request: &ApiRequest,
        asker: &Asker,
    ) -> Result<Vec<u8>, Failure> {
        let body = self.ask(request, asker).await?;
        Ok(body.limited(LARGEST_LIST).read(&asker.budget).await?)
    }

    /// Sends a request of the remote read protocol, and says whether its answer is a stream of frames.
    pub(super) async fn send_read(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, bool, Body), Failure> {
        let (head, incoming) = self.head(http::Method::POST, url, headers, body).await?;
        let kind = head.headers.get(header::CONTENT_TYPE);
        let is_stream = kind
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("application/x-streamed-protobuf"));
        // Frames and messages are packed within themselves.
        let body = Body::new(&HeaderMap::new(), incoming, LARGEST_ANSWER)?;
        Ok((head.status, is_stream, body))
    }

    /// Sends one request and waits for the head of its answer.
    async fn send(
        &self,
        method: http::Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Body), Failure> {
        let (head, incoming) = self.head(method, url, headers, body).await?;
        let body = Body::new(&head.headers, incoming, LARGEST_ANSWER)?;
        Ok((head.status, body))
    }

    async fn head(
        &self,
        method: http::Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(Parts, client::Body), Failure> {
        let verb = if method == http::Method::POST {
            "Post"
        } else {
            "Get"
        };
        let failed = |kind: FailureKind, url: &str, why: &str| {
            Failure::new(kind, format!("{verb} \"{url}\": {why}"))
        };
        let uri: Uri = url
            .parse()
            .map_err(|_| failed(FailureKind::Execution, url, "invalid URL"))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let sent = self.common.client.send(request, self.common.config.timeout);
        let response = sent.await.map_err(|error| {
            let kind = if error.is_timeout() {
                FailureKind::Timeout
            } else {
                FailureKind::Execution
            };
            failed(
                kind,
                error.redirected_to().unwrap_or(url),
                &error.to_string(),
            )
        })?;
        Ok(response.into_parts())
    }

    /// Returns the headers of a request: those of the client's request, and those of the group in their place.
    pub(super) fn headers(&self, asker: &Asker) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &*asker.headers {
            let pair = name
                .parse::<HeaderName>()
                .ok()
                .zip(HeaderValue::from_str(value).ok());
            if let Some((name, value)) = pair {
                headers.insert(name, value);
            }
        }
        for (name, value) in &self.common.headers {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }
}

fn pairs(params: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    params
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

/// Returns an answer if it may hold data; else reads what went wrong.
pub(super) async fn judged(
    status: StatusCode,
    answer: Body,
    asker: &Asker,
) -> Result<Body, Failure> {
    if status == StatusCode::OK {
        return Ok(answer);
    }
    // What cannot be read says no more than its status.
    let text = answer.limited(LARGEST_ERROR).read(&asker.budget).await;
    let wrong = decode::check_status(status.as_u16(), &text.unwrap_or_default());
    Err(wrong.map_or_else(Failure::from, |()| {
        Failure::new(FailureKind::Execution, format!("status {status}"))
    }))
}
