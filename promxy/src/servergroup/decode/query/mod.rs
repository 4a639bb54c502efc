//! The visitor that reads the answer to a query.
//!
//! Visitors nest as the answer does: envelope, data, result, series, samples. All share one [`State`], so that buffers are used
//! again from series to series, and hand samples to a [`Sink`], which knows what is made of them. They stand in one file because
//! each is a few lines that only the next one makes sense of.

mod plain;
mod sink;
mod values;

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    Annotations, DecodeError, Decoded, ResultType, Shape, bad, check_envelope, read_object,
};
use crate::series::{FromShown, Histogram, Series};
use plain::Unread;
pub use sink::{OnGrid, OwnTimes, Sink};
use values::{HistogramSeed, Number, Pair};

/// What reading came to.
pub(super) enum Read<S: Sink> {
    /// The answer, and what it takes.
    Done(Decoded<S::Data>, Size),
    /// The result stood before its type, and was not read.
    TypeCameLate(S, ResultType),
}

/// Reads an answer. `known` is its type, if an earlier reading found it too late.
pub(super) fn read<S: Sink>(
    body: &[u8],
    sink: S,
    shape: &Shape,
    most_samples: usize,
    known: Option<ResultType>,
) -> Result<Read<S>, DecodeError> {
    let mut state = State::new(sink, shape.clone(), most_samples);
    state.result_type = known;
    let envelope = read_object(body, EnvelopeVisitor { state: &mut state });
    let envelope = envelope.map_err(|error| state.why(&error))?;
    check_envelope(
        envelope.status.as_deref(),
        &envelope.error_type,
        &envelope.error,
    )?;
    let result_type = state.result_type;
    let result_type = result_type.ok_or_else(|| DecodeError::Bad("no result type".to_owned()))?;
    if !state.is_read {
        return Ok(Read::TypeCameLate(state.sink, result_type));
    }
    let size = state.size();
    let decoded = state.decoded(result_type, envelope.annotations);
    Ok(Read::Done(decoded, size))
}

/// What series take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How many samples they have, or have room for.
    pub samples: usize,
    /// For how many samples there is room in vain: times of the grid at which series have none.
    pub empty: usize,
    /// How many there are.
    pub series: usize,
}

/// What all visitors share.
pub(super) struct State<S: Sink> {
    pub(super) sink: S,
    shape: Shape,
    most_samples: usize,
    /// How many more samples may come. Zero means that there were too many.
    left: usize,
    /// How much of the room of all series is empty.
    empty: usize,
    series: Vec<Series<S::Data>>,
    result_type: Option<ResultType>,
    /// Whether the result was read.
    is_read: bool,
}

impl<S: Sink> State<S> {
    pub(super) fn new(sink: S, shape: Shape, most_samples: usize) -> Self {
        Self {
            sink,
            shape,
            most_samples,
            left: most_samples,
            empty: 0,
            series: Vec::new(),
            result_type: None,
            is_read: false,
        }
    }

    fn count<E: Error>(&mut self) -> Result<(), E> {
        self.take(1)
    }

    fn take<E: Error>(&mut self, samples: usize) -> Result<(), E> {
        self.left = self.left.saturating_sub(samples);
        if self.left == 0 {
            return Err(E::custom("too many samples"));
        }
        Ok(())
    }

    /// Adds a series. `left_before` is how many samples were left when it began: what it has room for counts, so that a
    /// few samples on many long grids are not for free.
    fn add<E: Error>(
        &mut self,
        labels: Vec<(Cow<'_, str>, Cow<'_, str>)>,
        data: S::Data,
        left_before: usize,
    ) -> Result<(), E> {
        let empty = self.sink.room().saturating_sub(left_before - self.left);
        self.take(empty)?;
        self.empty += empty;
        let labels = self.shape.labels(labels);
        self.series.push(Series { labels, data });
        Ok(())
    }

    /// Returns what was read so far.
    pub(super) fn size(&self) -> Size {
        Size {
            samples: self.most_samples - self.left,
            empty: self.empty,
            series: self.series.len(),
        }
    }

