//! Chunks of float samples, as Prometheus packs them (`tsdb/chunkenc/xor.go`, after Facebook's Gorilla).
//!
//! A chunk begins with the number of its samples in two bytes. The first sample is a time and the bits of a number; of later ones
//! there is the change of the distance in time, and which bits of the number differ from the one before.

use super::RemoteError;

/// Reads a chunk's samples. Times in milliseconds since 1970.
pub fn read(chunk: &[u8]) -> Result<Vec<(i64, f64)>, RemoteError> {
    let [high, low, packed @ ..] = chunk else {
        return Err(RemoteError::Chunk("too short"));
    };
    let count = usize::from(u16::from_be_bytes([*high, *low]));
    let mut bits = Bits {
        bytes: packed,
        at: 0,
    };
    // A sample takes at least two bits, so a short chunk cannot ask for much memory.
    let mut samples = Vec::with_capacity(count.min(packed.len() * 4 + 1));
    let (mut time, mut delta, mut value) = (0i64, 0i64, 0u64);
    let (mut leading, mut trailing) = (0, 0);
    for number in 0..count {
        match number {
            0 => {
                time = bits.signed_varint()?;
                value = bits.take(64)?;
            }
            1 => {
                delta = bits.varint()? as i64;
                time = time.wrapping_add(delta);
                value = next_value(&mut bits, value, &mut leading, &mut trailing)?;
            }
            _ => {
                delta = delta.wrapping_add(delta_of_delta(&mut bits)?);
                time = time.wrapping_add(delta);
                value = next_value(&mut bits, value, &mut leading, &mut trailing)?;
            }
        }
        samples.push((time, f64::from_bits(value)));
    }
    Ok(samples)
}

fn delta_of_delta(bits: &mut Bits<'_>) -> Result<i64, RemoteError> {
    let mut ones = 0;
    while ones < 4 && bits.take(1)? == 1 {
        ones += 1;
    }
    let width = match ones {
        0 => return Ok(0),
        1 => 14,
        2 => 17,
        3 => 20,
        _ => return Ok(bits.take(64)? as i64),
    };
    let value = bits.take(width)? as i64;
    // The upper half stands for negative numbers, but for its first.
    Ok(if value > 1 << (width - 1) {
        value - (1 << width)
    } else {
        value
    })
}

fn next_value(
    bits: &mut Bits<'_>,
    before: u64,
    leading: &mut u32,
    trailing: &mut u32,
) -> Result<u64, RemoteError> {
    if bits.take(1)? == 0 {
        return Ok(before);
    }
    if bits.take(1)? == 1 {
        *leading = bits.take(5)? as u32;
        let width = match bits.take(6)? as u32 {
            0 => 64,
            width => width,
        };
        *trailing = 64u32
            .checked_sub(*leading + width)
            .ok_or(RemoteError::Chunk("more than 64 bits"))?;
    }
    let changed = bits.take(64 - *leading - *trailing)?;
    Ok(before ^ changed << *trailing)
}

/// Bits from the most significant on.
struct Bits<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl Bits<'_> {
    /// Takes up to 64 bits as a number.
    fn take(&mut self, width: u32) -> Result<u64, RemoteError> {
        let mut value = 0u64;
        let mut left = width as usize;
        while left > 0 {
            let byte = self
                .bytes
                .get(self.at / 8)
                .ok_or(RemoteError::Chunk("too short"))?;
            let unread = 8 - self.at % 8;
            let now = unread.min(left);
            let part = u64::from(*byte) >> (unread - now) & ((1 << now) - 1);
            value = value << now | part;
            self.at += now;
            left -= now;
        }
        Ok(value)
    }

    fn varint(&mut self) -> Result<u64, RemoteError> {
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

    fn signed_varint(&mut self) -> Result<i64, RemoteError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_end_too_early_are_refused() {
        assert!(read(&[]).is_err());
        assert!(read(&[0xff, 0xff]).is_err());
        assert!(read(&[0, 1, 2]).is_err());
        assert_eq!(read(&[0, 0]), Ok(Vec::new()));
        // One sample: time 1, number 1.
        let mut chunk = vec![0, 1, 2];
        chunk.extend(1f64.to_bits().to_be_bytes());
        assert_eq!(read(&chunk), Ok(vec![(1, 1.0)]));
        // Another: distance 5, same number.
        chunk[1] = 2;
        chunk.extend([5, 0]);
        assert_eq!(read(&chunk), Ok(vec![(1, 1.0), (6, 1.0)]));
    }
}
