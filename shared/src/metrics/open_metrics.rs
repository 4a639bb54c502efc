//! Metrics as `OpenMetrics` has them, and which form a scraper gets.
//!
//! Follows Go's `expfmt`: numbers have a point or an exponent, counters are named without `_total` in their comments, and one
//! whose name has none is of an unknown type; there are neither units, times of creation nor exemplars.

use std::io::Write as _;

use prometheus::proto::{Metric, MetricFamily, MetricType};

/// A form of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Prometheus' text format.
    Text,
    /// `OpenMetrics` of version 0.0.1, which differs in nothing that is printed here.
    OpenMetrics0,
    /// `OpenMetrics` of version 1.0.0.
    OpenMetrics1,
}

impl Form {
    /// The form of names is said, as scrapers ask for it.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Self::OpenMetrics0 => {
                "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores"
            }
            Self::OpenMetrics1 => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
            }
        }
    }
}

/// Chooses by a scraper's `Accept`: the best of the forms that there are, and text if there is none. Of equals, the first.
pub(super) fn negotiate(accept: &str) -> Form {
    let mut best: Option<(f64, Form)> = None;
    for clause in accept.split(',') {
        let mut words = clause.split(';').map(str::trim);
        let kind = words.next().unwrap_or_default();
        let (mut version, mut quality) = ("", 1.0);
        for word in words {
            match word.split_once('=') {
                Some(("version", value)) => version = value.trim_matches('"'),
                Some(("q", value)) => quality = value.parse().unwrap_or(1.0),
                _ => {}
            }
        }
        let form = match (kind, version) {
            ("application/openmetrics-text", "1.0.0") => Form::OpenMetrics1,
            ("application/openmetrics-text", "0.0.1" | "") => Form::OpenMetrics0,
            ("text/plain", "0.0.4" | "") => Form::Text,
            _ => continue,
        };
        if quality > 0.0 && best.is_none_or(|(known, _)| quality > known) {
            best = Some((quality, form));
        }
    }
    best.map_or(Form::Text, |(_, form)| form)
}

/// Prints families in the order in which they are given.
pub(super) fn print(families: &[MetricFamily]) -> Vec<u8> {
    let mut page = Page(Vec::with_capacity(8 * 1024));
    for family in families {
        page.family(family);
    }
    page.text("# EOF\n");
    page.0
}

struct Page(Vec<u8>);

