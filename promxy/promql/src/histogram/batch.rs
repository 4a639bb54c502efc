//! Histograms that follow each other in a series, to be added to the sums of several windows.

use std::sync::Arc;

use super::FloatHistogram;
use super::distribution::Distribution;
use super::kahan::Tally;

/// How many histograms are added to a sum while some of its buckets are in hand.
const MOST: usize = 16;

/// Histograms, and their counts side by side if they have the same buckets.
#[derive(Debug)]
pub(crate) struct Batch<'h> {
    histograms: &'h [Arc<FloatHistogram>],
    counts: Option<Rows<'h>>,
}

/// The counts of histograms that have the same buckets, a row for each.
#[derive(Debug)]
pub(super) struct Rows<'h> {
    pub(super) positive: Vec<&'h [f64]>,
    pub(super) negative: Vec<&'h [f64]>,
}

impl<'h> Batch<'h> {
    /// Takes the first histograms, as many as are added at once.
    pub(crate) fn first_of(histograms: &'h [Arc<FloatHistogram>]) -> Self {
        let histograms = &histograms[..histograms.len().min(MOST)];
        let mut pairs = histograms.windows(2);
        let counts = pairs
            .all(|pair| pair[0].has_buckets_of(&pair[1]))
            .then(|| Rows {
                positive: histograms
                    .iter()
                    .map(|h| h.distribution.positive.counts())
                    .collect(),
                negative: histograms
                    .iter()
                    .map(|h| h.distribution.negative.counts())
                    .collect(),
            });
        Self { histograms, counts }
    }

    /// Returns the histograms.
    pub(crate) fn histograms(&self) -> &'h [Arc<FloatHistogram>] {
        self.histograms
    }

    /// Returns the counts of the histograms if all have the buckets of a sum.
    pub(super) fn counts_for<T: Tally>(&self, sum: &Distribution<T>) -> Option<&Rows<'h>> {
        let first = self.histograms.first()?;
        let rows = self.counts.as_ref()?;
        sum.has_buckets_of(&first.distribution).then_some(rows)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::histogram::{CounterResetHint, HistogramParts, HistogramSum, Span};
    use crate::parser::Compat;

    fn histogram(rng: &mut Rng, layout: u8) -> Arc<FloatHistogram> {
        let mut side = |first: i32, lengths: [u32; 2]| {
            let spans = [(first, lengths[0]), (2, lengths[1])];
            let spans = spans.map(|(offset, length)| Span { offset, length });
            let mut count = || rng.f64() * 10_f64.powi(rng.i32(-9..20));
            let counts = (0..lengths[0] + lengths[1]).map(|_| count()).collect();
            (spans.to_vec(), counts)
        };
        let (positive_spans, positive_counts) = side(-3, [u32::from(layout) * 5 + 9, 8]);
        let (negative_spans, negative_counts) = side(4, [u32::from(layout), 3]);
        let made = FloatHistogram::new(HistogramParts {
            schema: i32::from(layout) / 2,
            zero_threshold: if layout == 3 { 0.5 } else { 1e-128 },
            zero_count: rng.f64(),
            count: rng.f64() * 1e9,
            sum: if rng.u8(..) == 0 { f64::NAN } else { rng.f64() },
            positive_spans,
            positive_counts,
            negative_spans,
            negative_counts,
            custom_values: Vec::new(),
            hint: if rng.bool() {
                CounterResetHint::NotReset
            } else {
                CounterResetHint::Unknown
            },
        });
        Arc::new(made.expect("it is one"))
    }

    #[test]
    fn a_batch_is_added_as_its_histograms_are_one_after_the_other() {
        let mut rng = Rng::with_seed(11);
        for round in 0..200 {
            let (count, layout) = (rng.usize(1..40), rng.u8(0..4));
            let histograms: Vec<_> = (0..count)
                .map(|_| {
                    let is_other = round % 2 == 1 && rng.u8(0..8) == 0;
                    let layout = if is_other { rng.u8(0..4) } else { layout };
                    histogram(&mut rng, layout)
                })
                .collect();
            let first = histogram(&mut rng, layout);
            for compat in [Compat::V3_5, Compat::V3_14] {
                let mut expected = HistogramSum::new(&first, compat);
                for histogram in &histograms {
                    expected.add(histogram).expect("they go together");
                }
                let mut sum = HistogramSum::new(&first, compat);
                let mut rest = &*histograms;
                while !rest.is_empty() {
                    let batch = Batch::first_of(rest);
                    sum.add_batch(&batch).expect("they go together");
                    rest = &rest[batch.histograms().len()..];
                }
                assert_eq!(sum.facts(), expected.facts());
                let (sum, expected) = (sum.finish(), expected.finish());
                assert_eq!(sum.hint, expected.hint);
                assert!(sum.equals(&expected), "{sum} {expected}");
            }
        }
    }
}
