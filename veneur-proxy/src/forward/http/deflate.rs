//! Bodies as destinations get them: zlib streams of JSON arrays. Pure.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

/// Makes zlib bodies, one after the other.
pub(super) struct Deflate {
    compress: Compress,
}

impl Deflate {
    pub(super) fn new(level: u32) -> Self {
        Self {
            compress: Compress::new(Compression::new(level), true),
        }
    }

    /// Compresses the elements of a parcel as a JSON array, with a line feed after it as the original has it.
    pub(super) fn body(&mut self, elements: &[u8]) -> Bytes {
        self.compress.reset();
        let mut body = Vec::with_capacity(elements.len() / 3 + 512);
        let elements = elements.strip_prefix(b",").unwrap_or(elements);
        self.write(b"[", FlushCompress::None, &mut body);
        self.write(elements, FlushCompress::None, &mut body);
        self.write(b"]\n", FlushCompress::Finish, &mut body);
        body.into()
    }

    fn write(&mut self, mut input: &[u8], flush: FlushCompress, body: &mut Vec<u8>) {
        loop {
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(input, body, flush);
            let consumed = (self.compress.total_in() - before) as usize;
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
                body.reserve(body.capacity() / 2 + 4096);
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
            let mut deflate = Deflate::new(level);
            for elements in [elements.as_str(), ",1"] {
                let body = deflate.body(elements.as_bytes());
                let mut text = String::new();
                flate2::read::ZlibDecoder::new(&body[..])
                    .read_to_string(&mut text)
                    .unwrap();
                let inner = elements.strip_prefix(',').unwrap();
                assert_eq!(text, format!("[{inner}]\n"), "level {level}");
            }
        }
    }
}
