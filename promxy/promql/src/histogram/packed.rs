//! Histograms in few bytes, for results that wait until somebody reads them.
//!
//! A histogram of 40 buckets takes 560 bytes, most of them numbers that say little: counts of observations are whole, and a rate
//! is whole numbers multiplied with one factor. So the whole numbers are kept, which take a byte or two each, and the factor.
//! What is read is what was packed, bit for bit: a factor is taken only if it gives back every count, and counts that have none are
//! kept as they are.

use std::sync::Arc;

use super::buckets::Buckets;
use super::bytes::{Reader, write_all, write_number, write_runs, write_varint};
use super::custom::identical_bounds;
use super::distribution::Distribution;
use super::float::sample_equivalents;
use super::runs::Run;
use super::scale::{Scale, ScaleSearch};
use super::{CounterResetHint, FloatHistogram, Schema};

/// Histograms that are read one at a time, each from its [`Place`].
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedHistograms {
    /// One histogram after the other: which frame is its; hint, scale and width; runs; count, sum, zero bucket; its counts in the
    /// width, with the scale before them unless it is one.
    bytes: Vec<u8>,
    frames: Vec<Frame>,
}

/// Where a packed histogram begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(u32);

/// In how many bytes each count is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    One,
    Two,
    Four,
    /// As they are, whole or not.
    Eight,
}

const WIDTHS: [Width; 4] = [Width::One, Width::Two, Width::Four, Width::Eight];

impl Width {
    /// Returns the least one for whole numbers of up to 32 bits.
    fn of(whole: &[i32]) -> Self {
        let largest = whole.iter().map(|number| number.abs()).max();
        let largest = largest.unwrap_or_default();
        if largest <= i8::MAX.into() {
            Self::One
        } else if largest <= i16::MAX.into() {
            Self::Two
        } else {
            Self::Four
        }
    }
}

/// What histograms of a series mostly have in common.
#[derive(Clone, Debug)]
struct Frame {
    schema: Schema,
    zero_threshold: f64,
    bounds: Arc<[f64]>,
}

impl Frame {
    fn of(distribution: &Distribution<f64>) -> Self {
        Self {
            schema: distribution.schema,
            zero_threshold: distribution.zero_threshold,
            bounds: Arc::clone(&distribution.bounds),
        }
    }

    fn is_of(&self, distribution: &Distribution<f64>) -> bool {
        self.schema == distribution.schema
            && self.zero_threshold.to_bits() == distribution.zero_threshold.to_bits()
            && identical_bounds(&self.bounds, &distribution.bounds)
    }
}

const HINTS: [CounterResetHint; 4] = [
    CounterResetHint::Unknown,
    CounterResetHint::Reset,
    CounterResetHint::NotReset,
    CounterResetHint::Gauge,
];

/// What packing one histogram leaves for the next.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    search: ScaleSearch,
    counts: Vec<f64>,
}

