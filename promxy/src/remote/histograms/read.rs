//! From chunks to histograms.

use promql::{
    histogram::{CounterResetHint, FloatHistogram, HistogramParts},
    storage::is_stale,
};

use super::{
    Counts, GAUGE, RESET,
    layout::{self, Layout},
};
use crate::remote::{
    RemoteError,
    bits::{Float, Reader},
};

/// The samples of a chunk, one after the other, with their times in milliseconds since 1970. Nothing comes after an error.
///
/// What is held beside the last sample is bounded by the chunk's length, and by a million buckets on each side.
#[derive(Debug)]
pub struct Histograms<'a> {
    bits: Reader<'a>,
    left: u16,
    header: u8,
    is_first: bool,
    layout: Layout,
    counts: Counts,
    time: Integer,
    sum: Float,
    numbers: Numbers,
}

/// An integer and how it changed last.
#[derive(Clone, Copy, Debug, Default)]
struct Integer {
    value: i64,
    delta: i64,
}

impl Integer {
    fn first(value: i64) -> Self {
        Self { value, delta: 0 }
    }

    fn read(&mut self, bits: &mut Reader<'_>) -> Result<(), RemoteError> {
        self.delta = self.delta.wrapping_add(bits.signed_varbit()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }
}

/// What is counted.
#[derive(Debug)]
enum Numbers {
    /// Buckets as differences to the one before.
    Integers {
        count: Integer,
        zero: Integer,
        buckets: [Vec<Integer>; 2],
    },
    Floats {
        count: Float,
        zero: Float,
        buckets: [Vec<Float>; 2],
    },
}

impl<'a> Histograms<'a> {
    /// Reads the head of a chunk.
    pub fn new(counts: Counts, chunk: &'a [u8]) -> Result<Self, RemoteError> {
        let [high, low, header, packed @ ..] = chunk else {
            return Err(RemoteError::Chunk("too short"));
        };
        Ok(Self {
            bits: Reader::new(packed),
            left: u16::from_be_bytes([*high, *low]),
            header: header & GAUGE,
            is_first: true,
            layout: Layout::EMPTY,
            counts,
            time: Integer::default(),
            sum: Float::first(0.0),
            numbers: Numbers::Integers {
                count: Integer::default(),
                zero: Integer::default(),
                buckets: [Vec::new(), Vec::new()],
            },
        })
    }

    fn read(&mut self) -> Result<(i64, FloatHistogram), RemoteError> {
        if self.is_first {
            self.first()?;
        } else {
            self.later()?;
        }
        let hint = self.hint();
        self.is_first = false;
        let made = if is_stale(self.sum.value()) {
            FloatHistogram::new(stale(self.sum.value()))
        } else {
            FloatHistogram::new(self.parts(hint))
        };
        match made {
            Ok(made) => Ok((self.time.value, made)),
            Err(reason) => Err(RemoteError::Histogram(reason.to_string())),
        }
    }

    fn first(&mut self) -> Result<(), RemoteError> {
        let bits = &mut self.bits;
        self.layout = Layout::read(bits)?;
        let sides = [&self.layout.positive, &self.layout.negative];
        self.time = Integer::first(bits.signed_varbit()?);
        self.numbers = match self.counts {
            Counts::Integers => {
                let count = Integer::first(bits.varbit()? as i64);
                let zero = Integer::first(bits.varbit()? as i64);
                self.sum = Float::first(bits.float()?);
                let mut buckets = [Vec::new(), Vec::new()];
                for (side, spans) in buckets.iter_mut().zip(sides) {
                    let number = layout::buckets(spans, 1, bits)?;
                    let read = (0..number).map(|_| bits.signed_varbit().map(Integer::first));
                    *side = read.collect::<Result<_, _>>()?;
                }
                Numbers::Integers {
                    count,
                    zero,
                    buckets,
                }
            }
            Counts::Floats => {
                let count = Float::first(bits.float()?);
                let zero = Float::first(bits.float()?);
                self.sum = Float::first(bits.float()?);
                let mut buckets = [Vec::new(), Vec::new()];
                for (side, spans) in buckets.iter_mut().zip(sides) {
                    let number = layout::buckets(spans, 64, bits)?;
                    let read = (0..number).map(|_| bits.float().map(Float::first));
                    *side = read.collect::<Result<_, _>>()?;
                }
                Numbers::Floats {
                    count,
                    zero,
                    buckets,
                }
            }
        };
        Ok(())
    }

