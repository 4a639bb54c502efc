//! Remarks on a result: warnings and infos, with the place in the query that caused them.
//!
//! Follows `util/annotations` of the reference: equal texts are one annotation, of which the last place counts; two kinds add up
//! what they saw. Every kind stands here with its text, so that the texts can be read side by side; that is what makes the file
//! long.

use std::collections::{BTreeMap, HashMap};

use crate::format::{self, quote};
use crate::histogram::Operation;
use crate::histogram::classic::ForcedMonotonicity;
use crate::parser::Span;

/// How much an annotation matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The result may not be what was meant.
    Warning,
    /// The result is sound, but there is something to know.
    Info,
}

/// The annotations of a query, without repetitions.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    entries: BTreeMap<String, Annotation>,
}

/// So many annotations are free; those beyond count as samples.
const FREE: usize = 1_000;

/// How many bytes an annotation takes besides its text, and how many count as a sample.
const OVERHEAD: usize = 128;
const BYTES_PER_SAMPLE: usize = 16;

/// A remark.
#[derive(Clone, Debug)]
pub(crate) struct Annotation {
    severity: Severity,
    span: Option<Span>,
    detail: Detail,
}

/// What annotations of equal text add up.
#[derive(Clone, Debug, PartialEq)]
enum Detail {
    None,
    /// Buckets of classic histograms that were raised.
    Monotonicity {
        first: i64,
        last: i64,
        lowest: f64,
        highest: f64,
        difference: f64,
        samples: i64,
    },
    /// Series whose start times overlap.
    Overlap {
        series: u64,
    },
}

impl Annotations {
    /// Adds a remark about a place in the query. Returns how many samples it counts as.
    pub(crate) fn add(&mut self, text: Remark, span: Span) -> usize {
        let Remark {
            severity,
            text,
            detail,
        } = text;
        let new = Annotation {
            severity,
            span: Some(span),
            detail,
        };
        let (known, size) = (self.entries.len(), text.len() + OVERHEAD);
        self.insert(text, new);
        if known >= FREE && self.entries.len() > known {
            size / BYTES_PER_SAMPLE
        } else {
            0
        }
    }

    /// Adds a warning of storage, which has no place in the query.
    pub(crate) fn add_storage_warning(&mut self, text: String) {
        let annotation = Annotation {
            severity: Severity::Warning,
            span: None,
            detail: Detail::None,
        };
        self.insert(text, annotation);
    }

    fn insert(&mut self, text: String, mut new: Annotation) {
        if let Some(old) = self.entries.get(&text) {
            if let Detail::Monotonicity { .. } = new.detail {
                new.span = old.span;
            }
            new.detail = new.detail.with(&old.detail);
        }
        self.entries.insert(text, new);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the texts of one severity with line and column, in the order of texts. `query` is what was parsed.
    pub fn texts(&self, severity: Severity, query: &str) -> Vec<String> {
        let mut places = Places::of(query);
        let entries = self.of(severity);
        entries
            .map(|(text, annotation)| annotation.render(text, &mut places))
            .collect()
    }

    /// Returns the warnings as the HTTP API shows them: at most ten, and how many more there are.
    pub fn warnings(&self, query: &str) -> Vec<String> {
        self.limited(Severity::Warning, query, "warning")
    }

    /// Returns the infos as the HTTP API shows them: at most ten, and how many more there are.
    pub fn infos(&self, query: &str) -> Vec<String> {
        self.limited(Severity::Info, query, "info")
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = (&String, &Annotation)> {
        let entries = self.entries.iter();
        entries.filter(move |(_, annotation)| annotation.severity == severity)
    }

    fn limited(&self, severity: Severity, query: &str, kind: &str) -> Vec<String> {
        let mut places = Places::of(query);
        let shown = self.of(severity).take(SHOWN);
        let mut texts: Vec<String> = shown
            .map(|(text, annotation)| annotation.render(text, &mut places))
            .collect();
        let more = self.of(severity).count() - texts.len();
        if more > 0 {
            texts.push(format!("{more} more {kind} annotations omitted"));
        }
        texts
    }
}

/// How many annotations of a severity the HTTP API shows.
const SHOWN: usize = 10;

/// Places in a query, each looked for once.
struct Places<'q> {
    query: &'q str,
    known: HashMap<usize, String>,
}

impl<'q> Places<'q> {
    fn of(query: &'q str) -> Self {
        Self {
            query,
            known: HashMap::new(),
        }
    }