impl PackedHistograms {
    /// Packs histograms. Returns nothing if they take more bytes than places can count.
    pub(crate) fn pack<'h>(
        histograms: impl ExactSizeIterator<Item = &'h FloatHistogram>,
        packer: &mut Packer,
    ) -> Option<(Self, Vec<Place>)> {
        let mut packed = Self::default();
        let count = histograms.len();
        let mut places = Vec::with_capacity(count);
        for histogram in histograms {
            places.push(packed.push(histogram, packer)?);
            if places.len() == 1 {
                packed.reserve(count - 1, places[0]);
            }
        }
        packed.shrink();
        Some((packed, places))
    }

    /// Takes memory for more histograms, each as large as the last one, which is at this place. Most are.
    pub(crate) fn reserve(&mut self, count: usize, last: Place) {
        let size = self.bytes.len() - last.0 as usize;
        self.bytes.reserve_exact(size * count);
    }

    /// Gives back memory that was taken for more histograms.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.frames.shrink_to_fit();
    }

    /// Packs one more histogram. Returns nothing, and packs nothing, if all together take more bytes than places can count.
    pub(crate) fn push(
        &mut self,
        histogram: &FloatHistogram,
        packer: &mut Packer,
    ) -> Option<Place> {
        let place = Place(u32::try_from(self.bytes.len()).ok()?);
        let distribution = &histogram.distribution;
        if !self
            .frames
            .last()
            .is_some_and(|frame| frame.is_of(distribution))
        {
            self.frames.push(Frame::of(distribution));
        }
        let (positive, negative) = (
            distribution.positive.counts(),
            distribution.negative.counts(),
        );
        let counts = if negative.is_empty() {
            positive
        } else {
            packer.counts.clear();
            packer.counts.extend_from_slice(positive);
            packer.counts.extend_from_slice(negative);
            &packer.counts
        };
        let (scale, width, whole) = match packer.search.scale_of(counts) {
            Some((scale, whole)) => (scale, Width::of(whole), whole),
            None => (Scale::ONE, Width::Eight, &[] as &[i32]),
        };

        let bytes = &mut self.bytes;
        write_varint(bytes, self.frames.len() as u64 - 1);
        let hint = HINTS.iter().position(|hint| *hint == histogram.hint);
        let kind = match scale {
            Scale::ONE => 0,
            Scale::Factor(_) => 1,
            Scale::Divisor(_) => 2,
        };
        bytes.push((hint.unwrap_or_default() << 4) as u8 | kind << 2 | width as u8);
        write_runs(bytes, distribution.positive.runs());
        write_runs(bytes, distribution.negative.runs());
        for number in [histogram.count, histogram.sum, distribution.zero_count] {
            write_number(bytes, number);
        }
        if scale != Scale::ONE {
            write_number(bytes, scale.number());
        }
        match width {
            Width::One => write_all(bytes, whole, |number: i32| (number as i8).to_le_bytes()),
            Width::Two => write_all(bytes, whole, |number: i32| (number as i16).to_le_bytes()),
            Width::Four => write_all(bytes, whole, i32::to_le_bytes),
            Width::Eight => write_all(bytes, counts, f64::to_le_bytes),
        }
        Some(place)
    }

    /// Returns the histogram at a place.
    pub(crate) fn read(&self, place: Place) -> FloatHistogram {
        let mut reader = Reader(self.bytes.get(place.0 as usize..).unwrap_or_default());
        let frame = &self.frames[reader.varint() as usize];
        let layout = usize::from(reader.byte());
        let (positive, negative) = (reader.runs(), reader.runs());
        let [count, sum, zero_count] = [(); 3].map(|()| reader.number());
        let scale = match layout >> 2 & 3 {
            0 => Scale::ONE,
            1 => Scale::Factor(reader.number()),
            _ => Scale::Divisor(reader.number()),
        };
        let length = (length(&positive), length(&negative));
        let mut counts = match WIDTHS[layout & 3] {
            Width::One => reader.all(length, |bytes| i8::from_le_bytes(bytes).into()),
            Width::Two => reader.all(length, |bytes| i16::from_le_bytes(bytes).into()),
            Width::Four => reader.all(length, |bytes| i32::from_le_bytes(bytes).into()),
            Width::Eight => reader.all(length, f64::from_le_bytes),
        };
        scale.apply(&mut counts.0);
        scale.apply(&mut counts.1);
        FloatHistogram {
            count,
            sum,
            hint: HINTS[layout >> 4 & 3],
            distribution: Distribution {
                schema: frame.schema,
                zero_threshold: frame.zero_threshold,
                zero_count,
                positive: Buckets::of_runs(positive, counts.0),
                negative: Buckets::of_runs(negative, counts.1),
                bounds: Arc::clone(&frame.bounds),
            },
        }
    }

    /// Returns how many samples the histogram at a place counts as, as [`FloatHistogram::sample_equivalents`].
    pub(crate) fn sample_equivalents(&self, place: Place) -> usize {
        let mut reader = Reader(self.bytes.get(place.0 as usize..).unwrap_or_default());
        let frame = &self.frames[reader.varint() as usize];
        reader.byte();
        let runs = [reader.runs(), reader.runs()];
        let elements = runs.iter().map(|runs| runs.len() + length(runs));
        sample_equivalents(elements.sum::<usize>() + frame.bounds.len())
    }
}

