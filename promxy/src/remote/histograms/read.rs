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
    counts: Counts,
    layout: Layout,
    time: Integer,
    last: Last,
}

/// A number of which chunks have the first, and then changes.
trait Number: Copy {
    /// How many bits the first takes at least.
    const WIDTH: usize;

    /// Takes the first of a row; counts have no sign, buckets may have one.
    fn count(bits: &mut Reader<'_>) -> Result<Self, RemoteError>;
    fn bucket(bits: &mut Reader<'_>) -> Result<Self, RemoteError>;

    /// Takes the next.
    fn next(&mut self, bits: &mut Reader<'_>) -> Result<(), RemoteError>;

    /// Returns a count, and the counts of buckets.
    fn value(self) -> f64;
    fn values(buckets: &[Self]) -> Vec<f64>;
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
}

impl Number for Integer {
    const WIDTH: usize = 1;

    fn count(bits: &mut Reader<'_>) -> Result<Self, RemoteError> {
        bits.varbit().map(|count| Self::first(count as i64))
    }

    /// The difference to the bucket before.
    fn bucket(bits: &mut Reader<'_>) -> Result<Self, RemoteError> {
        bits.signed_varbit().map(Self::first)
    }

    fn next(&mut self, bits: &mut Reader<'_>) -> Result<(), RemoteError> {
        self.delta = self.delta.wrapping_add(bits.signed_varbit()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }

    fn value(self) -> f64 {
        self.value as u64 as f64
    }

    fn values(buckets: &[Self]) -> Vec<f64> {
        let mut count = 0i64;
        let counts = buckets.iter().map(|delta| {
            count = count.wrapping_add(delta.value);
            count as f64
        });
        counts.collect()
    }
}

impl Number for Float {
    const WIDTH: usize = 64;

    fn count(bits: &mut Reader<'_>) -> Result<Self, RemoteError> {
        bits.float().map(Self::first)
    }

    fn bucket(bits: &mut Reader<'_>) -> Result<Self, RemoteError> {
        Self::count(bits)
    }

    fn next(&mut self, bits: &mut Reader<'_>) -> Result<(), RemoteError> {
        self.read(bits)
    }

    fn value(self) -> f64 {
        self.number()
    }

    fn values(buckets: &[Self]) -> Vec<f64> {
        buckets.iter().map(|bucket| bucket.number()).collect()
    }
}

/// All numbers of a sample but its time. The sum is a float in every chunk.
#[derive(Debug)]
struct Numbers<N> {
    count: N,
    zero: N,
    sum: Float,
    /// Positive and negative ones.
    buckets: [Vec<N>; 2],
}

impl<N: Number> Numbers<N> {
    fn first(layout: &Layout, bits: &mut Reader<'_>) -> Result<Self, RemoteError> {
        let (count, zero) = (N::count(bits)?, N::count(bits)?);
        let sum = Float::count(bits)?;
        let mut buckets = [Vec::new(), Vec::new()];
        for (side, spans) in buckets.iter_mut().zip([&layout.positive, &layout.negative]) {
            let number = layout::buckets(spans, N::WIDTH, bits)?;
            let read = (0..number).map(|_| N::bucket(bits));
            *side = read.collect::<Result<_, _>>()?;
        }
        Ok(Self {
            count,
            zero,
            sum,
            buckets,
        })
    }

    fn next(&mut self, bits: &mut Reader<'_>) -> Result<(), RemoteError> {
        self.count.next(bits)?;
        self.zero.next(bits)?;
        self.sum.next(bits)?;
        if is_stale(self.sum.number()) {
            return Ok(());
        }
        let mut buckets = self.buckets.iter_mut().flatten();
        buckets.try_for_each(|bucket| bucket.next(bits))
    }

    fn parts(&self, layout: &Layout, hint: CounterResetHint) -> HistogramParts {
        let sum = self.sum.number();
        if is_stale(sum) {
            return stale(sum);
        }
        let [positive, negative] = &self.buckets;
        HistogramParts {
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: self.zero.value(),
            count: self.count.value(),
            sum,
            positive_spans: layout.positive.clone(),
            positive_counts: N::values(positive),
            negative_spans: layout.negative.clone(),
            negative_counts: N::values(negative),
            custom_values: layout.bounds.clone(),
            hint,
        }
    }
}

/// What was read last.
#[derive(Debug)]
enum Last {
    Nothing,
    Integers(Numbers<Integer>),
    Floats(Numbers<Float>),
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
            counts,
            layout: Layout::EMPTY,
            time: Integer::default(),
            last: Last::Nothing,
        })
    }

    fn read(&mut self) -> Result<(i64, FloatHistogram), RemoteError> {
        let bits = &mut self.bits;
        let is_first = matches!(self.last, Last::Nothing);
        if is_first {
            self.layout = Layout::read(bits)?;
            self.time = Integer::bucket(bits)?;
        } else {
            self.time.next(bits)?;
        }
        match &mut self.last {
            Last::Nothing => {
                self.last = match self.counts {
                    Counts::Integers => Last::Integers(Numbers::first(&self.layout, bits)?),
                    Counts::Floats => Last::Floats(Numbers::first(&self.layout, bits)?),
                }
            }
            Last::Integers(numbers) => numbers.next(bits)?,
            Last::Floats(numbers) => numbers.next(bits)?,
        }
        let hint = self.hint(is_first);
        let parts = match &self.last {
            Last::Integers(numbers) => numbers.parts(&self.layout, hint),
            Last::Floats(numbers) => numbers.parts(&self.layout, hint),
            Last::Nothing => return Err(RemoteError::Chunk("no sample")),
        };
        match FloatHistogram::new(parts) {
            Ok(made) => Ok((self.time.value, made)),
            Err(reason) => Err(RemoteError::Histogram(reason.to_string())),
        }
    }

    /// What is known of counter resets before a sample. Whether the chunk before is still there nobody knows, so that
    /// there was none before the first says nothing.
    fn hint(&self, is_first: bool) -> CounterResetHint {
        match self.header {
            GAUGE => CounterResetHint::Gauge,
            _ if !is_first => CounterResetHint::NotReset,
            RESET => CounterResetHint::Reset,
            _ => CounterResetHint::Unknown,
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
