//! Chunks of float samples, as Prometheus packs them (`tsdb/chunkenc/xor.go`, after Facebook's Gorilla).
//!
//! A chunk begins with the number of its samples in two bytes. The first sample is a time and the bits of a number; of later ones
//! there is the change of the distance in time, and which bits of the number differ from the one before.

use super::{
    RemoteError,
    bits::{Float, Reader, Writer, fits},
};

/// How many bits the change of a distance takes after so many ones; four stand for all 64.
const WIDTHS: [u32; 4] = [0, 14, 17, 20];

/// Reads a chunk's samples. Times in milliseconds since 1970.
pub fn read(chunk: &[u8]) -> Result<Vec<(i64, f64)>, RemoteError> {
    let [high, low, packed @ ..] = chunk else {
        return Err(RemoteError::Chunk("too short"));
    };
    let count = usize::from(u16::from_be_bytes([*high, *low]));
    let mut bits = Reader::new(packed);
    // A sample takes at least two bits, so a short chunk cannot ask for much memory.
    let mut samples = Vec::with_capacity(count.min(packed.len() * 4 + 1));
    if count == 0 {
        return Ok(samples);
    }
    let mut time = bits.signed_varint()?;
    let mut value = Float::first(bits.float()?);
    samples.push((time, value.number()));
    let mut delta = 0i64;
    for number in 1..count {
        delta = match number {
            1 => bits.varint()? as i64,
            _ => delta.wrapping_add(change(&mut bits)?),
        };
        time = time.wrapping_add(delta);
        value.read(&mut bits)?;
        samples.push((time, value.number()));
    }
    Ok(samples)
}

/// Takes the change of a distance.
fn change(bits: &mut Reader<'_>) -> Result<i64, RemoteError> {
    let ones = bits.ones(4)? as usize;
    match WIDTHS.get(ones) {
        Some(width) => bits.signed(*width),
        None => bits.signed(64),
    }
}

/// Packs at most 65,535 samples.
pub fn write(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut bits = Writer::behind((samples.len() as u16).to_be_bytes().to_vec());
    let Some(((first, value), later)) = samples.split_first() else {
        return bits.into_bytes();
    };
    bits.signed_varint(*first);
    bits.float(*value);
    let (mut time, mut delta, mut last) = (*first, 0i64, Float::first(*value));
    for (number, (next, value)) in later.iter().enumerate() {
        let next_delta = next.wrapping_sub(time);
        match number {
            0 => bits.varint(next_delta as u64),
            _ => put_change(&mut bits, next_delta.wrapping_sub(delta)),
        }
        last.write(*value, &mut bits);
        (time, delta) = (*next, next_delta);
    }
    bits.into_bytes()
}

fn put_change(bits: &mut Writer, change: i64) {
    // As many ones as a width has, then a zero; the widest has none.
    if let Some(ones) = WIDTHS.iter().position(|width| fits(change, *width)) {
        bits.put((2 << ones) - 2, ones as u32 + 1);
        bits.put(change as u64, WIDTHS[ones]);
    } else {
        bits.put(0b1111, 4);
        bits.put(change as u64, 64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            let read = read(&write(&samples)).unwrap();
            let bits = |samples: &[(i64, f64)]| -> Vec<(i64, u64)> {
                samples.iter().map(|(time, value)| (*time, value.to_bits())).collect()
            };
            prop_assert_eq!(bits(&read), bits(&samples));
        }
    }
}
