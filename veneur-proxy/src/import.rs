//! `POST /import`: from a request to an accepted batch (`handlers_global.go`).
//!
//! The answer comes once the destinations have taken the metrics over, not once they have been forwarded.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tracing::error;

use crate::{
    config::{Generation, inbound::Limits},
    destinations::Destinations,
    forward::{Batch, Inbound, TraceContext},
    json_metric::{ImportBody, ImportError},
    serve::{self, Answer},
    telemetry::{Arrival, Telemetry, Throttles},
};

/// Bodies up to this size, in bytes, are read where they arrive: that takes milliseconds, and every further thread that
/// inflates bodies keeps memory of its own.
const SMALL: usize = 1 << 20;

/// What takes requests.
#[derive(Debug)]
pub(crate) struct Import {
    generation: Generation,
    limits: Limits,
    destinations: Destinations,
    telemetry: Arc<Telemetry>,
    /// Bounds the memory of large bodies: while they are received, and while they are inflated and read.
    receiving: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    throttles: Throttles,
}

/// Why a request got no batch.
enum Refusal {
    /// The original's reasons.
    Import(ImportError),
    /// The client went away, or took too long.
    Body,
    /// The process has no room, or is about to end.
    Busy,
}

impl From<ImportError> for Refusal {
    fn from(reason: ImportError) -> Self {
        Self::Import(reason)
    }
}

impl Import {
    pub(crate) fn new(
        generation: Generation,
        limits: Limits,
        destinations: Destinations,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            generation,
            limits,
            destinations,
            telemetry,
            receiving: Arc::new(Semaphore::new(limits.bodies_at_a_time())),
            reading: Arc::new(Semaphore::new(threads)),
            throttles: Throttles::default(),
        }
    }

    /// Answers a request.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        client: Option<SocketAddr>,
    ) -> Answer {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let encoding = head.headers.get(header::CONTENT_ENCODING);
        let encoding = encoding.map_or(&b""[..], |value| value.as_bytes());
        match self.take(&head.headers, encoding, body).await {
            Ok(metrics) => {
                self.telemetry.arrival(&Arrival::Import {
                    metrics,
                    encoding: if encoding.is_empty() {
                        "identity"
                    } else {
                        "deflate"
                    },
                    took: started.elapsed(),
                    client: client.map(|client| client.ip()),
                });
                serve::empty(StatusCode::ACCEPTED)
            }
            Err(Refusal::Import(reason)) => self.refuse(&reason, encoding, client),
            Err(Refusal::Body) => serve::error(StatusCode::REQUEST_TIMEOUT, "unexpected EOF"),
            Err(Refusal::Busy) => serve::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests under way",
            ),
        }
    }

    async fn take(
        &self,
        headers: &HeaderMap,
        encoding: &[u8],
        body: Incoming,
    ) -> Result<usize, Refusal> {
        let limit = self.limits.request_bytes;
        let announced = body.size_hint().lower();
        if announced > limit as u64 {
            return Err(ImportError::TooLarge(limit).into());
        }
        let _place = timeout(self.limits.request_timeout, self.receiving.acquire())
            .await
            .map_err(|_| Refusal::Busy)?
            .map_err(|_| Refusal::Busy)?;
        let body = timeout(self.limits.request_timeout, receive(body, limit))
            .await
            .map_err(|_| Refusal::Body)??;
        self.telemetry.arrival(&Arrival::ImportBytes(body.len()));
        let batch = self.destinations.batch(Inbound::Http, self.trace(headers));
        let (batch, metrics) = self.read(batch, encoding, body).await?;
        self.destinations.accept(batch).await;
        Ok(metrics)
    }

    /// Inflates and reads a body into the batch.
    async fn read(
        &self,
        batch: Batch,
        encoding: &[u8],
        body: Bytes,
    ) -> Result<(Batch, usize), Refusal> {
        let limit = self.limits.inflated_bytes;
        if body.len() <= SMALL {
            return fill(batch, encoding, &body, limit);
        }
        let _place = self.reading.acquire().await.map_err(|_| Refusal::Busy)?;
        let encoding = encoding.to_vec();
        spawn_blocking(move || fill(batch, &encoding, &body, limit))
            .await
            .map_err(|_| Refusal::Busy)?
    }

    /// Reads the headers that carry a trace on; v1 looked at none.
    fn trace(&self, headers: &HeaderMap) -> Option<TraceContext> {
        match self.generation {
            Generation::Legacy => None,
            Generation::Dual | Generation::Stream => trace(headers),
        }
    }

    fn refuse(&self, reason: &ImportError, encoding: &[u8], client: Option<SocketAddr>) -> Answer {
        if let Some(cause) = reason.cause() {
            self.telemetry.arrival(&Arrival::ImportRefused(cause));
        }
        if let Some(suppressed) = self.throttles.import.admit() {
            let client = client.map_or_else(|| "@".to_owned(), |client| client.to_string());
            let encoding = String::from_utf8_lossy(encoding);
            match reason.cause() {
                Some("unknown_content_encoding") => {
                    error!(client, %encoding, suppressed, "Could not determine content-encoding of request");
                }
                Some("deflate") => {
                    error!(client, %encoding, error = %reason, suppressed, "Could not read compressed request body");
                }
                Some(_) => {
                    error!(client, error = %reason, suppressed, "Could not decode /import request");
                }
                None => error!(client, suppressed, "{reason}"),
            }
        }
        let status =
            StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        serve::error(status, &reason.to_string())
    }
}

