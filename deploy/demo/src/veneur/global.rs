//! A global veneur as the demo needs it: it takes metrics by HTTP and gRPC on one port, and keeps them as they came.

use std::{collections::BTreeMap, io::Read as _, net::Ipv4Addr, sync::Arc};

use parking_lot::Mutex;

use anyhow::Context as _;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::{Buf as _, BytesMut};
use flate2::read::ZlibDecoder;
use http_body_util::{BodyExt as _, Full};
use serde_json::value::RawValue;
use shared::{
    http::{Limits, serve},
    lifecycle::Tasks,
};
use tokio::net::TcpListener;
use veneur_proxy::{
    proto::forwardrpc::{SEND_METRICS, SEND_METRICS_V2},
    wire,
};

use super::traffic::Way;
use crate::scenario::Tally;

/// Before each gRPC message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;
const GRPC_STATUS: &str = "grpc-status";
const OK: u32 = 0;
const UNIMPLEMENTED: u32 = 12;

/// What a global veneur knows of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// `SendMetrics` and `SendMetricsV2`.
    Newer,
    /// `SendMetrics` alone.
    Older,
}

/// A global veneur on loopback. Gone when dropped.
#[derive(Debug)]
pub(super) struct Global {
    label: String,
    age: Age,
    mailbox: Mailbox,
    tasks: Tasks,
}

/// What has come, by the way that it came.
#[derive(Debug, Clone, Default)]
struct Mailbox(Arc<Mutex<BTreeMap<Way, Tally>>>);

impl Global {
    pub(super) async fn start(age: Age) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let label = listener.local_addr()?.to_string();
        let (tasks, mailbox) = (Tasks::new(), Mailbox::default());
        let stream = match age {
            Age::Newer => post(take_stream),
            Age::Older => post(refuse),
        };
        let router = Router::new()
            .route("/import", post(take_import))
            .route(SEND_METRICS, post(take_list))
            .route(SEND_METRICS_V2, stream)
            .layer(DefaultBodyLimit::disable())
            .with_state(mailbox.clone());
        serve(&tasks, listener, router, Limits::ADMIN);
        Ok(Self {
            label,
            age,
            mailbox,
            tasks,
        })
    }

    /// Starts several of an age.
    pub(super) async fn several(count: usize, age: Age) -> anyhow::Result<Vec<Self>> {
        let mut globals = Vec::new();
        for _ in 0..count {
            globals.push(Self::start(age).await?);
        }
        Ok(globals)
    }

    /// Returns what it is called in rings and metrics: its address.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Returns what it knows of gRPC.
    pub(super) fn age(&self) -> Age {
        self.age
    }

    /// Returns how many metrics have come since it last forgot.
    pub(super) fn arrived(&self) -> u64 {
        let mail = self.mailbox.0.lock();
        mail.values().flat_map(Tally::values).sum()
    }

    /// Hands out its mail, and has none afterwards.
    pub(super) fn take(&self) -> BTreeMap<Way, Tally> {
        std::mem::take(&mut *self.mailbox.0.lock())
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Mailbox {
    fn keep<'a>(&self, way: Way, metrics: impl IntoIterator<Item = &'a [u8]>) {
        let mut mail = self.0.lock();
        let tally = mail.entry(way).or_default();
        for metric in metrics {
            *tally.entry(metric.to_vec()).or_default() += 1;
        }
    }
}

async fn take_import(State(mailbox): State<Mailbox>, body: Bytes) -> Response {
    let mut text = String::new();
    if let Err(reason) = ZlibDecoder::new(&*body).read_to_string(&mut text) {
        return (StatusCode::BAD_REQUEST, reason.to_string()).into_response();
    }
    match serde_json::from_str::<Vec<&RawValue>>(&text) {
        Ok(elements) => {
            let elements = elements.iter().map(|element| element.get().as_bytes());
            mailbox.keep(Way::Import, elements);
            StatusCode::ACCEPTED.into_response()
        }
        Err(reason) => (StatusCode::BAD_REQUEST, reason.to_string()).into_response(),
    }
}

async fn take_list(State(mailbox): State<Mailbox>, body: Body) -> Response {
    let taken = take(body, |list| {
        let metrics = wire::read_list(list)?;
        mailbox.keep(
            Way::SendMetrics,
            metrics.iter().map(wire::WireMetric::message),
        );
        Ok(())
    });
    concluded(taken.await)
}

async fn take_stream(State(mailbox): State<Mailbox>, body: Body) -> Response {
    let taken = take(body, |metric| {
        mailbox.keep(Way::SendMetricsV2, [metric]);
        Ok(())
    });
    concluded(taken.await)
}

/// What every server answers to a method that it does not have.
async fn refuse() -> Response {
    let mut response = grpc(Body::empty());
    let status = HeaderValue::from(UNIMPLEMENTED);
    response.headers_mut().insert(GRPC_STATUS, status);
    response
}

/// Reads a call to its end, message by message.
async fn take(
    mut body: Body,
    mut keep: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        buffer.extend_from_slice(&data);
        while let Some((head, rest)) = buffer.split_at_checked(FRAME_HEAD) {
            let (_, mut length) = head.split_at(1);
            let length = length.get_u32() as usize;
            let Some(message) = rest.get(..length) else {
                break;
            };
            keep(message)?;
            buffer.advance(FRAME_HEAD + length);
        }
    }
    buffer
        .is_empty()
        .then_some(())
        .context("the call ends inside a message")
}

/// Answers a call with an empty message and OK; one that broke off, with what no client takes for an answer.
fn concluded(taken: anyhow::Result<()>) -> Response {
    if let Err(reason) = taken {
        return (StatusCode::BAD_REQUEST, reason.to_string()).into_response();
    }
    let name = HeaderName::from_static(GRPC_STATUS);
    let trailers = HeaderMap::from_iter([(name, HeaderValue::from(OK))]);
    let empty = Full::new(Bytes::from_static(&[0; FRAME_HEAD]));
    grpc(Body::new(
        empty.with_trailers(std::future::ready(Some(Ok(trailers)))),
    ))
}

fn grpc(body: Body) -> Response {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
