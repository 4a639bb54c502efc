//! The web server: from a request to the part that answers it, and what all answers have in common.
//!
//! In reading order:
//!
//! * [`Web`]: one request, from its head to its line in the access log
//! * [`routes`]: which path and method is what
//! * `pages`: what is not the API; `lifecycle`: reload and quit
//! * [`cors`], [`compress`], [`access_log`]: what is added to answers, and said about them
//!
//! Routing is our own because the original's has habits that clients see: which near misses are sent where, what a wrong
//! method hears. TLS, users and headers of the listener are in front of all this, in `shared::http::web_config`.

pub mod access_log;
pub mod compress;
pub mod cors;
mod lifecycle;
mod pages;
pub mod routes;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{ALLOW, CONTENT_LENGTH},
};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use shared::http::pace::TooSlow;

use self::{
    access_log::{Entry, Log},
    routes::{Endpoint, Found, Route, Routes},
};
use crate::{
    api,
    flags::AccessLog,
    message::{
        Request,
        answer::{self, Response},
        form::{Form, Plus, unescape},
    },
    state::State,
};

/// The longest body with parameters. Go has the same limit.
const LONGEST_FORM: usize = 10 << 20;
/// The longest request for raw samples.
const LONGEST_READ: usize = 32 << 20;

/// The web server.
#[derive(Debug)]
pub struct Web {
    state: Arc<State>,
    routes: Routes,
    log: Log,
}

/// Returns what serves requests.
pub fn router(state: Arc<State>) -> Router {
    let flags = &state.flags;
    let routes = Routes::new(&state.settings.route_prefix, &flags.metrics_path);
    state.telemetry.http.expect(routes.handlers());
    let log = Log {
        destination: state.settings.access_log,
        is_json: flags.log_format == "json",
        form_prefix: flags.log_max_form_prefix,
    };
    let web = Arc::new(Web { state, routes, log });
    Router::new().fallback(move |request: axum::extract::Request| {
        let web = Arc::clone(&web);
        async move { web.serve(request).await }
    })
}

