//! Streamed answers: frames of a length, a checksum and a message.

use prost::Message as _;

use super::{RemoteError, messages::ChunkedReadResponse};

/// Takes frames from the bytes of an answer as they come.
///
/// ```
/// use promxy::remote::{frames::{Frames, write}, messages::ChunkedReadResponse};
///
/// let frame = write(&ChunkedReadResponse { chunked_series: Vec::new(), query_index: 7 });
/// let mut frames = Frames::new(1000);
/// frames.push(&frame[..4]);
/// assert_eq!(frames.take()?, None);
/// frames.push(&frame[4..]);
/// assert_eq!(frames.take()?.map(|frame| frame.query_index), Some(7));
/// assert!(frames.is_at_end());
/// # Ok::<(), promxy::remote::RemoteError>(())
/// ```
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
    largest: usize,
}

/// The length of a frame's checksum.
const CHECKSUM: usize = 4;

/// The longest number that says how long a frame is.
const LONGEST_LENGTH: usize = 10;

impl Frames {
    /// Starts without bytes; no frame may have a longer message than `largest` bytes.
    pub fn new(largest: usize) -> Self {
        let (bytes, taken) = (Vec::new(), 0);
        Self {
            bytes,
            taken,
            largest,
        }
    }

    /// Takes bytes. Whoever calls takes the whole frames in between, so that no more than one frame waits.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next frame, if all of it has come.
    pub fn take(&mut self) -> Result<Option<ChunkedReadResponse>, RemoteError> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((length, header)) = length(rest)? else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|_| RemoteError::TooLarge)?;
        if length > self.largest {
            return Err(RemoteError::TooLarge);
        }
        let Some(frame) = rest.get(header..header + CHECKSUM + length) else {
            return Ok(None);
        };
        let (checksum, message) = frame.split_at(CHECKSUM);
        if checksum != crc32c(message).to_be_bytes() {
            return Err(RemoteError::Checksum);
        }
        let message = ChunkedReadResponse::decode(message).map_err(|_| RemoteError::Message)?;
        self.taken += header + CHECKSUM + length;
        Ok(Some(message))
    }

    /// Whether all bytes were taken, as they must be when an answer ends.
    pub fn is_at_end(&self) -> bool {
        self.taken == self.bytes.len()
    }
}

/// Reads a length and says how many bytes it takes.
fn length(bytes: &[u8]) -> Result<Option<(u64, usize)>, RemoteError> {
    let mut value = 0u64;
    for (position, byte) in bytes.iter().enumerate() {
        if position == LONGEST_LENGTH {
            return Err(RemoteError::TooLarge);
        }
        value |= u64::from(byte & 0x7f)
            .checked_shl(7 * position as u32)
            .unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(Some((value, position + 1)));
        }
    }
    Ok(None)
}

/// Writes a frame.
pub fn write(message: &ChunkedReadResponse) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut frame = Vec::with_capacity(message.len() + LONGEST_LENGTH + CHECKSUM);
    let mut length = message.len();
    while length >= 0x80 {
        frame.push(length as u8 | 0x80);
        length >>= 7;
    }
    frame.push(length as u8);
    frame.extend(crc32c(&message).to_be_bytes());
    frame.extend(message);
    frame
}

/// CRC-32 with Castagnoli's polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    static TABLE: [u32; 256] = table();
    !bytes.iter().fold(!0, |crc, byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn broken_frames_are_refused() {
        let frame = write(&ChunkedReadResponse::default());
        let mut broken = write(&ChunkedReadResponse {
            chunked_series: Vec::new(),
            query_index: 1,
        });
        *broken.last_mut().unwrap() ^= 1;
        let f = |bytes: &[u8]| {
            let mut frames = Frames::new(1000);
            frames.push(bytes);
            frames.take()
        };
        assert_eq!(f(&frame), Ok(Some(ChunkedReadResponse::default())));
        assert_eq!(f(&broken), Err(RemoteError::Checksum));
        assert_eq!(f(&[0xff; 20]), Err(RemoteError::TooLarge));
        assert_eq!(f(&[0xff, 0x7f, 0, 0, 0, 0]), Err(RemoteError::TooLarge));
    }
}
