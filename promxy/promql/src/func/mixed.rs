//! Windows of series that have native histograms.
//!
//! Most functions want one kind of sample: those of numbers overlook histograms, and say so if a window has both; rates, sums and
//! averages refuse such a window. Follows `promql/functions.go`; pinned by `native_histograms.test`.

use std::collections::HashSet;

use super::FloatKernel;
use super::counts::End;
use super::rate::Change;
use crate::annotations::Remark;
use crate::error::{QueryError, Stage};
use crate::exec::{Context, HistogramFold, RangeCall, RangeFunction, RangeSamples, Sample, Window};
use crate::histogram::window::{
    self, InstantChange, InstantSample, average, begins_anew, extended_change, extrapolated_change,
    instant_change, sum,
};
use crate::histogram::{
    Batch, Fact, Facts, FloatHistogram, HistogramAverage, HistogramSum, Incompatible,
};
use crate::labels::Labels;
use crate::parser::Span;

/// What happened in the windows of a series that users should know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub(crate) facts: Facts,
    /// A window held both kinds of samples, which gave no result.
    mixed: bool,
    /// A window held both kinds of samples, and histograms were overlooked.
    ignored: bool,
    /// Quantiles outside of 0 to 1, and their bits.
    quantiles: Vec<f64>,
    known_quantiles: HashSet<u64>,
}

impl Notes {
    /// Notes quantiles outside of 0 to 1 at the steps of windows with numbers.
    pub(crate) fn invalid_quantile(
        &mut self,
        call: &RangeCall<'_>,
        windows: &[Window],
    ) -> Result<(), QueryError> {
        if call.function != RangeFunction::Quantile {
            return Ok(());
        }
        for (index, window) in windows.iter().enumerate() {
            call.cancel.check_at(index)?;
            let q = call.scalars[0][window.step];
            if !(0.0..=1.0).contains(&q) && self.known_quantiles.insert(q.to_bits()) {
                self.quantiles.push(q);
            }
        }
        Ok(())
    }

    /// Turns the notes into annotations of a place in the query.
    pub(crate) fn annotate(
        &self,
        context: &mut Context<'_>,
        labels: &Labels,
        span: Span,
    ) -> Result<(), QueryError> {
        let name = labels.metric_name();
        if self.mixed {
            context.annotate(Remark::mixed_floats_histograms(name), span);
        }
        if self.ignored {
            context.annotate(Remark::ignored_in_mixed_range(name), span);
        }
        for (index, q) in self.quantiles.iter().enumerate() {
            context.cancel.check_at(index)?;
            context.annotate(Remark::invalid_quantile(*q), span);
        }
        for fact in self.facts.iter() {
            context.annotate(Remark::of_fact(fact, name), span);
        }
        Ok(())
    }
}

/// The windows of a series with histograms.
pub(crate) struct MixedWindows<'s> {
    pub(crate) call: &'s RangeCall<'s>,
    pub(crate) samples: &'s RangeSamples<'s>,
    /// How many changes or resets there are up to each sample, in the order of time, if that is what is asked for.
    pub(crate) occurrences: Vec<u32>,
}

impl<'s> MixedWindows<'s> {
    pub(crate) fn new(
        call: &'s RangeCall<'s>,
        samples: &'s RangeSamples<'s>,
    ) -> Result<Self, QueryError> {
        let mut windows = Self {
            call,
            samples,
            occurrences: Vec::new(),
        };
        if matches!(
            call.function,
            RangeFunction::Changes | RangeFunction::Resets
        ) {
            windows.occurrences = windows.all_occurrences()?;
        }
        Ok(windows)
    }

    /// Computes a window of numbers, histograms or both.
    pub(crate) fn window(
        &self,
        kernel: &mut impl FloatKernel,
        window: &Window,
        notes: &mut Notes,
    ) -> Result<Option<Sample>, QueryError> {
        if self.call.function == RangeFunction::Quantile {
            notes.invalid_quantile(self.call, std::slice::from_ref(window))?;
        }
        Ok(self.value(kernel, window, notes))
    }

    /// Whether windows are sums or averages of nothing but histograms.
    pub(crate) fn fold_histograms(&self) -> bool {
        let adds = matches!(
            self.call.function,
            RangeFunction::Sum | RangeFunction::Average
        );
        adds && self.samples.floats().times.is_empty()
    }

