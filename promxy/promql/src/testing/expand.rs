//! The values that series descriptions stand for.

use crate::histogram::{FloatHistogram, HistogramSteps};
use crate::labels::Labels;
use crate::parser::{Compat, SeriesDescription, SeriesItem};
use crate::storage::stale_marker;

/// How many values a description may stand for.
const MOST: usize = 1_000_000;

/// A value of a description.
#[derive(Clone, Debug)]
pub(super) enum Described {
    Gap,
    Float(f64),
    Histogram {
        histogram: Box<FloatHistogram>,
        /// Whether the description says what is known of resets.
        hint_given: bool,
    },
}

/// Returns the labels and values of a description.
pub(super) fn expand(description: &SeriesDescription) -> Result<(Labels, Vec<Described>), String> {
    let labels = description
        .labels
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let mut values = Vec::new();
    for item in &description.items {
        let steps = match item {
            SeriesItem::Gap { steps }
            | SeriesItem::Floats { steps, .. }
            | SeriesItem::Histograms { steps, .. } => *steps,
            SeriesItem::Stale => 1,
        };
        if steps > (MOST - values.len()) as u64 {
            return Err(format!("a series of more than {MOST} values"));
        }
        match item {
            SeriesItem::Gap { .. } => values.extend((0..steps).map(|_| Described::Gap)),
            SeriesItem::Stale => values.push(Described::Float(stale_marker())),
            SeriesItem::Floats {
                first, increment, ..
            } => {
                // Values are added up as the reference does, so that they round alike.
                let mut value = *first;
                for _ in 0..steps {
                    values.push(Described::Float(value));
                    value += increment;
                }
            }
            SeriesItem::Histograms { first, change, .. } => {
                let hint_given = first.counter_reset_hint.is_some();
                let histograms = HistogramSteps::new(first, change.as_ref(), steps, Compat::V3_14)
                    .map_err(|error| error.to_string())?;
                for histogram in histograms {
                    let histogram = histogram.map_err(|error| error.to_string())?;
                    values.push(Described::Histogram {
                        histogram: Box::new(histogram),
                        hint_given,
                    });
                }
            }
        }
    }
    Ok((labels, values))
}
