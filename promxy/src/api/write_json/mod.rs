//! Answers as Prometheus writes them: the order of keys, the forms of times and numbers, what is escaped.
//!
//! Results of queries are written straight into the answer's bytes; nothing is built in between. `number` has numbers and times,
//! `times` those that many series share.

mod number;
mod times;

use std::{fmt::Write as _, ops::Deref};

use promql::{
    format::fixed,
    histogram::FloatHistogram,
    value::{MatrixSeries, SampleValue, Value, VectorSample},
};

use self::number::{write_shortest_time, write_time};
pub use self::{number::write_number, times::Times};
use super::json;
use crate::{
    labels::Labels,
    series::{Native, Samples, Series},
    servergroup::decode::Annotations,
};

/// How many warnings, and how many infos, an answer shows before it says how many more there are.
const MOST_ANNOTATIONS: usize = 10;

/// Writes a successful answer around data that is JSON already.
pub fn success(data: &str, annotations: &Annotations) -> String {
    let mut out = String::with_capacity(data.len() + 64);
    out.push_str(r#"{"status":"success","data":"#);
    out.push_str(data);
    self::annotations(annotations, &mut out);
    out.push('}');
    out
}

/// Writes an error. Unlike in results, `<`, `>` and `&` are escaped.
pub fn error(error_type: &str, message: &str, annotations: &Annotations) -> String {
    let mut out = String::from(r#"{"status":"error","errorType":"#);
    write_string(error_type, &mut out);
    out.push_str(r#","error":"#);
    let mut text = String::new();
    write_string(message, &mut text);
    for c in text.chars() {
        match c {
            '<' => out.push_str(r"\u003c"),
            '>' => out.push_str(r"\u003e"),
            '&' => out.push_str(r"\u0026"),
            '\u{2028}' => out.push_str(r"\u2028"),
            '\u{2029}' => out.push_str(r"\u2029"),
            // What stands for a byte that is not UTF-8, as Go writes it.
            char::REPLACEMENT_CHARACTER => out.push_str(r"\ufffd"),
            c => out.push(c),
        }
    }
    self::annotations(annotations, &mut out);
    out.push('}');
    out
}

/// Writes the data of a query.
pub fn value(value: &Value) -> String {
    match value {
        Value::Scalar { timestamp, value } => scalar(*timestamp, *value),
        Value::String { timestamp, value } => string(*timestamp, &value.to_str_lossy()),
        Value::Vector(samples) => result("vector", samples, vector_sample),
        Value::Matrix(series) => {
            let mut times = Times::default();
            result("matrix", series, |series, out| {
                matrix_series(series, &mut times, out);
            })
        }
    }
}

/// Writes the data of a query with a range vector as its value.
pub fn matrix(series: &[Series<Samples<Native>>]) -> String {
    let mut times = Times::default();
    result("matrix", series, |Series { labels, data }, out| {
        let histograms = data.histograms.iter().map(|(time, h)| (*time, h.as_ref()));
        let floats = data.floats.iter().copied();
        write_series(labels, floats, histograms, &mut times, out);
    })
}

fn result<T>(kind: &str, elements: &[T], write: impl FnMut(&T, &mut String)) -> String {
    let mut out = format!(r#"{{"resultType":"{kind}","result":["#);
    write_list(elements, &mut out, write);
    out.push_str("]}");
    out
}

/// Writes an element of an instant vector.
pub(super) fn vector_sample(sample: &VectorSample, out: &mut String) {
    out.push_str(r#"{"metric":"#);
    write_labels(&sample.labels, out);
    match &sample.value {
        SampleValue::Float(value) => {
            out.push_str(r#","value":"#);
            write_float_point(sample.timestamp, *value, out);
        }
        SampleValue::Histogram(histogram) => {
            out.push_str(r#","histogram":"#);
            write_histogram_point(sample.timestamp, histogram.as_ref(), out);
        }
    }
    out.push('}');
}

/// Writes an element of a range vector. `times` are those of elements before.
pub(super) fn matrix_series(series: &MatrixSeries, times: &mut Times, out: &mut String) {
    let (floats, histograms) = (series.floats(), series.histograms());
    write_series(&series.labels, floats, histograms, times, out);
}

/// Writes the data of a query with a number as its value, which never has an exponent.
pub fn scalar(time: i64, value: f64) -> String {
    let mut out = String::from(r#"{"resultType":"scalar","result":["#);
    write_shortest_time(time, &mut out);
    write!(out, ",\"{}\"]}}", fixed(value)).expect("writing to a String cannot fail");
    out
}

/// Writes the data of a query with a text as its value. Unlike in labels, `<`, `>` and `&` are escaped.
pub fn string(time: i64, text: &str) -> String {
    let mut out = String::from(r#"{"resultType":"string","result":["#);
    write_shortest_time(time, &mut out);
    out.push(',');
    json::string(text, &mut out);
    out.push_str("]}");
    out
}

/// Writes a list of words: label names or values.
pub fn words(words: &[String]) -> String {
    let mut out = String::from("[");
    write_words(words, &mut out);
    out.push(']');
    out
}

/// Writes a list of label sets: the data of `series`.
pub fn label_sets(sets: &[Labels]) -> String {
    let mut out = String::from("[");
    write_list(sets, &mut out, write_labels);
    out.push(']');
    out
}

/// Writes warnings and infos as an answer has them behind its data.
pub(super) fn annotations(annotations: &Annotations, out: &mut String) {
    let lists = [
        ("warnings", &annotations.warnings),
        ("infos", &annotations.infos),
    ];
    for (key, texts) in lists.into_iter().filter(|(_, texts)| !texts.is_empty()) {
        out.push_str(",\"");
        out.push_str(key);
        out.push_str("\":[");
        write_words(texts.get(..MOST_ANNOTATIONS).unwrap_or(texts), out);
        if let Some(more) = texts
            .len()
            .checked_sub(MOST_ANNOTATIONS)
            .filter(|more| *more > 0)
        {
            let kind = key.trim_end_matches('s');
            out.push(',');
            write_string(&format!("{more} more {kind} annotations omitted"), out);
        }
        out.push(']');
    }
}

fn write_words(words: &[String], out: &mut String) {
    write_list(words, out, |word, out| write_string(word, out));
}

/// Writes what comes one after another, with commas between.
fn write_list<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        write(item, out);
    }
}

fn write_series(
    labels: &Labels,
    floats: impl Iterator<Item = (i64, f64)>,
    histograms: impl Iterator<Item = (i64, impl Deref<Target = FloatHistogram>)>,
    times: &mut Times,
    out: &mut String,
) {
    out.push_str(r#"{"metric":"#);
    write_labels(labels, out);
    let mut times = times.series();
    let mut is_first = true;
    for (time, value) in floats {
        if is_first {
            out.push_str(r#","values":["#);
            begin_float_point(time, out);
        } else {
            // The end of the one before, too.
            times.write(time, out);
        }
        is_first = false;
        write_number(value, out);
    }
    if !is_first {
        out.push_str(END_OF_POINT);
        out.push(']');
    }
    let mut is_first = true;
    for (time, histogram) in histograms {
        out.push_str(if is_first { r#","histograms":["# } else { "," });
        is_first = false;
        write_histogram_point(time, &histogram, out);
    }
    if !is_first {
        out.push(']');
    }
    out.push('}');
}

fn write_labels(labels: &Labels, out: &mut String) {
    out.push('{');
    write_list(labels.iter(), out, |(name, value), out| {
        write_string(name, out);
        out.push(':');
        write_string(value, out);
    });
    out.push('}');
}

fn write_float_point(time: i64, value: f64, out: &mut String) {
    begin_float_point(time, out);
    write_number(value, out);
    out.push_str(END_OF_POINT);
}

fn begin_float_point(time: i64, out: &mut String) {
    out.push('[');
    write_time(time, out);
    out.push_str(",\"");
}

/// What stands behind the value of a point.
const END_OF_POINT: &str = "\"]";

fn write_histogram_point(time: i64, histogram: &FloatHistogram, out: &mut String) {
    out.push('[');
    write_time(time, out);
    out.push_str(r#",{"count":""#);
    write_number(histogram.count, out);
    out.push_str(r#"","sum":""#);
    write_number(histogram.sum, out);
    out.push('"');
    let mut is_first = true;
    for bucket in histogram.populated_buckets() {
        out.push_str(if is_first { r#","buckets":["# } else { "," });
        is_first = false;
        out.push('[');
        out.push(char::from(b'0' + bucket.boundaries()));
        for number in [bucket.lower, bucket.upper, bucket.count] {
            out.push_str(",\"");
            write_number(number, out);
            out.push('"');
        }
        out.push(']');
    }
    if !is_first {
        out.push(']');
    }
    out.push_str("}]");
}

/// Writes a string between quotes.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest
        .bytes()
        .position(|b| b < 0x20 || b == b'"' || b == b'\\')
    {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = special.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(c) => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a String cannot fail");
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_escaped_for_pages_and_results_are_not() {
        let none = Annotations::default();
        let text = error("bad_data", "a<b & \"c\"\n", &none);
        assert_eq!(
            text,
            r#"{"status":"error","errorType":"bad_data","error":"a\u003cb \u0026 \"c\"\n"}"#
        );
        let labels: Labels = [("x", "<&>\u{1}")].into_iter().collect();
        assert_eq!(label_sets(&[labels]), r#"[{"x":"<&>\u0001"}]"#);
    }

    #[test]
    fn single_values_are_written_in_forms_of_their_own() {
        assert_eq!(
            scalar(1_500, 1e-7),
            r#"{"resultType":"scalar","result":[1.5,"0.0000001"]}"#
        );
        assert_eq!(
            scalar(70_000, 1e21),
            r#"{"resultType":"scalar","result":[70,"1000000000000000000000"]}"#
        );
        assert_eq!(
            string(0, "a<b & \"c\""),
            r#"{"resultType":"string","result":[0,"a\u003cb \u0026 \"c\""]}"#
        );
    }
}
