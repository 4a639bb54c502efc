//! Bits within chunks, the most significant first, and the numbers that are made of them.
//!
//! Three kinds of numbers, as Prometheus packs them: of seven bits a byte (Go's `encoding/binary`), of a prefix that says how
//! many bits follow (`tsdb/chunkenc/varbit.go`), and floats as what differs from the one before (`tsdb/chunkenc/xor.go`).

use super::RemoteError;

const TOO_SHORT: RemoteError = RemoteError::Chunk("too short");

/// How many bits follow a prefix of so many ones. No prefix is longer than the last of them.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Takes bits from a chunk.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bits there still are.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    /// Takes up to 64 bits as a number.
    #[inline]
    pub(super) fn take(&mut self, width: u32) -> Result<u64, RemoteError> {
        if width == 0 {
            return Ok(0);
        }
        if width as usize > self.left() {
            return Err(TOO_SHORT);
        }
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let used = (self.at % 8) as u32;
        let eight = if let Some(eight) = rest.first_chunk::<8>() {
            u64::from_be_bytes(*eight)
        } else {
            let bytes = rest.iter().chain(std::iter::repeat(&0)).take(8);
            bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let mut value = eight << used;
        if width + used > 64 {
            let ninth = rest.get(8).copied().unwrap_or_default();
            value |= u64::from(ninth) >> (8 - used);
        }
        self.at += width as usize;
        Ok(value >> (64 - width))
    }

    /// Counts ones up to the next zero, which it takes, too; at most so many.
    pub(super) fn ones(&mut self, most: u32) -> Result<u32, RemoteError> {
        let mut ones = 0;
        while ones < most && self.take(1)? == 1 {
            ones += 1;
        }
        Ok(ones)
    }

    /// Takes a number with a sign: the upper half of what the bits can say stands for negative ones, but for its first.
    pub(super) fn signed(&mut self, width: u32) -> Result<i64, RemoteError> {
        let value = self.take(width)? as i64;
        let is_negative = (1..64).contains(&width) && value > 1 << (width - 1);
        Ok(if is_negative {
            value - (1 << width)
        } else {
            value
        })
    }

    /// Takes a number of seven bits a byte.
    pub(super) fn varint(&mut self) -> Result<u64, RemoteError> {
        let mut value = 0u64;
        for position in 0..10 {
            let byte = self.take(8)?;
            value |= (byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RemoteError::Chunk("a number is too long"))
    }

    /// Takes a number of seven bits a byte, the last bit of which is its sign.
    pub(super) fn signed_varint(&mut self) -> Result<i64, RemoteError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Takes a number with a prefix.
    pub(super) fn varbit(&mut self) -> Result<u64, RemoteError> {
        let ones = self.ones(8)?;
        self.take(WIDTHS[ones as usize])
    }

    /// Takes a number with a prefix and a sign.
    pub(super) fn signed_varbit(&mut self) -> Result<i64, RemoteError> {
        let ones = self.ones(8)?;
        self.signed(WIDTHS[ones as usize])
    }

    /// Takes a float as it is.
    pub(super) fn float(&mut self) -> Result<f64, RemoteError> {
        self.take(64).map(f64::from_bits)
    }
}

/// Puts bits into a chunk.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// How many bits of the last byte are not used.
    free: u32,
}

impl Writer {
    /// Begins behind whole bytes.
    pub(super) fn behind(bytes: Vec<u8>) -> Self {
        Self { bytes, free: 0 }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes there are, the last perhaps in part.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts the lowest bits of a number.
    pub(super) fn put(&mut self, value: u64, width: u32) {
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

    /// Puts a number of seven bits a byte.
    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    /// Puts a number of seven bits a byte, the last bit of which is its sign.
    pub(super) fn signed_varint(&mut self, value: i64) {
        self.varint((value << 1 ^ value >> 63) as u64);
    }

    /// Puts a number with a prefix.
    pub(super) fn varbit(&mut self, value: u64) {
        let significant = 64 - value.leading_zeros();
        self.prefixed(value, |width| significant <= width);
    }

    /// Puts a number with a prefix and a sign.
    pub(super) fn signed_varbit(&mut self, value: i64) {
        self.prefixed(value as u64, |width| fits(value, width));
    }

    fn prefixed(&mut self, value: u64, fits: impl Fn(u32) -> bool) {
        let ones = WIDTHS.iter().position(|width| fits(*width)).unwrap_or(8);
        // As many ones, and a zero behind them unless the prefix is the longest.
        match ones {
            8 => self.put(0xff, 8),
            _ => self.put((2 << ones) - 2, ones as u32 + 1),
        }
        self.put(value, WIDTHS[ones]);
    }

    /// Puts a float as it is.
    pub(super) fn float(&mut self, value: f64) {
        self.put(value.to_bits(), 64);
    }
}

/// Whether [`Reader::signed`] takes a number of so many bits.
pub(super) fn fits(value: i64, width: u32) -> bool {
    match width {
        0 => value == 0,
        1..64 => {
            let half = 1i64 << (width - 1);
            (1 - half..=half).contains(&value)
        }
        _ => true,
    }
}

/// A float that changes from sample to sample, and the window of bits in which it did so last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Float {
    bits: u64,
    leading: u8,
    trailing: u8,
}

/// What stands for the zeros in front while there is no window.
const NO_WINDOW: u8 = u8::MAX;

impl Float {
    /// The first of a row.
    pub(super) fn first(value: f64) -> Self {
        Self {
            bits: value.to_bits(),
            leading: NO_WINDOW,
            trailing: 0,
        }
    }

