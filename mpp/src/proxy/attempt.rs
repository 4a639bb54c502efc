//! One try at one server: a connection, the request, the head of the answer.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    header::{CONTENT_LENGTH, HOST},
    request::Parts,
};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use shared::tls::Stream;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    Client, Proxy,
    body::{Answer, Attempt, RequestBody, ResponseBody},
    pool::Link,
};
use crate::backend::{Backend, Failure};

/// What Prometheus answers while it starts or stops.
const NOT_READY: &[u8] = b"Service Unavailable";
/// The header by which newer ones say so.
const STOPPING: &str = "x-prometheus-stopping";
/// The longest body that is looked into for that.
const LONGEST_NOT_READY: u64 = 64;
/// How long such a body may take.
const NOT_READY_BODY: Duration = Duration::from_secs(1);

/// A request that may be sent more than once.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    body: Option<RequestBody>,
}

/// A try that came to nothing.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) why: Failure,
    /// In words, for the log and the client.
    pub(crate) text: String,
    /// Whether the server has certainly seen nothing of the request.
    pub(super) untouched: bool,
    /// The server's own refusal.
    pub(super) response: Option<Response<ResponseBody>>,
}

impl Broken {
    pub(super) fn new(why: Failure, text: impl Into<String>) -> Self {
        Self {
            why,
            text: text.into(),
            untouched: false,
            response: None,
        }
    }

    fn untouched(mut self) -> Self {
        self.untouched = true;
        self
    }
}

impl Template {
    pub(super) fn new(parts: Parts, body: RequestBody) -> Self {
        Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body: Some(body),
        }
    }

    /// Says whether the body can be sent again.
    pub(super) fn is_replayable(&self) -> bool {
        matches!(self.body, Some(RequestBody::Whole(_)))
    }

    /// Says whether sending twice does no harm: queries change nothing, whatever their method.
    pub(super) fn is_safe(&self) -> bool {
        let path = self.uri.path();
        !["/api/v1/admin/", "/api/v1/write", "/api/v1/otlp/", "/-/"]
            .iter()
            .any(|prefix| path.starts_with(prefix))
            || self.method.is_safe()
    }

    /// Makes the message for a server. A streamed body goes with the first one.
    fn message(&mut self, backend: &Backend) -> Request<RequestBody> {
        let body = match &self.body {
            Some(RequestBody::Whole(bytes)) => RequestBody::Whole(bytes.clone()),
            _ => self.body.take().unwrap_or(RequestBody::Whole(Bytes::new())),
        };
        let mut request = Request::new(body);
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        request.headers_mut().clone_from(&self.headers);
        request
            .headers_mut()
            .insert(HOST, backend.host_value.clone());
        request
    }
}

/// Tries a server. An answer that means that another server should be asked is an error.
pub(super) async fn run(
    proxy: &Proxy,
    client: &Client,
    backend: &Arc<Backend>,
    template: &mut Template,
) -> Result<Response<ResponseBody>, Broken> {
    let attempt = Attempt::start(backend);
    let mut idle = backend.pools[client.worker].take().await;
    let (link, response) = loop {
        let reused = idle.is_some();
        let mut link = match idle.take() {
            Some(link) => link,
            None => connect(proxy, backend).await?,
        };
        let message = template.message(backend);
        match exchange(proxy, backend, &mut link, message).await {
            Ok(response) => break (link, response),
            // The server closed an idle connection at the very moment; that says nothing about it.
            Err(broken)
                if reused
                    && broken.why == Failure::Reset
                    && template.is_replayable()
                    && (broken.untouched || template.is_safe()) => {}
            Err(broken) => return Err(broken),
        }
    };
    let response = response.map(|body| {
        ResponseBody::Streamed(Box::new(Answer {
            body,
            link: Some(link),
            attempt,
            worker: client.worker,
            broken: None,
        }))
    });
    judge(response).await
}

/// Connects to a server.
pub(super) async fn connect(proxy: &Proxy, backend: &Backend) -> Result<Link, Broken> {
    let stream = dial(proxy, backend).await?;
    Link::open(stream)
        .await
        .map_err(|reason| Broken::new(Failure::Connect, reason.to_string()).untouched())
}

