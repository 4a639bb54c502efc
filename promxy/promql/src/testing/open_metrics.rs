//! Reading series from OpenMetrics text, as far as lines with numbers and times go.

use std::collections::HashMap;
use std::sync::Arc;

use crate::labels::Labels;
use crate::parser::{ParserOptions, parse_selector};
use crate::storage::{Samples, SeriesData};

/// Reads series, in the order of their first lines: lines of `name{label="value"} NUMBER SECONDS`. Comments are skipped, exemplars and lines without a time are not
/// understood.
///
/// ```
/// let series = promql::testing::parse_open_metrics("up{job=\"a\"} 1 60\nup{job=\"a\"} 0 120\n# EOF\n")?;
/// assert_eq!(series[0].samples.timestamps, [60_000, 120_000]);
/// # Ok::<(), String>(())
/// ```
pub fn parse_open_metrics(text: &str) -> Result<Vec<SeriesData>, String> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut series: Vec<(&str, Samples)> = Vec::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let error = || format!("not a sample with a time: {line}");
        let (rest, time) = line.rsplit_once(' ').ok_or_else(error)?;
        let (metric, value) = rest.rsplit_once(' ').ok_or_else(error)?;
        let seconds: f64 = time.parse().map_err(|_| error())?;
        let place = *places.entry(metric).or_insert(series.len());
        if place == series.len() {
            series.push((metric, Samples::default()));
        }
        let samples = &mut series[place].1;
        samples.timestamps.push((seconds * 1000.0).round() as i64);
        samples.values.push(value.parse().map_err(|_| error())?);
    }
    let read = series.into_iter().map(|(metric, samples)| {
        let labels = labels(metric)?;
        let samples = Arc::new(samples);
        Ok(SeriesData { labels, samples })
    });
    read.collect()
}

/// Reads a metric with its labels, which looks like a selector.
fn labels(metric: &str) -> Result<Labels, String> {
    let matchers = parse_selector(metric, &ParserOptions::default());
    let matchers = matchers.map_err(|error| format!("{metric}: {error}"))?;
    let pairs = matchers.iter();
    Ok(pairs
        .map(|matcher| (matcher.name.to_string(), matcher.value.to_string()))
        .collect())
}
