//! What all samples of a chunk have in common.

use promql::histogram::{CUSTOM_BUCKETS_SCHEMA, HistogramParts, Span};

use crate::remote::{
    RemoteError,
    bits::{Reader, Writer},
};

/// How many buckets one side of a histogram may have, how many runs of buckets, how many custom bounds. The finest schema has half as
/// many between the smallest and the largest float.
const MOST: u64 = 1 << 20;

/// What the byte of a zero bucket's width says if the width follows as a float.
const SPELLED_OUT: u8 = 255;
/// What is added to the exponent of a width that is a power of two.
const ZERO_BIAS: i32 = 243;

/// Custom bounds up to this one are packed, if they are whole thousandths.
const LARGEST_PACKED_BOUND: f64 = 33_554_430.0;

/// Where buckets lie.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive: Vec<Span>,
    pub(super) negative: Vec<Span>,
    pub(super) bounds: Vec<f64>,
}

impl Layout {
    /// That of a stale marker.
    pub(super) const EMPTY: Self = Self {
        schema: 0,
        zero_threshold: 0.0,
        positive: Vec::new(),
        negative: Vec::new(),
        bounds: Vec::new(),
    };

    pub(super) fn of(parts: &HistogramParts) -> Self {
        Self {
            schema: parts.schema,
            zero_threshold: parts.zero_threshold,
            positive: parts.positive_spans.clone(),
            negative: parts.negative_spans.clone(),
            bounds: parts.custom_values.clone(),
        }
    }

    /// Whether a histogram has this layout.
    pub(super) fn is_of(&self, parts: &HistogramParts) -> bool {
        self.schema == parts.schema
            && self.zero_threshold == parts.zero_threshold
            && self.positive == parts.positive_spans
            && self.negative == parts.negative_spans
            && self.bounds == parts.custom_values
    }

    pub(super) fn read(bits: &mut Reader<'_>) -> Result<Self, RemoteError> {
        let zero_threshold = zero_threshold(bits)?;
        let schema = i32::try_from(bits.signed_varbit()?)
            .map_err(|_| RemoteError::Chunk("no schema has this number"))?;
        let positive = spans(bits)?;
        let negative = spans(bits)?;
        let bounds = match schema {
            CUSTOM_BUCKETS_SCHEMA => list(bits, bound)?,
            _ => Vec::new(),
        };
        Ok(Self {
            schema,
            zero_threshold,
            positive,
            negative,
            bounds,
        })
    }

    pub(super) fn write(&self, bits: &mut Writer) {
        put_zero_threshold(bits, self.zero_threshold);
        bits.signed_varbit(i64::from(self.schema));
        for spans in [&self.positive, &self.negative] {
            bits.varbit(spans.len() as u64);
            for span in spans {
                bits.varbit(u64::from(span.length));
                bits.signed_varbit(i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            bits.varbit(self.bounds.len() as u64);
            for bound in &self.bounds {
                put_bound(bits, *bound);
            }
        }
    }
}

/// How many buckets spans have, each of which takes at least `width` bits of what comes.
pub(super) fn buckets(
    spans: &[Span],
    width: usize,
    bits: &Reader<'_>,
) -> Result<usize, RemoteError> {
    let buckets: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    match usize::try_from(buckets) {
        Ok(number) if buckets <= MOST && number * width <= bits.left() => Ok(number),
        _ => Err(RemoteError::Chunk("more buckets than there are counts")),
    }
}

fn list<T>(
    bits: &mut Reader<'_>,
    item: impl Fn(&mut Reader<'_>) -> Result<T, RemoteError>,
) -> Result<Vec<T>, RemoteError> {
    let length = bits.varbit()?;
    if length > MOST || length > bits.left() as u64 {
        return Err(RemoteError::Chunk("a list is too long"));
    }
    (0..length).map(|_| item(bits)).collect()
}

fn spans(bits: &mut Reader<'_>) -> Result<Vec<Span>, RemoteError> {
    list(bits, |bits| {
        let (length, offset) = (bits.varbit()?, bits.signed_varbit()?);
        let span = u32::try_from(length)
            .ok()
            .zip(i32::try_from(offset).ok())
            .map(|(length, offset)| Span { offset, length });
        span.ok_or(RemoteError::Chunk("a span is out of range"))
    })
}

fn zero_threshold(bits: &mut Reader<'_>) -> Result<f64, RemoteError> {
    match bits.take(8)? as u8 {
        0 => Ok(0.0),
        SPELLED_OUT => bits.float(),
        byte => Ok(power(byte)),
    }
}

/// The power of two that a byte stands for, from -243 to 10.
fn power(byte: u8) -> f64 {
    2f64.powi(i32::from(byte) - ZERO_BIAS - 1)
}

fn put_zero_threshold(bits: &mut Writer, threshold: f64) {
    if threshold == 0.0 {
        return bits.put(0, 8);
    }
    let exponent = (threshold.to_bits() >> (f64::MANTISSA_DIGITS - 1)) as i32 - (f64::MAX_EXP - 1);
    let byte = u8::try_from(exponent + ZERO_BIAS + 1).unwrap_or_default();
    if (1..SPELLED_OUT).contains(&byte) && threshold == power(byte) {
        bits.put(u64::from(byte), 8);
    } else {
        bits.put(u64::from(SPELLED_OUT), 8);
        bits.float(threshold);
    }
}

/// Takes a custom bound: thousandths and one, or nothing and a float.
fn bound(bits: &mut Reader<'_>) -> Result<f64, RemoteError> {
    match bits.varbit()? {
        0 => bits.float(),
        packed => Ok((packed - 1) as f64 / 1000.0),
    }
}

fn put_bound(bits: &mut Writer, bound: f64) {
    let thousandths = bound * 1000.0;
    let is_packed = (0.0..=LARGEST_PACKED_BOUND).contains(&thousandths)
        && thousandths.round() / 1000.0 == bound;
    // Minus zero would come back without its sign.
    if is_packed && bound.is_sign_positive() {
        bits.varbit(thousandths.round() as u64 + 1);
    } else {
        bits.put(0, 1);
        bits.float(bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_and_bounds_are_packed_as_prometheus_packs_them() {
        let f = |put: &dyn Fn(&mut Writer), expected: &[u8]| {
            let mut bits = Writer::behind(Vec::new());
            put(&mut bits);
            assert_eq!(bits.into_bytes(), expected);
        };
        let width = |width: f64, expected: &[u8]| {
            f(&|bits| put_zero_threshold(bits, width), expected);
            let read = zero_threshold(&mut Reader::new(expected)).unwrap();
            assert_eq!(read.to_bits(), width.to_bits());
        };
        width(0.0, &[0]);
        // 2^-128, the usual one.
        width(2.938735877055719e-39, &[116]);
        width(1024.0, &[254]);
        width(f64::exp2(-243.0), &[1]);
        width(2048.0, &[255, 0x40, 0xa0, 0, 0, 0, 0, 0, 0]);
        width(
            0.001,
            &[255, 0x3f, 0x50, 0x62, 0x4d, 0xd2, 0xf1, 0xa9, 0xfc],
        );
        // Six thousandths in three bits behind a prefix of two.
        f(&|bits| put_bound(bits, 0.005), &[0b1011_0000]);
        f(
            &|bits| put_bound(bits, -1.0),
            &[0x5f, 0xf8, 0, 0, 0, 0, 0, 0, 0],
        );
    }
}
