//! Bodies as HTTP destinations get them: zlib streams of JSON arrays.
//!
//! Metrics are packed as soon as they are placed, so that what is queued, sent and sent again are the bytes that travel: a
//! small part of their text, which lives only while its batch is read. Only what is placed anew or merged is unpacked again.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::room::Rooms;

/// Working on more text than this, in bytes, takes milliseconds and would hold up other tasks.
const WORKED_ON_HERE: usize = 1 << 20;
/// The room for a body that is kept for the next one, in bytes.
const KEPT_ROOM: usize = 64 * 1024;
/// The buffers that are kept, for texts and messages that are read and for the metrics of one destination: the largest, and all
/// of them, in bytes.
const TEXTS: (usize, usize) = (1 << 20, 2 << 20);
const MESSAGES: (usize, usize) = (1 << 20, 2 << 20);
const GROUPS: (usize, usize) = (512 << 10, 3 << 20);
/// How much is asked for when an unpacked body outgrows its buffer, in bytes.
const GROWTH: usize = 64 * 1024;

/// Packs bodies, with as many compressors as there are processors: each takes a third of a megabyte. And what else batches are
/// made with.
#[derive(Debug)]
pub(crate) struct Packer {
    level: u32,
    idle: Mutex<Vec<Deflate>>,
    /// How many may be idle, and how many threads may work on large bodies.
    threads: usize,
    places: Semaphore,
    /// Buffers for the texts that are read.
    pub(crate) texts: Arc<Rooms>,
    /// Buffers for messages that come in pieces.
    pub(crate) messages: Arc<Rooms>,
    /// Buffers for the metrics of one destination.
    pub(crate) groups: Arc<Rooms>,
}

impl Packer {
    /// Makes one that compresses at this level, 0 to 9.
    pub(crate) fn new(level: u32) -> Arc<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Arc::new(Self {
            level,
            idle: Mutex::default(),
            threads,
            places: Semaphore::new(threads),
            texts: Rooms::new(TEXTS.0, TEXTS.1),
            messages: Rooms::new(MESSAGES.0, MESSAGES.1),
            groups: Rooms::new(GROUPS.0, GROUPS.1),
        })
    }

    /// Packs elements, each with a comma before it, as a JSON array with a line feed after it as the original has it.
    pub(crate) fn pack(&self, elements: &[u8]) -> Bytes {
        let idle = self.idle().pop();
        let mut deflate = idle.unwrap_or_else(|| Deflate::new(self.level));
        let body = deflate.body(elements);
        let mut idle = self.idle();
        if idle.len() < self.threads {
            idle.push(deflate);
        }
        body
    }

    /// Does work on `text` bytes of text: here, or on another thread where it would hold up this one.
    ///
    /// Returns `None` only when the runtime is being shut down.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        text: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if text <= WORKED_ON_HERE {
            return Some(work());
        }
        let _place = self.places.acquire().await.ok()?;
        spawn_blocking(work).await.ok()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Deflate>> {
        // A list is whole between any two changes.
        self.idle.lock()
    }
}

/// Returns the elements of a body that was packed here, each with a comma before it.
pub(crate) fn unpack(body: &[u8]) -> Vec<u8> {
    let mut inflate = Decompress::new(true);
    let mut text = Vec::with_capacity(body.len() * 4);
    loop {
        if text.len() == text.capacity() {
            text.reserve(GROWTH.max(text.len() / 2));
        }
        let rest = &body[inflate.total_in() as usize..];
        match inflate.decompress_vec(rest, &mut text, FlushDecompress::Finish) {
            Ok(Status::Ok | Status::BufError) if text.len() == text.capacity() => {}
            ended => {
                debug_assert!(matches!(ended, Ok(Status::StreamEnd)), "packed here");
                break;
            }
        }
    }
    // The bracket makes room for the comma.
    if let Some(first) = text.first_mut() {
        *first = b',';
    }
    text.truncate(text.len().saturating_sub(b"]\n".len()));
    text
}

/// Makes zlib bodies, one after the other.
struct Deflate {
    compress: Compress,
    room: Vec<u8>,
}

impl std::fmt::Debug for Deflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflate").finish_non_exhaustive()
    }
}

impl Deflate {
    fn new(level: u32) -> Self {
        Self {
            compress: Compress::new(Compression::new(level), true),
            room: Vec::with_capacity(KEPT_ROOM),
        }
    }

    fn body(&mut self, elements: &[u8]) -> Bytes {
        self.compress.reset();
        self.room.clear();
        let elements = elements.strip_prefix(b",").unwrap_or(elements);
        self.write(b"[", FlushCompress::None);
        self.write(elements, FlushCompress::None);
        self.write(b"]\n", FlushCompress::Finish);
        // Not a byte more than it has, for it may be queued for long.
        let body = Bytes::copy_from_slice(&self.room);
        self.room.clear();
        self.room.shrink_to(KEPT_ROOM);
        body
    }

    fn write(&mut self, mut input: &[u8], flush: FlushCompress) {
        let Self {
            compress,
            room: body,
        } = self;
        loop {
            let before = compress.total_in();
            let status = compress.compress_vec(input, body, flush);
            let consumed = (compress.total_in() - before) as usize;
            input = &input[consumed..];
            let done = match flush {
                FlushCompress::Finish => matches!(status, Ok(Status::StreamEnd)),
                _ => input.is_empty(),
            };
            // An error could only come from a misuse of the stream.
            if done || status.is_err() {
                return;
            }
            if body.len() == body.capacity() {
                body.reserve(body.capacity() / 2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn bodies_are_zlib_streams_at_every_level() {
        let elements = ",{\"name\":\"a\"}".repeat(20_000);
        for level in [0, 1, 6, 9] {
            let packer = Packer::new(level);
            for elements in [elements.as_str(), ",1"] {
                let body = packer.pack(elements.as_bytes());
                let mut text = String::new();
                flate2::read::ZlibDecoder::new(&body[..])
                    .read_to_string(&mut text)
                    .unwrap();
                let inner = elements.strip_prefix(',').unwrap();
                assert_eq!(text, format!("[{inner}]\n"), "level {level}");
                assert_eq!(unpack(&body), elements.as_bytes(), "level {level}");
            }
        }
    }

    #[test]
    fn no_more_compressors_are_kept_than_there_are_processors() {
        let packer = Packer::new(1);
        std::thread::scope(|scope| {
            for _ in 0..packer.threads * 4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        packer.pack(b",1,2,3");
                    }
                });
            }
        });
        let kept = packer.idle().len();
        assert!((1..=packer.threads).contains(&kept), "{kept}");
    }
}
