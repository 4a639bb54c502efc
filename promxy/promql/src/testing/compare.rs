//! Whether a result is what a script expects.

use std::collections::HashMap;

use super::expand::Described;
use super::script::{Evaluation, Expectations};
use crate::annotations::{Annotations, Severity};
use crate::histogram::FloatHistogram;
use crate::labels::Labels;
use crate::storage::is_stale;
use crate::value::{MatrixSeries, SampleValue, Value, VectorSample};

/// How much results may be off, relative to their size.
const TOLERANCE: f64 = 1e-6;

/// Whether two numbers are equal but for rounding. NaN equals NaN, but the marker of the end of a series only itself.
pub fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a == b || a.is_nan() && b.is_nan() {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

impl Expectations {
    /// Compares annotations.
    pub(super) fn check_annotations(
        &self,
        annotations: &Annotations,
        query: &str,
    ) -> Result<(), String> {
        let kinds = [
            (Severity::Warning, &self.warnings, self.no_warnings, "warn"),
            (Severity::Info, &self.infos, self.no_infos, "info"),
        ];
        for (severity, expected, none, name) in kinds {
            let actual = annotations.texts(severity, query);
            if none && !actual.is_empty() {
                return Err(format!("unexpected {name} annotations: {actual:?}"));
            }
            if expected.is_empty() {
                continue;
            }
            for matcher in expected {
                if !actual.iter().any(|text| matcher.matches(text)) {
                    return Err(format!(
                        "expected {name} annotation {matcher:?}, got {actual:?}"
                    ));
                }
            }
            for text in &actual {
                if !expected.iter().any(|matcher| matcher.matches(text)) {
                    return Err(format!("unexpected {name} annotation {text:?}"));
                }
            }
        }
        Ok(())
    }

    /// Compares a value.
    pub(super) fn check_value(&self, value: &Value, evaluation: Evaluation) -> Result<(), String> {
        match value {
            Value::String { value, .. } => match &self.string {
                Some(expected) if value == expected.as_str() => Ok(()),
                expected => Err(format!("expected string {expected:?}, got {value:?}")),
            },
            Value::Scalar { value, .. } => match self.scalar {
                Some(expected) if almost_equal(expected, *value) => Ok(()),
                expected => Err(format!("expected scalar {expected:?}, got {value}")),
            },
            _ if self.scalar.is_some() => Err("expected a scalar".to_owned()),
            Value::Vector(vector) => self.check_vector(vector),
            Value::Matrix(matrix) => self.check_matrix(matrix, evaluation),
        }
    }

    fn by_labels(&self) -> HashMap<&Labels, (usize, &Vec<Described>)> {
        let series = self.series.iter().enumerate();
        series
            .map(|(index, (labels, values))| (labels, (index, values)))
            .collect()
    }

    pub(super) fn check_vector(&self, vector: &[VectorSample]) -> Result<(), String> {
        let mut expected = self.by_labels();
        for (position, sample) in vector.iter().enumerate() {
            let labels = &sample.labels;
            let Some((index, values)) = expected.remove(labels) else {
                return Err(format!(
                    "unexpected metric {labels} with {:?}",
                    sample.value
                ));
            };
            if self.ordered && index != position {
                return Err(format!(
                    "expected {labels} at position {index}, got {position}"
                ));
            }
            let value = values.first().unwrap_or(&Described::Gap);
            check_sample(value, &sample.value).map_err(|error| format!("{labels}: {error}"))?;
        }
        none_left(&expected)
    }

    fn check_matrix(&self, matrix: &[MatrixSeries], evaluation: Evaluation) -> Result<(), String> {
        if self.ordered {
            return Err("expected ordered result, but query returned a matrix".to_owned());
        }
        if !matrix.is_sorted_by(|a, b| a.labels <= b.labels) {
            return Err("the series are not sorted by labels".to_owned());
        }
        let (start, step) = match (self.range_vector, evaluation) {
            (Some((start, _, step)), _) | (None, Evaluation::Range { start, step, .. }) => {
                (start, step)
            }
            (None, Evaluation::Instant { time }) => (time, 1),
        };
        let mut expected = self.by_labels();
        for series in matrix {
            let labels = &series.labels;
            let Some((_, values)) = expected.remove(labels) else {
                return Err(format!("unexpected metric {labels} in result"));
            };
            let mut wanted: HashMap<i64, &Described> = HashMap::new();
            for (index, value) in values.iter().enumerate() {
                if !matches!(value, Described::Gap) {
                    wanted.insert(start + step * index as i64, value);
                }
            }
            let floats = series
                .floats()
                .map(|(time, value)| (time, SampleValue::Float(value)));
            let histograms = series
                .histograms()
                .map(|(time, value)| (time, SampleValue::Histogram(value)));
            for (time, value) in floats.chain(histograms) {
                let Some(expected) = wanted.remove(&time) else {
                    return Err(format!("{labels}: unexpected {value:?} at {time}"));
                };
                check_sample(expected, &value)
                    .map_err(|error| format!("{labels} at {time}: {error}"))?;
            }
            if let Some((time, value)) = wanted.iter().next() {
                return Err(format!("{labels}: expected {value:?} at {time}"));
            }
        }
        none_left(&expected)
    }
}

fn none_left<V>(expected: &HashMap<&Labels, V>) -> Result<(), String> {
    match expected.keys().next() {
        Some(labels) => Err(format!("expected metric {labels} not found")),
        None => Ok(()),
    }
}

fn check_sample(expected: &Described, actual: &SampleValue) -> Result<(), String> {
    match (expected, actual) {
        (Described::Float(expected), SampleValue::Float(actual))
            if almost_equal(*expected, *actual) =>
        {
            Ok(())
        }
        (
            Described::Histogram {
                histogram,
                hint_given,
            },
            SampleValue::Histogram(actual),
        ) if same_histogram(histogram, actual, *hint_given) => Ok(()),
        (_, SampleValue::Float(actual)) => Err(format!("expected {expected:?}, got {actual}")),
        (Described::Histogram { histogram, .. }, SampleValue::Histogram(actual)) => Err(format!(
            "expected {}, got {}",
            histogram.to_test_notation(),
            actual.to_test_notation()
        )),
        (_, SampleValue::Histogram(actual)) => Err(format!(
            "expected {expected:?}, got {}",
            actual.to_test_notation()
        )),
    }
}

fn same_histogram(expected: &FloatHistogram, actual: &FloatHistogram, hint_given: bool) -> bool {
    let parts = |histogram: &FloatHistogram| {
        let mut histogram = histogram.clone();
        histogram.compact();
        histogram.to_parts()
    };
    let (expected, actual) = (parts(expected), parts(actual));
    let same = |a: &[f64], b: &[f64]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| almost_equal(*a, *b))
    };
    expected.schema == actual.schema
        && almost_equal(expected.count, actual.count)
        && almost_equal(expected.sum, actual.sum)
        && expected.custom_values == actual.custom_values
        && expected.zero_threshold == actual.zero_threshold
        && almost_equal(expected.zero_count, actual.zero_count)
        && expected.negative_spans == actual.negative_spans
        && same(&expected.negative_counts, &actual.negative_counts)
        && expected.positive_spans == actual.positive_spans
        && same(&expected.positive_counts, &actual.positive_counts)
        && (!hint_given || expected.hint == actual.hint)
}