    pub(super) fn number(self) -> f64 {
        f64::from_bits(self.bits)
    }

    /// Takes the next.
    #[inline]
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), RemoteError> {
        if from.take(1)? == 0 {
            return Ok(());
        }
        if from.take(1)? == 1 {
            let leading = from.take(5)? as u8;
            // Six bits hold up to 63: none stands for all 64.
            let width = match from.take(6)? as u8 {
                0 => 64,
                width => width,
            };
            self.trailing = 64u8
                .checked_sub(leading + width)
                .ok_or(RemoteError::Chunk("more than 64 bits"))?;
            self.leading = leading;
        } else if self.leading == NO_WINDOW {
            // Without a window, all bits are in it.
            (self.leading, self.trailing) = (0, 0);
        }
        let changed = from.take(u32::from(64 - self.leading - self.trailing))?;
        self.bits ^= changed << self.trailing;
        Ok(())
    }

    /// Puts the next.
    pub(super) fn write(&mut self, value: f64, to: &mut Writer) {
        let changed = self.bits ^ value.to_bits();
        self.bits = value.to_bits();
        if changed == 0 {
            return to.put(0, 1);
        }
        // There are five bits for the number of zeros in front.
        let leading = changed.leading_zeros().min(31) as u8;
        let trailing = changed.trailing_zeros() as u8;
        let is_within = leading >= self.leading && trailing >= self.trailing;
        if self.leading != NO_WINDOW && is_within {
            to.put(0b10, 2);
        } else {
            (self.leading, self.trailing) = (leading, trailing);
            to.put(0b11, 2);
            to.put(u64::from(leading), 5);
            to.put(u64::from(64 - leading - trailing) & 63, 6);
        }
        let width = 64 - self.leading - self.trailing;
        to.put(changed >> self.trailing, u32::from(width));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_are_as_long_as_prometheus_has_them() {
        let f = |value: i64, bits: usize| {
            let mut writer = Writer::behind(Vec::new());
            writer.signed_varbit(value);
            let length = writer.len() * 8 - writer.free as usize;
            assert_eq!(length, bits, "{value}");
        };
        f(0, 1);
        f(-3, 5);
        f(4, 5);
        f(-4, 9);
        f(32, 9);
        f(256, 13);
        f(2048, 17);
        f(2049, 24);
        f(1 << 17, 24);
        f(1 << 24, 32);
        f(1 << 55, 64);
        f(i64::MIN, 72);
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(
            numbers in prop::collection::vec((any::<i64>(), 0u32..64, 0usize..6), 0..40),
            floats in prop::collection::vec(prop_oneof![Just(1.0), any::<f64>()], 1..20),
        ) {
            let mut writer = Writer::behind(Vec::new());
            let mut float = Float::first(0.0);
            for (number, shift, kind) in &numbers {
                let number = number >> shift;
                match kind {
                    0 => writer.varint(number as u64),
                    1 => writer.signed_varint(number),
                    2 => writer.varbit(number as u64),
                    3 => writer.signed_varbit(number),
                    4 => writer.put(number as u64, 64 - shift),
                    _ => writer.float(f64::from_bits(number as u64)),
                }
            }
            for value in &floats {
                float.write(*value, &mut writer);
            }
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            for (number, shift, kind) in &numbers {
                let number = number >> shift;
                let read = match kind {
                    0 => reader.varint().unwrap() as i64,
                    1 => reader.signed_varint().unwrap(),
                    2 => reader.varbit().unwrap() as i64,
                    3 => reader.signed_varbit().unwrap(),
                    4 => {
                        let mask = u64::MAX >> shift;
                        prop_assert_eq!(reader.take(64 - shift).unwrap(), number as u64 & mask);
                        continue;
                    }
                    _ => reader.float().unwrap().to_bits() as i64,
                };
                prop_assert_eq!(read, number);
            }
            let mut float = Float::first(0.0);
            for value in &floats {
                float.read(&mut reader).unwrap();
                prop_assert_eq!(float.number().to_bits(), value.to_bits());
            }
            prop_assert!(reader.left() < 8);
        }
    }
}
