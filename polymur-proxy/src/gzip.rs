//! Lines to gzip streams, and the pool of compressors that does it.
//!
//! The stream has the header that the original's have (no name, no time, unknown system). Level 4 of zlib-rs makes streams
//! within 2 % of its level 6, which is what the original uses, for half the time: see `benches/batch.rs`.

use std::sync::Mutex;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use tokio::{sync::Semaphore, task};

use crate::batch::{Batch, Moment, Open};

/// The level of zlib-rs.
pub const LEVEL: u32 = 4;
/// As recorded: deflate, no flags, no time, no extra flags, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Smaller batches are compressed where they are closed; a change of threads would cost more.
const INLINE_BYTES: usize = 16 * 1024;

/// Turns lines into gzip streams, one after another.
#[derive(Debug)]
pub struct Compressor {
    deflate: Compress,
    stream: Vec<u8>,
}

impl Compressor {
    /// Makes a compressor; it keeps its memory, some 300 KB.
    pub fn new(level: u32) -> Self {
        Self {
            deflate: Compress::new(Compression::new(level), false),
            stream: Vec::new(),
        }
    }

    /// Returns `data` as one gzip member.
    pub fn compress(&mut self, data: &[u8]) -> Bytes {
        self.deflate.reset();
        self.stream.clear();
        self.stream.extend_from_slice(&HEADER);
        self.stream.reserve(data.len() / 4 + 64);
        loop {
            let done = self.deflate.total_in() as usize;
            let status = self
                .deflate
                .compress_vec(&data[done..], &mut self.stream, FlushCompress::Finish)
                .expect("deflating has no failing state without a dictionary");
            if status == Status::StreamEnd {
                break;
            }
            self.stream.reserve(self.stream.len().max(1_024));
        }
        self.stream
            .extend_from_slice(&crc32fast::hash(data).to_le_bytes());
        self.stream
            .extend_from_slice(&(data.len() as u32).to_le_bytes());
        Bytes::copy_from_slice(&self.stream)
    }
}

/// Closes batches: at most as many at a time as there are processors.
#[derive(Debug)]
pub struct Press {
    places: Semaphore,
    idle: Mutex<Vec<Compressor>>,
}

impl Press {
    /// Makes a press that compresses `parallel` large batches at a time.
    pub fn new(parallel: usize) -> Self {
        Self {
            places: Semaphore::new(parallel.max(1)),
            idle: Mutex::default(),
        }
    }

    /// Compresses a batch; off the runtime's own threads if it is large. Needs a runtime of several threads.
    pub async fn close(&self, open: Open) -> Batch {
        if open.data().len() <= INLINE_BYTES {
            return self.close_here(&open);
        }
        let _place = self
            .places
            .acquire()
            .await
            .expect("the semaphore is never closed");
        task::block_in_place(|| self.close_here(&open))
    }

    fn close_here(&self, open: &Open) -> Batch {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop();
        let mut compressor = idle.unwrap_or_else(|| Compressor::new(LEVEL));
        let body = compressor.compress(open.data());
        self.idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(compressor);
        Batch {
            body,
            lines: open.lines() as u32,
            raw_bytes: open.data().len() as u32,
            closed: Moment::now(),
            ticket: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

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
