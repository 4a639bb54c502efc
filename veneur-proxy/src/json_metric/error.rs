//! Why an `/import` request is refused.

use thiserror::Error;

/// A refusal. Its text, and a line feed, is the body of the answer.
///
/// The fixed texts are the original's. Those about syntax and types came out of its JSON library and changed with the
/// version of Go; here they are in our own words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImportError {
    /// A content encoding other than `deflate`.
    #[error("{0}")]
    UnknownEncoding(String),
    /// A `deflate` body that does not begin as a zlib stream.
    #[error("zlib: invalid header")]
    NotZlib,
    /// A zlib stream that needs a preset dictionary.
    #[error("zlib: invalid dictionary")]
    ZlibDictionary,
    /// A `deflate` body without even the header of a zlib stream.
    #[error("unexpected EOF")]
    NoZlibHeader,
    /// A zlib stream that turns into nonsense before the JSON value ends.
    #[error("flate: corrupt input")]
    CorruptDeflate,
    /// The body ends before the JSON value does.
    #[error("unexpected EOF")]
    UnexpectedEof,
    /// An empty body.
    #[error("EOF")]
    Eof,
    /// The body, or what it inflates to, has more bytes than this.
    #[error("request body is larger than {0} bytes")]
    TooLarge(usize),
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// JSON, but not an array of metrics.
    #[error("{0}")]
    Type(String),
    /// No metric at all.
    #[error("Received empty /import request")]
    Empty,
    /// Metrics in which nothing is set.
    #[error("Received empty or improperly-formed metrics")]
    AllBlank,
}

impl ImportError {
    /// Returns the HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownEncoding(_) => 415,
            Self::TooLarge(_) => 413,
            _ => 400,
        }
    }

    /// Returns the `cause` under which `import.request_error_total` counts it; `None` where the original does not count.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::UnknownEncoding(_) => Some("unknown_content_encoding"),
            Self::NotZlib | Self::ZlibDictionary | Self::NoZlibHeader => Some("deflate"),
            Self::TooLarge(_) => Some("size"),
            Self::CorruptDeflate
            | Self::UnexpectedEof
            | Self::Eof
            | Self::Syntax(_)
            | Self::Type(_) => Some("json"),
            Self::Empty | Self::AllBlank => None,
        }
    }
}