    /// Adds up the histograms of several windows, going over them once: most are in most of the windows.
    pub(crate) fn folded(
        &self,
        windows: &[Window],
        notes: &mut Notes,
    ) -> Result<Vec<Option<Sample>>, QueryError> {
        match self.call.function {
            RangeFunction::Sum => self.folded_by::<HistogramSum>(windows, notes),
            _ => self.folded_by::<HistogramAverage>(windows, notes),
        }
    }

    fn folded_by<F: HistogramFold>(
        &self,
        windows: &[Window],
        notes: &mut Notes,
    ) -> Result<Vec<Option<Sample>>, QueryError> {
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else {
            return Ok(Vec::new());
        };
        let mut folds: Vec<Option<Result<F, Incompatible>>> =
            windows.iter().map(|_| None).collect();
        // Windows begin and end one after the other.
        let (mut ended, mut begun) = (0, 0);
        let mut index = first.histograms_from;
        while index < last.histograms_to {
            self.call.cancel.check(Stage::Evaluation)?;
            let later = &windows[ended..];
            ended += later.partition_point(|window| window.histograms_to <= index);
            let others = &windows[begun..];
            begun += others.partition_point(|window| window.histograms_from <= index);
            let running = folds.get_mut(ended..begun).unwrap_or_default();
            let until = if running.iter().any(Option::is_none) {
                index + 1
            } else {
                // The same windows hold all up to where one of them ends or the next one begins.
                let begin = windows.get(begun).map(|window| window.histograms_from);
                let end = windows.get(ended).map(|window| window.histograms_to);
                begin.into_iter().chain(end).min().unwrap_or(index + 1)
            };
            let batch = Batch::first_of(&self.samples.histograms[index..until]);
            for fold in running {
                match fold {
                    None => {
                        let first = &self.samples.histograms[index];
                        *fold = Some(Ok(F::begin(first, self.call.compat)));
                    }
                    Some(Ok(so_far)) => {
                        if let Err(incompatible) = so_far.take_batch(&batch) {
                            *fold = Some(Err(incompatible));
                        }
                    }
                    Some(Err(_)) => {}
                }
            }
            index += batch.histograms().len();
        }
        let results = folds.into_iter().map(|fold| match fold? {
            Ok(fold) => {
                let facts = fold.facts();
                noted((Some(fold.finish()), facts), notes)
            }
            Err(incompatible) => noted((None, incompatible.fact().into()), notes),
        });
        Ok(results.collect())
    }

    fn value(
        &self,
        kernel: &mut impl FloatKernel,
        window: &Window,
        notes: &mut Notes,
    ) -> Option<Sample> {
        let floats = window.to - window.from;
        let histograms = window.histograms_to - window.histograms_from;
        match self.call.function {
            RangeFunction::Count => Some(Sample::Float((floats + histograms) as f64)),
            RangeFunction::Present => Some(Sample::Float(1.0)),
            RangeFunction::Value(end) => self.value_at(end, window),
            RangeFunction::Time(end) => Some(Sample::Float(self.time_at(end, window))),
            RangeFunction::Changes | RangeFunction::Resets => self
                .occurrences(window)
                .map(|count| Sample::Float(f64::from(count))),
            RangeFunction::InstantRate | RangeFunction::InstantDelta => {
                self.instant_change(kernel, window, notes)
            }
            _ if histograms == 0 => kernel.window(window).map(Sample::Float),
            RangeFunction::Change(_) | RangeFunction::Sum | RangeFunction::Average
                if floats > 0 =>
            {
                notes.mixed = true;
                None
            }
            RangeFunction::Change(change) => self.change(change, window, notes),
            RangeFunction::Sum => noted(sum(self.histograms(window), self.call.compat), notes),
            RangeFunction::Average => {
                noted(average(self.histograms(window), self.call.compat), notes)
            }
            _ if floats == 0 => None,
            _ => {
                notes.ignored = true;
                kernel.window(window).map(Sample::Float)
            }
        }
    }

    fn histograms(&self, window: &Window) -> &[std::sync::Arc<FloatHistogram>] {
        &self.samples.histograms[window.histograms_from..window.histograms_to]
    }

