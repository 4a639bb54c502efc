//! Metrics in the bytes of a gRPC message, found without decoding or copying them. Pure.
//!
//! A metric is forwarded as the bytes that were received, so that fields that are unknown here survive. Routing needs the
//! name, the type and the tags; all else is only walked over, to be sure that it is well formed: one sender's broken digest
//! must not make a destination refuse a batch that holds the metrics of others. What passes here is exactly what
//! [`crate::proto`] decodes.

use std::borrow::Cow;

use thiserror::Error;

use crate::proto::metricpb::Type;

/// How deep groups, which no metric has, may be nested.
const MAX_GROUP_DEPTH: usize = 100;

/// Why bytes are not a message. The call that brought them is answered with INTERNAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Corrupt {
    /// The bytes end inside a field.
    #[error("message ends inside a field")]
    Truncated,
    /// A number has more than 64 bits.
    #[error("number is too long")]
    LongNumber,
    /// Field 0, a wire type that does not exist, or a field number that is too large.
    #[error("invalid field key")]
    Key,
    /// A known field is not of its wire type.
    #[error("field {0} has the wrong wire type")]
    WireType(u32),
    /// Packed numbers that are cut off.
    #[error("field {0} ends inside a number")]
    Packed(u32),
    /// A group that is not closed, or closed twice, or nested too deep.
    #[error("groups do not match")]
    Group,
}

/// A metric in received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireMetric<'a> {
    framed: &'a [u8],
    message: &'a [u8],
    name: &'a [u8],
    kind: i32,
    /// From the first tag to the last; other fields may stand between.
    tagged: &'a [u8],
}

impl<'a> WireMetric<'a> {
    /// Finds the parts of a `metricpb.Metric`, the message of `SendMetricsV2`.
    pub fn read(message: &'a [u8]) -> Result<Self, Corrupt> {
        let mut metric = Self {
            framed: &[],
            message,
            name: &[],
            kind: 0,
            tagged: &[],
        };
        // Where the tags begin and end, as lengths of what follows them.
        let mut tagged: Option<(usize, usize)> = None;
        let mut fields = Fields { rest: message };
        loop {
            let before = fields.rest.len();
            let Some((number, value)) = fields.next()? else {
                break;
            };
            match (number, value) {
                (1, Value::Bytes(name)) => metric.name = name,
                (2, Value::Bytes(_)) => {
                    let (start, _) = tagged.unwrap_or((before, 0));
                    tagged = Some((start, fields.rest.len()));
                }
                // Go and prost both keep the lower 32 bits.
                (3, Value::Varint(kind)) => metric.kind = kind as i32,
                _ => metric_field(number).check(number, value)?,
            }
        }
        if let Some((start, end)) = tagged {
            metric.tagged = &message[message.len() - start..message.len() - end];
        }
        Ok(metric)
    }

    /// Returns the bytes to forward with `SendMetricsV2`: the message as received.
    pub fn message(&self) -> &'a [u8] {
        self.message
    }

    /// Returns the name, which need not be UTF-8.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// Returns the number of the type, which need not be one that [`Type`] has.
    pub fn kind(&self) -> i32 {
        self.kind
    }

    /// Returns the type as it is routed: the lower-case name, or the digits of a number without a name.
    pub fn kind_name(&self) -> Cow<'static, str> {
        Type::try_from(self.kind).map_or_else(
            |_| Cow::Owned(self.kind.to_string()),
            |kind| Cow::Borrowed(kind.name()),
        )
    }

    /// Returns the tags in the sender's order.
    pub fn tags(&self) -> Tags<'a> {
        Tags(Fields { rest: self.tagged })
    }

    /// Appends the metric as an element of a `forwardrpc.MetricList`.
    ///
    /// A metric that came in a list is written with the very bytes that framed it there.
    pub fn write_framed(&self, list: &mut Vec<u8>) {
        if self.framed.is_empty() {
            list.push(0x0a);
            prost::encoding::encode_varint(self.message.len() as u64, list);
            list.extend_from_slice(self.message);
        } else {
            list.extend_from_slice(self.framed);
        }
    }
}

/// The tags of a [`WireMetric`].
#[derive(Debug, Clone)]
pub struct Tags<'a>(Fields<'a>);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        // These bytes were read before, so that there are no errors to hide.
        while let Ok(Some((number, value))) = self.0.next() {
            if let (2, Value::Bytes(tag)) = (number, value) {
                return Some(tag);
            }
        }
        None
    }
}

/// Finds the metrics of a `forwardrpc.MetricList`, the request of `SendMetrics`, in order.
///
/// Nothing is returned of a list that is corrupt in any place: its sender is told, and may send it again.
pub fn read_list(list: &[u8]) -> Result<Vec<WireMetric<'_>>, Corrupt> {
    // A metric takes 60 bytes or more; growing costs more than asking for too much.
    let mut metrics = Vec::with_capacity(list.len() / 64 + 1);
    visit_list(list, |metric| metrics.push(metric))?;
    Ok(metrics)
}