    /// Says why reading failed.
    pub(super) fn why(&self, error: &serde_json::Error) -> DecodeError {
        if self.left == 0 {
            return DecodeError::TooManySamples(self.most_samples);
        }
        bad(error)
    }

    /// Reads one series of the list, and says where in `text` it ends; `None` if it goes on behind the end of `text`.
    pub(super) fn one_series(&mut self, text: &[u8]) -> Result<Option<usize>, DecodeError> {
        let (left, off_grid) = (self.left, *self.sink.off_grid());
        let mut data = self.sink.start();
        let read = plain::series(text, |time, value| {
            self.count()
                .map(|()| self.sink.float(&mut data, time, value))
        });
        match read {
            Ok(Ok((labels, length))) => {
                let added = self.add(labels, data, left);
                return added
                    .map(|()| Some(length))
                    .map_err(|error| self.why(&error));
            }
            Ok(Err(error)) => return Err(self.why(&error)),
            Err(unread) => {
                self.left = left;
                *self.sink.off_grid() = off_grid;
                if unread == Unread::Unfinished {
                    return Ok(None);
                }
            }
        }
        let mut reader = super::reader(text);
        let read = (OneSeries { state: self }).deserialize(&mut reader);
        let end = reader.into_iter::<IgnoredAny>().byte_offset();
        match read {
            Ok(()) => Ok(Some(end)),
            // A number that is not looked at is said to be invalid where the text ends within it.
            Err(error) if error.is_eof() || (error.is_syntax() && end >= text.len()) => {
                self.left = left;
                *self.sink.off_grid() = off_grid;
                Ok(None)
            }
            Err(error) => Err(self.why(&error)),
        }
    }

    pub(super) fn decoded(
        mut self,
        result_type: ResultType,
        annotations: Annotations,
    ) -> Decoded<S::Data> {
        Decoded {
            result_type,
            off_grid: *self.sink.off_grid(),
            series: self.series,
            annotations,
        }
    }
}

/// A word or a key, without a copy where the text has no escapes.
struct Word;

impl<'de> DeserializeSeed<'de> for Word {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Word {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// What the envelope says beside data.
#[derive(Default)]
struct Said {
    status: Option<String>,
    error_type: String,
    error: String,
    annotations: Annotations,
}

struct EnvelopeVisitor<'s, S: Sink> {
    state: &'s mut State<S>,
}

impl<'de, S: Sink> Visitor<'de> for EnvelopeVisitor<'_, S> {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer of Prometheus' API")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        while let Some(key) = map.next_key_seed(Word)? {
            match key.as_ref() {
                "status" => said.status = map.next_value()?,
                "errorType" => said.error_type = map.next_value()?,
                "error" => said.error = map.next_value()?,
                "warnings" => said
                    .annotations
                    .add_warnings(map.next_value::<Option<Vec<String>>>()?.unwrap_or_default()),
                "infos" => said
                    .annotations
                    .add_infos(map.next_value::<Option<Vec<String>>>()?.unwrap_or_default()),
                "data" => map.next_value_seed(Data {
                    state: &mut *self.state,
                })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(said)
    }
}

/// Writes the two impls of a seed that expects an object or a list and gives nothing back.
macro_rules! seed {
    ($name:ident, $deserialize:ident) => {
        impl<'de, S: Sink> DeserializeSeed<'de> for $name<'_, S> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.$deserialize(self)
            }
        }
    };
}

struct Data<'s, S: Sink> {
    state: &'s mut State<S>,
}

seed!(Data, deserialize_any);

