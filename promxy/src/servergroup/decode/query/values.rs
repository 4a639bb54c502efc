//! What stands at a time: numbers, histograms.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Word;
use crate::series::{Bucket, Histogram};

/// A time in seconds and what was then: `[1700000000.5, ...]`.
pub(super) struct Pair<T>(pub(super) T);

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Pair<T> {
    type Value = (i64, T::Value);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: DeserializeSeed<'de>> Visitor<'de> for Pair<T> {
    type Value = (i64, T::Value);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let time = list
            .next_element_seed(Time)?
            .ok_or_else(|| A::Error::invalid_length(0, &"a time"))?;
        let value = list
            .next_element_seed(self.0)?
            .ok_or_else(|| A::Error::invalid_length(1, &"a value"))?;
        if list.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(3, &"a time and a value"));
        }
        Ok((time, value))
    }
}

/// Seconds, to the nearest millisecond.
struct Time;

impl<'de> DeserializeSeed<'de> for Time {
    type Value = i64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<i64, D::Error> {
        deserializer.deserialize_f64(self)
    }
}

impl Visitor<'_> for Time {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds since 1970")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<i64, E> {
        self.visit_i64(i64::try_from(seconds).map_err(|_| E::custom("time out of range"))?)
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<i64, E> {
        seconds
            .checked_mul(1000)
            .ok_or_else(|| E::custom("time out of range"))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<i64, E> {
        let millis = (seconds * 1000.0).round();
        if millis.abs() < 9.2e18 {
            Ok(millis as i64)
        } else {
            Err(E::custom("time out of range"))
        }
    }
}

/// A number in a string: `"1.5"`, `"NaN"`, `"+Inf"`.
#[derive(Clone, Copy)]
pub(super) struct Number;

impl<'de> DeserializeSeed<'de> for Number {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number in a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        text.parse()
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

/// A bucket as it is written: which bounds belong to it, the bounds, the count.
type WrittenBucket<'de> = (u8, Cow<'de, str>, Cow<'de, str>, Cow<'de, str>);

pub(super) struct HistogramSeed;

impl<'de> DeserializeSeed<'de> for HistogramSeed {
    type Value = Histogram;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Histogram, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HistogramSeed {
    type Value = Histogram;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a histogram")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Histogram, A::Error> {
        let (mut count, mut sum, mut buckets) = (None, None, Vec::new());
        while let Some(key) = map.next_key_seed(Word)? {
            match key.as_ref() {
                "count" => count = Some(map.next_value_seed(Number)?),
                "sum" => sum = Some(map.next_value_seed(Number)?),
                "buckets" => {
                    let written: Vec<WrittenBucket<'de>> = map.next_value()?;
                    let number = |text: &str| Number.visit_str::<A::Error>(text);
                    for (boundaries, lower, upper, count) in written {
                        let (lower, upper, count) =
                            (number(&lower)?, number(&upper)?, number(&count)?);
                        if boundaries > 3 {
                            return Err(A::Error::custom("a bucket's boundaries are 0, 1, 2 or 3"));
                        }
                        buckets.push(Bucket {
                            boundaries,
                            lower,
                            upper,
                            count,
                        });
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Histogram {
            count: count.ok_or_else(|| A::Error::missing_field("count"))?,
            sum: sum.ok_or_else(|| A::Error::missing_field("sum"))?,
            buckets,
        })
    }
}
