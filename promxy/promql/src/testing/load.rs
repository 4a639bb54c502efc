//! The command `load`: series, and when their counters began.

use super::expand::{Described, expand};
use super::nhcb;
use crate::SignedDuration;
use crate::histogram::FloatHistogram;
use crate::labels::Labels;
use crate::parser::parse_series;

/// The series of a `load` command.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// The series; no two have the same labels.
    pub series: Vec<LoadedSeries>,
}

/// A series to be loaded.
#[derive(Clone, Debug)]
pub struct LoadedSeries {
    /// The labels.
    pub labels: Labels,
    /// The samples by time.
    pub samples: Vec<WrittenSample>,
}

/// A sample as a script writes it.
#[derive(Clone, Debug)]
pub struct WrittenSample {
    /// When it was taken, in milliseconds since 1970.
    pub timestamp: i64,
    /// The number, if there is no histogram.
    pub value: f64,
    /// The histogram.
    pub histogram: Option<FloatHistogram>,
    /// When its counter began, in milliseconds since 1970; zero if that is not known.
    pub start: i64,
}

impl Load {
    /// Reads the lines of a command; `step` is the distance of samples in milliseconds.
    pub(super) fn parse(lines: &[&str], step: i64, with_nhcb: bool) -> Result<Self, String> {
        let mut load = Self::default();
        let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
        for line in lines {
            if let Some((metric, items)) = start_line(line) {
                let description =
                    parse_series(&format!("{metric} _")).map_err(|error| error.to_string())?;
                let (labels, _) = expand(&description)?;
                starts = Some((labels, parse_starts(items)?));
                continue;
            }
            let description = parse_series(line).map_err(|error| error.to_string())?;
            let (labels, values) = expand(&description)?;
            let offsets = match starts.take() {
                Some((metric, _)) if metric != labels => {
                    return Err(
                        "@st metric does not match the following sample line metric".to_owned()
                    );
                }
                Some((_, offsets)) if offsets.len() != values.len() => {
                    return Err(format!(
                        "@st line has {} values but sample line has {}",
                        offsets.len(),
                        values.len()
                    ));
                }
                Some((_, offsets)) => offsets,
                None => Vec::new(),
            };
            load.set(labels, samples(values, &offsets, step));
        }
        if starts.is_some() {
            return Err("@st line has no following sample line".to_owned());
        }
        if with_nhcb {
            load.series.extend(nhcb::convert(&load.series)?);
        }
        Ok(load)
    }

    /// Adds a series, in the place of one with the same labels.
    fn set(&mut self, labels: Labels, samples: Vec<WrittenSample>) {
        self.series.retain(|series| series.labels != labels);
        self.series.push(LoadedSeries { labels, samples });
    }
}

fn samples(values: Vec<Described>, offsets: &[Option<i64>], step: i64) -> Vec<WrittenSample> {
    let mut samples = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let timestamp = step * index as i64;
        let offset = offsets.get(index).copied().flatten();
        let start = offset.map_or(0, |offset| timestamp + offset);
        let (value, histogram) = match value {
            Described::Gap => continue,
            Described::Float(value) => (value, None),
            Described::Histogram { histogram, .. } => (0.0, Some(*histogram)),
        };
        samples.push(WrittenSample {
            timestamp,
            value,
            histogram,
            start,
        });
    }
    samples
}

/// Splits a line that gives start times: `metric{labels}@st ITEMS`.
fn start_line(line: &str) -> Option<(&str, &str)> {
    let (metric, items) = line.split_once([' ', '\t'])?;
    Some((metric.strip_suffix("@st")?, items))
}

/// Reads start times, in milliseconds relative to their samples.
fn parse_starts(items: &str) -> Result<Vec<Option<i64>>, String> {
    let mut starts = Vec::new();
    for item in items.split_whitespace() {
        let error = || format!("invalid ST item {item:?}");
        if item == "_" {
            starts.push(None);
        } else if let Some(count) = item.strip_prefix("_x") {
            let count: usize = count.parse().map_err(|_| error())?;
            starts.extend(std::iter::repeat_n(None, count));
        } else {
            let (mut start, rest) = duration_prefix(item).ok_or_else(error)?;
            let (change, count) = match rest.split_at_checked(1) {
                None => (0, ""),
                Some(("x", count)) => (0, count),
                Some((sign, rest)) => {
                    let (change, rest) = duration_prefix(rest).ok_or_else(error)?;
                    let count = rest.strip_prefix('x').ok_or_else(error)?;
                    (if sign == "-" { -change } else { change }, count)
                }
            };
            let count: usize = match count {
                "" => 0,
                count => count.parse().map_err(|_| error())?,
            };
            for _ in 0..=count {
                starts.push(Some(start));
                start += change;
            }
        }
    }
    Ok(starts)
}

/// Reads a duration of one unit with its sign; returns milliseconds and the rest.
fn duration_prefix(text: &str) -> Option<(i64, &str)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    // Zero needs no unit.
    let unit = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let is_unit = |c: char| c.is_ascii_alphabetic() && c != 'x';
    let (_, behind_digits) = digits.split_at(unit);
    let length = behind_digits
        .find(|c: char| !is_unit(c))
        .unwrap_or(behind_digits.len());
    let (duration, rest) = digits.split_at(unit + length);
    let millis = duration.parse::<SignedDuration>().ok()?.as_millis();
    Some((if negative { -millis } else { millis }, rest))
}