    fn at(&mut self, start: usize) -> &str {
        self.known
            .entry(start)
            .or_insert_with(|| place(start, self.query))
    }
}

impl Annotation {
    fn render(&self, text: &str, places: &mut Places<'_>) -> String {
        let Some(span) = self.span else {
            return text.to_owned();
        };
        let place = places.at(span.start);
        match self.detail {
            Detail::None | Detail::Overlap { series: 1 } => format!("{text} ({place})"),
            Detail::Overlap { series } => format!("{text} ({series} occurrences) ({place})"),
            Detail::Monotonicity {
                first,
                last,
                lowest,
                highest,
                difference,
                samples,
            } => format!(
                "{text}, from buckets {} to {}, with a max diff of {}, over {samples} samples from {} to {} ({place})",
                format::general(lowest),
                format::general(highest),
                format::two_digits(difference),
                format::rfc3339(first.div_euclid(1000)),
                format::rfc3339(last.div_euclid(1000)),
            ),
        }
    }
}

/// Returns `line:column`, both counted from one, the column in bytes.
fn place(start: usize, query: &str) -> String {
    let before = query.as_bytes().get(..start).unwrap_or(query.as_bytes());
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    format!("{line}:{}", before.len() - line_start + 1)
}

impl Detail {
    fn with(self, other: &Self) -> Self {
        match (self, other) {
            (
                Self::Monotonicity {
                    first,
                    last,
                    lowest,
                    highest,
                    difference,
                    samples,
                },
                Self::Monotonicity {
                    first: other_first,
                    last: other_last,
                    lowest: other_lowest,
                    highest: other_highest,
                    difference: other_difference,
                    samples: other_samples,
                },
            ) => Self::Monotonicity {
                first: first.min(*other_first),
                last: last.max(*other_last),
                lowest: lowest.min(*other_lowest),
                highest: highest.max(*other_highest),
                difference: difference.max(*other_difference),
                samples: samples.wrapping_add(*other_samples),
            },
            (Self::Overlap { series }, Self::Overlap { series: others }) => Self::Overlap {
                series: series + others,
            },
            (detail, _) => detail,
        }
    }
}

/// The text of an annotation, with what texts that are alike add up.
#[derive(Clone, Debug)]
pub(crate) struct Remark {
    severity: Severity,
    text: String,
    detail: Detail,
}

/// Counts of classic histograms that were raised during one call.
#[derive(Clone, Debug)]
pub(crate) struct Raised {
    first: i64,
    last: i64,
    lowest: f64,
    highest: f64,
    difference: f64,
    /// One less than the reference says.
    count: i64,
}

impl Raised {
    /// Begins with what was raised at a time, in milliseconds.
    pub(crate) fn new(time: i64, forced: ForcedMonotonicity) -> Self {
        Self {
            first: time,
            last: time,
            lowest: forced.lowest,
            highest: forced.highest,
            difference: forced.largest_difference,
            count: 0,
        }
    }

    /// Adds what was raised at a time that is not before.
    pub(crate) fn add(&mut self, time: i64, forced: ForcedMonotonicity) {
        self.last = time;
        self.lowest = self.lowest.min(forced.lowest);
        self.highest = self.highest.max(forced.highest);
        self.difference = self.difference.max(forced.largest_difference);
        self.count = self.count.wrapping_add(1);
    }

    /// Goes to another step. The reference then merges the annotation with itself, so its count doubles (`rangeEval` in
    /// `promql/engine.go`; pinned by the case at line 990 of `extra.test`).
    pub(crate) fn next_step(&mut self) {
        self.count = self.count.wrapping_mul(2).wrapping_add(1);
    }

    fn samples(&self) -> i64 {
        self.count.wrapping_add(1)
    }
}

fn warning(text: impl AsRef<str>) -> Remark {
    remark(Severity::Warning, "PromQL warning: ", text.as_ref())
}

fn info(text: impl AsRef<str>) -> Remark {
    remark(Severity::Info, "PromQL info: ", text.as_ref())
}

fn remark(severity: Severity, prefix: &str, text: &str) -> Remark {
    Remark {
        severity,
        text: format!("{prefix}{text}"),
        detail: Detail::None,
    }
}

/// The part of a text that names a metric, if its name is still known.
fn for_metric(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| {
        format!(" for metric name {}", quoted(name))
    })
}

fn quoted(text: &str) -> String {
    quote(text.as_bytes())
}

/// The texts.
impl Remark {
    pub(crate) fn invalid_quantile(q: f64) -> Self {
        warning(format!(
            "quantile value should be between 0 and 1, got {}",
            format::general(q)
        ))
    }

    pub(crate) fn invalid_ratio(ratio: f64, cap: f64) -> Self {
        warning(format!(
            "ratio value should be between -1 and 1, got {}, capping to {}",
            format::general(ratio),
            format::general(cap)
        ))
    }