/// How many buckets are in some runs.
fn length(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.length as usize).sum()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::histogram::{HistogramParts, Span};
    use crate::parser::Compat;

    /// All that a histogram is made of, numbers as bits.
    fn bits(histogram: &FloatHistogram) -> impl PartialEq + std::fmt::Debug {
        let parts = histogram.to_parts();
        let bits = |numbers: &[f64]| -> Vec<u64> { numbers.iter().map(|n| n.to_bits()).collect() };
        (
            (parts.schema, parts.hint, bits(&parts.custom_values)),
            (parts.positive_spans, bits(&parts.positive_counts)),
            (parts.negative_spans, bits(&parts.negative_counts)),
            bits(&[
                parts.count,
                parts.sum,
                parts.zero_count,
                parts.zero_threshold,
            ]),
        )
    }

    /// Packs histograms, says how many bytes they take, and checks that they are read as they were.
    fn packed(histograms: &[FloatHistogram]) -> usize {
        let packed = PackedHistograms::pack(histograms.iter(), &mut Packer::default());
        let (packed, places) = packed.expect("they are few");
        assert_eq!(places.len(), histograms.len());
        for (histogram, place) in histograms.iter().zip(places) {
            assert_eq!(bits(&packed.read(place)), bits(histogram));
            let samples = packed.sample_equivalents(place);
            assert_eq!(samples, histogram.sample_equivalents());
        }
        packed.bytes.len()
    }

    fn with_counts(counts: &[f64], zero_count: f64) -> FloatHistogram {
        let span = |offset, length: usize| Span {
            offset,
            length: length as u32,
        };
        let negative = counts.len() / 3;
        FloatHistogram::new(HistogramParts {
            schema: 3,
            zero_threshold: 1e-128,
            zero_count,
            count: counts.iter().sum(),
            sum: 17.25,
            positive_spans: vec![span(-4, 1), span(2, counts.len() - negative - 1)],
            positive_counts: counts[negative..].to_vec(),
            negative_spans: vec![span(9, negative)],
            negative_counts: counts[..negative].to_vec(),
            custom_values: Vec::new(),
            hint: CounterResetHint::NotReset,
        })
        .expect("it is one")
    }

    /// What 40 buckets count between two samples.
    fn counts() -> Vec<f64> {
        (0..40).map(|bucket| f64::from(bucket * 7 % 53)).collect()
    }

    #[test]
    fn rates_and_the_like_take_a_byte_or_two_for_each_bucket() {
        let whole = with_counts(&counts(), 3.0);
        let most = 90;
        assert!(packed(std::slice::from_ref(&whole)) < most);
        for factor in [1.0 / 300.0, 2.0, 0.1, 300.0 / 287.0, -1.0, -0.3, 1e-300] {
            assert!(
                packed(&[whole.times(factor, Compat::V3_14)]) < most,
                "{factor}"
            );
        }
        for divisor in [3.0, 30.0, 0.7, -7.0] {
            assert!(
                packed(&[whole.divided_by(divisor, Compat::V3_14)]) < most,
                "{divisor}"
            );
        }
        assert!(packed(&[whole.negated(Compat::V3_14)]) < most);
    }

    #[test]
    fn a_factor_is_found_though_all_counts_have_a_divisor_in_common() {
        for common in [2.0, 3.0, 7.0, 12.0, 29.0, 30.0] {
            let counts: Vec<f64> = counts().iter().map(|count| count * common).collect();
            let rate = with_counts(&counts, 0.0).times(1.0 / 299.0, Compat::V3_14);
            assert!(packed(&[rate]) < 130, "{common}");
        }
    }

    #[test]
    fn numbers_without_a_scale_are_kept_as_they_are() {
        let strange = [
            f64::NAN,
            f64::INFINITY,
            -0.0,
            5e-324,
            f64::MAX,
            0.1,
            1e18,
            -1e19,
        ];
        for number in strange {
            packed(&[with_counts(&[number, 1.0, 0.0, 2.0], 0.0)]);
            packed(&[with_counts(&[1.5, number, 0.0], number)]);
        }
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        packed(&[with_counts(&[stale; 5], stale)]);
    }

    #[test]
    fn what_is_read_is_what_was_packed() {
        let random = &mut Rng::with_seed(1);
        for _ in 0..2_000 {
            let scale = match random.u8(0..5) {
                0 => 1.0,
                1 => random.f64(),
                2 => 1.0 / f64::from(random.u16(1..)),
                3 => -f64::from(random.u8(..)),
                _ => f64::from_bits(random.u64(..)),
            };
            let some: Vec<FloatHistogram> = (0..random.usize(1..9))
                .map(|_| random_histogram(random, scale))
                .collect();
            packed(&some);
        }
    }

    fn random_histogram(random: &mut Rng, scale: f64) -> FloatHistogram {
        let custom = random.u8(0..4) == 0;
        let largest = 1 << random.u32(1..40);
        let odd = random.u8(0..3) == 0;
        let number = |random: &mut Rng| match random.u8(0..20) {
            0 if odd => f64::from_bits(random.u64(..)),
            1 if odd => *random
                .choice(&[f64::NAN, -0.0, f64::INFINITY, 0.3])
                .expect("there are four"),
            2 | 3 => 0.0,
            _ => random.u64(0..largest) as f64 * scale,
        };
        let side = |random: &mut Rng, most: u32| {
            let spans: Vec<Span> = (0..random.u32(0..=most))
                .map(|_| Span {
                    offset: random.i32(0..3),
                    length: random.u32(0..6),
                })
                .collect();
            let length = spans.iter().map(|span| span.length).sum();
            let counts: Vec<f64> = (0..length).map(|_| number(random)).collect();
            (spans, counts)
        };
        let (positive_spans, positive_counts) = side(random, 5);
        let (negative_spans, negative_counts) = side(random, if custom { 0 } else { 3 });
        let bounds = (0..60).map(f64::from).collect();
        FloatHistogram::new(HistogramParts {
            schema: if custom { -53 } else { random.i32(-4..=8) },
            zero_threshold: if custom { 0.0 } else { random.f64() },
            zero_count: if custom { 0.0 } else { number(random) },
            count: number(random),
            sum: f64::from_bits(random.u64(..)),
            positive_spans,
            positive_counts,
            negative_spans,
            negative_counts,
            custom_values: if custom { bounds } else { Vec::new() },
            hint: *random.choice(&HINTS).expect("there are four"),
        })
        .expect("it is one")
    }
}
