//! The form of a batch on disk: a head of 36 bytes and the gzip stream. Numbers are little-endian.
//!
//! | bytes | |
//! |---|---|
//! | 4 | `PMB1` |
//! | 4 | CRC-32 of the rest of the head |
//! | 4 | CRC-32 of the stream |
//! | 4 | length of the stream |
//! | 4 | lines in it |
//! | 4 | bytes before compression |
//! | 8 | when the batch was closed, in milliseconds since 1970 |
//! | 4 | zero |

use crate::batch::{Batch, Moment};

/// Bytes of a head.
pub(crate) const HEAD: usize = 36;
/// What every record begins with.
pub(crate) const MAGIC: [u8; 4] = *b"PMB1";
/// No batch is longer; a head that says so is damaged.
const MAX_BODY: u32 = 256 << 20;

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) body_crc: u32,
    pub(crate) length: u32,
    pub(crate) lines: u32,
    pub(crate) raw_bytes: u32,
    pub(crate) closed: Moment,
}

impl Head {
    pub(crate) fn of(batch: &Batch) -> Self {
        Self {
            body_crc: crc32fast::hash(&batch.body),
            length: batch.body.len() as u32,
            lines: batch.lines,
            raw_bytes: batch.raw_bytes,
            closed: batch.closed,
        }
    }

    /// Bytes of the whole record.
    pub(crate) fn record_length(&self) -> u64 {
        HEAD as u64 + u64::from(self.length)
    }

    pub(crate) fn write(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&self.body_crc.to_le_bytes());
        head[12..16].copy_from_slice(&self.length.to_le_bytes());
        head[16..20].copy_from_slice(&self.lines.to_le_bytes());
        head[20..24].copy_from_slice(&self.raw_bytes.to_le_bytes());
        head[24..32].copy_from_slice(&self.closed.0.to_le_bytes());
        let crc = crc32fast::hash(&head[8..]);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// `None` if the bytes are no head.
    pub(crate) fn read(head: &[u8; HEAD]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            u32::from_le_bytes(bytes)
        };
        let intact = head[..4] == MAGIC && word(4) == crc32fast::hash(&head[8..]);
        let read = Self {
            body_crc: word(8),
            length: word(12),
            lines: word(16),
            raw_bytes: word(20),
            closed: Moment(u64::from(word(24)) | u64::from(word(28)) << 32),
        };
        (intact && read.length <= MAX_BODY).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_a_changed_bit_is_noticed() {
        let head = Head {
            body_crc: 1,
            length: 2,
            lines: 3,
            raw_bytes: 4,
            closed: Moment(1 << 40 | 5),
        };
        let bytes = head.write();
        assert_eq!(Head::read(&bytes), Some(head));
        for bit in 0..HEAD * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::read(&damaged), None, "{bit}");
        }
    }
}
