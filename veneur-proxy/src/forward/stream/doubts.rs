//! What was written on a stream and may not have arrived.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::forward::parcel::Parcel;

/// After this long, what was written and read has arrived.
const SETTLING: Duration = Duration::from_secs(1);

/// What was written and may not have been read.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    written_chunks: VecDeque<Written>,
    /// Bytes in them.
    bytes: usize,
    /// Bytes written on this stream in all.
    pub(super) written: usize,
    /// The most that the window was ever seen open.
    pub(super) window: usize,
    /// Whether something has arrived, so that the method is certainly there.
    established: bool,
    pub(super) last_written: Option<Instant>,
}

#[derive(Debug)]
struct Written {
    parcel: Parcel,
    bytes: usize,
    at: Instant,
}

impl Doubts {
    pub(super) fn wrote(&mut self, mut parcel: Parcel, at: Instant) {
        let bytes = parcel.data.len();
        if self.established {
            // Only the count is needed from here on.
            parcel.strip();
        }
        self.bytes += bytes;
        self.written += bytes;
        self.last_written = Some(at);
        self.written_chunks.push_back(Written { parcel, bytes, at });
    }

    /// Counts what has arrived, as the open part of the window and the time show.
    pub(super) fn settle(&mut self, open: usize, now: Instant) {
        self.window = self.window.max(open);
        // Windows grow while they are in use; twice the largest seen covers one doubling.
        let unread = 2 * self.window - open;
        let reads = open >= self.window / 2;
        while let Some(first) = self.written_chunks.front() {
            let passed = self.bytes - first.bytes >= unread && self.window > 0;
            let settled = reads && now.saturating_duration_since(first.at) >= SETTLING;
            if !passed && !settled {
                break;
            }
            if let Some(Written { parcel, bytes, at }) = self.written_chunks.pop_front() {
                self.bytes -= bytes;
                self.established = true;
                parcel.delivered(at);
            }
        }
    }

    /// All of it has arrived.
    pub(super) fn arrived(self) {
        for Written { parcel, at, .. } in self.written_chunks {
            parcel.delivered(at);
        }
    }

    /// Returns whether everything ever written is still in it, bytes included.
    pub(super) fn is_complete(&self) -> bool {
        !self.established
    }

    pub(super) fn metrics(&self) -> usize {
        let chunks = self.written_chunks.iter();
        chunks.map(|written| written.parcel.metrics).sum()
    }

    pub(super) fn into_parcels(self) -> impl DoubleEndedIterator<Item = Parcel> {
        self.written_chunks
            .into_iter()
            .map(|written| written.parcel)
    }
}
