//! Plaintext lines over connections.
//!
//! A connection is read in large pieces into memory that belongs to the thread, so that an idle one holds none. Its lines
//! gather in its own batch, which is closed when it is full, every 15 s, and when the connection ends.

use std::{cell::RefCell, io, net::SocketAddr, sync::Arc, time::Duration};

use shared::tls::server::{Server, TlsStream};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};
use tracing::debug;

use super::{Context, TICK, accept};
use crate::{
    batch::{Filling, Open},
    budget::{Budget, Share},
    config::Sharing,
    counters::DropReason,
    lines::{LineReader, Tally},
};

/// Read at once.
const CHUNK: usize = 256 * 1024;
/// Read at once from TLS, which has records of 16 KB.
const TLS_CHUNK: usize = 16 * 1024;
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// What is still read of a connection when the process ends, so that a sender who goes on cannot hold it up.
const LAST_BYTES: usize = 16 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// Serves plaintext lines on `listener`; in TLS if there is a server for it.
pub(crate) fn serve(context: &Context, listener: TcpListener, tls: Option<Arc<Server>>) {
    accept(context, listener, move |context, stream, peer| {
        let tls = tls.clone();
        async move {
            let source = match tls {
                None => Source::Plain(stream),
                Some(server) => match server.accept(stream, TLS_HANDSHAKE).await {
                    Ok(stream) => Source::Tls(Box::new(stream), Vec::new()),
                    Err(reason) => {
                        debug!(%peer, %reason, "tls handshake failed");
                        return;
                    }
                },
            };
            Connection::new(context, source, peer).run().await;
        }
    });
}

/// Where bytes come from.
enum Source {
    Plain(TcpStream),
    /// With the bytes of the last read.
    Tls(Box<TlsStream<TcpStream>>, Vec<u8>),
}

impl Source {
    /// Waits until there is something to read. Cancel-safe.
    async fn ready(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
            // Of the last time, when there was no room.
            Self::Tls(_, buffer) if !buffer.is_empty() => Ok(()),
            Self::Tls(stream, buffer) => {
                buffer.reserve(TLS_CHUNK);
                match stream.read_buf(buffer).await? {
                    0 => Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Waits until there is something to read, and room for it. Cancel-safe.
    async fn ready_in(&mut self, budget: &Budget) -> io::Result<()> {
        self.ready().await?;
        budget.room().await;
        Ok(())
    }

    /// Hands over what there is; `None` when it was nothing.
    fn read<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> io::Result<Option<T>> {
        match self {
            Self::Plain(stream) => {
                SCRATCH.with_borrow_mut(|scratch| match stream.try_read(scratch) {
                    Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(length) => Ok(Some(take(&scratch[..length]))),
                    Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Err(reason) => Err(reason),
                })
            }
            Self::Tls(_, buffer) => {
                let taken = (!buffer.is_empty()).then(|| take(buffer));
                *buffer = Vec::new();
                Ok(taken)
            }
        }
    }
}

/// One sender.
struct Connection {
    context: Context,
    source: Source,
    peer: SocketAddr,
    reader: LineReader,
    own: Filling,
    /// The memory of its open batch.
    share: Share,
    ticks: Interval,
}

impl Connection {
    fn new(context: Context, source: Source, peer: SocketAddr) -> Self {
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            reader: LineReader::new(context.check),
            share: Share::new(&context.intake.budget),
            context,
            source,
            peer,
            own: Filling::default(),
            ticks,
        }
    }

    async fn run(mut self) {
        let stop = self.context.tasks.stop_token();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish_now().await,
                _ = self.ticks.tick() => self.flush().await,
                ready = self.source.ready_in(&self.context.intake.budget) => {
                    // A reset ends a connection as its close does: what has arrived counts.
                    if ready.is_err() || self.read_some().await.is_err() {
                        return self.finish().await;
                    }
                }
            }
        }
    }

    /// Takes one piece. Returns how long it is.
    async fn read_some(&mut self) -> io::Result<usize> {
        let Self {
            context,
            source,
            reader,
            own,
            ..
        } = self;
        let taken = source.read(|bytes| {
            let (tally, full) = feed(context, bytes, reader, own);
            (bytes.len(), tally, full)
        })?;
        let Some((length, tally, mut full)) = taken else {
            return Ok(0);
        };
        self.context.count(length, tally, &self.peer);
        if tally.taken > 0 {
            self.context.intake.tell_if_full();
        }
        if !self.share.set(self.own.open.memory()) {
            // All senders' open batches take too much: this one does not wait for its tick.
            full.push(std::mem::take(&mut self.own.open));
            self.share.set(0);
        }
        self.context.intake.submit_all(full).await;
        Ok(length)
    }

    /// The sender has closed: its last line needs no line feed.
    async fn finish(mut self) {
        let tally = match self.context.sharing {
            Sharing::Connection => self.reader.finish(&mut self.own),
            Sharing::Everybody => {
                let shared = Arc::clone(&self.context.shared_batch);
                let (tally, full) = shared.fill(|filling| self.reader.finish(filling));
                self.context.intake.submit_all(full).await;
                tally
            }
        };
        self.context.count(0, tally, &self.peer);
        self.flush().await;
    }

    /// The process ends: what the kernel has is read, but half a line is not taken for a line.
    async fn finish_now(mut self) {
        let mut budget = LAST_BYTES;
        while let Ok(length @ 1..) = self.read_some().await {
            budget = budget.saturating_sub(length);
            if budget == 0 {
                break;
            }
        }
        if self.reader.is_within_line() {
            let counters = &self.context.intake.counters;
            counters
                .lines_received
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            counters.drop_lines(DropReason::Unterminated, 1);
        }
        self.flush().await;
    }

    async fn flush(&mut self) {
        self.own.close();
        let full = std::mem::take(&mut self.own.full);
        self.share.set(self.own.open.memory());
        self.context.intake.submit_all(full).await;
    }
}

/// Cuts bytes into lines of the right batch, and returns the batches that are full.
fn feed(
    context: &Context,
    bytes: &[u8],
    reader: &mut LineReader,
    own: &mut Filling,
) -> (Tally, Vec<Open>) {
    match context.sharing {
        Sharing::Connection => {
            let tally = reader.feed(bytes, own);
            (tally, std::mem::take(&mut own.full))
        }
        Sharing::Everybody => context
            .shared_batch
            .fill(|filling| reader.feed(bytes, filling)),
    }
}
