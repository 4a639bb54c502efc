//! The answer to a query, read while it comes.
//!
//! Servers write an envelope, the type, and then series after series. Each series is read as soon as all of it is there, so that
//! no more of the text is held than the series that is coming. What stands before and behind the series is put together and read
//! as any answer is, so that errors, warnings and whatever a server may add are treated alike. An answer that begins in any other
//! way is held until its end.

use std::fmt;

use super::{
    DecodeError, Decoded, ResultType, Shape, Sink, Size, decode,
    query::{OwnTimes, State},
};
use crate::series::Histogram;

/// Within how many bytes the series must begin.
const LONGEST_HEAD: usize = 1 << 10;

/// How much may follow the series: warnings and infos.
const LONGEST_TAIL: usize = 4 << 20;

/// How long a series may be.
const LONGEST_SERIES: usize = 256 << 20;

/// How long the labels of a series may be, and any other beginning without a list of samples.
const LONGEST_LABELS: usize = 4 << 20;

/// How long an answer may be that begins in another way, and is held until its end.
const LONGEST_WHOLE: usize = 64 << 20;

/// What stands before the series, apart from the status.
const STARTS: [(&[u8], ResultType); 2] = [
    (
        br#""data":{"resultType":"matrix","result":["#,
        ResultType::Matrix,
    ),
    (
        br#""data":{"resultType":"vector","result":["#,
        ResultType::Vector,
    ),
];

/// Reads the answer to a query in pieces of any size.
///
/// ```
/// use promxy::{
///     series::Native,
///     servergroup::{decode::{OnGrid, Shape, Stream}, time_range::Grid},
/// };
///
/// let sink: OnGrid<Native> = OnGrid::new(Grid::instant(60_000), 0);
/// let mut stream = Stream::new(sink, Shape::default(), 1000);
/// stream.push(br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"va"#)?;
/// stream.push(br#"lue":[60,"2"]}]}}"#)?;
/// let (decoded, size) = stream.finish()?;
/// assert_eq!(size.samples, 1);
/// assert_eq!(decoded.series[0].data.get(0), Some(2.0));
/// # Ok::<(), promxy::servergroup::decode::DecodeError>(())
/// ```
pub struct Stream<S: Sink> {
    state: State<S>,
    shape: Shape,
    most_samples: usize,
    phase: Phase,
    result_type: ResultType,
    /// What was not read yet.
    pending: Vec<u8>,
    /// What stood before the series, and behind them.
    around: Vec<u8>,
    /// With how many bytes it is worth trying to read a series again.
    worth: usize,
    /// Whether a comma has to come before the next series.
    needs_comma: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Series,
    Tail,
    Whole,
}

impl<S: Sink> fmt::Debug for Stream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("phase", &self.phase)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl<S: Sink> Stream<S> {
    /// Starts to read an answer of at most so many samples.
    pub fn new(sink: S, shape: Shape, most_samples: usize) -> Self {
        Self {
            state: State::new(sink, shape.clone(), most_samples),
            shape,
            most_samples,
            phase: Phase::Head,
            result_type: ResultType::Matrix,
            pending: Vec::new(),
            around: Vec::new(),
            worth: 0,
            needs_comma: false,
        }
    }

    /// Returns what was read so far.
    pub fn size(&self) -> Size {
        self.state.size()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        if self.phase == Phase::Tail {
            return self.push_tail(bytes);
        }
        let (most, what) = match self.phase {
            Phase::Series => (LONGEST_SERIES, "a series is too long"),
            _ => (LONGEST_WHOLE, "too long for an answer without a result"),
        };
        if self.pending.len() + bytes.len() > most {
            return Err(DecodeError::Bad(what.to_owned()));
        }
        self.pending.extend_from_slice(bytes);
        self.read_on()
    }

    fn push_tail(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        if self.around.len() + bytes.len() > LONGEST_HEAD + LONGEST_TAIL {
            return Err(DecodeError::Bad("too much behind the result".to_owned()));
        }
        self.around.extend_from_slice(bytes);
        Ok(())
    }

    fn read_on(&mut self) -> Result<(), DecodeError> {
        if self.phase == Phase::Head {
            self.read_head();
        }
        if self.phase != Phase::Series || self.pending.len() < self.worth {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let read = self.read_series(&pending);
        self.pending = pending;
        let read = read?;
        if self.phase == Phase::Tail {
            let rest = std::mem::take(&mut self.pending);
            return self.push_tail(rest.get(read..).unwrap_or_default());
        }
        self.pending.drain(..read);
        Ok(())
    }

    /// Looks for the beginning of the series.
    fn read_head(&mut self) {
        let begin = self.pending.get(..LONGEST_HEAD).unwrap_or(&self.pending);
        let found = STARTS.iter().find_map(|(start, result_type)| {
            let mut places = begin.windows(start.len());
            let at = places.position(|place| place == *start)?;
            Some((at + start.len(), *result_type))
        });
        if let Some((end, result_type)) = found {
            self.result_type = result_type;
            self.around = self.pending.drain(..end).collect();
            self.phase = Phase::Series;
        } else if self.pending.len() > LONGEST_HEAD {
            self.phase = Phase::Whole;
        }
    }

    /// Reads whole series, and returns where the first that is not whole begins, or the end of the list.
    fn read_series(&mut self, text: &[u8]) -> Result<usize, DecodeError> {
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => at += 1,
                b']' => {
                    self.phase = Phase::Tail;
                    break;
                }
                b',' if self.needs_comma => {
                    self.needs_comma = false;
                    at += 1;
                }
                b'{' if !self.needs_comma => {
                    let rest = text.get(at..).unwrap_or_default();
                    let Some(length) = self.state.one_series(rest)? else {
                        if !has_list(rest) {
                            return Err(DecodeError::Bad("labels are too long".to_owned()));
                        }
                        // So that a long series is not read again and again.
                        self.worth = rest.len() * 2;
                        break;
                    };
                    self.worth = 0;
                    self.needs_comma = true;
                    at += length;
                }
                _ => return Err(DecodeError::Bad("expected a series".to_owned())),
            }
        }
        Ok(at)
    }

    /// Takes the end of the answer. Returns what it takes, too.
    pub fn finish(mut self) -> Result<(Decoded<S::Data>, Size), DecodeError> {
        self.worth = 0;
        self.read_on()?;
        let size = self.size();
        match self.phase {
            Phase::Head | Phase::Whole => decode(
                200,
                &self.pending,
                self.state.sink,
                &self.shape,
                self.most_samples,
            ),
            Phase::Series => Err(DecodeError::Bad(
                "EOF while parsing the list of series".to_owned(),
            )),
            Phase::Tail => {
                let nothing: OwnTimes<Histogram> = OwnTimes::new();
                let (around, _) = decode(200, &self.around, nothing, &Shape::default(), 1)?;
                let decoded = self.state.decoded(self.result_type, around.annotations);
                Ok((decoded, size))
            }
        }
    }
}

/// Whether the beginning of a series is short, or has a list in it: samples, which only a longer text ends.
fn has_list(text: &[u8]) -> bool {
    let Some(begin) = text.get(..LONGEST_LABELS) else {
        return true;
    };
    let (mut in_string, mut escaped) = (false, false);
    begin.iter().any(|byte| {
        let quote = *byte == b'"' && !escaped;
        in_string ^= quote;
        escaped = in_string && *byte == b'\\' && !escaped;
        *byte == b'[' && !in_string
    })
}
