//! Lines to gzip streams, and the threads that do it.
//!
//! Batches are compressed whole, which is what libdeflate is made for: its streams are about as long as those of level 6 of
//! zlib, which is what the original uses, for a third of the time. `benches/batch.rs` compares the levels.

use std::{fmt, io, sync::Arc};

use parking_lot::Mutex;

use bytes::Bytes;
use libdeflater::CompressionLvl;
use shared::lifecycle::Tasks;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Moment, Open};

/// The level of libdeflate. The next makes streams 4 % shorter and takes a fifth longer. From 2 to 7 the header of a stream is
/// the recorded one: no flags, no time, unknown system.
pub const LEVEL: i32 = 3;
/// Smaller batches are compressed where they are closed; a change of threads would cost more.
const INLINE_BYTES: usize = 16 * 1024;

/// Turns lines into gzip streams, one after another.
pub struct Compressor {
    deflate: libdeflater::Compressor,
    /// Room for the longest stream so far.
    stream: Vec<u8>,
}

impl Compressor {
    /// Makes a compressor of a level from 1 to 12; it keeps its memory, some 700 KB.
    pub fn new(level: i32) -> Self {
        let level = CompressionLvl::new(level).expect("the level is one of libdeflate's");
        Self {
            deflate: libdeflater::Compressor::new(level),
            stream: Vec::new(),
        }
    }

    /// Returns `data` as one gzip member.
    pub fn compress(&mut self, data: &[u8]) -> Bytes {
        let longest = self.deflate.gzip_compress_bound(data.len());
        if self.stream.len() < longest {
            self.stream = vec![0; longest];
        }
        let length = self
            .deflate
            .gzip_compress(data, &mut self.stream)
            .expect("the longest stream fits");
        Bytes::copy_from_slice(&self.stream[..length])
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// Closes batches: large ones on threads of its own, as many as there are processors, so that neither the runtime's threads
/// nor ever new ones do it. Fixed threads also keep the allocator's memory together.
#[derive(Debug)]
pub(crate) struct Press {
    work: mpsc::Sender<Order>,
    /// For small batches, which are closed where they are.
    idle: Mutex<Vec<Compressor>>,
}

struct Order {
    open: Open,
    done: oneshot::Sender<Batch>,
}

impl Press {
    /// Starts `threads` threads in `tasks`. They end when the press is dropped.
    pub(crate) fn start(tasks: &Tasks, threads: usize) -> io::Result<Self> {
        let (work, orders) = mpsc::channel::<Order>(threads);
        let orders = Arc::new(Mutex::new(orders));
        for number in 0..threads {
            let orders = Arc::clone(&orders);
            tasks.spawn_thread(format!("press-{number}"), move || {
                let mut compressor = Compressor::new(LEVEL);
                while let Some(Order { open, done }) = next_order(&orders) {
                    let batch = close(&mut compressor, &open);
                    // Before its bytes are no longer counted as leaving.
                    drop(open);
                    // Who does not wait any more has been cancelled, which inputs are not.
                    let _taken = done.send(batch).is_ok();
                }
            })?;
        }
        Ok(Self {
            work,
            idle: Mutex::default(),
        })
    }

    /// Compresses a batch.
    pub(crate) async fn close(&self, open: Open) -> Batch {
        if open.data().len() <= INLINE_BYTES {
            let idle = self.idle.lock().pop();
            let mut compressor = idle.unwrap_or_else(|| Compressor::new(LEVEL));
            let batch = close(&mut compressor, &open);
            self.idle.lock().push(compressor);
            return batch;
        }
        let (done, finished) = oneshot::channel();
        let sent = self.work.send(Order { open, done }).await;
        assert!(sent.is_ok(), "the threads live as long as the press");
        finished.await.expect("a thread answers every order")
    }
}

/// One thread waits for the next order, with the lock; the others wait for the lock, which is free while they work.
fn next_order(orders: &Mutex<mpsc::Receiver<Order>>) -> Option<Order> {
    orders.lock().blocking_recv()
}

fn close(compressor: &mut Compressor, open: &Open) -> Batch {
    Batch {
        body: compressor.compress(open.data()),
        lines: open.lines() as u32,
        raw_bytes: open.data().len() as u32,
        closed: Moment::now(),
        ticket: None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    /// As recorded: deflate, no flags, no time, no extra flags, unknown system.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

    #[test]
    fn a_stream_has_the_recorded_header_and_gives_the_lines_back() {
        let mut compressor = Compressor::new(LEVEL);
        for data in [
            Vec::new(),
            b"m.0 0 1500000000\n".to_vec(),
            (0..200_000u32).flat_map(u32::to_le_bytes).collect(),
        ] {
            let stream = compressor.compress(&data);
            assert_eq!(stream[..10], HEADER);
            let mut back = Vec::new();
            GzDecoder::new(&stream[..]).read_to_end(&mut back).unwrap();
            assert!(back == data);
        }
    }
}