    fn change(&self, change: Change, window: &Window, notes: &mut Notes) -> Option<Sample> {
        let range = window.histograms_from..window.histograms_to;
        let compat = self.call.compat;
        let cut = window::Window {
            times: &self.samples.histogram_times[range.clone()],
            histograms: &self.samples.histograms[range.clone()],
            resets: &self.samples.resets(compat)[range.clone()],
            uniform_counters: self.samples.are_uniform_counters(),
            starts: self.samples.histogram_starts.get(range).unwrap_or_default(),
            after: window.range_start,
            until: window.range_end,
        };
        let change = match change {
            Change::Rate => window::Change::Rate {
                seconds: self.call.windowing.range as f64 / 1000.0,
            },
            Change::Increase => window::Change::Increase,
            Change::Delta => window::Change::Delta,
        };
        let result = match self.call.extended {
            None => extrapolated_change(&cut, change, compat),
            Some(extended) => extended_change(&cut, extended, change),
        };
        noted(result, notes)
    }

    /// `irate` and `idelta` take the last two samples of whatever kind.
    fn instant_change(
        &self,
        kernel: &mut impl FloatKernel,
        window: &Window,
        notes: &mut Notes,
    ) -> Option<Sample> {
        let last_two = self.last_two(window)?;
        match last_two {
            [Place::Float(_), Place::Float(last)] => {
                // Histograms before the two do not matter.
                let floats = Window {
                    from: last - 1,
                    to: last + 1,
                    ..*window
                };
                kernel.window(&floats).map(Sample::Float)
            }
            [Place::Histogram(first), Place::Histogram(last)] => {
                let times = &self.samples.histogram_times;
                if times[first] == times[last] {
                    return None;
                }
                let sample = |index: usize| InstantSample {
                    time: times[index],
                    histogram: &self.samples.histograms[index],
                };
                let change = match self.call.function {
                    RangeFunction::InstantRate => InstantChange::Rate,
                    _ => InstantChange::Delta,
                };
                let was_reset = self.was_reset(last);
                noted(
                    instant_change(
                        sample(first),
                        sample(last),
                        was_reset,
                        change,
                        self.call.compat,
                    ),
                    notes,
                )
            }
            _ => {
                notes.mixed = true;
                None
            }
        }
    }

    /// Whether a histogram says, or shows, that there was a reset before it.
    fn was_reset(&self, index: usize) -> bool {
        let (times, starts) = (
            &self.samples.histogram_times,
            &self.samples.histogram_starts,
        );
        let by_start = starts.get(index).is_some_and(|start| {
            begins_anew(starts[index - 1], times[index - 1], *start, times[index])
        });
        by_start || self.samples.resets(self.call.compat)[index]
    }

    fn time_of(&self, place: Place) -> i64 {
        match place {
            Place::Float(index) => self.samples.floats().times[index],
            Place::Histogram(index) => self.samples.histogram_times[index],
        }
    }

    fn last_two(&self, window: &Window) -> Option<[Place; 2]> {
        let last = self.place_at(End::Last, window)?;
        let mut rest = *window;
        match last {
            Place::Float(index) => rest.to = index,
            Place::Histogram(index) => rest.histograms_to = index,
        }
        let before = self.place_at(End::Last, &rest)?;
        Some([before, last])
    }

    /// The first or last sample; of two at the same time the histogram.
    fn place_at(&self, end: End, window: &Window) -> Option<Place> {
        let floats = window.from..window.to;
        let histograms = window.histograms_from..window.histograms_to;
        let (mut floats, mut histograms) =
            (floats.map(Place::Float), histograms.map(Place::Histogram));
        let (float, histogram) = match end {
            End::First => (floats.next(), histograms.next()),
            End::Last => (floats.next_back(), histograms.next_back()),
        };
        let (Some(float), Some(histogram)) = (float, histogram) else {
            return histogram.or(float);
        };
        let (float_time, time) = (self.time_of(float), self.time_of(histogram));
        let float_is_meant = match end {
            End::First => float_time < time,
            End::Last => float_time > time,
        };
        Some(if float_is_meant { float } else { histogram })
    }

    fn value_at(&self, end: End, window: &Window) -> Option<Sample> {
        Some(match self.place_at(end, window)? {
            Place::Float(index) => Sample::Float(self.samples.floats().values[index]),
            Place::Histogram(index) => Sample::Histogram(self.samples.histograms[index].clone()),
        })
    }