/// Opens a byte stream to a server, with TLS where its address says so.
pub(super) async fn dial(proxy: &Proxy, backend: &Backend) -> Result<Stream, Broken> {
    let limit = proxy.attempts.connect;
    let endpoint = &backend.endpoint;
    let connected = timeout(limit, async {
        let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
        stream.set_nodelay(true)?;
        if !endpoint.is_tls() {
            return Ok(Stream::Plain(stream));
        }
        let stream = proxy.tls.connect(endpoint.host(), stream, limit).await?;
        Ok(stream.into())
    })
    .await;
    match connected {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(reason)) => {
            let reason: io::Error = reason;
            Err(Broken::new(Failure::Connect, format!("cannot connect: {reason}")).untouched())
        }
        Err(_) => {
            Err(Broken::new(Failure::Hang, format!("no connection within {limit:?}")).untouched())
        }
    }
}

/// Sends the message and waits for the head of the answer, but not for longer than the limit, nor for a server that hangs.
async fn exchange(
    proxy: &Proxy,
    backend: &Backend,
    link: &mut Link,
    message: Request<RequestBody>,
) -> Result<Response<Incoming>, Broken> {
    let mut wait = Wait::begin(backend);
    tokio::select! {
        biased;
        answer = link.send(message) => match answer {
            Ok(response) => {
                wait.progressed = true;
                Ok(response)
            }
            Err(reason) => Err(broken(&reason)),
        },
        () = backend.found_hanging() => {
            Err(Broken::new(Failure::Hang, "the server hangs"))
        }
        () = limit(proxy.attempts.first_byte) => {
            let limit = proxy.attempts.first_byte.unwrap_or_default();
            Err(Broken::new(Failure::Hang, format!("no answer within {limit:?}")))
        }
    }
}

async fn limit(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn broken(reason: &hyper::Error) -> Broken {
    let why = if reason.is_parse() {
        Failure::NotHttp
    } else {
        Failure::Reset
    };
    let mut text = reason.to_string();
    let mut source = std::error::Error::source(reason);
    while let Some(deeper) = source {
        text = format!("{text}: {deeper}");
        source = deeper.source();
    }
    let broken = Broken::new(why, text);
    if reason.is_canceled() {
        broken.untouched()
    } else {
        broken
    }
}

/// Tells answers that another server should be asked for from those that are the client's.
async fn judge(mut response: Response<ResponseBody>) -> Result<Response<ResponseBody>, Broken> {
    let why = match response.status() {
        StatusCode::BAD_GATEWAY => Failure::BadGateway,
        StatusCode::GATEWAY_TIMEOUT => Failure::GatewayTimeout,
        StatusCode::SERVICE_UNAVAILABLE => {
            if !says_not_ready(&mut response).await {
                return Ok(response);
            }
            Failure::NotReady
        }
        _ => return Ok(response),
    };
    let text = format!("the server answers {}", response.status());
    Err(Broken {
        response: Some(response),
        ..Broken::new(why, text)
    })
}

/// Says whether a 503 is that of a Prometheus that starts or stops. A short body is read for that, and put back.
async fn says_not_ready(response: &mut Response<ResponseBody>) -> bool {
    if response.headers().contains_key(STOPPING) {
        return true;
    }
    let short = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|length| length <= LONGEST_NOT_READY);
    if !short {
        return false;
    }
    let body = std::mem::replace(response.body_mut(), ResponseBody::EMPTY);
    let Ok(Ok(body)) = timeout(NOT_READY_BODY, body.collect()).await else {
        // Broken off, so that it is of no use to the client either.
        response.headers_mut().remove(CONTENT_LENGTH);
        return true;
    };
    let body = body.to_bytes();
    let not_ready = body.trim_ascii() == NOT_READY;
    *response.body_mut() = ResponseBody::Whole(body);
    not_ready
}

/// The wait for a first byte, which the watch for hangs looks at.
struct Wait<'a> {
    backend: &'a Backend,
    progressed: bool,
}

impl<'a> Wait<'a> {
    fn begin(backend: &'a Backend) -> Self {
        backend.wait_begins();
        Self {
            backend,
            progressed: false,
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.backend.wait_ends(self.progressed);
    }
}
