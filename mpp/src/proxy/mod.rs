//! The way of a request: a server is chosen, by affinity or by strategy; the request goes there; what that server cannot answer,
//! another one is asked. Only then does the client see anything, and from then on the answer streams.
//!
//! * [`choice`], [`affinity`]: which server
//! * `attempt`: one try at one server
//! * [`headers`]: what is changed on the way
//! * `body`: how bodies pass
//! * `pool`: connections to servers
//! * `tunnel`: requests that leave HTTP (websockets)
//! * `refusal`: our own words to clients

pub mod affinity;
mod attempt;
pub(crate) mod body;
pub mod choice;
pub mod headers;
pub(crate) mod pool;
#[cfg(test)]
mod properties;
pub(crate) mod refusal;
mod tunnel;

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header::HOST, request::Parts,
};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use shared::{
    http::pace::{Arriving, STALL, TooSlow},
    lifecycle::Tasks,
    tls::client::Client as Tls,
};
use tracing::{debug, warn};

use crate::{backend::Backend, config::Attempts, select::Selector};
use attempt::{Broken, Template};
use body::{RequestBody, ResponseBody};
use choice::{Choice, Router};
use headers::Origin;

/// How long a request waits for a round of selection when nobody else is left to try.
const ROUND: Duration = Duration::from_secs(5);

/// Everything that requests share.
#[derive(Debug)]
pub struct Proxy {
    pub(crate) attempts: Attempts,
    pub(crate) selector: Selector,
    /// Who gets which request.
    pub router: Router,
    pub(crate) tls: Tls,
    pub(crate) host_name: HeaderValue,
    pub(crate) tasks: Tasks,
}

/// A client's connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) peer: IpAddr,
    /// The peer's address as headers need it.
    pub(crate) peer_value: HeaderValue,
    /// Whether it speaks TLS with us.
    pub(crate) tls: bool,
    /// The worker thread that serves it.
    pub(crate) worker: usize,
}

impl Client {
    pub(crate) fn new(peer: IpAddr, tls: bool, worker: usize) -> Self {
        Self {
            peer,
            peer_value: HeaderValue::try_from(peer.to_string())
                .unwrap_or(HeaderValue::from_static("unknown")),
            tls,
            worker,
        }
    }
}

impl Proxy {
    /// Answers a request.
    pub(crate) async fn serve(
        &self,
        client: &Client,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        if self.selector.current().targets.is_empty() {
            self.selector.first_round(ROUND).await;
        }
        if is_websocket(&request) {
            return tunnel::serve(self, client, request).await;
        }
        let (mut parts, body) = request.into_parts();
        let body = match self.read(body).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        self.rewrite(&mut parts, client, "http");
        let template = Template::new(parts, body);
        self.try_servers(client, template).await
    }

    async fn try_servers(&self, client: &Client, mut template: Template) -> Response<ResponseBody> {
        let mut failed: Vec<Arc<Backend>> = Vec::new();
        let Some(mut choice) = self.choose(&template.headers, client.peer, &failed) else {
            return refusal::nobody();
        };
        loop {
            let may_retry = failed.len() < self.attempts.retries;
            let broken = match attempt::run(self, client, &choice.backend, &mut template).await {
                Ok(response) => {
                    choice.backend.succeeded();
                    return self.deliver(client, &template, &choice, response);
                }
                Err(broken) => broken,
            };
            self.note(&choice.backend, &broken);
            failed.push(Arc::clone(&choice.backend));
            let replayable = template.is_replayable() && (broken.untouched || template.is_safe());
            if !may_retry || !replayable {
                return give_up(&choice.backend, broken);
            }
            let Some(next) = self.next_choice(client, &template.headers, &failed).await else {
                return give_up(&choice.backend, broken);
            };
            choice.backend.retried(broken.why);
            debug!(
                "retry Request({} {}) attempt {} after {} at {}",
                template.method,
                template.uri,
                failed.len() + 1,
                broken.why.name(),
                choice.backend.endpoint
            );
            choice = next;
        }
    }

    /// Chooses another server after a failure, and has a round of selection look at what has happened.
    async fn next_choice(
        &self,
        client: &Client,
        headers: &HeaderMap,
        failed: &[Arc<Backend>],
    ) -> Option<Choice> {
        debug!("Backend selection forced by retry");
        self.selector.forced.fetch_add(1, Relaxed);
        if let Some(next) = self.choose(headers, client.peer, failed) {
            self.selector.nudge();
            return Some(next);
        }
        self.selector.round(ROUND).await;
        self.choose(headers, client.peer, failed)
            // Nobody else at all: the same once more, as the original does.
            .or_else(|| match failed {
                [only] => Some(Choice::of(only)),
                _ => None,
            })
    }

