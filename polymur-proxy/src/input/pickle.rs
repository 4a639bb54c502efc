//! The Graphite pickle protocol over connections: each frame's datapoints become lines of the connection's batch.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use shared::logging::Throttle;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tracing::warn;

use super::{Context, TICK, accept};
use crate::{
    batch::{Filling, Open},
    budget::Share,
    config::Sharing,
    lines::Tally,
    pickle::{self, Datapoints, MAX_FRAME},
};

/// Read at once.
const CHUNK: usize = 16 * 1024;
/// What is still read of a connection when the process ends.
const LAST_FRAMES: Duration = Duration::from_millis(500);

/// Serves the pickle protocol on `listener`.
pub(crate) fn serve(context: &Context, listener: TcpListener) {
    let complaints = Arc::new(Throttle::new(Duration::from_secs(60)));
    accept(context, listener, move |context, stream, peer| {
        let share = Share::new(&context.intake.budget);
        Connection {
            context,
            stream,
            peer,
            input: Vec::new(),
            own: Filling::default(),
            share,
            complaints: Arc::clone(&complaints),
        }
        .run()
    });
}

struct Connection {
    context: Context,
    stream: TcpStream,
    peer: SocketAddr,
    /// Bytes of frames that are not whole.
    input: Vec<u8>,
    own: Filling,
    /// The memory of its open batch.
    share: Share,
    complaints: Arc<Throttle>,
}

impl Connection {
    async fn run(mut self) {
        let stop = self.context.tasks.stop_token();
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let more = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {
                    self.flush().await;
                    continue;
                }
                more = read(&mut self.stream, &mut self.input) => more,
            };
            let _asked = stop
                .run_until_cancelled(self.context.intake.budget.room())
                .await;
            if !more.is_ok_and(|length| length > 0) || self.take_frames().await.is_err() {
                return self.flush().await;
            }
        }
        let until = Instant::now() + LAST_FRAMES;
        while let Ok(Ok(1..)) =
            tokio::time::timeout(Duration::ZERO, read(&mut self.stream, &mut self.input)).await
        {
            if self.take_frames().await.is_err() || Instant::now() > until {
                break;
            }
        }
        self.flush().await;
    }

    /// Takes all whole frames. An error ends the connection.
    async fn take_frames(&mut self) -> io::Result<()> {
        let mut used = 0;
        loop {
            let rest = &self.input[used..];
            let Some((head, rest)) = rest.split_first_chunk::<4>() else {
                break;
            };
            let length = u32::from_be_bytes(*head) as usize;
            if length > MAX_FRAME {
                self.refuse(&format!("a frame of {length} bytes"));
                return Err(io::ErrorKind::InvalidData.into());
            }
            let Some(frame) = rest.get(..length) else {
                break;
            };
            used += 4 + length;
            let mut full = self.take_frame_at(used - length, length, frame.is_empty());
            if !self.share.set(self.own.open.memory()) {
                // All senders' open batches take too much: this one does not wait for its tick.
                full.push(std::mem::take(&mut self.own.open));
                self.share.set(0);
            }
            self.context.intake.submit_all(full).await;
        }
        self.input.drain(..used);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(())
    }

    fn take_frame_at(&mut self, at: usize, length: usize, empty: bool) -> Vec<Open> {
        if empty {
            return Vec::new();
        }
        let frame = &self.input[at..at + length];
        let (result, full) = match self.context.sharing {
            Sharing::Connection => {
                let own = &mut self.own;
                let result = pickle::read(frame, |line| own.push(line));
                (result, std::mem::take(&mut self.own.full))
            }
            Sharing::Everybody => self
                .context
                .shared_batch
                .fill(|filling| pickle::read(frame, |line| filling.push(line))),
        };
        match result {
            Ok(Datapoints { taken, invalid }) => {
                let tally = Tally {
                    taken,
                    invalid,
                    oversize: 0,
                };
                self.context.count(4 + length, tally, &self.peer);
                self.context.intake.tell_if_full();
            }
            Err(reason) => self.refuse(&reason.to_string()),
        }
        full
    }

    fn refuse(&self, reason: &str) {
        let counters = &self.context.intake.counters;
        counters.pickle_frames_refused.fetch_add(1, Relaxed);
        if let Some(held_back) = self.complaints.admit() {
            warn!(peer = %self.peer, reason, held_back, "refused a pickle frame");
        }
    }

    async fn flush(&mut self) {
        self.own.close();
        self.share.set(self.own.open.memory());
        let full = std::mem::take(&mut self.own.full);
        self.context.intake.submit_all(full).await;
    }
}

/// Reads behind what there is. Cancel-safe.
async fn read(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<usize> {
    input.reserve(CHUNK);
    stream.read_buf(input).await
}
