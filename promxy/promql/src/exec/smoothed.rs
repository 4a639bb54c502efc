//! Instant selectors with `smoothed`: values between samples are interpolated.
//!
//! Follows `smoothSeries` in `promql/engine.go`; pinned by `extended_vectors.test`.

use super::evaluator::Sink;
use super::window::{RangeSamples, Windowing};
use super::{Column, Context, Evaluator, Sample, Series};
use crate::annotations::Remark;
use crate::error::QueryError;
use crate::func::rate::interpolate;
use crate::histogram::window;
use crate::parser::CounterResetHint;
use crate::plan::{PlanNode, Selector};
use crate::storage::SeriesData;

impl Evaluator<'_, '_> {
    pub(super) fn smoothed_selector(
        &mut self,
        node: &PlanNode,
        selector: &Selector,
        data: &[SeriesData],
        sink: &mut Sink<'_>,
    ) -> Result<(), QueryError> {
        let lookback = self.context.lookback;
        let windowing = Windowing {
            grid: node.grid,
            range: lookback,
            offset: selector.offset,
            before: 0,
            after: lookback,
            pinned: false,
        };
        let steps = node.grid.count;
        let mut windows = Vec::new();
        for series in data {
            self.context.check()?;
            let samples = RangeSamples::of_storage(&series.samples, windowing, false);
            samples.cut(windowing, &mut windows, self.context.cancel)?;
            let smoothed = Smoothed {
                samples: &samples,
                name: series.labels.metric_name(),
                node,
            };
            let mut column = Column::empty(steps);
            for window in &windows {
                self.context.check()?;
                if let Some(sample) = smoothed.value(window, self.context) {
                    column.push(steps, window.step, sample);
                }
            }
            if !column.is_empty() {
                let series = Series {
                    labels: series.labels.clone(),
                    drop_name: false,
                    column,
                };
                sink(self.context, series)?;
            }
        }
        Ok(())
    }
}

/// A series whose values are interpolated.
struct Smoothed<'s> {
    samples: &'s RangeSamples<'s>,
    name: &'s str,
    node: &'s PlanNode,
}

impl Smoothed<'_> {
    /// Returns the value at the middle of a window, from the samples around it.
    fn value(&self, window: &super::Window, context: &mut Context<'_>) -> Option<Sample> {
        let now = window.range_end;
        let has_floats = window.from < window.to;
        let has_histograms = window.histograms_from < window.histograms_to;
        if has_floats && has_histograms {
            let remark = Remark::mixed_floats_histograms(self.name);
            context.annotate(remark, self.node.span);
            return None;
        }
        if has_histograms {
            return self.histogram(window, now, context);
        }
        let floats = self.samples.floats().slice(window.from, window.to);
        let next = floats.times.partition_point(|time| *time < now);
        if floats.times.get(next) == Some(&now) {
            return Some(Sample::Float(floats.values[next]));
        }
        let before = next.checked_sub(1)?;
        Some(Sample::Float(if next < floats.times.len() {
            interpolate(floats, before, now, false)
        } else {
            floats.values[before]
        }))
    }

    fn histogram(
        &self,
        window: &super::Window,
        now: i64,
        context: &mut Context<'_>,
    ) -> Option<Sample> {
        let range = window.histograms_from..window.histograms_to;
        let times = &self.samples.histogram_times[range.clone()];
        let histograms = &self.samples.histograms[range];
        let next = times.partition_point(|time| *time < now);
        if times.get(next) == Some(&now) {
            return Some(Sample::Histogram(histograms[next].clone()));
        }
        let before = next.checked_sub(1)?;
        let first = &histograms[before];
        let Some(last) = histograms.get(next) else {
            // What the sample knew of resets was about its predecessor.
            let mut kept = first.as_ref().clone();
            kept.hint = CounterResetHint::Unknown;
            return Some(Sample::Histogram(kept.into()));
        };
        if first.has_custom_buckets() != last.has_custom_buckets() {
            context.annotate(Remark::mixed_schemas(self.name), self.node.span);
            return None;
        }
        let gauge = |hint| hint == CounterResetHint::Gauge;
        let is_counter = !gauge(first.hint) || !gauge(last.hint);
        let compat = context.options.parser.compat;
        let was_reset = is_counter && last.detect_reset(first, compat);
        let interpolated =
            window::interpolate((times[before], first), (times[next], last), was_reset, now);
        match interpolated {
            Ok((histogram, facts)) => {
                for fact in facts.iter() {
                    context.annotate(Remark::of_fact(fact, self.name), self.node.span);
                }
                Some(Sample::Histogram(histogram.into()))
            }
            Err(incompatible) => {
                let remark = Remark::of_fact(incompatible.fact(), self.name);
                context.annotate(remark, self.node.span);
                None
            }
        }
    }
}
