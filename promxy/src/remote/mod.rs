//! Prometheus' remote protocols: messages, their framing, and the chunks in them.
//!
//! In reading order:
//!
//! * [`messages`]: what is sent, tag by tag
//! * [`encode`], [`decode`]: whole messages under snappy, as requests and plain answers are
//! * [`frames`]: streamed answers, cut into frames with a checksum
//! * [`chunks`]: the samples of a series as chunks, and back; [`xor`]: those of floats, [`histograms`]: those of native histograms

mod bits;
pub mod chunks;
pub mod frames;
pub mod histograms;
pub mod messages;
pub mod xor;

use prost::Message;

/// Why bytes are not a message. The texts are the original's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// They are not what snappy makes.
    #[error("snappy: corrupt input")]
    Snappy,
    /// Unpacked, they would be larger than the limit.
    #[error("snappy: decoded block is too large")]
    TooLarge,
    /// They are not the message.
    #[error("unexpected EOF")]
    Message,
    /// A frame's checksum is wrong.
    #[error("chunkedReader: corrupted frame; checksum mismatch")]
    Checksum,
    /// A chunk ends too early, or says what cannot be.
    #[error("corrupted chunk: {0}")]
    Chunk(&'static str),
    /// What is in a chunk is not a histogram.
    #[error("{0}")]
    Histogram(String),
    /// A chunk is of a kind that nobody here knows.
    #[error("invalid chunk encoding {0}")]
    UnknownChunk(i32),
}

/// Packs a message.
pub fn encode(message: &impl Message) -> Vec<u8> {
    let plain = message.encode_to_vec();
    // Snappy packs everything that is shorter than 4 GiB.
    snap::raw::Encoder::new()
        .compress_vec(&plain)
        .unwrap_or_default()
}

/// Unpacks a message of at most `most` bytes.
pub fn decode<M: Message + Default>(packed: &[u8], most: usize) -> Result<M, RemoteError> {
    let length = snap::raw::decompress_len(packed).map_err(|_| RemoteError::Snappy)?;
    if length > most {
        return Err(RemoteError::TooLarge);
    }
    let plain = snap::raw::Decoder::new()
        .decompress_vec(packed)
        .map_err(|_| RemoteError::Snappy)?;
    M::decode(plain.as_slice()).map_err(|_| RemoteError::Message)
}
