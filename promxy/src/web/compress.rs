//! Answers made smaller for clients that can read it.

use std::io::Write as _;

use axum::body::{Body, Bytes};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH},
};

use crate::message::answer::Response;

/// From this size on, compressing is left to a thread that may take its time.
const LARGE: usize = 64 << 10;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Encoding {
    Gzip,
    Deflate,
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Returns the first encoding of a list that is known. Weights are not understood: `gzip;q=0` is another word.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
        accepted.split(',').find_map(|word| match word.trim() {
            "gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        })
    }

    /// The fastest level: half a millisecond less for a page of a dashboard is worth more than some bytes.
    fn compress(self, plain: &[u8]) -> Option<Vec<u8>> {
        let packed = Vec::with_capacity(plain.len() / 4 + 64);
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(packed, Compression::fast());
                encoder.write_all(plain).ok()?;
                encoder.finish().ok()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(packed, Compression::fast());
                encoder.write_all(plain).ok()?;
                encoder.finish().ok()
            }
        }
    }
}

/// Makes a response as `request` can read it, whatever its size.
pub async fn response(request: &HeaderMap, response: Response) -> Response {
    let Some(encoding) = Encoding::of(request) else {
        return response;
    };
    let (mut head, body) = response.into_parts();
    // Bodies are in memory, so this does not wait; one that breaks off is no body.
    let Ok(plain) = axum::body::to_bytes(body, usize::MAX).await else {
        return Response::from_parts(head, Body::empty());
    };
    if plain.is_empty() {
        return Response::from_parts(head, Body::empty());
    }
    match pack(encoding, plain.clone()).await {
        None => Response::from_parts(head, Body::from(plain)),
        Some(packed) => {
            head.headers.remove(CONTENT_LENGTH);
            let name = HeaderValue::from_static(encoding.name());
            head.headers.insert(CONTENT_ENCODING, name);
            Response::from_parts(head, Body::from(packed))
        }
    }
}

async fn pack(encoding: Encoding, plain: Bytes) -> Option<Vec<u8>> {
    if plain.len() < LARGE {
        return encoding.compress(&plain);
    }
    let packing = tokio::task::spawn_blocking(move || encoding.compress(&plain));
    packing.await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_words_are_taken() {
        let f = |accepted: &'static str, expected| {
            let headers =
                HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
            assert_eq!(Encoding::of(&headers), expected, "{accepted}");
        };
        f("gzip, deflate", Some(Encoding::Gzip));
        f("deflate, gzip", Some(Encoding::Deflate));
        f("zstd,gzip", Some(Encoding::Gzip));
        f("gzip;q=0", None);
        f("*", None);
        f("br", None);
    }
}
