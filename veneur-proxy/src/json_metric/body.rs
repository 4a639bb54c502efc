//! From the bytes of a request to its text: content encoding, size limit, characters.

use std::borrow::Cow;

use flate2::{Decompress, FlushDecompress, Status};

use super::{ImportError, JsonMetric, read};

/// How much is asked for when an inflated body outgrows its buffer.
const GROWTH: usize = 16 * 1024;

/// The text of an `/import` request, from which metrics borrow.
#[derive(Debug, Clone)]
pub struct ImportBody<'a> {
    text: Cow<'a, str>,
    /// What to say if the text ends before its JSON value does.
    cut: Option<ImportError>,
}

impl<'a> ImportBody<'a> {
    /// Opens a body.
    ///
    /// `encoding` is the value of the first `Content-Encoding` header, empty without one. The original takes `deflate`
    /// alone, in these letters, and means zlib by it. `limit` bounds both the body and what it inflates to.
    pub fn open(encoding: &[u8], body: &'a [u8], limit: usize) -> Result<Self, ImportError> {
        let mut room = Vec::new();
        let ImportBody { text, cut } = ImportBody::open_in(encoding, body, limit, &mut room)?;
        let text = Cow::Owned(text.into_owned());
        Ok(Self { text, cut })
    }

    /// The same; what it inflates to goes into `room`.
    pub(crate) fn open_in(
        encoding: &[u8],
        body: &'a [u8],
        limit: usize,
        room: &'a mut Vec<u8>,
    ) -> Result<Self, ImportError> {
        if body.len() > limit {
            return Err(ImportError::TooLarge(limit));
        }
        match encoding {
            b"" => Ok(Self {
                text: text(body),
                cut: None,
            }),
            b"deflate" => {
                let cut = inflate(body, limit, room)?;
                Ok(Self {
                    text: text(room),
                    cut,
                })
            }
            other => Err(ImportError::UnknownEncoding(
                String::from_utf8_lossy(other).into_owned(),
            )),
        }
    }

    /// Returns the length of the text in bytes.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Finds the metrics: one or more, of which at least one is not blank.
    pub fn metrics(&self) -> Result<Vec<JsonMetric<'_>>, ImportError> {
        let mut metrics = Vec::new();
        self.visit(|metric| metrics.push(metric))?;
        Ok(metrics)
    }

    /// Shows the metrics to `visit`, in order, without gathering them. After an error, some may have been shown.
    pub(crate) fn visit<'b>(
        &'b self,
        visit: impl FnMut(JsonMetric<'b>),
    ) -> Result<(), ImportError> {
        read(&self.text, visit).map_err(|reason| match (reason, &self.cut) {
            (ImportError::Eof | ImportError::UnexpectedEof, Some(cut)) => cut.clone(),
            (reason, _) => reason,
        })
    }
}

/// Inflates a zlib stream into `out`, as far as it is sound; returns how it ended if not well.
///
/// A JSON value that is complete before the trouble is taken, and so is one with a wrong checksum behind it: the original
/// stops reading where the value ends. So the checksum is not computed at all.
fn inflate(
    body: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<Option<ImportError>, ImportError> {
    let [method, flags, deflated @ ..] = body else {
        return Err(ImportError::NoZlibHeader);
    };
    // RFC 1950: method 8 with a window of at most 32 KiB, and a header that is a multiple of 31.
    let header = u16::from_be_bytes([*method, *flags]);
    if method & 0x0f != 8 || method >> 4 > 7 || !header.is_multiple_of(31) {
        return Err(ImportError::NotZlib);
    }
    if flags & 0x20 != 0 {
        return Err(ImportError::ZlibDictionary);
    }
    let mut inflater = Decompress::new(false);
    out.clear();
    out.reserve((deflated.len() * 4).min(limit) + 1);
    loop {
        let consumed = inflater.total_in() as usize;
        let produced = out.len();
        let outcome = inflater.decompress_vec(&deflated[consumed..], out, FlushDecompress::None);
        if out.len() > limit {
            return Err(ImportError::TooLarge(limit));
        }
        match outcome {
            Ok(Status::StreamEnd) => return Ok(None),
            Err(_) => return Ok(Some(ImportError::CorruptDeflate)),
            Ok(_) if out.len() == out.capacity() => {
                let more = out.len().max(GROWTH).min(limit + 1 - out.len());
                out.reserve_exact(more);
            }
            Ok(_) if out.len() == produced && inflater.total_in() as usize == consumed => {
                return Ok(Some(ImportError::UnexpectedEof));
            }
            Ok(_) => {}
        }
    }
}

/// Returns the text of `bytes`; each byte that is not part of UTF-8 becomes U+FFFD, as in Go.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn outcome(encoding: &str, body: &[u8], limit: usize) -> Result<usize, ImportError> {
        ImportBody::open(encoding.as_bytes(), body, limit)?
            .metrics()
            .map(|metrics| metrics.len())
    }

    #[test]
    fn a_small_body_that_inflates_without_end_is_refused() {
        let bomb = zlib(&vec![b' '; 1 << 26]);
        let limit = 1 << 20;
        assert!(bomb.len() < limit);
        let refused = outcome("deflate", &bomb, limit).unwrap_err();
        assert_eq!(refused, ImportError::TooLarge(limit));
        assert_eq!(refused.status(), 413);
        assert_eq!(outcome("", &[b' '; 9], 8), Err(ImportError::TooLarge(8)));
    }

    #[test]
    fn a_body_of_exactly_the_limit_is_taken() {
        let body = br#"[{"name":"a"}]"#;
        assert_eq!(outcome("", body, body.len()), Ok(1));
        assert_eq!(
            outcome("deflate", &zlib(&body.repeat(9)), body.len() * 9),
            Ok(1)
        );
    }

    #[test]
    fn every_cut_of_a_compressed_body_is_an_end_too_soon() {
        let whole = zlib(br#"[{"name":"a.b","type":"counter","tagstring":"x:1"}]"#);
        // Without the checksum at the end the value is still whole.
        for length in 0..whole.len() - 6 {
            let refused = outcome("deflate", &whole[..length], 1 << 20).unwrap_err();
            assert_eq!(refused.to_string(), "unexpected EOF", "{length}");
        }
        assert_eq!(
            outcome("deflate", &whole[..whole.len() - 4], 1 << 20),
            Ok(1)
        );
    }

    #[test]
    fn bytes_that_are_not_text_become_replacement_characters_one_by_one() {
        let body = ImportBody::open(b"", b"[{\"name\":\"a\xe2\x82\"}]", 100).unwrap();
        assert_eq!(body.metrics().unwrap()[0].name, "a\u{fffd}\u{fffd}");
    }
}
