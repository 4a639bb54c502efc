//! A t-digest as Go's `gob` writes it: the `value` of histograms and timers in JSON.
//!
//! The stream has three type definitions, then a list of centroids, then four numbers: compression, smallest, largest, sum
//! of reciprocals; old senders leave the last one out. Ids of types differ between senders, so definitions are recognised by
//! their sign and skipped.

use super::ConvertError;
use crate::proto::metricpb::{Centroid, MergingDigestData};

/// The id of a float64, which is not defined in the stream.
const FLOAT: u64 = 4;
/// The ids that senders use: a process numbers its types from 64, and these are the first three.
const CENTROID: i64 = 64;
const SAMPLES: i64 = 65;
const CENTROIDS: i64 = 66;

/// Decodes a digest.
pub(super) fn decode(value: &[u8]) -> Result<MergingDigestData, ConvertError> {
    let mut stream = Reader(value);
    let mut digest = MergingDigestData::default();
    let mut numbers = Vec::with_capacity(4);
    let mut has_centroids = false;
    while !stream.0.is_empty() {
        let length = stream.unsigned()?;
        let mut message = Reader(stream.take(length)?);
        let id = message.unsigned()?;
        if id & 1 == 1 {
            // Negative: the definition of a type.
            continue;
        }
        // A value that is not a struct has a zero before it.
        if message.unsigned()? != 0 {
            return Err(ConvertError::Digest);
        }
        if id >> 1 == FLOAT {
            numbers.push(message.float()?);
        } else if has_centroids {
            return Err(ConvertError::Digest);
        } else {
            has_centroids = true;
            let count = message.unsigned()?;
            for _ in 0..count {
                digest.main_centroids.push(message.centroid()?);
            }
        }
        if !message.0.is_empty() {
            return Err(ConvertError::Digest);
        }
    }
    let (3 | 4, true) = (numbers.len(), has_centroids) else {
        return Err(ConvertError::Digest);
    };
    digest.compression = numbers[0];
    digest.min = numbers[1];
    digest.max = numbers[2];
    digest.reciprocal_sum = numbers.get(3).copied().unwrap_or_default();
    Ok(digest)
}

/// Encodes a digest.
pub(super) fn encode(digest: &MergingDigestData) -> Vec<u8> {
    let mut out = Vec::with_capacity(160 + 16 * digest.main_centroids.len());
    define(&mut out, CENTROIDS, |out| {
        // A slice: its name is empty, its id, the id of its elements.
        out.extend([2, 1, 2]);
        signed(out, CENTROIDS);
        out.extend([0, 1]);
        signed(out, CENTROID);
        out.extend([0, 0]);
    });
    define(&mut out, CENTROID, |out| {
        // A struct: its name, its id, its three fields with their types.
        out.extend([3, 1, 1]);
        text(out, "Centroid");
        out.push(1);
        signed(out, CENTROID);
        out.extend([0, 1, 3]);
        for (field, id) in [
            ("Mean", FLOAT as i64),
            ("Weight", FLOAT as i64),
            ("Samples", SAMPLES),
        ] {
            out.push(1);
            text(out, field);
            out.push(1);
            signed(out, id);
            out.push(0);
        }
        out.extend([0, 0]);
    });
    define(&mut out, SAMPLES, |out| {
        out.extend([2, 1, 1]);
        text(out, "[]float64");
        out.push(1);
        signed(out, SAMPLES);
        out.extend([0, 1]);
        signed(out, FLOAT as i64);
        out.extend([0, 0]);
    });
    message(&mut out, |out| {
        signed(out, CENTROIDS);
        out.push(0);
        unsigned(out, digest.main_centroids.len() as u64);
        for centroid in &digest.main_centroids {
            write_centroid(out, centroid);
        }
    });
    for number in [
        digest.compression,
        digest.min,
        digest.max,
        digest.reciprocal_sum,
    ] {
        message(&mut out, |out| {
            signed(out, FLOAT as i64);
            out.push(0);
            float(out, number);
        });
    }
    out
}

/// Fields are numbered by how far they are from the one before; zeros are left out.
fn write_centroid(out: &mut Vec<u8>, centroid: &Centroid) {
    let mut last = 0;
    for (field, number) in [(1, centroid.mean), (2, centroid.weight)] {
        if number.to_bits() != 0 {
            out.push(field - last);
            float(out, number);
            last = field;
        }
    }
    if !centroid.samples.is_empty() {
        out.push(3 - last);
        unsigned(out, centroid.samples.len() as u64);
        for sample in &centroid.samples {
            float(out, *sample);
        }
    }
    out.push(0);
}

fn define(out: &mut Vec<u8>, id: i64, write: impl FnOnce(&mut Vec<u8>)) {
    message(out, |out| {
        signed(out, -id);
        write(out);
    });
}

fn message(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    unsigned(out, body.len() as u64);
    out.extend(body);
}

fn text(out: &mut Vec<u8>, text: &str) {
    unsigned(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// The lowest bit is the sign.
fn signed(out: &mut Vec<u8>, number: i64) {
    unsigned(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// One byte below 128; else the negated count of bytes, and the bytes from the highest.
fn unsigned(out: &mut Vec<u8>, number: u64) {
    if number < 128 {
        out.push(number as u8);
    } else {
        let bytes = number.to_be_bytes();
        let skipped = number.leading_zeros() as usize / 8;
        out.push((8 - skipped as u8).wrapping_neg());
        out.extend_from_slice(&bytes[skipped..]);
    }
}

/// The bits with their bytes reversed, because the low ones are often zero.
fn float(out: &mut Vec<u8>, number: f64) {
    unsigned(out, number.to_bits().swap_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], ConvertError> {
        let length = usize::try_from(length).map_err(|_| ConvertError::Digest)?;
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ConvertError::Digest)?;
        self.0 = rest;
        Ok(taken)
    }

    fn unsigned(&mut self) -> Result<u64, ConvertError> {
        let first = self.take(1)?[0];
        if first < 128 {
            return Ok(u64::from(first));
        }
        let length = first.wrapping_neg();
        if length > 8 {
            return Err(ConvertError::Digest);
        }
        let bytes = self.take(u64::from(length))?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn float(&mut self) -> Result<f64, ConvertError> {
        Ok(f64::from_bits(self.unsigned()?.swap_bytes()))
    }

    fn centroid(&mut self) -> Result<Centroid, ConvertError> {
        let mut centroid = Centroid::default();
        let mut field = 0u64;
        loop {
            match self.unsigned()? {
                0 => return Ok(centroid),
                step => field = field.saturating_add(step),
            }
            match field {
                1 => centroid.mean = self.float()?,
                2 => centroid.weight = self.float()?,
                3 => {
                    let count = self.unsigned()?;
                    for _ in 0..count {
                        centroid.samples.push(self.float()?);
                    }
                }
                _ => return Err(ConvertError::Digest),
            }
        }
    }
}