fn fill(
    mut batch: Batch,
    encoding: &[u8],
    body: &[u8],
    limit: usize,
) -> Result<(Batch, usize), Refusal> {
    let opened = ImportBody::open(encoding, body, limit)?;
    let metrics = batch.import(&opened)?;
    Ok((batch, metrics))
}

/// Receives a whole body.
async fn receive(mut body: Incoming, limit: usize) -> Result<Bytes, Refusal> {
    let announced = body.size_hint().exact().unwrap_or(0);
    let mut first = Bytes::new();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::Body)?.into_data() else {
            continue;
        };
        if first.len() + whole.len() + data.len() > limit {
            return Err(ImportError::TooLarge(limit).into());
        }
        if data.len() as u64 == announced {
            return Ok(data);
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve((announced as usize).min(limit).min(1 << 20));
            whole.extend_from_slice(&first);
            first = Bytes::new();
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.into()
    })
}

/// Names of headers with a trace's and a span's number, and the base of the digits.
const TRACE_HEADERS: [(&str, &str, u32); 4] = [
    ("ot-tracer-traceid", "ot-tracer-spanid", 16),
    ("trace-id", "span-id", 10),
    ("x-trace-id", "x-span-id", 10),
    ("traceid", "spanid", 10),
];

fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    TRACE_HEADERS.iter().find_map(|(trace, span, base)| {
        let number = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?;
            i64::from_str_radix(text, *base)
                .ok()
                .filter(|number| *number != 0)
        };
        Some(TraceContext {
            trace_id: number(trace)?,
            span_id: number(span)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pair_of_headers_that_are_numbers_is_the_trace() {
        let f = |pairs: &[(&'static str, &'static str)], expected: Option<(i64, i64)>| {
            let headers = pairs
                .iter()
                .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
                .collect();
            let found = trace(&headers).map(|trace| (trace.trace_id, trace.span_id));
            assert_eq!(found, expected, "{pairs:?}");
        };
        f(
            &[("Ot-Tracer-Traceid", "2a"), ("ot-tracer-spanid", "b")],
            Some((42, 11)),
        );
        f(
            &[
                ("ot-tracer-traceid", "0"),
                ("ot-tracer-spanid", "1"),
                ("Trace-Id", "7"),
                ("Span-Id", "8"),
            ],
            Some((7, 8)),
        );
        f(&[("X-Trace-Id", "7"), ("Spanid", "8")], None);
        f(&[("Traceid", "x"), ("Spanid", "8")], None);
    }
}