    /// Counts a failure, and says so if it ejects the server.
    pub(crate) fn note(&self, backend: &Arc<Backend>, broken: &Broken) {
        if backend.failed(broken.why, self.attempts.eject_after) {
            warn!(
                "Endpoint {} is ejected after {} failure(s), the last: {}",
                backend.endpoint,
                backend.failures_in_a_row(),
                broken.text
            );
            for pool in &backend.pools {
                pool.clear();
            }
        } else {
            debug!(
                "Error forwarding to {}, err: {}",
                backend.endpoint, broken.text
            );
        }
    }

    fn deliver(
        &self,
        client: &Client,
        template: &Template,
        choice: &Choice,
        mut response: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        let headers = response.headers_mut();
        headers::strip_hop_by_hop(headers);
        headers::served_by(headers, &choice.backend);
        if response.status().as_u16() < 500 {
            let affinity = &self.router.affinity;
            if affinity.cookies
                && choice.matched.is_none()
                && !affinity::has_cookie(&template.headers, &choice.backend)
            {
                headers::set_cookie(response.headers_mut(), &choice.backend);
            }
            let source = affinity.source(&template.headers, client.peer);
            affinity.remember(source, &choice.backend);
        }
        debug!(
            "Round trip: {}{}, code: {}",
            choice.backend.endpoint,
            template.uri,
            response.status().as_u16()
        );
        response
    }

    /// Makes a client's request one for a server; all but `Host`.
    fn rewrite(&self, parts: &mut Parts, client: &Client, scheme: &str) {
        let scheme = match (scheme, client.tls) {
            ("ws", false) => HeaderValue::from_static("ws"),
            ("ws", true) => HeaderValue::from_static("wss"),
            (_, false) => HeaderValue::from_static("http"),
            (_, true) => HeaderValue::from_static("https"),
        };
        let origin = Origin {
            client: client.peer_value.clone(),
            scheme,
            host: host(parts),
            server: self.host_name.clone(),
        };
        headers::strip_hop_by_hop(&mut parts.headers);
        headers::forward(&mut parts.headers, &origin);
        if parts.uri.authority().is_some() {
            // Proxies get the absolute form, servers the origin form.
            let path = parts.uri.path_and_query().cloned();
            parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
    }

    /// Reads as much of a body as is kept for another try.
    async fn read(&self, body: Incoming) -> Result<RequestBody, Response<ResponseBody>> {
        if body.is_end_stream() {
            return Ok(RequestBody::Whole(Bytes::new()));
        }
        let mut body = Arriving::new(body, STALL);
        let hint = body.size_hint();
        let most = self.attempts.max_body.unwrap_or(u64::MAX);
        if hint.lower() > most {
            return Err(refusal::too_large());
        }
        let keep = self.attempts.replay_limit;
        let mut start = BytesMut::new();
        while hint.lower() <= keep as u64 {
            match body.frame().await {
                None => return Ok(RequestBody::Whole(start.freeze())),
                Some(Err(reason)) if TooSlow::is_cause_of(&*reason) => {
                    return Err(refusal::text(
                        StatusCode::REQUEST_TIMEOUT,
                        "the request's body did not come in time",
                    ));
                }
                Some(Err(reason)) => return Err(refusal::bad_request(&reason)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        start.extend_from_slice(&data);
                    }
                }
            }
            if start.len() > keep {
                break;
            }
        }
        let left = most
            .checked_sub(start.len() as u64)
            .ok_or_else(refusal::too_large)?;
        Ok(RequestBody::Streamed {
            start: start.freeze(),
            rest: body,
            left,
        })
    }

    pub(crate) fn choose(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        failed: &[Arc<Backend>],
    ) -> Option<Choice> {
        let selection = self.selector.current();
        self.router.choose(&selection, headers, peer, failed)
    }
}

/// What a client gets when nobody answered: the server's own refusal if it had one, else ours.
fn give_up(backend: &Backend, broken: Broken) -> Response<ResponseBody> {
    let mut response = match broken.response {
        Some(mut response) => {
            headers::strip_hop_by_hop(response.headers_mut());
            response
        }
        None => refusal::failed(broken.why, &broken.text),
    };
    headers::served_by(response.headers_mut(), backend);
    response
}

/// The host that a client asks for; HTTP/2 has it in the address.
fn host(parts: &Parts) -> Option<HeaderValue> {
    let named = parts.headers.get(HOST).cloned();
    named.or_else(|| HeaderValue::from_str(parts.uri.authority()?.as_str()).ok())
}

fn is_websocket(request: &Request<Incoming>) -> bool {
    headers::wants_upgrade(request.headers())
        && request
            .headers()
            .get(http::header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
