//! Messages in the body of a gRPC call: a flag, a length of four bytes, and as many bytes. Pure.
//!
//! A message that lies in one piece of the body is read where it lies; only one that is spread over several is put together.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::status::{Code, Status};
use crate::forward::room::Rooms;

/// The largest message that is taken, in bytes: that of Go's server.
pub(super) const MAX_MESSAGE: usize = 4 << 20;
/// Flag and length.
const PREFIX: usize = 5;
/// How much is set aside for a message of which only the length is here; the rest as it comes, for the length may be a lie.
const FIRST_RESERVE: usize = 64 * 1024;

/// Finds the messages of one call.
#[derive(Debug)]
pub(super) struct Reader {
    piece: Bytes,
    at: usize,
    /// A message with its prefix, as far as it is here.
    gathered: Vec<u8>,
    found: Option<Found>,
    /// Whether the message in `gathered` was given out, so that it can be emptied.
    given: bool,
    rooms: Arc<Rooms>,
}

/// Where the next message lies.
#[derive(Debug)]
enum Found {
    InPiece(Range<usize>),
    Gathered,
}

impl Reader {
    /// Starts before the first message; those that come in pieces are gathered in buffers of `rooms`.
    pub(super) fn new(rooms: &Arc<Rooms>) -> Self {
        Self {
            piece: Bytes::new(),
            at: 0,
            gathered: Vec::new(),
            found: None,
            given: false,
            rooms: Arc::clone(rooms),
        }
    }

    /// Takes the next piece of the body. All messages of the last one must have been taken.
    pub(super) fn push(&mut self, piece: Bytes) {
        debug_assert_eq!(self.at, self.piece.len());
        self.piece = piece;
        self.at = 0;
    }

    /// Returns whether a whole message is here.
    pub(super) fn is_whole(&mut self) -> Result<bool, Status> {
        if self.found.is_none() {
            self.found = self.find()?;
        }
        Ok(self.found.is_some())
    }

    /// Returns the next whole message, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Status> {
        self.is_whole()?;
        Ok(match self.found.take() {
            None => None,
            Some(Found::InPiece(range)) => Some(&self.piece[range]),
            Some(Found::Gathered) => {
                self.given = true;
                Some(&self.gathered[PREFIX..])
            }
        })
    }

    /// Returns how many bytes of a message that is not whole are here; 0 between messages.
    pub(super) fn pending(&self) -> usize {
        if self.given { 0 } else { self.gathered.len() }
    }

    fn find(&mut self) -> Result<Option<Found>, Status> {
        if self.given {
            self.given = false;
            self.gathered.clear();
            // One large message is no reason to hold on to its room for the life of a stream.
            if self.gathered.capacity() > FIRST_RESERVE {
                self.rooms.give(std::mem::take(&mut self.gathered));
            }
        }
        if self.gathered.is_empty() {
            let rest = &self.piece[self.at..];
            if let Some((prefix, after)) = rest.split_first_chunk::<PREFIX>() {
                let length = length(*prefix)?;
                if after.len() >= length {
                    let start = self.at + PREFIX;
                    self.at = start + length;
                    return Ok(Some(Found::InPiece(start..self.at)));
                }
                let wanted = (PREFIX + length).min(FIRST_RESERVE);
                if self.gathered.capacity() < wanted {
                    self.gathered = self.rooms.take(wanted);
                }
            }
        }
        self.take(PREFIX);
        let Some((prefix, _)) = self.gathered.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let whole = PREFIX + length(*prefix)?;
        self.take(whole);
        Ok((self.gathered.len() == whole).then_some(Found::Gathered))
    }

    /// Moves bytes of the piece until `whole` of the message are gathered, or none are left.
    fn take(&mut self, whole: usize) {
        let rest = &self.piece[self.at..];
        let count = whole.saturating_sub(self.gathered.len()).min(rest.len());
        self.gathered.extend_from_slice(&rest[..count]);
        self.at += count;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.rooms.give(std::mem::take(&mut self.gathered));
    }
}

/// Reads a prefix. No compression is ever agreed on, and the length has a limit.
fn length([flag, length @ ..]: [u8; PREFIX]) -> Result<usize, Status> {
    if flag != 0 {
        return Err(Status::new(
            Code::Internal,
            "grpc: compressed flag set with identity or empty encoding",
        ));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!("grpc: received message larger than max ({length} vs. {MAX_MESSAGE})"),
        ));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        Reader::new(&Rooms::new(1 << 20, 1 << 20))
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut framed = vec![0];
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(message);
        framed
    }

    #[test]
    fn messages_are_found_however_the_body_is_cut() {
        let messages: [&[u8]; 5] = [b"one", b"", b"three", &[7; 300], b"x"];
        let body: Vec<u8> = messages.iter().flat_map(|m| framed(m)).collect();
        for size in 1..=body.len() {
            let mut reader = reader();
            let mut found = Vec::new();
            for piece in body.chunks(size) {
                reader.push(Bytes::copy_from_slice(piece));
                while let Some(message) = reader.next().unwrap() {
                    found.push(message.to_vec());
                }
            }
            assert_eq!(found, messages, "{size}");
            assert_eq!(reader.pending(), 0, "{size}");
        }
    }

    #[test]
    fn a_cut_message_is_pending() {
        let mut reader = reader();
        reader.push(Bytes::from_static(b"\0\0\0\0\x05ab"));
        assert!(reader.next().unwrap().is_none());
        assert_eq!(reader.pending(), 7);
    }

    #[test]
    fn compressed_and_huge_messages_are_refused_in_gos_words() {
        let f = |prefix: &'static [u8], code: Code, text: &str| {
            let mut reader = reader();
            reader.push(Bytes::from_static(prefix));
            let status = reader.next().unwrap_err();
            assert_eq!((status.code, &*status.message), (code, text));
        };
        f(
            b"\x01\0\0\0\0",
            Code::Internal,
            "grpc: compressed flag set with identity or empty encoding",
        );
        f(
            b"\0\0\x40\0\x01",
            Code::ResourceExhausted,
            "grpc: received message larger than max (4194305 vs. 4194304)",
        );
    }
}
