//! `rate`, `increase` and `delta` of `anchored` and `smoothed` selectors: the edges are samples or interpolated between samples,
//! nothing is extrapolated.
//!
//! Follows `extendedHistogramRate` in `promql/functions.go`. All of it exists in 3.14 only.

use std::borrow::Cow;
use std::sync::Arc;

use super::rate::without_hints;
use super::{Change, Window};
use crate::histogram::arithmetic::Incompatible;
use crate::histogram::facts::{Fact, Facts, Operation};
use crate::histogram::{CounterResetHint, FloatHistogram};
use crate::parser::{Compat, ExtendedRange};

/// All of this exists in no other version.
const COMPAT: Compat = Compat::V3_14;

/// Returns how the histogram changed between the edges of the window, whose samples include those beyond the edges.
pub fn extended_change(
    window: &Window<'_>,
    kind: ExtendedRange,
    change: Change,
) -> (Option<FloatHistogram>, Facts) {
    let mut facts = Facts::NONE;
    let result = match Edges::find(window, kind) {
        None => None,
        Some(edges) => match edges.change(window, change, &mut facts) {
            Ok(result) => Some(result),
            Err(incompatible) => {
                facts.insert(incompatible.fact());
                None
            }
        },
    };
    (result, facts)
}

/// Which samples are at the edges or beyond them.
struct Edges {
    first: usize,
    last: usize,
    smoothed: bool,
}

impl Edges {
    /// Finds the last sample up to the left edge, and for `smoothed` the first one from the right edge on.
    fn find(window: &Window<'_>, kind: ExtendedRange) -> Option<Self> {
        let (_, but_last) = window.times.split_last()?;
        let smoothed = kind == ExtendedRange::Smoothed;
        let first = but_last.partition_point(|time| *time <= window.after);
        let first = first.saturating_sub(1);
        let last = if smoothed {
            but_last.partition_point(|time| *time < window.until)
        } else {
            but_last.len()
        };
        let outside = window.times.get(last)? <= &window.after
            || smoothed && window.times.get(first)? > &window.until;
        (!outside).then_some(Self {
            first,
            last,
            smoothed,
        })
    }

    fn change(
        &self,
        window: &Window<'_>,
        change: Change,
        facts: &mut Facts,
    ) -> Result<FloatHistogram, Incompatible> {
        let is_counter = change != Change::Delta;
        let samples = window.histograms;
        let between = samples.get(self.first..=self.last).unwrap_or_default();
        let custom = between
            .first()
            .is_some_and(|first| first.has_custom_buckets());
        for histogram in between {
            if histogram.has_custom_buckets() != custom {
                return Err(Incompatible::Schemas);
            }
            let is_gauge = histogram.hint == CounterResetHint::Gauge;
            facts.insert_if(is_counter && is_gauge, Fact::NotACounter);
        }
        let left = self.left(window, is_counter, facts)?;
        let right = self.right(window, is_counter, facts)?;
        let gauges = [&left, &right].map(|edge| edge.hint == CounterResetHint::Gauge);
        facts.insert_if(!is_counter && gauges != [true; 2], Fact::NotAGauge);

        let mut result = FloatHistogram::clone(&right);
        subtract(&mut result, &left, facts)?;
        if is_counter && let Some(correction) = self.before_resets(window, &left, &right, facts)? {
            add(&mut result, &correction, facts)?;
        }
        if let Change::Rate { seconds } = change {
            result.divide(seconds, COMPAT);
        }
        result.hint = CounterResetHint::Gauge;
        result.compact();
        Ok(result)
    }

