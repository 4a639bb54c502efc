//! From histograms to chunks. Counts are floats, as all that is computed with are.

use std::sync::Arc;

use promql::{
    histogram::{CounterResetHint, FloatHistogram, HistogramParts},
    parser::Compat,
    storage::is_stale,
};

use super::{GAUGE, NOT_RESET, RESET, UNKNOWN, layout::Layout, read::stale};
use crate::{
    remote::bits::{Float, Writer},
    series::Native,
};

/// How many samples a chunk has at most. Prometheus' own have no more.
const MOST_SAMPLES: u16 = 120;

/// After how many bytes a chunk is full, whatever it has.
const FULL: usize = 32 << 10;

/// A chunk that grows. It has at least one sample.
#[derive(Debug)]
pub struct Growing {
    bits: Writer,
    samples: u16,
    header: u8,
    layout: Layout,
    first: i64,
    time: i64,
    delta: i64,
    count: Float,
    zero: Float,
    sum: Float,
    buckets: Vec<Float>,
    last: Native,
}

impl Growing {
    /// Begins a chunk with a sample. If nobody knows whether the counter was reset before it, a look at the sample
    /// before, if there is one, tells.
    pub fn new(time: i64, histogram: &Native, before: Option<&Native>) -> Self {
        let header = match histogram.hint {
            _ if is_stale(histogram.sum) => UNKNOWN,
            CounterResetHint::Gauge => GAUGE,
            CounterResetHint::Reset => RESET,
            CounterResetHint::NotReset => NOT_RESET,
            CounterResetHint::Unknown => match before {
                Some(before) if is_reset(histogram, before) => RESET,
                _ => UNKNOWN,
            },
        };
        let parts = parts(histogram);
        let layout = Layout::of(&parts);
        // The number of samples is written at the end.
        let mut bits = Writer::behind(vec![0, 0, header]);
        layout.write(&mut bits);
        bits.signed_varbit(time);
        for number in [parts.count, parts.zero_count, parts.sum] {
            bits.float(number);
        }
        let counts = parts.positive_counts.iter().chain(&parts.negative_counts);
        let buckets = counts.map(|count| {
            bits.float(*count);
            Float::first(*count)
        });
        Self {
            buckets: buckets.collect(),
            bits,
            samples: 1,
            header,
            layout,
            first: time,
            time,
            delta: 0,
            count: Float::first(parts.count),
            zero: Float::first(parts.zero_count),
            sum: Float::first(parts.sum),
            last: Arc::clone(histogram),
        }
    }

    /// The last sample.
    pub fn last(&self) -> &Native {
        &self.last
    }

    /// Adds a sample, if this chunk can have it: within a chunk the layout is one, and counters are not reset.
    ///
    /// Returns whether it was added.
    pub fn append(&mut self, time: i64, histogram: &Native) -> bool {
        let parts = parts(histogram);
        if self.samples == MOST_SAMPLES
            || self.bits.len() >= FULL
            || !self.continues(histogram, &parts)
        {
            return false;
        }
        let delta = time.wrapping_sub(self.time);
        let bits = &mut self.bits;
        bits.signed_varbit(delta.wrapping_sub(self.delta));
        self.count.write(parts.count, bits);
        self.zero.write(parts.zero_count, bits);
        self.sum.write(parts.sum, bits);
        let counts = parts.positive_counts.iter().chain(&parts.negative_counts);
        // Stale markers have no counts, whatever the layout.
        for (bucket, count) in self.buckets.iter_mut().zip(counts) {
            bucket.write(*count, bits);
        }
        (self.time, self.delta) = (time, delta);
        self.samples += 1;
        self.last = Arc::clone(histogram);
        true
    }

    fn continues(&self, histogram: &FloatHistogram, parts: &HistogramParts) -> bool {
        if is_stale(histogram.sum) {
            return true;
        }
        let is_gauge = histogram.hint == CounterResetHint::Gauge;
        if is_stale(self.last.sum)
            || is_gauge != (self.header == GAUGE)
            || !self.layout.is_of(parts)
        {
            return false;
        }
        match histogram.hint {
            CounterResetHint::Gauge | CounterResetHint::NotReset => true,
            CounterResetHint::Reset => false,
            CounterResetHint::Unknown => !is_reset(histogram, &self.last),
        }
    }

    /// Returns the chunk and the times of its first and its last sample.
    pub fn finish(self) -> (Vec<u8>, i64, i64) {
        let mut bytes = self.bits.into_bytes();
        bytes[..2].copy_from_slice(&self.samples.to_be_bytes());
        (bytes, self.first, self.time)
    }
}

fn is_reset(histogram: &FloatHistogram, before: &FloatHistogram) -> bool {
    !is_stale(before.sum) && histogram.detect_reset(before, Compat::V3_5)
}

fn parts(histogram: &FloatHistogram) -> HistogramParts {
    if is_stale(histogram.sum) {
        stale(histogram.sum)
    } else {
        histogram.to_parts()
    }
}
