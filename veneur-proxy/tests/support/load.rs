//! Senders with counters of names of their own, by each protocol, which say how many metrics a proxy has accepted.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use futures_util::future::{join_all, poll_fn};
use h2::client::SendRequest;
use http::Request;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use veneur_proxy::{
    forward::Inbound,
    proto::{
        forwardrpc::{MetricList, SEND_METRICS, SEND_METRICS_V2},
        metricpb::{CounterValue, Metric, Value},
    },
};

use super::{
    peers::Peer,
    program::{Answer, client::framed, parse},
};

/// How many metrics a request has.
pub(crate) const BATCH: usize = 2000;
const SENDERS: usize = 3;

/// Sends metrics with the numbers of `all`, until all are sent or the proxy takes no more; `accepted` follows.
pub(crate) async fn send(
    way: Inbound,
    proxy: SocketAddr,
    all: Range<usize>,
    accepted: &AtomicUsize,
) {
    let next = &AtomicUsize::new(all.start);
    join_all((0..SENDERS).map(|_| async move {
        loop {
            // A proxy that ends closes connections, and takes no new ones after a while.
            let Some(mut sender) = Sender::connect(way, proxy).await else {
                return;
            };
            loop {
                let from = next.fetch_add(BATCH, Relaxed);
                if from >= all.end {
                    return;
                }
                let batch = from..(from + BATCH).min(all.end);
                if sender.send(batch.clone()).await.is_none() {
                    break;
                }
                accepted.fetch_add(batch.len(), Relaxed);
            }
        }
    }))
    .await;
}

enum Sender {
    Http(TcpStream),
    Grpc {
        requests: SendRequest<Bytes>,
        way: Inbound,
        /// Drives the connection for as long as the sender lives.
        _driver: tokio::task::JoinSet<()>,
    },
}

impl Sender {
    async fn connect(way: Inbound, proxy: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(proxy).await.ok()?;
        if way == Inbound::Http {
            return Some(Self::Http(stream));
        }
        let (requests, connection) = h2::client::handshake(stream).await.ok()?;
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(async {
            let _ended = connection.await;
        });
        Some(Self::Grpc {
            requests,
            way,
            _driver: driver,
        })
    }

    /// Sends a batch; `None` unless the proxy says that it was accepted.
    async fn send(&mut self, batch: Range<usize>) -> Option<()> {
        match self {
            Self::Http(stream) => {
                let answer = post(stream, &json(batch)).await?;
                (answer.status == 202).then_some(())
            }
            Self::Grpc { requests, way, .. } => {
                let (path, body) = if *way == Inbound::Stream {
                    let messages = batch.map(|number| framed(&metric(number).encode_to_vec()));
                    (SEND_METRICS_V2, messages.collect::<Vec<_>>().concat())
                } else {
                    let metrics = batch.map(metric).collect();
                    (
                        SEND_METRICS,
                        framed(&MetricList { metrics }.encode_to_vec()),
                    )
                };
                call(requests, path, body.into()).await
            }
        }
    }
}

async fn post(stream: &mut TcpStream, body: &str) -> Option<Answer> {
    let length = body.len();
    let head = format!("POST /import HTTP/1.1\r\nHost: p\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        // The answer to an accepted batch has no body.
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return None;
        }
    }
    Some(parse(&bytes))
}

async fn call(requests: &mut SendRequest<Bytes>, path: &str, mut body: Bytes) -> Option<()> {
    poll_fn(|context| requests.poll_ready(context)).await.ok()?;
    let request = Request::post(format!("http://proxy{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut stream) = requests.send_request(request, false).ok()?;
    // A call that is answered early stops reading; what became of it, the answer says.
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(Ok(room)) = poll_fn(|context| stream.poll_capacity(context)).await else {
            break;
        };
        let piece = body.split_to(room.min(body.len()));
        if stream.send_data(piece, body.is_empty()).is_err() {
            break;
        }
    }
    let mut response = response.await.ok()?;
    let body = response.body_mut();
    while let Some(data) = body.data().await {
        let _released = body.flow_control().release_capacity(data.ok()?.len());
    }
    let trailers = body.trailers().await.ok()?.unwrap_or_default();
    let status = trailers
        .get("grpc-status")
        .or_else(|| response.headers().get("grpc-status"));
    (status?.as_bytes() == b"0").then_some(())
}

fn metric(number: usize) -> Metric {
    Metric {
        name: format!("load.{number}").into(),
        tags: vec!["env:test".into()],
        value: Some(Value::Counter(CounterValue { value: 1 })),
        scope: 2,
        ..Metric::default()
    }
}

fn json(batch: Range<usize>) -> String {
    let mut body = String::from("[");
    for number in batch {
        let separator = if body.len() > 1 { "," } else { "" };
        write!(body, r#"{separator}{{"name":"load.{number}","type":"counter","tagstring":"env:test","tags":["env:test"],"value":"AQAAAAAAAAA="}}"#).unwrap();
    }
    body.push(']');
    body
}

/// How often each name arrived, at whichever destination.
pub(crate) fn arrivals<'p>(peers: impl IntoIterator<Item = &'p Peer>) -> BTreeMap<Vec<u8>, usize> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    let mut names: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut saw = |name: Vec<u8>| *names.entry(name).or_default() += 1;
    for peer in peers {
        for posted in peer.posted() {
            let elements: Vec<Named> = serde_json::from_str(&posted.text()).unwrap();
            for one in elements {
                saw(one.name.into());
            }
        }
        for list in peer.messages(SEND_METRICS) {
            let metrics = veneur_proxy::wire::read_list(&list).unwrap();
            for metric in metrics {
                saw(metric.name().to_vec());
            }
        }
        for message in peer.messages(SEND_METRICS_V2) {
            let metric = veneur_proxy::wire::WireMetric::read(&message).unwrap();
            saw(metric.name().to_vec());
        }
    }
    names
}
