//! `sum_over_time` and `avg_over_time`.

use std::sync::Arc;

use crate::histogram::facts::Facts;
use crate::histogram::{FloatHistogram, HistogramAverage, HistogramSum};
use crate::parser::Compat;

/// Returns the sum of the samples; `None` if there are none or they cannot be added.
pub fn sum(histograms: &[Arc<FloatHistogram>], compat: Compat) -> (Option<FloatHistogram>, Facts) {
    let Some((first, rest)) = histograms.split_first() else {
        return (None, Facts::NONE);
    };
    let mut sum = HistogramSum::new(first, compat);
    match rest.iter().try_for_each(|histogram| sum.add(histogram)) {
        Ok(()) => {
            let facts = sum.facts();
            (Some(sum.finish()), facts)
        }
        Err(incompatible) => (None, incompatible.fact().into()),
    }
}

/// Returns the average of the samples; `None` if there are none or they cannot be added.
pub fn average(
    histograms: &[Arc<FloatHistogram>],
    compat: Compat,
) -> (Option<FloatHistogram>, Facts) {
    let Some((first, rest)) = histograms.split_first() else {
        return (None, Facts::NONE);
    };
    let mut average = HistogramAverage::new(first, compat);
    match rest.iter().try_for_each(|histogram| average.add(histogram)) {
        Ok(()) => {
            let facts = average.facts();
            (Some(average.finish()), facts)
        }
        Err(incompatible) => (None, incompatible.fact().into()),
    }
}