    fn later(&mut self) -> Result<(), RemoteError> {
        let bits = &mut self.bits;
        self.time.read(bits)?;
        match &mut self.numbers {
            Numbers::Integers {
                count,
                zero,
                buckets,
            } => {
                count.read(bits)?;
                zero.read(bits)?;
                self.sum.read(bits)?;
                if !is_stale(self.sum.value()) {
                    let mut all = buckets.iter_mut().flatten();
                    all.try_for_each(|bucket| bucket.read(bits))?;
                }
            }
            Numbers::Floats {
                count,
                zero,
                buckets,
            } => {
                count.read(bits)?;
                zero.read(bits)?;
                self.sum.read(bits)?;
                if !is_stale(self.sum.value()) {
                    let mut all = buckets.iter_mut().flatten();
                    all.try_for_each(|bucket| bucket.read(bits))?;
                }
            }
        }
        Ok(())
    }

    /// What is known of counter resets before this sample. Whether the chunk before is still there nobody knows, so that
    /// there was none before this one says nothing.
    fn hint(&self) -> CounterResetHint {
        match self.header {
            GAUGE => CounterResetHint::Gauge,
            _ if !self.is_first => CounterResetHint::NotReset,
            RESET => CounterResetHint::Reset,
            _ => CounterResetHint::Unknown,
        }
    }

    fn parts(&self, hint: CounterResetHint) -> HistogramParts {
        let (count, zero_count, [positive_counts, negative_counts]) = match &self.numbers {
            Numbers::Integers {
                count,
                zero,
                buckets,
            } => (
                count.value as u64 as f64,
                zero.value as u64 as f64,
                [&buckets[0], &buckets[1]].map(|side| absolute(side)),
            ),
            Numbers::Floats {
                count,
                zero,
                buckets,
            } => (
                count.value(),
                zero.value(),
                [&buckets[0], &buckets[1]]
                    .map(|side| side.iter().map(|bucket| bucket.value()).collect()),
            ),
        };
        HistogramParts {
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count,
            count,
            sum: self.sum.value(),
            positive_spans: self.layout.positive.clone(),
            positive_counts,
            negative_spans: self.layout.negative.clone(),
            negative_counts,
            custom_values: self.layout.bounds.clone(),
            hint,
        }
    }
}

impl Iterator for Histograms<'_> {
    type Item = Result<(i64, FloatHistogram), RemoteError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = self.read();
        if read.is_err() {
            self.left = 0;
        }
        Some(read)
    }
}

/// Adds up differences.
fn absolute(deltas: &[Integer]) -> Vec<f64> {
    let mut count = 0i64;
    let counts = deltas.iter().map(|delta| {
        count = count.wrapping_add(delta.value);
        count as f64
    });
    counts.collect()
}

/// The end of a series, of which there is nothing but the marker.
pub(super) fn stale(marker: f64) -> HistogramParts {
    HistogramParts {
        schema: Layout::EMPTY.schema,
        zero_threshold: Layout::EMPTY.zero_threshold,
        zero_count: 0.0,
        count: 0.0,
        sum: marker,
        positive_spans: Vec::new(),
        positive_counts: Vec::new(),
        negative_spans: Vec::new(),
        negative_counts: Vec::new(),
        custom_values: Vec::new(),
        hint: CounterResetHint::Unknown,
    }
}
