//! Samples in SSF spans, over UDP (a span a datagram) or a Unix stream (spans in frames).
//!
//! Samples gather for an interval and share spans that have no identity, which veneur takes as bare metrics.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use prost::Message as _;
use shared::{datagram, logging::Throttle};
use tokio::{
    io::AsyncWriteExt as _,
    net::{UdpSocket, UnixStream},
    sync::Mutex as AsyncMutex,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::dogstatsd::{Moments, Target, line};
use crate::{
    config::SsfAddress,
    proto::ssf::{SsfSample, SsfSpan},
};

/// How many samples share a span; it stays well below the size of a datagram that every network takes.
const SAMPLES: usize = 8;
/// How long sending one span may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often numbers about the spans themselves are sent.
const STATS: Duration = Duration::from_secs(1);

/// The spans that wait.
#[derive(Debug)]
pub(super) struct Spans {
    address: SsfAddress,
    flush_interval: Duration,
    /// How many samples may wait; what comes then is dropped and counted.
    room: usize,
    waiting: Mutex<Vec<SsfSample>>,
    dropped: AtomicU64,
    /// Where numbers about the spans go.
    stats: Option<Target>,
    failures: Throttle,
    connection: AsyncMutex<Sending>,
}

/// What the one task that sends keeps between two times.
#[derive(Debug, Default)]
struct Sending {
    socket: Option<Connection>,
    counts: Counts,
    told: Option<Instant>,
}

#[derive(Debug)]
enum Connection {
    Udp(UdpSocket),
    Unix(UnixStream),
}

/// What has become of spans since that was told.
#[derive(Debug, Default)]
struct Counts {
    flushes_succeeded: u64,
    records_succeeded: u64,
    flushes_failed: u64,
    records_failed: u64,
}

impl Spans {
    pub(super) fn new(
        address: SsfAddress,
        capacity: usize,
        flush_interval: Duration,
        stats_address: Option<String>,
    ) -> Self {
        Self {
            address,
            flush_interval,
            room: capacity.saturating_mul(SAMPLES),
            waiting: Mutex::default(),
            dropped: AtomicU64::new(0),
            stats: stats_address.map(|address| Target::new(address, None)),
            failures: Throttle::new(Duration::from_secs(60)),
            connection: AsyncMutex::default(),
        }
    }

    pub(super) fn push(&self, sample: SsfSample) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < self.room {
            waiting.push(sample);
        } else {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut moments = Moments::every(self.flush_interval);
        let mut more = true;
        while more {
            more = moments.next(&stop).await;
            self.flush().await;
        }
    }

    async fn flush(&self) {
        let samples = std::mem::take(&mut *self.waiting.lock());
        let mut sending = self.connection.lock().await;
        if !samples.is_empty() {
            let (mut sent, mut failed) = (0, 0);
            for samples in samples.chunks(SAMPLES) {
                let span = SsfSpan {
                    service: "veneur-proxy".to_owned(),
                    metrics: samples.to_vec(),
                    ..SsfSpan::default()
                };
                match self.send(&mut sending.socket, &span.encode_to_vec()).await {
                    Ok(()) => sent += 1,
                    Err(reason) => {
                        failed += 1;
                        self.dropped.fetch_add(samples.len() as u64, Relaxed);
                        // Nobody listens at the default address unless veneur itself is there, so that is no warning.
                        if self.stats.is_some()
                            && let Some(suppressed) = self.failures.admit()
                        {
                            warn!(address = ?self.address, error = %reason, suppressed, "cannot send self metrics");
                        }
                    }
                }
            }
            let counts = &mut sending.counts;
            counts.records_succeeded += sent;
            counts.records_failed += failed;
            counts.flushes_succeeded += u64::from(failed == 0);
            counts.flushes_failed += u64::from(failed > 0);
        }
        if let Some(stats) = &self.stats
            && sending.told.is_none_or(|told| told.elapsed() >= STATS)
        {
            sending.told = Some(Instant::now());
            let counts = std::mem::take(&mut sending.counts);
            stats.send(&self.lines(&counts)).await;
        }
    }

    fn lines(&self, counts: &Counts) -> Vec<String> {
        let tags = match self.address {
            SsfAddress::Udp(_) => "ssf_format:packet",
            SsfAddress::Unix(_) => "ssf_format:framed",
        };
        let numbers = [
            ("flushes_succeeded_total", counts.flushes_succeeded),
            ("records_succeeded_total", counts.records_succeeded),
            ("flushes_failed_total", counts.flushes_failed),
            ("records_failed_total", counts.records_failed),
        ];
        let told = numbers.iter().filter(|(_, value)| *value > 0);
        told.map(|(name, value)| {
            let name = format!("veneur_proxy.trace_client.{name}");
            line(&name, &value.to_string(), "c", tags)
        })
        .collect()
    }

    /// Sends a span over the connection that there is, or over a new one.
    async fn send(&self, socket: &mut Option<Connection>, span: &[u8]) -> io::Result<()> {
        let attempt = async {
            let connection = match socket.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let connection = write(connection, span).await?;
            *socket = Some(connection);
            Ok(())
        };
        timeout(PATIENCE, attempt)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn connect(&self) -> io::Result<Connection> {
        match &self.address {
            SsfAddress::Unix(path) => Ok(Connection::Unix(UnixStream::connect(path).await?)),
            SsfAddress::Udp(address) => Ok(Connection::Udp(datagram::connect(address).await?)),
        }
    }
}

/// Writes a span; gives the connection back if it is still good.
async fn write(connection: Connection, span: &[u8]) -> io::Result<Connection> {
    match connection {
        Connection::Udp(socket) => {
            socket.send(span).await?;
            Ok(Connection::Udp(socket))
        }
        Connection::Unix(mut stream) => {
            let mut frame = vec![0];
            frame.extend_from_slice(&(span.len() as u32).to_be_bytes());
            frame.extend_from_slice(span);
            stream.write_all(&frame).await?;
            Ok(Connection::Unix(stream))
        }
    }
}