    fn time_at(&self, end: End, window: &Window) -> f64 {
        let place = self.place_at(end, window);
        place.map_or(0.0, |place| self.time_of(place) as f64 / 1000.0)
    }

    /// Counts changes or resets. From one kind of sample to the other is both.
    fn occurrences(&self, window: &Window) -> Option<u32> {
        // What is before the window in time is so of either kind.
        let mut first = window.from + window.histograms_from;
        let end = window.to + window.histograms_to;
        if self.call.extended.is_some() {
            let is_before = |time: &i64| *time <= window.range_start;
            let floats = &self.samples.floats().times[window.from..window.to];
            let histograms = window.histograms_from..window.histograms_to;
            let histograms = &self.samples.histogram_times[histograms];
            let before = floats.partition_point(is_before) + histograms.partition_point(is_before);
            if first + before == end {
                return None;
            }
            first += before.saturating_sub(1);
        }
        Some(self.occurrences[end - 1] - self.occurrences[first])
    }

    /// Goes over all samples in the order of time; of two at the same time the histogram is the later one.
    fn all_occurrences(&self) -> Result<Vec<u32>, QueryError> {
        let (floats, histograms) = (self.samples.floats().times, &self.samples.histogram_times);
        let count = floats.len() + histograms.len();
        let mut occurrences = Vec::with_capacity(count);
        let (mut float, mut so_far, mut before) = (0, 0, None);
        for index in 0..count {
            self.call.cancel.check(Stage::Evaluation)?;
            let histogram = index - float;
            let place = match (floats.get(float), histograms.get(histogram)) {
                (Some(time), Some(other)) if time > other => Place::Histogram(histogram),
                (None, _) => Place::Histogram(histogram),
                (Some(_), _) => Place::Float(float),
            };
            if let Place::Float(_) = place {
                float += 1;
            }
            so_far += u32::from(before.is_some_and(|before| self.happened(before, place)));
            occurrences.push(so_far);
            before = Some(place);
        }
        Ok(occurrences)
    }

    fn happened(&self, before: Place, now: Place) -> bool {
        let floats = self.samples.floats();
        let changes = self.call.function == RangeFunction::Changes;
        match (before, now) {
            (Place::Float(before), Place::Float(now)) => {
                let (old, new) = (floats.values[before], floats.values[now]);
                if changes {
                    return new != old && !(new.is_nan() && old.is_nan());
                }
                let by_start = floats.starts.get(now).is_some_and(|start| {
                    begins_anew(
                        floats.starts[before],
                        floats.times[before],
                        *start,
                        floats.times[now],
                    )
                });
                new < old || by_start
            }
            (Place::Histogram(before), Place::Histogram(now)) => {
                let histograms = &self.samples.histograms;
                if changes {
                    !histograms[now].equals(&histograms[before])
                } else {
                    self.was_reset(now)
                }
            }
            _ => true,
        }
    }
}

/// A sample of either kind.
#[derive(Clone, Copy, Debug)]
enum Place {
    Float(usize),
    Histogram(usize),
}

fn noted((result, facts): (Option<FloatHistogram>, Facts), notes: &mut Notes) -> Option<Sample> {
    notes.facts |= facts;
    result.map(|histogram| Sample::Histogram(histogram.into()))
}

impl Remark {
    /// Returns the text for what was found while computing with histograms.
    pub(crate) fn of_fact(fact: Fact, metric: &str) -> Self {
        match fact {
            Fact::NotACounter => Self::histogram_not_counter(metric),
            Fact::NotAGauge => Self::histogram_not_gauge(metric),
            Fact::MixedSchemas => Self::mixed_schemas(metric),
            Fact::IncompatibleBounds => Self::incompatible_custom_buckets(metric),
            Fact::ConflictingResets(operation) => Self::conflicting_resets(operation),
            Fact::BoundsReconciled(operation) => Self::reconciled(operation),
            Fact::QuantileIsNan => Self::quantile_nan_result(None),
            Fact::QuantileSkewedByNan => Self::quantile_nan_skew(None),
            Fact::NansInNoFraction => Self::fraction_nan(None),
            Fact::StartTimesOverlap => Self::start_time_overlap(metric),
        }
    }
}