    /// Returns the histogram at the left edge.
    fn left<'a>(
        &self,
        window: &Window<'a>,
        is_counter: bool,
        facts: &mut Facts,
    ) -> Result<Cow<'a, FloatHistogram>, Incompatible> {
        match window.times.get(self.first) {
            Some(time) if self.smoothed && *time < window.after => {
                between(window, self.first, window.after, is_counter, facts)
            }
            _ => Ok(Cow::Borrowed(&*window.histograms[self.first])),
        }
    }

    /// Returns the histogram at the right edge.
    fn right<'a>(
        &self,
        window: &Window<'a>,
        is_counter: bool,
        facts: &mut Facts,
    ) -> Result<Cow<'a, FloatHistogram>, Incompatible> {
        match window.times.get(self.last) {
            Some(time) if self.smoothed && self.last > 0 && *time > window.until => {
                between(window, self.last - 1, window.until, is_counter, facts)
            }
            _ => Ok(Cow::Borrowed(&*window.histograms[self.last])),
        }
    }

    /// Returns the sum of what the counter had reached at every reset between the edges.
    fn before_resets(
        &self,
        window: &Window<'_>,
        left: &FloatHistogram,
        right: &FloatHistogram,
        facts: &mut Facts,
    ) -> Result<Option<FloatHistogram>, Incompatible> {
        let samples = window.histograms;
        let mut next = self.first + 1;
        let mut before = left;
        // The left edge may be interpolated across a reset, which is dealt with then.
        if self.smoothed
            && window.times.get(self.first) < Some(&window.after)
            && window.resets.get(next) == Some(&true)
            && let Some(sample) = samples.get(next)
        {
            before = sample;
            next += 1;
        }
        // The last sample is the right edge, or gave it its hint; it is not looked at twice.
        if next > self.last {
            return Ok(None);
        }
        let mut correction: Option<FloatHistogram> = None;
        let between = samples.get(next..self.last).unwrap_or_default();
        let sampled = between.iter().map(Arc::as_ref);
        for current in sampled.chain([right]) {
            if current.detect_reset(before, COMPAT) {
                match &mut correction {
                    None => correction = Some(before.clone()),
                    Some(correction) => add(correction, before, facts)?,
                }
            }
            before = current;
        }
        Ok(correction)
    }
}

/// Returns the histogram at a time between sample `i` and the next.
fn between<'a>(
    window: &Window<'a>,
    i: usize,
    time: i64,
    is_counter: bool,
    facts: &mut Facts,
) -> Result<Cow<'a, FloatHistogram>, Incompatible> {
    let (Some([first_time, last_time]), Some([first, last])) =
        (window.times.get(i..i + 2), window.histograms.get(i..i + 2))
    else {
        return Ok(Cow::Borrowed(&*window.histograms[i]));
    };
    let was_reset = is_counter && window.resets.get(i + 1) == Some(&true);
    let (histogram, found) =
        interpolate((*first_time, first), (*last_time, last), was_reset, time)?;
    *facts |= found;
    Ok(Cow::Owned(histogram))
}

/// Returns the histogram at a time between two samples, at `first_time` and `last_time`.
///
/// If there was a reset in between, it is taken to have grown from nothing.
pub fn interpolate(
    (first_time, first): (i64, &FloatHistogram),
    (last_time, last): (i64, &FloatHistogram),
    was_reset: bool,
    time: i64,
) -> Result<(FloatHistogram, Facts), Incompatible> {
    if time == first_time {
        return Ok((first.clone(), Facts::NONE));
    }
    let mut facts = Facts::NONE;
    let mut result = last.clone();
    if time != last_time {
        let fraction = (time - first_time) as f64 / (last_time - first_time) as f64;
        if was_reset {
            result.multiply(fraction, COMPAT);
        } else {
            subtract(&mut result, first, &mut facts)?;
            result.multiply(fraction, COMPAT);
            add(&mut result, first, &mut facts)?;
        }
    }
    Ok((result, facts))
}

fn add(
    sum: &mut FloatHistogram,
    added: &FloatHistogram,
    facts: &mut Facts,
) -> Result<(), Incompatible> {
    let adjusted = sum.add(added, COMPAT)?;
    *facts |= without_hints(adjusted).facts(Operation::Addition, COMPAT);
    Ok(())
}

fn subtract(
    difference: &mut FloatHistogram,
    subtracted: &FloatHistogram,
    facts: &mut Facts,
) -> Result<(), Incompatible> {
    let adjusted = difference.subtract(subtracted, COMPAT)?;
    *facts |= without_hints(adjusted).facts(Operation::Subtraction, COMPAT);
    Ok(())
}
