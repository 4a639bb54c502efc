//! Gzip as servers send it: inflated while it comes, or at once where all of it is there.
//!
//! Most answers are small, and for them a stream costs more than what is in it: its window is 32 KiB that have to be made and
//! cleared. What is there as a whole needs no window.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;

use super::body::BodyError;

/// How much is inflated at a time.
pub(super) const AT_A_TIME: usize = 32 << 10;

/// The largest window of deflate, as a power of two. Gzip has no other.
const WINDOW: u8 = 15;

/// How long what is inflated at once may be.
const LONGEST_AT_ONCE: usize = 256 << 10;

/// A stream that is being inflated.
#[derive(Debug)]
pub(super) struct Stream {
    inflating: Decompress,
    /// What was inflated last.
    pub(super) inflated: Vec<u8>,
    pub(super) is_whole: bool,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            inflating: Decompress::new_gzip(WINDOW),
            inflated: Vec::new(),
            is_whole: false,
        }
    }

    /// Inflates the next piece, if there is one, and returns how many of the sent bytes it took.
    pub(super) fn inflate(&mut self, sent: &[u8]) -> Result<usize, BodyError> {
        if self.is_whole {
            // Something behind the end.
            return Err(BodyError::Gzip);
        }
        self.inflated.clear();
        self.inflated.reserve(AT_A_TIME);
        let before = self.inflating.total_in();
        let status = self
            .inflating
            .decompress_vec(sent, &mut self.inflated, FlushDecompress::None)
            .map_err(|_| BodyError::Gzip)?;
        self.is_whole = status == Status::StreamEnd;
        let taken = (self.inflating.total_in() - before) as usize;
        if taken == 0 && self.inflated.is_empty() && !sent.is_empty() {
            return Err(BodyError::Gzip);
        }
        Ok(taken)
    }
}

/// Inflates what is all of a short answer. `None` if it is long, or if anything is wrong with it: a stream then says what.
pub(super) fn at_once(sent: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        static INFLATING: RefCell<Decompressor> = RefCell::new(Decompressor::new());
    }
    // The last four bytes are the length.
    let length = u32::from_le_bytes(*sent.last_chunk()?) as usize;
    if length > LONGEST_AT_ONCE {
        return None;
    }
    let mut inflated = vec![0; length];
    let written = INFLATING.with_borrow_mut(|inflating| {
        let written = inflating.gzip_decompress(sent, &mut inflated);
        written.ok()
    });
    (written == Some(length)).then_some(inflated)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_whole_and_short_is_inflated_at_once() {
        let text = b"as it was, ".repeat(100);
        let sent = packed(&text);
        assert_eq!(at_once(&sent), Some(text.clone()));
        assert_eq!(at_once(&packed(b"")), Some(Vec::new()));
        assert_eq!(at_once(&packed(&vec![0; LONGEST_AT_ONCE + 1])), None);
        assert_eq!(at_once(b""), None);
        assert_eq!(at_once(b"plain text"), None);
        for end in 0..sent.len() {
            assert_eq!(at_once(&sent[..end]), None, "{end}");
        }
        let mut two = sent.clone();
        two.extend_from_slice(&sent[..4]);
        assert_eq!(at_once(&two), None);
        let mut broken = sent;
        broken[15] ^= 1;
        assert_eq!(at_once(&broken), None);
    }
}
