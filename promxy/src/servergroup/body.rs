//! The bytes of an answer: read as they come, inflated on the fly, never more than allowed.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzDecoder;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::upstream::{Budget, OverBudget};

/// How much is inflated at a time. A packed byte becomes a thousand at most.
const INFLATED_AT_A_TIME: usize = 8 << 10;

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
    incoming: Incoming,
    packed: Packed,
    left: u64,
    largest: u64,
}

#[derive(Debug)]
enum Packed {
    Plain,
    Gzip(Box<GzDecoder<Vec<u8>>>),
}

impl Body {
    /// Starts to read an answer of at most `largest` bytes, inflated.
    pub(crate) fn new(
        headers: &HeaderMap,
        incoming: Incoming,
        largest: u64,
    ) -> Result<Self, BodyError> {
        let encoding = headers.get(header::CONTENT_ENCODING);
        let encoding = encoding.map_or("", |value| value.to_str().unwrap_or("?"));
        let packed = match encoding {
            "" | "identity" => Packed::Plain,
            "gzip" | "x-gzip" => Packed::Gzip(Box::new(GzDecoder::new(Vec::new()))),
            other => return Err(BodyError::Encoding(other.to_owned())),
        };
        Ok(Self {
            incoming,
            packed,
            left: largest,
            largest,
        })
    }

    /// Lets the answer have no more bytes than this.
    pub(crate) fn limited(mut self, largest: u64) -> Self {
        self.left = self.left.min(largest);
        self.largest = self.largest.min(largest);
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
            left: self.left,
            largest: self.largest,
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
        inflater.finish(budget, |inflated| {
            all.extend_from_slice(inflated);
            Ok(())
        })?;
        Ok(all)
    }
}

/// Turns sent bytes into those of the answer, and counts them.
#[derive(Debug)]
pub(crate) struct Inflater {
    packed: Packed,
    left: u64,
    largest: u64,
}

impl Inflater {
    /// Hands on what sent bytes inflate to, piece by piece.
    pub(crate) fn inflate<E: From<BodyError>>(
        &mut self,
        sent: &[u8],
        budget: &Budget,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Packed::Plain = self.packed {
            self.count(sent.len(), budget)?;
            return take(sent);
        }
        for piece in sent.chunks(INFLATED_AT_A_TIME) {
            let Packed::Gzip(decoder) = &mut self.packed else {
                return Ok(());
            };
            decoder.write_all(piece).map_err(|_| BodyError::Gzip)?;
            self.hand_on(budget, &mut take)?;
        }
        Ok(())
    }

    /// Hands on what is left at the end.
    pub(crate) fn finish<E: From<BodyError>>(
        &mut self,
        budget: &Budget,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Packed::Gzip(decoder) = &mut self.packed {
            decoder.try_finish().map_err(|_| BodyError::Ended)?;
            self.hand_on(budget, &mut take)?;
        }
        Ok(())
    }

    fn hand_on<E: From<BodyError>>(
        &mut self,
        budget: &Budget,
        take: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Packed::Gzip(decoder) = &mut self.packed else {
            return Ok(());
        };
        let mut inflated = std::mem::take(decoder.get_mut());
        self.count(inflated.len(), budget)?;
        take(&inflated)?;
        inflated.clear();
        if let Packed::Gzip(decoder) = &mut self.packed {
            *decoder.get_mut() = inflated;
        }
        Ok(())
    }

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