impl Web {
    /// Answers a request and logs it.
    async fn serve(&self, request: axum::extract::Request) -> Response {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |peer| peer.0);
        let is_head = head.method == Method::HEAD;
        let method = head.method.clone();
        let protocol = match head.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        };
        let query = head.uri.query().unwrap_or_default().to_owned();
        let mut request = Request {
            method: head.method,
            form: Form::read(&method, &HeaderMap::new(), &query, b""),
            headers: head.headers,
            query,
            open: Vec::new(),
            path: String::new(),
            body: Bytes::new(),
            peer,
        };
        let mut response = match unescape(head.uri.path().as_bytes(), Plus::IsItself) {
            None => answer::error(StatusCode::BAD_REQUEST, "400 Bad Request"),
            Some(path) => {
                request.path = String::from_utf8_lossy(&path).into_owned();
                self.route(&mut request, &path, body, started).await
            }
        };
        if self.log.destination != AccessLog::None {
            let entry = Entry {
                peer: peer.ip(),
                method: method.as_str().to_owned(),
                path: request.path,
                protocol,
                form: request.form.encoded(),
            };
            let (status, log) = (response.status().as_u16(), self.log.clone());
            response = at_end(response, move |bytes| {
                log.write(&entry, status, bytes, started.elapsed());
            });
        }
        if is_head {
            response = without_body(response);
        }
        response
    }

    /// Finds out what is asked for, and asks it.
    async fn route(
        &self,
        request: &mut Request,
        path: &[u8],
        body: Body,
        started: Instant,
    ) -> Response {
        match self.routes.find(&request.method, path) {
            Found::Here(route, open) => {
                request.open = open;
                let response = match self.read(request, route, body).await {
                    None => self.answer(request, route).await,
                    Some(refusal) => refusal,
                };
                let (state, handler) = (Arc::clone(&self.state), route.handler);
                let status = response.status().as_u16();
                at_end(response, move |bytes| {
                    let counts = &state.telemetry.http;
                    counts.record(handler, status, started.elapsed(), bytes);
                })
            }
            Found::Elsewhere(status, path) => {
                let mut location = escape_path(&path);
                if status != StatusCode::FOUND && !request.query.is_empty() {
                    location.push('?');
                    location.push_str(&request.query);
                }
                answer::redirect(&request.method, status, &location)
            }
            Found::OtherMethods(methods) => {
                let mut response = if request.method == Method::OPTIONS {
                    answer::empty(StatusCode::OK)
                } else {
                    answer::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
                };
                if let Ok(methods) = HeaderValue::from_str(&methods) {
                    response.headers_mut().insert(ALLOW, methods);
                }
                response
            }
            Found::Nowhere => answer::not_found(),
        }
    }

    /// Reads the body, within limits of length and time. Returns what the client hears if that goes wrong.
    async fn read(&self, request: &mut Request, route: &Route, body: Body) -> Option<Response> {
        if !matches!(request.method, Method::POST | Method::PUT) {
            return None;
        }
        let longest = match route.endpoint {
            Endpoint::Api(api::Endpoint::RemoteRead) => LONGEST_READ,
            _ => LONGEST_FORM,
        };
        let limit = self.state.flags.read_timeout.unwrap_or(Duration::MAX);
        let reading = tokio::time::timeout(limit, Limited::new(body, longest).collect());
        let (status, text) = match reading.await {
            Ok(Ok(body)) => {
                request.body = body.to_bytes();
                request.form = Form::read(
                    &request.method,
                    &request.headers,
                    &request.query,
                    &request.body,
                );
                return None;
            }
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "request timeout"),
            Ok(Err(reason)) if reason.is::<http_body_util::LengthLimitError>() => {
                let text = "http: request body too large";
                (StatusCode::PAYLOAD_TOO_LARGE, text)
            }
            Ok(Err(reason)) if TooSlow::is_cause_of(&*reason) => {
                (StatusCode::REQUEST_TIMEOUT, "request timeout")
            }
            Ok(Err(_)) => (StatusCode::BAD_REQUEST, "unexpected EOF"),
        };
        Some(answer::error(status, text))
    }

    async fn answer(&self, request: &Request, route: &Route) -> Response {
        let state = &self.state;
        match route.endpoint {
            Endpoint::Root => pages::root(state, &request.method),
            Endpoint::Graph => pages::graph(state, &request.method, &request.query),
            Endpoint::Page => pages::page(state),
            Endpoint::Icon => pages::icon(),
            Endpoint::Absent => answer::not_found(),
            Endpoint::Consoles => {
                let file = String::from_utf8_lossy(&request.open);
                let text = format!("open {file}: no such file or directory");
                answer::error(StatusCode::NOT_FOUND, &text)
            }
            Endpoint::Version => pages::version(),
            Endpoint::Healthy => pages::healthy(),
            Endpoint::Ready => pages::ready(state),
            Endpoint::Reload => lifecycle::reload(state).await,
            Endpoint::Quit => lifecycle::quit(state),
            Endpoint::LifecycleRead => lifecycle::read(),
            Endpoint::Metrics => {
                let page = pages::metrics(state, &request.headers);
                compress::response(&request.headers, page).await
            }
            Endpoint::Federate => {
                let response = api::federate::answer(state, request).await;
                compress::response(&request.headers, response).await
            }
            Endpoint::Debug => pages::debug(),
            Endpoint::Preflight => {
                let mut response = answer::empty(StatusCode::NO_CONTENT);
                self.complete(request, &mut response);
                response
            }
            Endpoint::Api(endpoint) => {
                let mut response = api::answer(state, endpoint, request).await;
                if endpoint.is_plain() {
                    return response;
                }
                self.complete(request, &mut response);
                compress::response(&request.headers, response).await
            }
        }
    }

    fn complete(&self, request: &Request, response: &mut Response) {
        let allowed = &self.state.settings.cors_origin;
        cors::complete(&request.headers, response.headers_mut(), allowed);
    }
}

/// Does something with the length of an answer's body: at once if that is known, else when the answer has ended, however it ends.
fn at_end(response: Response, told: impl FnOnce(u64) + Send + Unpin + 'static) -> Response {
    if let Some(bytes) = response.body().size_hint().exact() {
        told(bytes);
        return response;
    }
    response.map(|body| {
        Body::new(Counted {
            body,
            bytes: 0,
            told: Some(told),
        })
    })
}

/// Leaves out the body, and says how long it would have been.
fn without_body(mut response: Response) -> Response {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response.map(|_| Body::empty())
}

/// A body that tells its length when it is dropped.
struct Counted<T: FnOnce(u64)> {
    body: Body,
    bytes: u64,
    told: Option<T>,
}

impl<T: FnOnce(u64) + Unpin> http_body::Body for Counted<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<T: FnOnce(u64)> Drop for Counted<T> {
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            told(self.bytes);
        }
    }
}

/// Writes a path as a URL has it.
fn escape_path(path: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"/-_.~$&+,:;=@!'()*".contains(byte) {
            out.push(char::from(*byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    // Two slashes at the start would name another host.
    if out.starts_with("//") {
        out.insert_str(0, "/.");
    }
    out
}
