//! The calls: `SendMetrics`, `SendMetricsV2`, and the health service.
//!
//! Nothing is decoded: a metric is placed, and copied to where it goes, from the bytes in which it came. Of a stream, the
//! messages that are already here are accepted as one batch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use shared::lifecycle::Tasks;
use tokio::{
    sync::Semaphore,
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    framing::{MAX_MESSAGE, Reader},
    health,
    status::{Code, Reply, Status},
};
use crate::{
    admin::Readiness,
    destinations::Destinations,
    forward::{Batch, Inbound, room::Rooms},
    proto::forwardrpc::{SEND_METRICS, SEND_METRICS_V2},
    telemetry::{Arrival, Telemetry},
    wire::Corrupt,
};

/// How long a message may take to arrive once it has begun.
const MESSAGE: Duration = Duration::from_secs(60);
/// How long a stream may go on when the server is to stop: until it has been silent for the one, the other at most.
const LAST_SILENCE: Duration = Duration::from_millis(200);
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Large messages that are gathered at a time, in the whole process.
const LARGE_MESSAGES: usize = 64;
/// What is large.
const LARGE: usize = 256 * 1024;

/// What answers calls.
#[derive(Debug)]
pub(crate) struct Service {
    destinations: Destinations,
    readiness: Readiness,
    telemetry: Arc<Telemetry>,
    tasks: Tasks,
    large: Arc<Semaphore>,
}

impl Service {
    pub(crate) fn new(
        destinations: Destinations,
        readiness: Readiness,
        telemetry: Arc<Telemetry>,
        tasks: Tasks,
    ) -> Self {
        Self {
            destinations,
            readiness,
            telemetry,
            tasks,
            large: Arc::new(Semaphore::new(LARGE_MESSAGES)),
        }
    }

    pub(super) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Answers a call.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Reply> {
        let (head, body) = request.into_parts();
        let rooms = &self.destinations.packer().messages;
        let body = Messages::new(body, rooms, &self.large);
        let outcome = match head.uri.path() {
            SEND_METRICS => self.send_metrics(&head.headers, body).await,
            SEND_METRICS_V2 => self.send_metrics_v2(&head.headers, body).await,
            health::CHECK => self.health(&head.headers, body, false).await,
            health::WATCH => self.health(&head.headers, body, true).await,
            path => Err(unknown(path)),
        };
        outcome.unwrap_or_else(Status::into_response)
    }

    async fn send_metrics(
        &self,
        headers: &HeaderMap,
        mut body: Messages,
    ) -> Result<Response<Reply>, Status> {
        let started = Instant::now();
        let outcome = async {
            supported(headers)?;
            let message = body.only().await?;
            let mut batch = self.destinations.batch(Inbound::Unary, None);
            let metrics = batch.list(message).map_err(corrupt)?;
            self.telemetry.arrival(&Arrival::Metrics {
                inbound: Inbound::Unary,
                metrics,
            });
            self.destinations.accept(batch).await;
            Ok(Reply::one(&[]))
        }
        .await;
        self.ended(Inbound::Unary, started, outcome.is_err());
        outcome
    }

    async fn send_metrics_v2(
        &self,
        headers: &HeaderMap,
        mut body: Messages,
    ) -> Result<Response<Reply>, Status> {
        let started = Instant::now();
        let outcome = match supported(headers) {
            Ok(()) => self.stream(&mut body).await,
            Err(status) => Err(status),
        };
        self.ended(Inbound::Stream, started, outcome.is_err());
        outcome.map(|()| Reply::one(&[]))
    }

    /// Accepts what a stream brings. What came before a corrupt message is accepted, as in the original.
    async fn stream(&self, body: &mut Messages) -> Result<(), Status> {
        let mut expected = 0;
        loop {
            while !body.reader.is_whole()? {
                match self.wait(body).await? {
                    Some(piece) => body.reader.push(piece),
                    None if body.reader.pending() > 0 => return Err(cut()),
                    None => return Ok(()),
                }
            }
            // Not before there is something to place: a batch places by the members that it has seen.
            let mut batch = self.destinations.batch(Inbound::Stream, None);
            batch.expect(expected);
            let outcome = Self::gather(body, &mut batch).await;
            expected = batch.bytes();
            if !batch.is_empty() {
                self.telemetry.arrival(&Arrival::Metrics {
                    inbound: Inbound::Stream,
                    metrics: batch.len(),
                });
                self.destinations.accept(batch).await;
            }
            outcome?;
        }
    }

