//! `rate`, `increase` and `delta`, extrapolated to the edges of the window.
//!
//! Follows `extrapolatedRate` and `histogramRate` in `promql/functions.go`.

use std::ptr;

use super::{Change, Window, begins_anew, overlaps};
use crate::histogram::arithmetic::{Adjusted, Incompatible};
use crate::histogram::facts::{Fact, Facts, Operation};
use crate::histogram::{CounterResetHint, FloatHistogram};
use crate::parser::Compat;

/// Returns how the histogram changed in the window; `None` with too few samples, or if they do not go together.
///
/// Two samples are needed, or a single one of a counter that started inside of the window.
pub fn extrapolated_change(
    window: &Window<'_>,
    change: Change,
    compat: Compat,
) -> (Option<FloatHistogram>, Facts) {
    let ([first, ..], [first_time, ..], Some(&last_time)) =
        (window.histograms, window.times, window.times.last())
    else {
        return (None, Facts::NONE);
    };
    let mut facts = Facts::NONE;
    let mut result = if window.histograms.len() > 1 {
        let (sampled, found) = sampled_change(window, change, compat);
        facts = found;
        let Some(sampled) = sampled else {
            return (None, facts);
        };
        Some(sampled)
    } else {
        None
    };

    let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
    let mut sampled = seconds(*first_time, last_time);
    let intervals = window.histograms.len() - 1;
    let average = if intervals > 0 {
        sampled / intervals as f64
    } else {
        0.0
    };
    let threshold = average * 1.1;
    let start = (window.starts.first().copied())
        .filter(|start| *start != 0 && *start > window.after && start < first_time)
        .filter(|_| change != Change::Delta);
    let mut to_start = seconds(window.after, *first_time);
    if let Some(start) = start {
        // The counter was zero then: one more sample, and nothing to extrapolate to the left.
        to_start = 0.0;
        sampled = seconds(start, last_time);
        match &mut result {
            None => result = Some(FloatHistogram::clone(first)),
            Some(result) => match result.add(first, compat) {
                Ok(adjusted) => facts |= without_hints(adjusted).facts(Operation::Addition, compat),
                Err(incompatible) => {
                    facts.insert(incompatible.fact());
                    return (None, facts);
                }
            },
        }
    }
    let Some(mut result) = result else {
        return (None, facts);
    };
    if start.is_none() {
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        // Counters are not extrapolated to below zero; in 3.5 those of histograms are.
        if change != Change::Delta
            && compat > Compat::V3_5
            && result.count > 0.0
            && first.count >= 0.0
        {
            let to_zero = sampled * (first.count / result.count);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
    }
    let mut to_end = seconds(last_time, window.until);
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = if sampled == 0.0 {
        1.0
    } else {
        (sampled + to_start + to_end) / sampled
    };
    if let Change::Rate { seconds } = change {
        factor /= seconds;
    }
    result.multiply(factor, compat);
    (Some(result), facts)
}

/// Returns how the histogram changed between the first and the last of at least two samples.
fn sampled_change(
    window: &Window<'_>,
    change: Change,
    compat: Compat,
) -> (Option<FloatHistogram>, Facts) {
    let histograms = window.histograms;
    let ([first, second, ..], Some(last)) = (histograms, histograms.last()) else {
        return (None, Facts::NONE);
    };
    let is_counter = change != Change::Delta;
    let gauge = |histogram: &FloatHistogram| histogram.hint == CounterResetHint::Gauge;
    let mut facts = Facts::NONE;
    facts.insert_if(
        is_counter && (gauge(first) || gauge(last)),
        Fact::NotACounter,
    );

    // After a reset the first sample does not matter, not even its layout.
    let nothing;
    let mut before: &FloatHistogram = first;
    if is_counter && (window.begins_anew(1) || window.resets.get(1) == Some(&true)) {
        nothing = FloatHistogram::empty_like(second);
        before = &nothing;
    }
    if last.has_custom_buckets() != before.has_custom_buckets() {
        facts.insert(Fact::MixedSchemas);
        return (None, facts);
    }
    let mut schema = last.schema().min(before.schema());
    if is_counter && !window.uniform_counters {
        for histogram in histograms.iter().skip(1).take(histograms.len() - 2) {
            facts.insert_if(gauge(histogram), Fact::NotACounter);
            schema = schema.min(histogram.schema());
            if histogram.has_custom_buckets() != before.has_custom_buckets() {
                return (None, Fact::MixedSchemas.into());
            }
        }
    }

    let mut result = if schema == last.schema() && last.has_buckets_of(before) {
        last.difference(before)
    } else {
        let mut result = FloatHistogram::clone(last);
        result.reduce_resolution(schema);
        match result.subtract(before, compat) {
            Ok(adjusted) => facts |= without_hints(adjusted).facts(Operation::Subtraction, compat),
            Err(incompatible) => return (None, incompatible.fact().into()),
        }
        result
    };
    if is_counter {
        match add_before_resets(&mut result, before, window, compat) {
            Ok(found) => facts |= found,
            Err(incompatible) => return (None, incompatible.fact().into()),
        }
    } else {
        facts.insert_if(!gauge(first) || !gauge(last), Fact::NotAGauge);
    }
    result.hint = CounterResetHint::Gauge;
    result.compact();
    (Some(result), facts)
}

/// Adds what the counter had reached at every reset. `first` stands for the first sample.
fn add_before_resets(
    result: &mut FloatHistogram,
    first: &FloatHistogram,
    window: &Window<'_>,
    compat: Compat,
) -> Result<Facts, Incompatible> {
    let mut facts = Facts::NONE;
    let is_first =
        (window.histograms.first()).is_some_and(|sample| ptr::eq(first, sample.as_ref()));
    let resets = window.resets.get(1..).unwrap_or_default();
    if is_first && window.starts.is_empty() && !resets.contains(&true) {
        return Ok(facts);
    }
    let mut before = first;
    for (i, current) in window.histograms.iter().enumerate().skip(1) {
        facts.insert_if(window.overlaps(i), Fact::StartTimesOverlap);
        let was_reset = window.begins_anew(i)
            || match i {
                // Nothing may stand for the first sample.
                1 => current.detect_reset(before, compat),
                _ => window.resets.get(i) == Some(&true),
            };
        if was_reset {
            let adjusted = result.add(before, compat)?;
            facts |= without_hints(adjusted).facts(Operation::Addition, compat);
        }
        before = current;
    }
    Ok(facts)
}

/// Resets are dealt with by the functions here, so hints may contradict each other.
pub(super) fn without_hints(adjusted: Adjusted) -> Adjusted {
    Adjusted {
        conflicting_resets: false,
        ..adjusted
    }
}

impl Window<'_> {
    /// Whether the start time of a sample says that its counter was reset after the sample before.
    fn begins_anew(&self, i: usize) -> bool {
        let Some(before) = i.checked_sub(1) else {
            return false;
        };
        match (self.starts.get(before..=i), self.times.get(before..=i)) {
            (Some(&[before, start]), Some(&[time_before, time])) => {
                begins_anew(before, time_before, start, time)
            }
            _ => false,
        }
    }

    /// Whether the start time of a sample overlaps the sample before.
    fn overlaps(&self, i: usize) -> bool {
        let Some(before) = i.checked_sub(1) else {
            return false;
        };
        match (self.starts.get(before..=i), self.times.get(before)) {
            (Some(&[before, start]), Some(&time_before)) => overlaps(before, time_before, start),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::histogram::window::{are_uniform_counters, resets};

    /// The change in a window of a minute before each sample's, with samples each minute.
    fn change(
        texts: &[&str],
        starts: &[i64],
        change: Change,
        compat: Compat,
    ) -> (Option<String>, Facts) {
        let read = |text: &&str| Arc::new(FloatHistogram::from_text(text).expect("it is one"));
        let histograms: Vec<_> = texts.iter().map(read).collect();
        let times: Vec<i64> = (1..=texts.len() as i64)
            .map(|minute| minute * 60_000)
            .collect();
        let window = Window {
            times: &times,
            histograms: &histograms,
            resets: &resets(&histograms, compat),
            uniform_counters: are_uniform_counters(&histograms),
            starts,
            after: 30_000,
            until: texts.len() as i64 * 60_000 + 30_000,
        };
        let (change, facts) = extrapolated_change(&window, change, compat);
        (change.map(|change| change.to_test_notation()), facts)
    }

    const GAUGE: &str = "counter_reset_hint:gauge";

    #[test]
    fn an_increase_is_extrapolated_but_not_to_below_zero() {
        let f = |first: &str, compat: Compat, expected: &str| {
            let last = "{{count:30 sum:30 buckets:[30]}}";
            let (increase, facts) = change(&[first, last], &[], Change::Increase, compat);
            assert_eq!(increase.as_deref(), Some(expected), "{first}");
            assert_eq!(facts, Facts::NONE);
        };
        // 20 in a minute are 40 in two
        let expected = format!("{{{{count:40 sum:40 {GAUGE} buckets:[40]}}}}");
        f("{{count:10 sum:10 buckets:[10]}}", Compat::V3_14, &expected);
        // 30 from nothing: half a minute to the right only
        let expected = format!("{{{{count:45 sum:45 {GAUGE} buckets:[45]}}}}");
        f("{{}}", Compat::V3_14, &expected);
        let expected = format!("{{{{count:60 sum:60 {GAUGE} buckets:[60]}}}}");
        f("{{}}", Compat::V3_5, &expected);
    }

    #[test]
    fn what_was_reached_before_a_reset_counts() {
        let samples = [
            "{{count:4 buckets:[4]}}",
            "{{count:6 buckets:[6]}}",
            "{{count:1 buckets:[1]}}",
        ];
        let (increase, _) = change(&samples, &[], Change::Increase, Compat::V3_5);
        // 3 in two minutes
        let expected = format!("{{{{count:4.5 {GAUGE} buckets:[4.5]}}}}");
        assert_eq!(increase.as_deref(), Some(expected.as_str()));
    }

    #[test]
    fn a_start_inside_of_the_window_is_a_sample_of_zero() {
        let (rate, facts) = change(
            &["{{count:6 buckets:[6]}}"],
            &[45_000],
            Change::Increase,
            Compat::V3_14,
        );
        assert_eq!(rate.as_deref(), Some("{{count:6 buckets:[6]}}"));
        assert_eq!(facts, Facts::NONE);
        let none = change(&["{{count:6}}"], &[], Change::Increase, Compat::V3_14);
        assert_eq!(none, (None, Facts::NONE));
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let f = |texts: &[&str], kind: Change, expected: Fact, has_result: bool| {
            let (result, facts) = change(texts, &[], kind, Compat::V3_14);
            assert_eq!(facts, expected.into(), "{texts:?}");
            assert_eq!(result.is_some(), has_result, "{texts:?}");
        };
        let gauge = "{{count:1 counter_reset_hint:gauge}}";
        let custom = "{{schema:-53 count:2 custom_values:[1]}}";
        let rate = Change::Rate { seconds: 60.0 };
        f(&[gauge, gauge], rate, Fact::NotACounter, true);
        f(
            &["{{count:1}}", gauge, "{{count:1}}"],
            rate,
            Fact::NotACounter,
            true,
        );
        f(
            &[gauge, "{{count:2}}"],
            Change::Delta,
            Fact::NotAGauge,
            true,
        );
        f(
            &["{{count:1}}", custom],
            Change::Delta,
            Fact::MixedSchemas,
            false,
        );
        f(
            &["{{count:1}}", custom, "{{count:3}}"],
            rate,
            Fact::MixedSchemas,
            false,
        );
        f(
            &[custom, "{{schema:-53 count:3 custom_values:[2]}}"],
            rate,
            Fact::BoundsReconciled(Operation::Subtraction),
            true,
        );
    }
}
