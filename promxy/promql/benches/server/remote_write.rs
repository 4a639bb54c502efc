//! Messages of the remote write protocol, version 1: the way of native histograms into a server.

use promql::histogram::{FloatHistogram, Span};
use promql::labels::Labels;

/// The longest run of bytes that stand for themselves in a compressed message.
const LONGEST_RUN: usize = 1 << 16;

/// A protobuf message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn signed(&mut self, field: u64, value: i64) {
        self.number(field, zigzag(value));
    }

    fn float(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Returns a compressed request with a histogram of each series; times are in milliseconds.
pub(crate) fn request<'h>(
    series: impl Iterator<Item = (&'h Labels, Vec<(i64, &'h FloatHistogram)>)>,
) -> Vec<u8> {
    let mut request = Message::default();
    for (labels, histograms) in series {
        let mut written = Message::default();
        for (name, value) in labels.iter() {
            let mut label = Message::default();
            label.bytes(1, name.as_bytes());
            label.bytes(2, value.as_bytes());
            written.bytes(1, &label.0);
        }
        for (time, histogram) in histograms {
            written.bytes(4, &message(time, histogram).0);
        }
        request.bytes(1, &written.0);
    }
    compressed(&request.0)
}

/// Writes a histogram as instrumented programs send it: whole numbers, each by its distance to the one before.
fn message(time: i64, histogram: &FloatHistogram) -> Message {
    let parts = histogram.to_parts();
    let mut message = Message::default();
    message.number(1, parts.count as u64);
    message.float(3, parts.sum);
    message.signed(4, i64::from(parts.schema));
    message.float(5, parts.zero_threshold);
    message.number(6, parts.zero_count as u64);
    for Span { offset, length } in parts.positive_spans {
        let mut span = Message::default();
        span.signed(1, i64::from(offset));
        span.number(2, u64::from(length));
        message.bytes(11, &span.0);
    }
    let mut deltas = Message::default();
    let mut before = 0;
    for count in parts.positive_counts {
        let count = count as i64;
        deltas.varint(zigzag(count - before));
        before = count;
    }
    message.bytes(12, &deltas.0);
    message.number(15, time as u64);
    let bounds: Vec<u8> = parts
        .custom_values
        .iter()
        .flat_map(|bound| bound.to_le_bytes())
        .collect();
    message.bytes(16, &bounds);
    message
}

/// Writes bytes in the format of Snappy, none of them made shorter.
fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = Message::default();
    compressed.varint(bytes.len() as u64);
    for run in bytes.chunks(LONGEST_RUN) {
        // The tag of a literal whose length less one has two bytes.
        compressed.0.push(61 << 2);
        compressed
            .0
            .extend_from_slice(&((run.len() - 1) as u16).to_le_bytes());
        compressed.0.extend_from_slice(run);
    }
    compressed.0
}