    pub(crate) fn bad_bucket_label(metric: Option<&str>, bound: &str) -> Self {
        warning(format!(
            "bucket label \"le\" is missing or has a malformed value of {}{}",
            quoted(bound),
            for_metric(metric)
        ))
    }

    pub(crate) fn mixed_floats_histograms(metric: &str) -> Self {
        warning(format!(
            "encountered a mix of histograms and floats for metric name {}",
            quoted(metric)
        ))
    }

    pub(crate) fn mixed_floats_histograms_aggregation() -> Self {
        warning("encountered a mix of histograms and floats for aggregation")
    }

    pub(crate) fn mixed_classic_native(metric: Option<&str>) -> Self {
        warning(format!(
            "vector contains a mix of classic and native histograms{}",
            for_metric(metric)
        ))
    }

    pub(crate) fn histogram_not_counter(metric: &str) -> Self {
        warning(format!(
            "this native histogram metric is not a counter: {}",
            quoted(metric)
        ))
    }

    pub(crate) fn histogram_not_gauge(metric: &str) -> Self {
        warning(format!(
            "this native histogram metric is not a gauge: {}",
            quoted(metric)
        ))
    }

    pub(crate) fn mixed_schemas(metric: &str) -> Self {
        warning(format!(
            "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
            quoted(metric)
        ))
    }

    /// Only 3.5 says so; later versions find common bounds.
    pub(crate) fn incompatible_custom_buckets(metric: &str) -> Self {
        warning(format!(
            "vector contains histograms with incompatible custom buckets for metric name {}",
            quoted(metric)
        ))
    }

    pub(crate) fn incompatible_layout(operator: &str) -> Self {
        warning(format!(
            "incompatible bucket layout encountered for binary operator {operator}"
        ))
    }

    pub(crate) fn sort_in_range_query() -> Self {
        warning("sort is ineffective for range queries since results are always ordered by labels")
    }

    pub(crate) fn conflicting_resets(operation: Operation) -> Self {
        warning(format!(
            "conflicting counter resets during histogram {}",
            operation.as_str()
        ))
    }

    pub(crate) fn start_time_overlap(metric: &str) -> Self {
        let text = format!(
            "sample has start time that overlaps with previous sample timestamp for metric {}",
            quoted(metric)
        );
        Self {
            detail: Detail::Overlap { series: 1 },
            ..warning(text)
        }
    }

    pub(crate) fn possible_non_counter(metric: &str) -> Self {
        info(format!(
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
            quoted(metric)
        ))
    }

    pub(crate) fn possible_non_counter_type(metric: &str, kind: &str, expected: &str) -> Self {
        info(format!(
            "metric might not be a counter, __type__ label is not set to {expected}, got {}: {}",
            quoted(kind),
            quoted(metric)
        ))
    }

    /// 3.5 does not show what was raised.
    pub(crate) fn forced_monotonicity(metric: Option<&str>, raised: Option<&Raised>) -> Self {
        let text = format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
            for_metric(metric)
        );
        let detail = raised.map_or(Detail::None, |raised| Detail::Monotonicity {
            first: raised.first,
            last: raised.last,
            lowest: raised.lowest,
            highest: raised.highest,
            difference: raised.difference,
            samples: raised.samples(),
        });
        Self {
            detail,
            ..info(text)
        }
    }

    pub(crate) fn incompatible_types(left: &str, operator: &str, right: &str) -> Self {
        info(format!(
            "incompatible sample types encountered for binary operator \"{operator}\": {left} {operator} {right}"
        ))
    }

    pub(crate) fn ignored_in_aggregation(operation: &str) -> Self {
        info(format!("ignored histogram in {operation} aggregation"))
    }

    pub(crate) fn ignored_in_mixed_range(metric: &str) -> Self {
        info(format!(
            "ignored histograms in a range containing both floats and histograms for metric name {}",
            quoted(metric)
        ))
    }

    pub(crate) fn quantile_nan_result(metric: Option<&str>) -> Self {
        info(format!(
            "input to histogram_quantile has NaN observations, result is NaN{}",
            for_metric(metric)
        ))
    }

    pub(crate) fn quantile_nan_skew(metric: Option<&str>) -> Self {
        info(format!(
            "input to histogram_quantile has NaN observations, result is skewed higher{}",
            for_metric(metric)
        ))
    }

    pub(crate) fn fraction_nan(metric: Option<&str>) -> Self {
        info(format!(
            "input to histogram_fraction has NaN observations, which are excluded from all fractions{}",
            for_metric(metric)
        ))
    }

    pub(crate) fn reconciled(operation: Operation) -> Self {
        info(format!(
            "mismatched custom buckets were reconciled during {}",
            operation.as_str()
        ))
    }
}
