//! The writer of a TCP node: one task that connects, writes the node's queue, and connects again.
//!
//! Lines are never written twice and never torn: after a failed write, what had not left completely, up to the start of
//! its line, is written on the next connection.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use memchr::{memchr_iter, memrchr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::queue::Backlog;
use crate::{
    config::NodeConfig,
    counters::{DropReason, NodeDeliveries},
};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A connection that takes nothing for this long is given up.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// After the last line, how long the node may take to close its side, which tells that it has read everything.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Writes the queue of one node until it is closed and empty, or until `give_up`.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) node: NodeConfig,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) deliveries: Arc<NodeDeliveries>,
    /// Cancelled when the drain deadline has come.
    pub(crate) give_up: CancellationToken,
}

impl Writer {
    pub(crate) async fn run(self) {
        let mut unwritten = Vec::new();
        let finished = tokio::select! {
            biased;
            () = self.deliver(&mut unwritten) => true,
            () = self.give_up.cancelled() => false,
        };
        if !finished {
            let mut lost = count_lines(&unwritten);
            unwritten.clear();
            // What still waits is there at once, or nothing is.
            if timeout(Duration::ZERO, self.backlog.take(&mut unwritten))
                .await
                .is_ok()
            {
                lost += count_lines(&unwritten);
            }
            self.deliveries.drops.add(DropReason::DrainDeadline, lost);
            warn!(
                node = self.node.label,
                lines = lost,
                "gave up delivering to the node"
            );
        }
    }

    /// Delivers until the queue is closed and empty. `unwritten` holds, at any await, whole lines that have not left.
    async fn deliver(&self, unwritten: &mut Vec<u8>) {
        let mut delay = FIRST_DELAY;
        loop {
            if unwritten.is_empty() && !self.backlog.take(unwritten).await {
                return;
            }
            let mut stream = match self.connect().await {
                Ok(stream) => stream,
                Err(reason) => {
                    warn!(node = self.node.label, %reason, retry_in = ?delay, "cannot connect to the node");
                    sleep(delay.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    delay = (delay * 2).min(LONGEST_DELAY);
                    continue;
                }
            };
            info!(node = self.node.label, "connected to the node");
            delay = FIRST_DELAY;
            match self.write_all(&mut stream, unwritten).await {
                Ok(()) => {
                    say_farewell(stream).await;
                    return;
                }
                Err(reason) => {
                    warn!(node = self.node.label, %reason, "lost the connection to the node");
                    sleep(FIRST_DELAY).await;
                }
            }
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = limited(
            CONNECT_LIMIT,
            TcpStream::connect((self.node.host.as_str(), self.node.port)),
        )
        .await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Writes until the queue is closed and empty. On failure `unwritten` holds what has to be written again.
    async fn write_all(&self, stream: &mut TcpStream, unwritten: &mut Vec<u8>) -> io::Result<()> {
        let mut written = 0;
        loop {
            while written < unwritten.len() {
                match limited(WRITE_LIMIT, stream.write(&unwritten[written..])).await {
                    Ok(length) => written += length,
                    Err(reason) => {
                        self.keep_unwritten(unwritten, written);
                        return Err(reason);
                    }
                }
            }
            self.keep_unwritten(unwritten, written);
            written = 0;
            tokio::select! {
                open = self.backlog.take(unwritten) => if !open { return Ok(()) },
                // StatsD servers say nothing, so this is the end of the connection, seen before a line is lost to it.
                end = closed_by_peer(stream) => return Err(end),
            }
        }
    }

    /// Counts the lines that have left and cuts them off; a line that left in part stays whole.
    fn keep_unwritten(&self, lines: &mut Vec<u8>, written: usize) {
        let whole = memrchr(b'\n', &lines[..written]).map_or(0, |last| last + 1);
        self.deliveries
            .lines
            .fetch_add(count_lines(&lines[..whole]), Relaxed);
        self.deliveries.packets.fetch_add(1, Relaxed);
        self.deliveries.bytes.fetch_add(whole as u64, Relaxed);
        lines.drain(..whole);
    }
}

async fn closed_by_peer(stream: &mut TcpStream) -> io::Error {
    let mut scratch = [0; 256];
    let (mut reading, _) = stream.split();
    loop {
        match reading.read(&mut scratch).await {
            Ok(0) => return io::ErrorKind::ConnectionAborted.into(),
            Ok(_) => {}
            Err(reason) => return reason,
        }
    }
}

/// Closes our side and waits for the node to close its own.
async fn say_farewell(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        // Silence or a reset: nothing more can be known.
        let _closed = timeout(FAREWELL_LIMIT, closed_by_peer(&mut stream))
            .await
            .is_ok();
    }
}

async fn limited<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr_iter(b'\n', lines).count() as u64
}
