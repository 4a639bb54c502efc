//! Samples as text (`text/plain; version=0.0.4`).

use std::{borrow::Cow, fmt::Write as _};

use promql::format::general;

use crate::{
    labels::{Labels, METRIC_NAME},
    series::Native,
};

/// The latest sample of a series.
#[derive(Clone, Debug)]
pub(super) struct Latest {
    pub(super) labels: Labels,
    /// Milliseconds since 1970.
    pub(super) time: i64,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Float(f64),
    Histogram(Native),
}

/// What becomes of names that older clients cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    /// Every character that they do not know is an underscore.
    Underscores,
    /// They stay, in quotes.
    None,
}

impl Escaping {
    /// Returns a name as it is written.
    pub(super) fn name(self, name: &str) -> Cow<'_, str> {
        if self == Self::None || is_plain(name) {
            return Cow::Borrowed(name);
        }
        let escape = |(place, c): (usize, char)| {
            let is_known = c.is_ascii_alphabetic() || c == '_' || c == ':';
            if is_known || (place > 0 && c.is_ascii_digit()) {
                c
            } else {
                '_'
            }
        };
        Cow::Owned(name.chars().enumerate().map(escape).collect())
    }
}

/// Whether every client can read a name.
fn is_plain(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    let mut bytes = name.bytes();
    bytes.next().is_some_and(is_known) && bytes.all(|byte| is_known(byte) || byte.is_ascii_digit())
}

/// Returns the labels of a sample but for its name, then the external labels that it does not have.
pub(super) fn labels<'a>(
    labels: &'a Labels,
    external: &'a [(String, String)],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    let missing = external
        .iter()
        .filter(|(name, _)| labels.get(name).is_none());
    own.chain(missing.map(|(name, value)| (name.as_str(), value.as_str())))
}

/// Writes samples, which are sorted by metric.
pub(super) fn write(
    samples: &[Latest],
    external: &[(String, String)],
    escaping: Escaping,
) -> String {
    let mut out = String::with_capacity(samples.len() * 128);
    let mut before = None;
    for sample in samples {
        let metric = sample.labels.metric_name();
        let kind = match sample.value {
            Value::Float(_) => "untyped",
            Value::Histogram(_) => "histogram",
        };
        if before != Some((metric, kind)) {
            before = Some((metric, kind));
            let name = escaping.name(metric);
            out.push_str("# TYPE ");
            if is_plain(&name) {
                out.push_str(&name);
            } else {
                quoted(&name, &mut out);
            }
            out.push(' ');
            out.push_str(kind);
            out.push('\n');
        }
        let line = Line {
            sample,
            external,
            escaping,
        };
        match &sample.value {
            Value::Float(value) => line.write("", None, *value, &mut out),
            Value::Histogram(histogram) => {
                line.write("_bucket", Some("+Inf"), histogram.count, &mut out);
                line.write("_sum", None, histogram.sum, &mut out);
                line.write("_count", None, histogram.count, &mut out);
            }
        }
    }
    out
}

struct Line<'a> {
    sample: &'a Latest,
    external: &'a [(String, String)],
    escaping: Escaping,
}

impl Line<'_> {
    fn write(&self, suffix: &str, bound: Option<&str>, value: f64, out: &mut String) {
        let name = format!("{}{suffix}", self.sample.labels.metric_name());
        let name = self.escaping.name(&name);
        let is_plain_name = is_plain(&name);
        if is_plain_name {
            out.push_str(&name);
        }
        let mut separator = '{';
        if !is_plain_name {
            out.push(separator);
            separator = ',';
            quoted(&name, out);
        }
        let bound = bound.map(|bound| ("le", bound));
        for (name, value) in labels(&self.sample.labels, self.external).chain(bound) {
            out.push(separator);
            separator = ',';
            let name = self.escaping.name(name);
            if is_plain(&name) {
                out.push_str(&name);
            } else {
                quoted(&name, out);
            }
            out.push('=');
            quoted(value, out);
        }
        if separator == ',' {
            out.push('}');
        }
        out.push(' ');
        out.push_str(&general(value));
        writeln!(out, " {}", self.sample.time).expect("writing to a String cannot fail");
    }
}

fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pairs: &[(&str, &str)], value: f64) -> Latest {
        Latest {
            labels: pairs.iter().copied().collect(),
            time: 5,
            value: Value::Float(value),
        }
    }

    #[test]
    fn external_labels_come_last_and_never_win() {
        let external = [
            ("a".to_owned(), "x".to_owned()),
            ("b".to_owned(), "y\"".to_owned()),
        ];
        let samples = [sample(&[("__name__", "up"), ("a", "1"), ("z", "2")], 1.5)];
        assert_eq!(
            write(&samples, &external, Escaping::Underscores),
            "# TYPE up untyped\nup{a=\"1\",z=\"2\",b=\"y\\\"\"} 1.5 5\n"
        );
        assert_eq!(
            write(
                &[sample(&[("__name__", "up")], 2e6)],
                &[],
                Escaping::Underscores
            ),
            "# TYPE up untyped\nup 2e+06 5\n"
        );
    }

    #[test]
    fn new_names_are_quoted_or_lose_their_characters() {
        let samples = [sample(&[("__name__", "a.b"), ("é", "1")], f64::NAN)];
        let f = |escaping, expected: &str| assert_eq!(write(&samples, &[], escaping), expected);
        f(
            Escaping::Underscores,
            "# TYPE a_b untyped\na_b{_=\"1\"} NaN 5\n",
        );
        f(
            Escaping::None,
            "# TYPE \"a.b\" untyped\n{\"a.b\",\"é\"=\"1\"} NaN 5\n",
        );
    }
}
