//! Numbers and runs as bytes, for histograms that are kept packed.

use super::runs::{Run, Runs};

// === writing ===

/// Numbers of either sign as numbers without one, small ones as small ones.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Seven bits a byte, the lowest first; the highest bit says that there are more.
pub(super) fn write_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(super) fn write_number(bytes: &mut Vec<u8>, number: f64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn write_all<T: Copy, const WIDTH: usize>(
    bytes: &mut Vec<u8>,
    numbers: &[T],
    written: impl Fn(T) -> [u8; WIDTH],
) {
    let begin = bytes.len();
    bytes.resize(begin + numbers.len() * WIDTH, 0);
    let (places, _) = bytes[begin..].as_chunks_mut::<WIDTH>();
    for (place, number) in places.iter_mut().zip(numbers) {
        *place = written(*number);
    }
}

pub(super) fn write_runs(bytes: &mut Vec<u8>, runs: &[Run]) {
    write_varint(bytes, runs.len() as u64);
    for run in runs {
        write_varint(bytes, zigzag(run.first.into()));
        write_varint(bytes, run.length.into());
    }
}

// === reading ===

/// What is left to be read. Behind the end there is nothing but zeros.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl Reader<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub(super) fn varint(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if byte < 0x80 {
                return number;
            }
            shift += 7;
        }
    }

    pub(super) fn number(&mut self) -> f64 {
        let Some((number, rest)) = self.0.split_first_chunk() else {
            return 0.0;
        };
        self.0 = rest;
        f64::from_le_bytes(*number)
    }

    /// Reads as many numbers as there are positive and negative buckets.
    pub(super) fn all<const WIDTH: usize>(
        &mut self,
        (positive, negative): (usize, usize),
        number: impl Fn([u8; WIDTH]) -> f64,
    ) -> (Vec<f64>, Vec<f64>) {
        let mut side = |length: usize| {
            let (bytes, rest) = self.0.split_at_checked(length * WIDTH).unwrap_or_default();
            self.0 = rest;
            let (numbers, _) = bytes.as_chunks::<WIDTH>();
            numbers.iter().map(|bytes| number(*bytes)).collect()
        };
        (side(positive), side(negative))
    }

    pub(super) fn runs(&mut self) -> Runs {
        let count = self.varint();
        let run = |_| Run {
            first: unzigzag(self.varint()) as i32,
            length: self.varint() as u32,
        };
        (0..count).map(run).collect()
    }
}
