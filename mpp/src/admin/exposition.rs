//! The formats of a metrics page: text, and the three of protobuf that the original offers. A Prometheus that wants native
//! histograms asks for the delimited one first.
//!
//! The messages are `io.prometheus.client` of the client model; they are small enough to be written by hand.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use flate2::{Compression, write::GzEncoder};
use prometheus::{
    Encoder as _, TextEncoder,
    proto::{Metric, MetricFamily, MetricType},
};

/// A format of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Delimited,
    ProtoText,
    ProtoCompact,
}

impl Format {
    /// Picks the first acceptable format, by weight; text if there is none.
    pub(super) fn negotiate(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut weight, mut proto, mut encoding) = (1.0, "", "");
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match name.trim() {
                    "q" => weight = value.parse().unwrap_or(0.0),
                    "proto" => proto = value,
                    "encoding" => encoding = value,
                    _ => {}
                }
            }
            let format = match (kind, proto, encoding) {
                (
                    "application/vnd.google.protobuf",
                    "io.prometheus.client.MetricFamily",
                    encoding,
                ) => match encoding {
                    "delimited" => Self::Delimited,
                    "text" => Self::ProtoText,
                    "compact-text" => Self::ProtoCompact,
                    _ => continue,
                },
                ("text/plain" | "text/*" | "*/*", ..) => Self::Text,
                _ => continue,
            };
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4",
            Self::Delimited => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            Self::ProtoText => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text"
            }
            Self::ProtoCompact => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=compact-text"
            }
        }
    }
}

/// Prints families that have samples.
pub(super) fn print(families: &[MetricFamily], format: Format) -> Vec<u8> {
    match format {
        Format::Text => {
            let mut text = Vec::with_capacity(16 << 10);
            TextEncoder::new()
                .encode(families, &mut text)
                .expect("families with samples can be printed into memory");
            text
        }
        Format::Delimited => {
            let mut out = Vec::new();
            for family in families {
                let message = family_message(family);
                put_varint(&mut out, message.len() as u64);
                out.extend_from_slice(&message);
            }
            out
        }
        Format::ProtoText => {
            let texts = families.iter().map(|family| proto_text(family, "\n"));
            texts.collect::<Vec<_>>().join("\n").into_bytes()
        }
        Format::ProtoCompact => {
            let texts = families.iter().map(|family| proto_text(family, " "));
            texts.collect::<Vec<_>>().join("\n").into_bytes()
        }
    }
}

pub(super) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

const fn kind_number(kind: MetricType) -> u64 {
    match kind {
        MetricType::COUNTER => 0,
        MetricType::GAUGE => 1,
        MetricType::SUMMARY => 2,
        MetricType::UNTYPED => 3,
        MetricType::HISTOGRAM => 4,
    }
}

fn family_message(family: &MetricFamily) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, family.name().as_bytes());
    put_bytes(&mut out, 2, family.help().as_bytes());
    put_number(&mut out, 3, kind_number(family.get_field_type()));
    for metric in family.get_metric() {
        put_bytes(
            &mut out,
            4,
            &metric_message(metric, family.get_field_type()),
        );
    }
    out
}

fn metric_message(metric: &Metric, kind: MetricType) -> Vec<u8> {
    let mut out = Vec::new();
    for label in metric.get_label() {
        let mut pair = Vec::new();
        put_bytes(&mut pair, 1, label.name().as_bytes());
        put_bytes(&mut pair, 2, label.value().as_bytes());
        put_bytes(&mut out, 1, &pair);
    }
    let mut value = Vec::new();
    match kind {
        MetricType::COUNTER => {
            put_double(&mut value, 1, metric.get_counter().get_value());
            put_bytes(&mut out, 3, &value);
        }
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            put_number(&mut value, 1, histogram.get_sample_count());
            put_double(&mut value, 2, histogram.get_sample_sum());
            for bucket in histogram.get_bucket() {
                let mut message = Vec::new();
                put_number(&mut message, 1, bucket.cumulative_count());
                put_double(&mut message, 2, bucket.upper_bound());
                put_bytes(&mut value, 3, &message);
            }
            put_bytes(&mut out, 7, &value);
        }
        _ => {
            put_double(&mut value, 1, metric.get_gauge().get_value());
            put_bytes(&mut out, 2, &value);
        }
    }
    out
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

fn put_double(out: &mut Vec<u8>, field: u64, number: f64) {
    put_varint(out, field << 3 | 1);
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The text form of a message; `between` separates its fields.
fn proto_text(family: &MetricFamily, between: &str) -> String {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "COUNTER",
        MetricType::GAUGE => "GAUGE",
        MetricType::SUMMARY => "SUMMARY",
        MetricType::UNTYPED => "UNTYPED",
        MetricType::HISTOGRAM => "HISTOGRAM",
    };
    let mut fields = vec![
        format!("name: {:?}", family.name()),
        format!("help: {:?}", family.help()),
        format!("type: {kind}"),
    ];
    for metric in family.get_metric() {
        let mut text = String::from("metric: {");
        for label in metric.get_label() {
            write!(
                text,
                "{between}label: {{ name: {:?} value: {:?} }}",
                label.name(),
                label.value()
            )
            .expect("writing to a string cannot fail");
        }
        let value = match family.get_field_type() {
            MetricType::COUNTER => {
                format!("counter: {{ value: {} }}", metric.get_counter().get_value())
            }
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let mut value = format!(
                    "histogram: {{ sample_count: {} sample_sum: {}",
                    histogram.get_sample_count(),
                    histogram.get_sample_sum()
                );
                for bucket in histogram.get_bucket() {
                    write!(
                        value,
                        " bucket: {{ cumulative_count: {} upper_bound: {} }}",
                        bucket.cumulative_count(),
                        bucket.upper_bound()
                    )
                    .expect("writing to a string cannot fail");
                }
                value + " }"
            }
            _ => format!("gauge: {{ value: {} }}", metric.get_gauge().get_value()),
        };
        fields.push(format!("{text}{between}{value}{between}}}"));
    }
    fields.join(between) + between
}

#[cfg(test)]
mod tests {
    use shared::metrics::Family;

    use super::*;

    #[test]
    fn the_format_is_the_first_of_the_heaviest() {
        let f = |accept: &str, expected: Format| {
            assert_eq!(Format::negotiate(accept), expected, "{accept}");
        };
        f("", Format::Text);
        f("text/plain", Format::Text);
        f(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::Text,
        );
        f(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;q=0.8,text/plain;q=0.5",
            Format::Delimited,
        );
        f(
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text",
            Format::ProtoText,
        );
        f(
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=compact-text",
            Format::ProtoCompact,
        );
        f(
            "application/vnd.google.protobuf;encoding=delimited",
            Format::Text,
        );
    }

    #[test]
    fn a_family_is_one_delimited_message() {
        let family = Family::counter("a_total", "A.")
            .sample(&[("l", "v")], 1.0)
            .build();
        let bytes = print(&[family], Format::Delimited);
        let expected: &[u8] = &[
            36, // length
            0x0a, 7, b'a', b'_', b't', b'o', b't', b'a', b'l', // name
            0x12, 2, b'A', b'.', // help
            0x18, 0, // type
            0x22, 19, // metric
            0x0a, 6, 0x0a, 1, b'l', 0x12, 1, b'v', // label
            0x1a, 9, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, // counter
        ];
        assert_eq!(bytes, expected);
    }
}
