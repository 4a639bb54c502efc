//! Chunks of integer histograms, which only servers write, packed bit by bit.

use promxy::remote::messages::Chunk;
use proptest::prelude::*;

/// Bits as Prometheus puts them, for chunks that only servers write.
#[derive(Default)]
pub(crate) struct Bits(Vec<bool>);

impl Bits {
    pub(crate) fn put(&mut self, value: u64, width: u32) {
        let bit = |bit: u32| value.checked_shr(bit).unwrap_or(0) & 1 == 1;
        self.0.extend((0..width).rev().map(bit));
    }

    fn prefixed(&mut self, value: u64, fits: impl Fn(u32) -> bool) {
        let widths = [0, 3, 6, 9, 12, 18, 25, 56, 64];
        let ones = widths.iter().position(|width| fits(*width)).unwrap_or(8);
        self.0.extend(std::iter::repeat_n(true, ones));
        if ones < 8 {
            self.0.push(false);
        }
        self.put(value, widths[ones]);
    }

    pub(crate) fn varbit(&mut self, value: u64) {
        self.prefixed(value, |width| width == 64 || value >> width == 0);
    }

    pub(crate) fn signed_varbit(&mut self, value: i64) {
        self.prefixed(value as u64, |width| match width {
            0 => value == 0,
            64 => true,
            _ => {
                let half = 1i128 << (width - 1);
                -half < i128::from(value) && i128::from(value) <= half
            }
        });
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let bytes = self.0.chunks(8).map(|byte| {
            let bits = byte.iter().enumerate();
            bits.fold(0u8, |sum, (at, bit)| sum | u8::from(*bit) << (7 - at))
        });
        bytes.collect()
    }
}

/// An integer histogram: count, zero bucket, sum, and absolute counts of both sides.
#[derive(Clone, Debug)]
pub(crate) struct Integers {
    pub(crate) time: i64,
    pub(crate) count: u64,
    pub(crate) zero: u64,
    pub(crate) sum: f64,
    pub(crate) sides: [Vec<i64>; 2],
}

/// Packs integer histograms of schema 3, buckets without gaps.
pub(crate) fn pack_integers(header: u8, samples: &[Integers]) -> Chunk {
    let mut bits = Bits::default();
    bits.put(116, 8);
    bits.signed_varbit(3);
    for side in &samples[0].sides {
        bits.varbit(1);
        bits.varbit(side.len() as u64);
        bits.signed_varbit(-2);
    }
    let deltas = |side: &[i64]| -> Vec<i64> {
        let mut before = 0;
        let deltas = side.iter().map(|count| {
            let delta = count - before;
            before = *count;
            delta
        });
        deltas.collect()
    };
    // All that is written as change of change, in the order of writing; the sum is none of it.
    let numbers = |sample: &Integers| -> (Vec<i64>, Vec<i64>) {
        let front = vec![sample.time, sample.count as i64, sample.zero as i64];
        let back = sample.sides.iter().flat_map(|side| deltas(side));
        (front, back.collect())
    };
    let mut before: Option<(Vec<i64>, Vec<i64>)> = None;
    let mut sum = 0u64;
    for sample in samples {
        let (front, back) = numbers(sample);
        let all: Vec<i64> = front.iter().chain(&back).copied().collect();
        let put = |bits: &mut Bits, range: std::ops::Range<usize>| {
            for place in range {
                match &before {
                    None if (1..3).contains(&place) => bits.varbit(all[place] as u64),
                    None => bits.signed_varbit(all[place]),
                    Some((last, change)) => {
                        bits.signed_varbit(all[place] - last[place] - change[place]);
                    }
                }
            }
        };
        put(&mut bits, 0..3);
        let changed = sum ^ sample.sum.to_bits();
        match () {
            () if before.is_none() => bits.put(changed, 64),
            () if changed == 0 => bits.put(0, 1),
            // A window of its own each time: all bits.
            () => {
                bits.put(0b11, 2);
                bits.put(0, 11);
                bits.put(changed, 64);
            }
        }
        sum = sample.sum.to_bits();
        put(&mut bits, 3..all.len());
        let change = match &before {
            None => vec![0; all.len()],
            Some((last, _)) => all.iter().zip(last).map(|(now, last)| now - last).collect(),
        };
        before = Some((all, change));
    }
    let mut data = (samples.len() as u16).to_be_bytes().to_vec();
    data.push(header);
    data.extend(bits.bytes());
    Chunk {
        min_time_ms: samples[0].time,
        max_time_ms: samples[samples.len() - 1].time,
        kind: 2,
        data,
    }
}

pub(crate) fn integers() -> impl Strategy<Value = Vec<Integers>> {
    let count = || prop_oneof![0i64..20, 0i64..1 << 40];
    (0usize..9, 0usize..9).prop_flat_map(move |(positive, negative)| {
        let sample = (
            prop_oneof![Just(15_000i64), 0i64..1 << 33],
            any::<u32>(),
            any::<u16>(),
            prop_oneof![Just(1.5), any::<f64>()],
            prop::collection::vec(count(), positive),
            prop::collection::vec(count(), negative),
        );
        prop::collection::vec(sample, 1..20).prop_map(|samples| {
            let mut time = 1_700_000_000_000;
            let samples =
                samples
                    .into_iter()
                    .map(|(step, count, zero, sum, positive, negative)| {
                        time += step;
                        Integers {
                            time,
                            count: u64::from(count),
                            zero: u64::from(zero),
                            sum,
                            sides: [positive, negative],
                        }
                    });
            samples.collect()
        })
    })
}