impl Page {
    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn escaped(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                b'\\' => self.text("\\\\"),
                b'\n' => self.text("\\n"),
                b'"' => self.text("\\\""),
                byte => self.0.push(byte),
            }
        }
    }

    /// Whole numbers have a point, too.
    fn number(&mut self, number: f64) {
        if number.is_infinite() {
            self.text(if number > 0.0 { "+Inf" } else { "-Inf" });
        } else {
            write!(self.0, "{number:?}").expect("a Vec takes all bytes");
        }
    }

    fn count(&mut self, count: u64) {
        write!(self.0, "{count}").expect("a Vec takes all bytes");
    }

    fn family(&mut self, family: &MetricFamily) {
        let name = family.name();
        let counter = name.strip_suffix("_total");
        let (short, kind) = match family.get_field_type() {
            MetricType::COUNTER => match counter {
                Some(short) => (short, "counter"),
                None => (name, "unknown"),
            },
            MetricType::GAUGE => (name, "gauge"),
            MetricType::SUMMARY => (name, "summary"),
            MetricType::HISTOGRAM => (name, "histogram"),
            MetricType::UNTYPED => (name, "unknown"),
        };
        if !family.help().is_empty() {
            self.text("# HELP ");
            self.text(short);
            self.text(" ");
            self.escaped(family.help());
            self.text("\n");
        }
        for word in ["# TYPE ", short, " ", kind, "\n"] {
            self.text(word);
        }
        for metric in family.get_metric() {
            match family.get_field_type() {
                MetricType::COUNTER => self.float(name, metric, metric.get_counter().get_value()),
                MetricType::GAUGE => self.float(name, metric, metric.get_gauge().get_value()),
                MetricType::UNTYPED => {}
                MetricType::SUMMARY => {
                    let summary = metric.get_summary();
                    for quantile in summary.get_quantile() {
                        self.labelled(name, metric, Some(("quantile", quantile.quantile())));
                        self.number(quantile.value());
                        self.text("\n");
                    }
                    self.sum_and_count(name, metric, summary.sample_sum(), summary.sample_count());
                }
                MetricType::HISTOGRAM => {
                    let histogram = metric.get_histogram();
                    let count = histogram.get_sample_count();
                    let buckets = histogram.get_bucket().iter();
                    let buckets =
                        buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
                    let finite = buckets.filter(|(bound, _)| *bound != f64::INFINITY);
                    let bucket = format!("{name}_bucket");
                    for (bound, cumulative) in finite.chain([(f64::INFINITY, count)]) {
                        self.labelled(&bucket, metric, Some(("le", bound)));
                        self.count(cumulative);
                        self.text("\n");
                    }
                    self.sum_and_count(name, metric, histogram.get_sample_sum(), count);
                }
            }
        }
    }

    fn float(&mut self, name: &str, metric: &Metric, value: f64) {
        self.labelled(name, metric, None);
        self.number(value);
        self.text("\n");
    }

    fn sum_and_count(&mut self, name: &str, metric: &Metric, sum: f64, count: u64) {
        self.float(&format!("{name}_sum"), metric, sum);
        self.labelled(&format!("{name}_count"), metric, None);
        self.count(count);
        self.text("\n");
    }

    /// Prints a name, labels and the space behind them.
    fn labelled(&mut self, name: &str, metric: &Metric, more: Option<(&str, f64)>) {
        self.text(name);
        let mut separator = "{";
        for pair in metric.get_label() {
            for word in [separator, pair.name(), "=\""] {
                self.text(word);
            }
            self.escaped(pair.value());
            self.text("\"");
            separator = ",";
        }
        if let Some((label, value)) = more {
            for word in [separator, label, "=\""] {
                self.text(word);
            }
            self.number(value);
            self.text("\"");
            separator = ",";
        }
        self.text(if separator == "{" { " " } else { "} " });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Family;

    #[test]
    fn a_scraper_gets_the_best_form_that_it_takes() {
        let f = |accept: &str, expected: Form| assert_eq!(negotiate(accept), expected, "{accept}");
        f("", Form::Text);
        f("*/*", Form::Text);
        f("application/openmetrics-text", Form::OpenMetrics0);
        f(
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::OpenMetrics1,
        );
        f("application/openmetrics-text;version=2.0.0", Form::Text);
        f("application/openmetrics-text;q=0", Form::Text);
        // Prometheus 3.5 with native histograms, and without.
        f(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            Form::OpenMetrics1,
        );
        f(
            "application/openmetrics-text;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.5",
            Form::Text,
        );
        f(
            "text/plain;version=1.0.0;q=0.9,application/openmetrics-text;version=0.0.1;q=0.1",
            Form::OpenMetrics0,
        );
    }

    #[test]
    fn all_kinds_of_families_are_printed() {
        let families = [
            Family::counter("lines_total", "Lines\nof \"text\" \\.")
                .sample(&[("node", "a\"b\n")], 3.0)
                .build(),
            Family::counter("odd", "Odd.").sample(&[], 1e21).build(),
            Family::gauge("up", "").sample(&[], f64::INFINITY).build(),
            Family::summary("wait", "W.")
                .summary_sample(&[("at", "x")], 2, 3.5, &[(0.5, f64::NAN)])
                .build(),
            Family::histogram("size", "S.")
                .histogram_sample(&[], 3, 6.0, &[(1.0, 1), (2.5, 2)])
                .build(),
        ];
        let expected = r#"# HELP lines Lines\nof \"text\" \\.
# TYPE lines counter
lines_total{node="a\"b\n"} 3.0
# HELP odd Odd.
# TYPE odd unknown
odd 1e21
# TYPE up gauge
up +Inf
# HELP wait W.
# TYPE wait summary
wait{at="x",quantile="0.5"} NaN
wait_sum{at="x"} 3.5
wait_count{at="x"} 2
# HELP size S.
# TYPE size histogram
size_bucket{le="1.0"} 1
size_bucket{le="2.5"} 2
size_bucket{le="+Inf"} 3
size_sum 6.0
size_count 3
# EOF
"#;
        assert_eq!(String::from_utf8(print(&families)).unwrap(), expected);
    }
}
