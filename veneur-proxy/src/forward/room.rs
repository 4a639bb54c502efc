//! Buffers that are used again.
//!
//! Batches come and go many times a second, in buffers of a hundred kilobytes on one thread that end on another. An allocator
//! keeps such memory for a while, by size and by thread, and much more of it than is in use at any time. So buffers are kept
//! here, up to a bound.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use bytes::Bytes;

/// Buffers below this size, in bytes, are the allocator's business.
const SMALL: usize = 8 * 1024;
/// Sizes of buffers are multiples of this, in bytes, so that they fit again.
const STEP: usize = 32 * 1024;

/// Buffers that wait to be used again.
#[derive(Debug)]
pub(crate) struct Rooms {
    kept: Mutex<Kept>,
    /// What the largest of them may have, and all of them, in bytes.
    largest: usize,
    all: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// Those that came back last are at the end.
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Rooms {
    /// Keeps buffers of up to `largest` bytes, `all` bytes together.
    pub(crate) fn new(largest: usize, all: usize) -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            largest,
            all,
        })
    }

    /// Returns an empty buffer with room for so many bytes.
    pub(crate) fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes < SMALL {
            return Vec::with_capacity(bytes);
        }
        let kept = {
            let mut kept = self.kept.lock();
            let buffer = kept.buffers.pop_back();
            kept.bytes -= buffer.as_ref().map_or(0, Vec::capacity);
            buffer
        };
        match kept {
            Some(buffer) if buffer.capacity() >= bytes => buffer,
            // One that is too small is let go of, so that soon all are large enough.
            _ => Vec::with_capacity(bytes.next_multiple_of(STEP)),
        }
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes < SMALL || bytes > self.largest {
            return;
        }
        buffer.clear();
        let mut kept = self.kept.lock();
        // Sizes change with the load: the latest are the ones to keep.
        while kept.bytes + bytes > self.all
            && let Some(oldest) = kept.buffers.pop_front()
        {
            kept.bytes -= oldest.capacity();
        }
        kept.bytes += bytes;
        kept.buffers.push_back(buffer);
    }

    /// Makes a buffer of ours shareable; it comes back when nobody holds it any more.
    pub(crate) fn share(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        if buffer.capacity() < SMALL {
            return buffer.into();
        }
        // It may be queued for long, and counts there by what is in it.
        if buffer.len() < buffer.capacity() / 2 {
            let mut copy = Vec::with_capacity(copied(buffer.len()));
            copy.extend_from_slice(&buffer);
            self.give(buffer);
            return copy.into();
        }
        Bytes::from_owner(Lent {
            buffer,
            home: Arc::clone(self),
        })
    }
}

/// How much room a copy of so many bytes is given. An allocator sets pages aside for each size of large blocks, and for each
/// thread, so they have few sizes.
fn copied(bytes: usize) -> usize {
    if bytes < SMALL {
        bytes
    } else {
        bytes.next_power_of_two()
    }
}

/// A buffer on its way.
struct Lent {
    buffer: Vec<u8>,
    home: Arc<Rooms>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(rooms: &Rooms) -> (usize, usize) {
        let kept = rooms.kept.lock();
        let sum: usize = kept.buffers.iter().map(Vec::capacity).sum();
        assert_eq!(sum, kept.bytes);
        (kept.buffers.len(), kept.bytes)
    }

    #[test]
    fn a_buffer_that_was_shared_is_used_again() {
        let rooms = Rooms::new(1 << 20, 1 << 20);
        let mut buffer = rooms.take(30_000);
        assert_eq!(buffer.capacity(), 32_768);
        buffer.resize(30_000, 7);
        let place = buffer.as_ptr();
        let shared = rooms.share(buffer);
        let slice = shared.slice(5..10);
        drop(shared);
        assert_eq!(kept(&rooms), (0, 0));
        assert_eq!(slice, [7; 5][..]);
        drop(slice);
        assert_eq!(kept(&rooms), (1, 32_768));
        let again = rooms.take(20_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert_eq!(kept(&rooms), (0, 0));
    }

    #[test]
    fn no_more_is_kept_than_the_bounds_allow() {
        let rooms = Rooms::new(1 << 16, 1 << 18);
        // Too small and too large to be kept.
        rooms.give(Vec::with_capacity(100));
        rooms.give(Vec::with_capacity((1 << 16) + 1));
        assert_eq!(kept(&rooms), (0, 0));
        for _ in 0..10 {
            rooms.give(Vec::with_capacity(1 << 16));
        }
        assert_eq!(kept(&rooms), (4, 1 << 18));
        // The oldest make way.
        rooms.give(Vec::with_capacity(1 << 15));
        assert_eq!(kept(&rooms), (4, 3 * (1 << 16) + (1 << 15)));
    }

    #[test]
    fn little_in_a_large_buffer_is_copied_out_of_it() {
        let rooms = Rooms::new(1 << 20, 1 << 20);
        let mut buffer = rooms.take(1 << 16);
        buffer.extend_from_slice(b"little");
        let shared = rooms.share(buffer);
        assert_eq!(kept(&rooms), (1, 1 << 16));
        assert_eq!(shared, b"little"[..]);
    }
}
