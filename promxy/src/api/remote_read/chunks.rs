//! Samples in chunks, as streamed answers have them: the writing half of [`crate::remote::xor`].

use crate::remote::messages::{Chunk, ChunkedReadResponse, ChunkedSeries, Label};

/// How many samples a chunk has. Prometheus' own are as long.
const SAMPLES: usize = 120;
/// How many bytes the chunks of a frame have, more or less. Prometheus' limit is as large.
const FRAME: usize = 1 << 20;
/// The kind of chunk that holds numbers.
const XOR: i32 = 1;

/// Makes the frames of a series. Times in milliseconds since 1970, ascending.
pub(super) fn frames(
    labels: &[Label],
    samples: &[(i64, f64)],
    query_index: i64,
) -> Vec<ChunkedReadResponse> {
    let mut frames: Vec<ChunkedReadResponse> = Vec::new();
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    let mut finish = |chunks: &mut Vec<Chunk>| {
        let series = ChunkedSeries {
            labels: labels.to_vec(),
            chunks: std::mem::take(chunks),
        };
        frames.push(ChunkedReadResponse {
            chunked_series: vec![series],
            query_index,
        });
    };
    for samples in samples.chunks(SAMPLES) {
        let data = write(samples);
        bytes += data.len();
        chunks.push(Chunk {
            min_time_ms: samples.first().map_or(0, |sample| sample.0),
            max_time_ms: samples.last().map_or(0, |sample| sample.0),
            kind: XOR,
            data,
        });
        if bytes >= FRAME {
            finish(&mut chunks);
            bytes = 0;
        }
    }
    if !chunks.is_empty() {
        finish(&mut chunks);
    }
    frames
}

/// Packs at most 65,535 samples.
fn write(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut bits = Bits {
        bytes: (samples.len() as u16).to_be_bytes().to_vec(),
        free: 0,
    };
    let (mut time, mut delta, mut value) = (0i64, 0i64, 0u64);
    // The window of bits that were written last; none at first.
    let mut window = None;
    for (number, (next_time, next_value)) in samples.iter().enumerate() {
        let next_value = next_value.to_bits();
        match number {
            0 => {
                bits.signed_varint(*next_time);
                bits.put(next_value, 64);
            }
            1 => {
                delta = next_time.wrapping_sub(time);
                bits.varint(delta as u64);
                put_value(&mut bits, value ^ next_value, &mut window);
            }
            _ => {
                let next_delta = next_time.wrapping_sub(time);
                put_delta(&mut bits, next_delta.wrapping_sub(delta));
                delta = next_delta;
                put_value(&mut bits, value ^ next_value, &mut window);
            }
        }
        (time, value) = (*next_time, next_value);
    }
    bits.bytes
}

fn put_delta(bits: &mut Bits, change: i64) {
    // As many ones as a width has, then a zero; the widest has none.
    for (prefix, length, width) in [(0b10, 2, 14), (0b110, 3, 17), (0b1110, 4, 20)] {
        let half = 1i64 << (width - 1);
        if change == 0 {
            return bits.put(0, 1);
        }
        if (1 - half..=half).contains(&change) {
            bits.put(prefix, length);
            return bits.put(change as u64, width);
        }
    }
    bits.put(0b1111, 4);
    bits.put(change as u64, 64);
}

fn put_value(bits: &mut Bits, changed: u64, window: &mut Option<(u32, u32)>) {
    if changed == 0 {
        return bits.put(0, 1);
    }
    bits.put(1, 1);
    // There are five bits for the number of zeros in front.
    let leading = changed.leading_zeros().min(31);
    let trailing = changed.trailing_zeros();
    if let Some((known_leading, known_trailing)) = *window
        && leading >= known_leading
        && trailing >= known_trailing
    {
        bits.put(0, 1);
        return bits.put(
            changed >> known_trailing,
            64 - known_leading - known_trailing,
        );
    }
    *window = Some((leading, trailing));
    let width = 64 - leading - trailing;
    bits.put(1, 1);
    bits.put(u64::from(leading), 5);
    // Six bits hold up to 63: all 64 are written as none.
    bits.put(u64::from(width & 63), 6);
    bits.put(changed >> trailing, width);
}

/// Bits, the most significant first.
struct Bits {
    bytes: Vec<u8>,
    /// How many bits of the last byte are not used.
    free: u32,
}

impl Bits {
    fn put(&mut self, value: u64, width: u32) {
        let mut left = width;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let now = left.min(self.free);
            let part = (value >> (left - now)) as u8 & (0xff >> (8 - now));
            if let Some(last) = self.bytes.last_mut() {
                *last |= part << (self.free - now);
            }
            self.free -= now;
            left -= now;
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    fn signed_varint(&mut self, value: i64) {
        self.varint((value << 1 ^ value >> 63) as u64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::remote::xor;

    #[test]
    fn a_long_series_is_cut_into_chunks() {
        let samples: Vec<(i64, f64)> = (0..300).map(|i| (i * 1000, i as f64)).collect();
        let frames = frames(&[], &samples, 3);
        assert_eq!(frames.len(), 1);
        let chunks = &frames[0].chunked_series[0].chunks;
        let lengths: Vec<_> = chunks
            .iter()
            .map(|chunk| xor::read(&chunk.data).unwrap().len())
            .collect();
        assert_eq!(lengths, [120, 120, 60]);
        assert_eq!(chunks[2].min_time_ms, 240_000);
        assert_eq!(chunks[2].max_time_ms, 299_000);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            start in any::<i64>(),
            samples in prop::collection::vec((prop_oneof![Just(15_000), 0i64..1 << 22, any::<i64>()], prop_oneof![Just(1.0), any::<f64>()]), 0..50),
        ) {
            let mut time = start;
            let samples: Vec<(i64, f64)> = samples
                .into_iter()
                .map(|(step, value)| { time = time.wrapping_add(step); (time, value) })
                .collect();
            let read = xor::read(&write(&samples)).unwrap();
            let bits = |samples: &[(i64, f64)]| -> Vec<(i64, u64)> {
                samples.iter().map(|(time, value)| (*time, value.to_bits())).collect()
            };
            prop_assert_eq!(bits(&read), bits(&samples));
        }
    }
}