/// Shows the metrics of a `forwardrpc.MetricList` to `visit`, in order, without gathering them.
///
/// Of a list that is corrupt, those before the corruption were shown.
pub fn visit_list<'a>(
    list: &'a [u8],
    mut visit: impl FnMut(WireMetric<'a>),
) -> Result<(), Corrupt> {
    let mut fields = Fields { rest: list };
    loop {
        let before = fields.rest;
        let Some((number, value)) = fields.next()? else {
            return Ok(());
        };
        match (number, value) {
            (1, Value::Bytes(message)) => {
                let mut metric = WireMetric::read(message)?;
                metric.framed = &before[..before.len() - fields.rest.len()];
                visit(metric);
            }
            (1, _) => return Err(Corrupt::WireType(1)),
            _ => {}
        }
    }
}

/// Writes a `forwardrpc.MetricList` of these metrics.
pub fn write_list<'a>(metrics: impl IntoIterator<Item = &'a WireMetric<'a>>, list: &mut Vec<u8>) {
    for metric in metrics {
        metric.write_framed(list);
    }
}

/// The value of one field.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32,
    Group,
}

/// What a field of a known message holds.
#[derive(Clone, Copy)]
enum Shape {
    /// Not a field of ours; anything goes.
    Unknown,
    Varint,
    Double,
    Bytes,
    /// Repeated doubles, packed or one by one.
    Doubles,
    /// A digest's centroid, of which there are many.
    Centroid,
    Message(fn(u32) -> Shape),
}

/// A mean and a weight: what nearly all centroids are, so that there is no need to walk over their fields.
fn is_plain_centroid(message: &[u8]) -> bool {
    matches!(message, [0x09, _, _, _, _, _, _, _, _, 0x11, ..] if message.len() == 18)
}

impl Shape {
    fn check(self, number: u32, value: Value<'_>) -> Result<(), Corrupt> {
        match (self, value) {
            (Self::Unknown, _)
            | (Self::Varint, Value::Varint(_))
            | (Self::Double | Self::Doubles, Value::Fixed64)
            | (Self::Bytes, Value::Bytes(_)) => Ok(()),
            (Self::Doubles, Value::Bytes(packed)) if packed.len().is_multiple_of(8) => Ok(()),
            (Self::Doubles, Value::Bytes(_)) => Err(Corrupt::Packed(number)),
            (Self::Centroid, Value::Bytes(message)) if is_plain_centroid(message) => Ok(()),
            (Self::Centroid, _) => Self::Message(centroid_field).check(number, value),
            (Self::Message(field), Value::Bytes(message)) => {
                let mut fields = Fields { rest: message };
                while let Some((number, value)) = fields.next()? {
                    field(number).check(number, value)?;
                }
                Ok(())
            }
            _ => Err(Corrupt::WireType(number)),
        }
    }
}

fn metric_field(number: u32) -> Shape {
    match number {
        1 | 2 => Shape::Bytes,
        3 | 9 => Shape::Varint,
        5 => Shape::Message(|number| one(number, Shape::Varint)),
        6 => Shape::Message(|number| one(number, Shape::Double)),
        7 => Shape::Message(|number| one(number, Shape::Message(digest_field))),
        8 => Shape::Message(|number| one(number, Shape::Bytes)),
        _ => Shape::Unknown,
    }
}

fn digest_field(number: u32) -> Shape {
    match number {
        1 => Shape::Centroid,
        2..=5 => Shape::Double,
        _ => Shape::Unknown,
    }
}

fn centroid_field(number: u32) -> Shape {
    match number {
        1 | 2 => Shape::Double,
        3 => Shape::Doubles,
        _ => Shape::Unknown,
    }
}

/// A message with one field.
fn one(number: u32, shape: Shape) -> Shape {
    if number == 1 { shape } else { Shape::Unknown }
}