    /// Fills the batch with all messages that are here.
    async fn gather(body: &mut Messages, batch: &mut Batch) -> Result<(), Status> {
        let mut patience = true;
        loop {
            while let Some(message) = body.reader.next()? {
                batch.metric(message).map_err(corrupt)?;
                if batch.is_full() {
                    return Ok(());
                }
            }
            match body.piece().now_or_never() {
                Some(Ok(Some(piece))) => body.reader.push(piece),
                // The end is found again by whoever waits.
                Some(Ok(None)) => return Ok(()),
                Some(Err(status)) => return Err(status),
                // The connection is read by another task, which may be about to bring more.
                None if patience => {
                    patience = false;
                    yield_now().await;
                }
                None => return Ok(()),
            }
        }
    }

    /// Waits for the next piece of a stream. A stream may be silent for as long as it likes, until the server is to stop.
    async fn wait(&self, body: &mut Messages) -> Result<Option<Bytes>, Status> {
        let stop = self.tasks.stop_token();
        if body.reader.pending() > 0 {
            return body.piece_of_message().await;
        }
        if !stop.is_cancelled() {
            tokio::select! {
                piece = body.piece() => return piece,
                () = stop.cancelled() => {}
            }
        }
        let last = *body
            .last_words
            .get_or_insert_with(|| Instant::now() + LAST_WORDS);
        let silence = LAST_SILENCE.min(last.saturating_duration_since(Instant::now()));
        tokio::select! {
            biased;
            piece = body.piece() => piece,
            () = sleep(silence) => Err(Status::new(Code::Unavailable, "the server is shutting down")),
        }
    }

    async fn health(
        &self,
        headers: &HeaderMap,
        mut body: Messages,
        watch: bool,
    ) -> Result<Response<Reply>, Status> {
        supported(headers)?;
        let request = body.only().await?;
        if watch {
            health::watch(request, &self.readiness, &self.tasks)
        } else {
            health::check(request, &self.readiness)
        }
    }

    fn ended(&self, inbound: Inbound, started: Instant, failed: bool) {
        self.telemetry.arrival(&Arrival::Call {
            inbound,
            took: started.elapsed(),
            failed,
        });
    }
}

/// The messages of a call.
struct Messages {
    body: Incoming,
    reader: Reader,
    ended: bool,
    large: Arc<Semaphore>,
    /// When a stream that goes on is ended, once the server is to stop.
    last_words: Option<Instant>,
}

impl Messages {
    fn new(body: Incoming, rooms: &Arc<Rooms>, large: &Arc<Semaphore>) -> Self {
        Self {
            body,
            reader: Reader::new(rooms),
            ended: false,
            large: Arc::clone(large),
            last_words: None,
        }
    }

    /// Waits for the next piece; `None` at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Status> {
        while !self.ended {
            match self.body.frame().await {
                None => self.ended = true,
                Some(Err(reason)) => return Err(Status::new(Code::Canceled, reason.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn piece_of_message(&mut self) -> Result<Option<Bytes>, Status> {
        timeout(MESSAGE, self.piece())
            .await
            .unwrap_or_else(|_| Err(cut()))
    }

    /// Receives the message of a call that has one.
    async fn only(&mut self) -> Result<&[u8], Status> {
        let mut place = None;
        while !self.reader.is_whole()? {
            if place.is_none() && self.reader.pending() > LARGE {
                place = Some(timeout(MESSAGE, self.large.clone().acquire_owned()).await);
                if !matches!(place, Some(Ok(Ok(_)))) {
                    return Err(Status::new(
                        Code::ResourceExhausted,
                        format!("too many messages of up to {MAX_MESSAGE} bytes at a time"),
                    ));
                }
            }
            let piece = self.piece_of_message().await?.ok_or_else(cut)?;
            self.reader.push(piece);
        }
        Ok(self.reader.next()?.unwrap_or_default())
    }
}

/// Refuses compressed requests in the words of Go's server, which has no compression installed.
fn supported(headers: &HeaderMap) -> Result<(), Status> {
    match headers
        .get("grpc-encoding")
        .map(http::HeaderValue::as_bytes)
    {
        None | Some(b"" | b"identity") => Ok(()),
        Some(encoding) => {
            let encoding = String::from_utf8_lossy(encoding);
            Err(Status::new(
                Code::Unimplemented,
                format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}"),
            ))
        }
    }
}

fn unknown(path: &str) -> Status {
    let known = ["forwardrpc.Forward", "grpc.health.v1.Health"];
    let text = match path.trim_start_matches('/').rsplit_once('/') {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if known.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    };
    Status::new(Code::Unimplemented, text)
}

fn corrupt(reason: Corrupt) -> Status {
    Status::new(
        Code::Internal,
        format!("grpc: error unmarshalling request: {reason}"),
    )
}

fn cut() -> Status {
    Status::new(Code::Internal, "unexpected EOF")
}
