//! Which elements of two vectors find each other: planned once for all steps.
//!
//! Follows `rangeEval` and `resultMetric` in `promql/engine.go`.

use std::collections::HashMap;

use super::{Bitmap, Context, Series};
use crate::error::QueryError;
use crate::labels::{GroupingKey, Labels, LabelsBuilder};
use crate::parser::VectorMatching;

/// Numbers the sets of matching labels of two vectors.
#[derive(Default)]
pub(super) struct Signatures {
    ordinals: HashMap<Vec<u8>, usize>,
    buffer: Vec<u8>,
}

impl Signatures {
    /// Returns the number of each series' matching labels.
    pub(super) fn of(
        &mut self,
        series: &[Series],
        key: &GroupingKey,
        context: &Context<'_>,
    ) -> Result<Vec<usize>, QueryError> {
        series
            .iter()
            .map(|series| {
                context.check()?;
                series.labels.write_key(key, &mut self.buffer);
                if let Some(ordinal) = self.ordinals.get(&self.buffer) {
                    return Ok(*ordinal);
                }
                let ordinal = self.ordinals.len();
                self.ordinals.insert(self.buffer.clone(), ordinal);
                Ok(ordinal)
            })
            .collect()
    }

    /// Returns how many different sets there are.
    pub(super) fn count(&self) -> usize {
        self.ordinals.len()
    }
}

/// Returns, for every signature, the steps at which any of the series has a value.
pub(super) fn steps_by_signature(
    series: &[Series],
    ordinals: &[usize],
    signatures: usize,
    steps: usize,
) -> Vec<Bitmap> {
    let mut present = vec![Bitmap::none(steps); signatures];
    for (series, ordinal) in series.iter().zip(ordinals) {
        present[*ordinal].or_with(&series.column.steps());
    }
    present
}

/// Makes the labels of results.
pub(super) struct ResultLabels<'m> {
    pub(super) matching: &'m VectorMatching,
    pub(super) key: GroupingKey,
    pub(super) one_to_one: bool,
    pub(super) drop_metadata: bool,
    /// Whether metadata that is included from the other side is dropped too, as 3.5 does below `bool`.
    pub(super) drop_included: bool,
}

impl ResultLabels<'_> {
    /// Returns the labels of the result of an element of the side that may have many and one of the other.
    pub(super) fn of(&self, many: &Labels, one: &Labels) -> Labels {
        let labels = match (self.one_to_one, self.drop_metadata) {
            (true, true) => many.matched_without_metadata(&self.key),
            (true, false) => many.matched(&self.key),
            (false, true) => many.without_metadata(),
            (false, false) => many.clone(),
        };
        let included = self.matching.include.as_deref().unwrap_or_default();
        if included.is_empty() {
            return labels;
        }
        let mut builder = LabelsBuilder::new(&labels);
        for name in included {
            let value = one.get(name);
            if value.is_some() || labels.get(name).is_some() {
                builder.set(name, value.unwrap_or_default());
            }
        }
        let labels = builder.build();
        if self.drop_included {
            return labels.without_metadata();
        }
        labels
    }
}
