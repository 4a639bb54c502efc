//! `POST /import`: from a request to an accepted batch (`handlers_global.go`).
//!
//! The answer comes once the destinations have taken the metrics over, not once they have been forwarded.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tracing::error;

use crate::{
    config::{Generation, inbound::Limits},
    destinations::Destinations,
    forward::{Batch, Inbound, TraceContext},
    json_metric::{ImportBody, ImportError},
    serve::{self, Answer},
    telemetry::{Arrival, Telemetry, Throttles},
};

/// How many times its size a compressed body may well inflate to.
const INFLATION: usize = 10;
/// The unit in which room for bodies is given out, in bytes.
const UNIT: usize = 1024;
/// How much room a body of unknown length is given at first, in bytes.
const UNKNOWN: usize = 1 << 20;

/// What takes requests.
#[derive(Debug)]
pub(crate) struct Import {
    generation: Generation,
    limits: Limits,
    destinations: Destinations,
    telemetry: Arc<Telemetry>,
    /// The room for all bodies that are received, read, or waiting for destinations, in units.
    room: Semaphore,
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
        Self {
            generation,
            limits,
            destinations,
            telemetry,
            room: Semaphore::new(units(limits.room()) as usize),
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
        let wanted = body
            .size_hint()
            .exact()
            .map_or(UNKNOWN, |size| size as usize);
        let mut place = timeout(
            self.limits.request_timeout,
            self.room.acquire_many(units(wanted.min(limit))),
        )
        .await
        .map_err(|_| Refusal::Busy)?
        .map_err(|_| Refusal::Busy)?;
        let received = self.receive(body, &mut place);
        let body = timeout(self.limits.request_timeout, received)
            .await
            .map_err(|_| Refusal::Body)??;
        self.telemetry.arrival(&Arrival::ImportBytes(body.len()));
        let batch = self.destinations.batch(Inbound::Http, self.trace(headers));
        let (batch, metrics) = self.read(batch, encoding, body).await?;
        self.destinations.accept(batch).await;
        Ok(metrics)
    }

    /// Inflates and reads a body into the batch, and packs what it holds.
    async fn read(
        &self,
        mut batch: Batch,
        encoding: &[u8],
        body: Bytes,
    ) -> Result<(Batch, usize), Refusal> {
        let limit = self.limits.inflated_bytes;
        // The text, and the room that it takes beside the body.
        let (text, room) = if encoding.is_empty() {
            (body.len(), 0)
        } else {
            let inflated = (body.len() * INFLATION).min(limit);
            (inflated, inflated)
        };
        let encoding = encoding.to_vec();
        let packer = Arc::clone(self.destinations.packer());
        let fill = move || {
            let mut room = packer.texts.take(room);
            let metrics = ImportBody::open_in(&encoding, &body, limit, &mut room)
                .and_then(|opened| batch.import(&opened));
            packer.texts.give(room);
            let metrics = metrics?;
            batch.pack();
            Ok((batch, metrics))
        };
        let packer = self.destinations.packer();
        packer.work(text, fill).await.ok_or(Refusal::Busy)?
    }

    /// Receives a whole body; one that is longer than its place gets more room, as long as there is some.
    async fn receive<'r>(
        &'r self,
        mut body: Incoming,
        place: &mut SemaphorePermit<'r>,
    ) -> Result<Bytes, Refusal> {
        let limit = self.limits.request_bytes;
        let announced = body.size_hint().exact().unwrap_or(0);
        let mut first = Bytes::new();
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::Body)?.into_data() else {
                continue;
            };
            let received = first.len() + whole.len() + data.len();
            if received > limit {
                return Err(ImportError::TooLarge(limit).into());
            }
            if data.len() as u64 == announced {
                return Ok(data);
            }
            if received > place.num_permits() * UNIT {
                // Who waits here would keep the room for which others like it wait.
                let more = self.room.try_acquire_many(units(UNKNOWN));
                place.merge(more.map_err(|_| Refusal::Busy)?);
            }
            if first.is_empty() && whole.is_empty() {
                first = data;
                continue;
            }
            if whole.is_empty() {
                whole.reserve((announced as usize).min(limit).min(UNKNOWN));
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

/// How many units of room that many bytes take.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
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
