//! Answers made smaller for clients that can read it.

use std::io::{self, Write as _};

use axum::body::{Body, Bytes};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use futures_util::{StreamExt as _, stream};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body::Body as _;
use tokio::task::spawn_blocking;

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

    /// Returns what packs. The fastest level: half a millisecond less for a page of a dashboard is worth more than some bytes.
    fn packer(self, room: usize) -> Packer {
        let packed = Vec::with_capacity(room);
        match self {
            Self::Gzip => Packer::Gzip(GzEncoder::new(packed, Compression::fast())),
            Self::Deflate => Packer::Deflate(ZlibEncoder::new(packed, Compression::fast())),
        }
    }

    fn compress(self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut packer = self.packer(plain.len() / 4 + 64);
        packer.push(plain)?;
        packer.finish()
    }

    /// Packs a body piece by piece.
    fn stream(self, body: Body) -> Body {
        let begin = (body.into_data_stream(), Some(self.packer(0)));
        let packed = stream::try_unfold(begin, |(mut pieces, packer)| async move {
            let Some(mut packer) = packer else {
                return Ok(None);
            };
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(io::Error::other)?;
                let pack = move || packer.push(&piece).map(|()| (packer.take(), packer));
                let (packed, after) = spawn_blocking(pack).await.map_err(io::Error::other)??;
                packer = after;
                if !packed.is_empty() {
                    return Ok(Some((packed, (pieces, Some(packer)))));
                }
            }
            Ok::<_, io::Error>(Some((packer.finish()?, (pieces, None))))
        });
        Body::from_stream(packed)
    }
}

/// Packs what is written to it.
enum Packer {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Packer {
    fn push(&mut self, plain: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(plain),
            Self::Deflate(encoder) => encoder.write_all(plain),
        }
    }

    /// Returns what is packed so far.
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Deflate(encoder) => encoder.get_mut(),
        })
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
        }
    }
}

/// Makes a response as `request` can read it, whatever its size.
pub async fn response(request: &HeaderMap, response: Response) -> Response {
    let Some(encoding) = Encoding::of(request) else {
        return response;
    };
    let (mut head, body) = response.into_parts();
    let name = HeaderValue::from_static(encoding.name());
    if body.size_hint().exact().is_none() {
        head.headers.insert(CONTENT_ENCODING, name);
        return Response::from_parts(head, encoding.stream(body));
    }
    // Such bodies are in memory, so this does not wait; one that breaks off is no body.
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
            head.headers.insert(CONTENT_ENCODING, name);
            Response::from_parts(head, Body::from(packed))
        }
    }
}

async fn pack(encoding: Encoding, plain: Bytes) -> Option<Vec<u8>> {
    if plain.len() < LARGE {
        return encoding.compress(&plain).ok();
    }
    let packing = spawn_blocking(move || encoding.compress(&plain).ok());
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
