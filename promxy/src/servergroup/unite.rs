//! The answers of groups, or of the targets of one, put together.

use std::collections::BTreeMap;

use super::decode::Annotations;
use crate::{
    labels::Labels,
    series::Series,
    upstream::{Answer, Exemplar, Exemplars, Part},
};

/// Keeps the answers of groups apart, and unites what they say beside.
pub(super) fn parts<D>(answers: Vec<Answer<Vec<Series<D>>>>) -> Answer<Vec<Part<D>>> {
    let mut annotations = Annotations::default();
    let mut data = Vec::with_capacity(answers.len());
    for (group, answer) in answers.into_iter().enumerate() {
        annotations.merge(answer.annotations);
        let series = answer.data;
        data.push(Part { group, series });
    }
    Answer { data, annotations }
}

/// Unites answers, and what they say beside.
pub(super) fn united<T>(answers: Vec<Answer<T>>, unite: impl FnOnce(Vec<T>) -> T) -> Answer<T> {
    let mut annotations = Annotations::default();
    let mut data = Vec::with_capacity(answers.len());
    for answer in answers {
        annotations.merge(answer.annotations);
        data.push(answer.data);
    }
    Answer {
        data: unite(data),
        annotations,
    }
}

/// Unites exemplars by series, each once and in the order of time; the series are sorted.
pub(super) fn exemplars(found: impl Iterator<Item = Exemplars>) -> Vec<Exemplars> {
    let mut all: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    for Exemplars { series, exemplars } in found {
        let known = all.entry(series).or_default();
        for exemplar in exemplars {
            let is_known = known.iter().any(|known| {
                known.timestamp == exemplar.timestamp
                    && known.value.to_bits() == exemplar.value.to_bits()
                    && known.labels == exemplar.labels
            });
            if !is_known {
                known.push(exemplar);
            }
        }
    }
    let all = all.into_iter().map(|(series, mut exemplars)| {
        exemplars.sort_by_key(|exemplar| exemplar.timestamp);
        Exemplars { series, exemplars }
    });
    all.collect()
}
