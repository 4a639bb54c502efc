//! A watch over the heads of requests for those that say their length twice: `Content-Length` and `Transfer-Encoding`.
//!
//! hyper follows the standard with these: chunks count, the length is dropped, and the connection ends after the answer. Nothing
//! can be smuggled past it. But who sends such a request means no good, so it is refused; and as hyper does not tell, the bytes
//! are looked at on their way to it.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

const LENGTH: u8 = 1;
const CODING: u8 = 2;
/// A head with a length has ended, so that what follows is its body.
const IN_BODY: u8 = 4;

const LENGTH_NAME: &[u8] = b"content-length";
const CODING_NAME: &[u8] = b"transfer-encoding";

/// What was seen of the present request's head.
#[derive(Debug, Default)]
pub(super) struct Lengths(AtomicU8);

impl Lengths {
    /// Says whether the head has both.
    pub(super) fn conflict(&self) -> bool {
        self.0.load(Relaxed) & (LENGTH | CODING) == LENGTH | CODING
    }

    /// The request is answered: the next head comes.
    pub(super) fn next(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Watches the bytes that come in on a connection.
#[derive(Debug)]
pub(super) struct Watch {
    lengths: Arc<Lengths>,
    /// The start of the present line; longer ones are cut.
    line: [u8; CODING_NAME.len() + 1],
    filled: usize,
}

impl Watch {
    /// Writes what it sees to `lengths`.
    pub(super) fn new(lengths: Arc<Lengths>) -> Self {
        Self {
            lengths,
            line: [0; CODING_NAME.len() + 1],
            filled: 0,
        }
    }

    /// Looks at the next bytes.
    pub(super) fn look(&mut self, mut bytes: &[u8]) {
        while self.lengths.0.load(Relaxed) & IN_BODY == 0 && !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let line = end.map_or(bytes, |end| &bytes[..end]);
            let room = (self.line.len() - self.filled).min(line.len());
            self.line[self.filled..self.filled + room].copy_from_slice(&line[..room]);
            self.filled += room;
            let Some(end) = end else {
                return;
            };
            self.end_of_line();
            bytes = &bytes[end + 1..];
        }
    }

    fn end_of_line(&mut self) {
        let line = self.line[..self.filled].trim_ascii_end();
        self.filled = 0;
        let seen = self.lengths.0.load(Relaxed);
        if line.is_empty() {
            // Without a length there is no body, and the next line is that of the next request.
            if seen != 0 {
                self.lengths.0.store(seen | IN_BODY, Relaxed);
            }
            return;
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(LENGTH_NAME) {
            self.lengths.0.store(seen | LENGTH, Relaxed);
        } else if name.eq_ignore_ascii_case(CODING_NAME) {
            self.lengths.0.store(seen | CODING, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lengths_in_one_head_are_a_conflict_however_the_bytes_come() {
        let f = |bytes: &str, expected: bool| {
            for size in [1, 3, 7, 1000] {
                let lengths = Arc::<Lengths>::default();
                let mut watch = Watch::new(Arc::clone(&lengths));
                for chunk in bytes.as_bytes().chunks(size) {
                    watch.look(chunk);
                }
                assert_eq!(lengths.conflict(), expected, "{bytes:?} by {size}");
            }
        };
        f(
            "POST / HTTP/1.1\r\ncontent-LENGTH: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            true,
        );
        f(
            "POST / HTTP/1.1\nTransfer-Encoding: x\nContent-Length:1\n\n",
            true,
        );
        f(
            "POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\nTransfer-Encoding: chunked\r\n",
            false,
        );
        f(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: Content-Length: 1\r\n\r\n",
            false,
        );
        f(
            "POST / HTTP/1.1\r\nTransfer-Encodings: chunked\r\nContent-Length: 1\r\n\r\n",
            false,
        );
        f(
            "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            true,
        );
    }

    #[test]
    fn the_next_head_is_watched_again() {
        let lengths = Arc::<Lengths>::default();
        let mut watch = Watch::new(Arc::clone(&lengths));
        watch.look(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
        assert!(!lengths.conflict());
        lengths.next();
        watch.look(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(!lengths.conflict());
    }
}
