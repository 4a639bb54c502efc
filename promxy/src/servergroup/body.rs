//! The bytes of an answer: read as they come, inflated on the fly, never more than allowed.

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use shared::http::client;

use super::gzip;
use crate::upstream::{Budget, OverBudget};

/// Why the bytes of an answer cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection ended before the answer did.
    #[error("unexpected EOF")]
    Ended,
    /// It is packed in a way that was not asked for.
    #[error("unknown content encoding {0:?}")]
    Encoding(String),
    /// It is said to be packed and is not.
    #[error("gzip: invalid data")]
    Gzip,
    /// It is larger than answers may be.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    /// What a query may take is spent.
    #[error("the answers to this query are larger than {0} bytes")]
    OverBudget(u64),
}

/// An answer's bytes, as they come.
#[derive(Debug)]
pub(crate) struct Body {
    incoming: client::Body,
    packed: Packed,
    limit: Limit,
}

#[derive(Debug)]
enum Packed {
    Plain,
    /// With what inflates it, once that is needed.
    Gzip(Option<gzip::Stream>),
}

impl Body {
    /// Starts to read an answer of at most `largest` bytes, inflated.
    pub(crate) fn new(
        headers: &HeaderMap,
        incoming: client::Body,
        largest: u64,
    ) -> Result<Self, BodyError> {
        let encoding = headers.get(header::CONTENT_ENCODING);
        let encoding = encoding.map_or("", |value| value.to_str().unwrap_or("?"));
        let packed = match encoding {
            "" | "identity" => Packed::Plain,
            "gzip" | "x-gzip" => Packed::Gzip(None),
            other => return Err(BodyError::Encoding(other.to_owned())),
        };
        Ok(Self {
            incoming,
            packed,
            limit: Limit {
                left: largest,
                largest,
            },
        })
    }

    /// Lets the answer have no more bytes than this.
    pub(crate) fn limited(mut self, largest: u64) -> Self {
        let Limit {
            left,
            largest: most,
        } = self.limit;
        self.limit = Limit {
            left: left.min(largest),
            largest: most.min(largest),
        };
        self
    }

    /// Waits for bytes as they were sent; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            match self.incoming.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(BodyError::Ended),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data()
                        && !bytes.is_empty()
                    {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Splits off what turns sent bytes into those of the answer.
    pub(crate) fn inflater(&mut self) -> Inflater {
        let packed = std::mem::replace(&mut self.packed, Packed::Plain);
        Inflater {
            packed,
            limit: self.limit,
        }
    }

    /// Reads all of it.
    pub(crate) async fn read(mut self, budget: &Budget) -> Result<Vec<u8>, BodyError> {
        let mut inflater = self.inflater();
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            inflater.inflate(&bytes, budget, |inflated| {
                all.extend_from_slice(inflated);
                Ok(())
            })?;
        }
        inflater.finish()?;
        Ok(all)
    }
}

/// Turns sent bytes into those of the answer, and counts them.
#[derive(Debug)]
pub(crate) struct Inflater {
    packed: Packed,
    limit: Limit,
}

impl Inflater {
    /// Hands on what sent bytes inflate to, piece by piece.
    pub(crate) fn inflate<E: From<BodyError>>(
        &mut self,
        sent: &[u8],
        budget: &Budget,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { packed, limit } = self;
        let Packed::Gzip(gzip) = packed else {
            limit.count(sent.len(), budget)?;
            return take(sent);
        };
        let gzip = gzip.get_or_insert_with(gzip::Stream::new);
        let mut left = sent;
        loop {
            let taken = gzip.inflate(left)?;
            left = left.get(taken..).unwrap_or_default();
            limit.count(gzip.inflated.len(), budget)?;
            take(&gzip.inflated)?;
            // A full piece may have more behind it.
            let has_more = !gzip.is_whole && gzip.inflated.len() >= gzip::AT_A_TIME;
            if left.is_empty() && !has_more {
                return Ok(());
            }
        }
    }

    /// As [`Inflater::inflate`], for all of an answer.
    pub(crate) fn inflate_whole<E: From<BodyError>>(
        &mut self,
        sent: &[u8],
        budget: &Budget,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Packed::Gzip(None) = &self.packed
            && let Some(inflated) = gzip::at_once(sent)
        {
            self.packed = Packed::Plain;
            self.limit.count(inflated.len(), budget)?;
            return take(&inflated);
        }
        self.inflate(sent, budget, take)
    }

    /// Returns how many bytes the answer had so far.
    pub(crate) fn length(&self) -> u64 {
        self.limit.largest - self.limit.left
    }

    /// Makes sure that nothing is missing at the end.
    pub(crate) fn finish(&self) -> Result<(), BodyError> {
        match &self.packed {
            Packed::Gzip(Some(gzip)) if gzip.is_whole => Ok(()),
            Packed::Gzip(_) => Err(BodyError::Ended),
            Packed::Plain => Ok(()),
        }
    }
}

/// How many bytes an answer may have.
#[derive(Clone, Copy, Debug)]
struct Limit {
    left: u64,
    largest: u64,
}

impl Limit {
    fn count(&mut self, bytes: usize, budget: &Budget) -> Result<(), BodyError> {
        let bytes = bytes as u64;
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or(BodyError::TooLarge(self.largest))?;
        budget.take_bytes(bytes).map_err(|over| match over {
            OverBudget::Bytes(most) | OverBudget::Samples(most) => BodyError::OverBudget(most),
        })
    }
}