/// The fields of a message.
#[derive(Debug, Clone)]
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads the next field; `None` at the end.
    #[inline]
    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Corrupt> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        Ok(Some((number, self.value(number, wire_type, 0)?)))
    }

    #[inline]
    fn value(&mut self, number: u32, wire_type: u8, depth: usize) -> Result<Value<'a>, Corrupt> {
        match wire_type {
            0 => self.varint().map(Value::Varint),
            1 => self.take(8).map(|_| Value::Fixed64),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| Corrupt::Truncated)?;
                self.take(length).map(Value::Bytes)
            }
            5 => self.take(4).map(|_| Value::Fixed32),
            3 => self.group(number, depth),
            4 => Err(Corrupt::Group),
            _ => Err(Corrupt::Key),
        }
    }

    /// Walks over a group, which no metric has.
    #[cold]
    fn group(&mut self, number: u32, depth: usize) -> Result<Value<'a>, Corrupt> {
        if depth >= MAX_GROUP_DEPTH {
            return Err(Corrupt::Group);
        }
        loop {
            let (inner, wire_type) = self.key()?;
            if wire_type == 4 {
                return if inner == number {
                    Ok(Value::Group)
                } else {
                    Err(Corrupt::Group)
                };
            }
            self.value(inner, wire_type, depth + 1)?;
        }
    }

    /// Reads a field's number and wire type.
    #[inline]
    fn key(&mut self) -> Result<(u32, u8), Corrupt> {
        let key = u32::try_from(self.varint()?).map_err(|_| Corrupt::Key)?;
        match (key >> 3, (key & 7) as u8) {
            (0, _) | (_, 6 | 7) => Err(Corrupt::Key),
            field => Ok(field),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Corrupt> {
        // Nearly all keys and lengths have one byte.
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Corrupt> {
        let mut number = 0;
        for (i, byte) in self.rest.iter().enumerate().take(10) {
            if i == 9 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(number);
            }
        }
        Err(if self.rest.len() < 10 {
            Corrupt::Truncated
        } else {
            Corrupt::LongNumber
        })
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Corrupt::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_parts_are_found_among_other_fields() {
        // scope, tag "b", unknown field 99, name "first", tag "a", type 4, name "n"
        let message = b"\x48\x02\x12\x01b\x98\x06\x2a\x0a\x05first\x12\x01a\x18\x04\x0a\x01n";
        let metric = WireMetric::read(message).unwrap();
        assert_eq!(metric.name(), b"n");
        assert_eq!(metric.kind_name(), "timer");
        assert_eq!(metric.tags().collect::<Vec<_>>(), [b"b", b"a"]);
        assert_eq!(metric.message(), message);
    }

    #[test]
    fn numbers_without_a_name_are_routed_by_their_digits() {
        let f = |message: &[u8], expected: &str| {
            assert_eq!(WireMetric::read(message).unwrap().kind_name(), expected);
        };
        f(b"", "counter");
        f(b"\x18\x07", "7");
        f(b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "-1");
    }

    #[test]
    fn a_list_is_split_into_the_bytes_it_was_made_of() {
        // The length of the first element is written in two bytes where one would do.
        let list = b"\x0a\x83\x00\x0a\x01x\x0a\x00\xa0\x06\x01\x0a\x03\x0a\x01y";
        let metrics = read_list(list).unwrap();
        let names: Vec<_> = metrics.iter().map(WireMetric::name).collect();
        assert_eq!(names, [&b"x"[..], b"", b"y"]);
        let mut written = Vec::new();
        write_list(&metrics, &mut written);
        assert_eq!(written, b"\x0a\x83\x00\x0a\x01x\x0a\x00\x0a\x03\x0a\x01y");
    }

    #[test]
    fn a_metric_that_came_alone_can_travel_in_a_list() {
        let message = b"\x0a\x01x";
        let mut list = Vec::new();
        write_list(&[WireMetric::read(message).unwrap()], &mut list);
        assert_eq!(list, b"\x0a\x03\x0a\x01x");
    }

    #[test]
    fn corruption_is_named() {
        let f = |message: &[u8], expected: Corrupt| {
            assert_eq!(WireMetric::read(message), Err(expected), "{message:x?}");
        };
        // A name that is longer than the message.
        f(b"\x0a\x05x", Corrupt::Truncated);
        // A length that no machine has.
        f(
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            Corrupt::Truncated,
        );
        f(
            b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            Corrupt::LongNumber,
        );
        // Field number 0, wire type 7, a key above 32 bits.
        f(b"\x00\x01", Corrupt::Key);
        f(b"\x0f", Corrupt::Key);
        f(b"\x80\x80\x80\x80\x10\x00", Corrupt::Key);
        // The name as a number; a counter's value as bytes.
        f(b"\x08\x01", Corrupt::WireType(1));
        f(b"\x2a\x02\x0a\x00", Corrupt::WireType(1));
        // Samples of seven bytes in a centroid in a digest in a histogram.
        f(
            b"\x3a\x0d\x0a\x0b\x0a\x09\x1a\x071234567",
            Corrupt::Packed(3),
        );
        // A group that another group's end closes, one that nothing closes, and an end alone.
        f(b"\x9b\x06\xa4\x06", Corrupt::Group);
        f(b"\x9b\x06", Corrupt::Truncated);
        f(b"\x9c\x06", Corrupt::Group);
        f(&[0x9b, 0x06].repeat(200), Corrupt::Group);
    }
}