impl<'de, S: Sink> Visitor<'de> for Data<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result and its type")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let state = self.state;
        while let Some(key) = map.next_key_seed(Word)? {
            match key.as_ref() {
                "resultType" => {
                    let word = map.next_value_seed(Word)?;
                    state.result_type = Some(match word.as_ref() {
                        "matrix" => ResultType::Matrix,
                        "vector" => ResultType::Vector,
                        "scalar" => ResultType::Scalar,
                        "string" => ResultType::String,
                        other => {
                            let text = format!("unexpected value type {other:?}");
                            return Err(A::Error::custom(text));
                        }
                    });
                }
                "result" => match state.result_type {
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                    Some(result_type) => {
                        state.is_read = true;
                        match result_type {
                            ResultType::Matrix | ResultType::Vector => {
                                map.next_value_seed(Listed { state: &mut *state })?;
                            }
                            ResultType::Scalar => {
                                let (time, value) = map.next_value_seed(Pair(Number))?;
                                let left_before = state.left;
                                state.count()?;
                                let mut data = state.sink.start();
                                state.sink.float(&mut data, time, value);
                                state.add(Vec::new(), data, left_before)?;
                            }
                            ResultType::String => {
                                map.next_value::<IgnoredAny>()?;
                            }
                        }
                    }
                },
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The list of series; null for none.
struct Listed<'s, S: Sink> {
    state: &'s mut State<S>,
}

seed!(Listed, deserialize_any);

impl<'de, S: Sink> Visitor<'de> for Listed<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list
            .next_element_seed(OneSeries {
                state: &mut *self.state,
            })?
            .is_some()
        {}
        Ok(())
    }
}

struct OneSeries<'s, S: Sink> {
    state: &'s mut State<S>,
}

seed!(OneSeries, deserialize_map);

impl<'de, S: Sink> Visitor<'de> for OneSeries<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a series")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let state = self.state;
        let left_before = state.left;
        let mut data = state.sink.start();
        let mut labels: Vec<(Cow<'de, str>, Cow<'de, str>)> = Vec::new();
        while let Some(key) = map.next_key_seed(Word)? {
            match key.as_ref() {
                "metric" => map.next_value_seed(Metric {
                    labels: &mut labels,
                })?,
                "value" => {
                    let (time, value) = map.next_value_seed(Pair(Number))?;
                    state.count()?;
                    state.sink.float(&mut data, time, value);
                }
                "histogram" => {
                    let (time, histogram) = map.next_value_seed(Pair(HistogramSeed))?;
                    state.count()?;
                    state.sink.histogram(&mut data, time, of_shown(histogram)?);
                }
                "values" => map.next_value_seed(Floats {
                    state: &mut *state,
                    data: &mut data,
                })?,
                "histograms" => map.next_value_seed(Histograms {
                    state: &mut *state,
                    data: &mut data,
                })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        state.add(labels, data, left_before)
    }
}

struct Metric<'s, 'de> {
    labels: &'s mut Vec<(Cow<'de, str>, Cow<'de, str>)>,
}

impl<'de> DeserializeSeed<'de> for Metric<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metric<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Word)? {
            self.labels.push((name, map.next_value_seed(Word)?));
        }
        Ok(())
    }
}

struct Floats<'s, S: Sink> {
    state: &'s mut State<S>,
    data: &'s mut S::Data,
}

seed!(Floats, deserialize_seq);

impl<'de, S: Sink> Visitor<'de> for Floats<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("samples")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some((time, value)) = list.next_element_seed(Pair(Number))? {
            self.state.count()?;
            self.state.sink.float(self.data, time, value);
        }
        Ok(())
    }
}

struct Histograms<'s, S: Sink> {
    state: &'s mut State<S>,
    data: &'s mut S::Data,
}

seed!(Histograms, deserialize_seq);

impl<'de, S: Sink> Visitor<'de> for Histograms<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("histograms")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some((time, histogram)) = list.next_element_seed(Pair(HistogramSeed))? {
            self.state.count()?;
            let histogram = of_shown(histogram)?;
            self.state.sink.histogram(self.data, time, histogram);
        }
        Ok(())
    }
}

fn of_shown<H: FromShown, E: Error>(shown: Histogram) -> Result<H, E> {
    H::from_shown(shown).ok_or_else(|| E::custom("a histogram's buckets make no sense"))
}
