//! The histograms of a column.

use std::borrow::Cow;
use std::sync::Arc;

use super::histogram_samples;
use crate::histogram::{FloatHistogram, PackedHistograms, Packer, Place};

/// Histograms by step, ascending.
///
/// Those of storage are shared with it. Those that are computed are packed when their column is done, if it has to wait for the
/// next operation or for the answer to be written, and are unpacked one at a time when they are looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepHistograms(Form);

#[derive(Clone, Debug)]
enum Form {
    Shared(Vec<(u32, Arc<FloatHistogram>)>),
    Packed(Box<Packed>),
}

#[derive(Clone, Debug)]
struct Packed {
    histograms: PackedHistograms,
    places: Vec<(u32, Place)>,
    /// How many samples they count as.
    samples: usize,
}

impl Default for Form {
    fn default() -> Self {
        Self::Shared(Vec::new())
    }
}

impl StepHistograms {
    /// Takes histograms in the order of steps.
    pub(crate) fn new(histograms: Vec<(u32, Arc<FloatHistogram>)>) -> Self {
        Self(Form::Shared(histograms))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        match &self.0 {
            Form::Shared(shared) => shared.len(),
            Form::Packed(packed) => packed.places.len(),
        }
    }

    fn step(&self, index: usize) -> usize {
        let step = match &self.0 {
            Form::Shared(shared) => shared[index].0,
            Form::Packed(packed) => packed.places[index].0,
        };
        step as usize
    }

    /// Returns the steps that have a histogram.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.len()).map(|index| self.step(index))
    }

    fn get(&self, index: usize) -> Cow<'_, Arc<FloatHistogram>> {
        match &self.0 {
            Form::Shared(shared) => Cow::Borrowed(&shared[index].1),
            Form::Packed(packed) => {
                let (_, place) = packed.places[index];
                Cow::Owned(packed.histograms.read(place).into())
            }
        }
    }

    /// Returns steps and histograms.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, Cow<'_, Arc<FloatHistogram>>)> {
        (0..self.len()).map(|index| (self.step(index), self.get(index)))
    }

    fn index(&self, step: usize) -> Option<usize> {
        let found = match &self.0 {
            Form::Shared(shared) => shared.binary_search_by_key(&(step as u32), |(step, _)| *step),
            Form::Packed(packed) => packed
                .places
                .binary_search_by_key(&(step as u32), |(step, _)| *step),
        };
        found.ok()
    }

    /// Whether there is a histogram at a step.
    pub(crate) fn has(&self, step: usize) -> bool {
        self.index(step).is_some()
    }

    /// Returns the histogram at a step.
    pub(crate) fn at(&self, step: usize) -> Option<Arc<FloatHistogram>> {
        self.index(step).map(|index| self.get(index).into_owned())
    }

    /// Returns the histograms at steps that ascend from call to call.
    pub(crate) fn in_order(&self) -> impl FnMut(usize) -> Option<Arc<FloatHistogram>> {
        let mut index = 0;
        move |step| {
            while index < self.len() && self.step(index) < step {
                index += 1;
            }
            let found = index < self.len() && self.step(index) == step;
            found.then(|| self.get(index).into_owned())
        }
    }

    /// Returns how many samples all of them count as.
    pub(crate) fn samples(&self) -> usize {
        match &self.0 {
            Form::Shared(shared) => {
                let sizes = shared
                    .iter()
                    .map(|(_, histogram)| histogram_samples(histogram));
                sizes.sum()
            }
            Form::Packed(packed) => packed.samples,
        }
    }

    /// Appends a histogram, at a step after all that there are.
    pub(crate) fn push(&mut self, step: usize, mut histogram: Arc<FloatHistogram>) {
        if let Form::Shared(shared) = &mut self.0 {
            // What is added to these later has their bounds at hand.
            if let Some((_, before)) = shared.last()
                && let Some(own) = Arc::get_mut(&mut histogram)
            {
                own.share_bounds(before);
            }
            shared.push((step as u32, histogram));
            return;
        }
        let mut all = std::mem::take(self).into_shared();
        all.push((step as u32, histogram));
        *self = Self::new(all);
    }

    /// Keeps only the histograms at some steps.
    pub(crate) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        match &mut self.0 {
            Form::Shared(shared) => shared.retain(|(step, _)| keep(*step as usize)),
            Form::Packed(packed) => {
                let Packed {
                    histograms,
                    places,
                    samples,
                } = &mut **packed;
                places.retain(|(step, place)| {
                    let kept = keep(*step as usize);
                    if !kept {
                        *samples -= histograms.sample_equivalents(*place);
                    }
                    kept
                });
            }
        }
    }

    /// Takes over the histograms of others, which are at other steps.
    pub(crate) fn absorb(&mut self, others: Self) {
        if self.is_empty() {
            *self = others;
        } else if !others.is_empty() {
            let mut all = std::mem::take(self).into_shared();
            all.extend(others.into_shared());
            all.sort_by_key(|(step, _)| *step);
            *self = Self::new(all);
            self.pack();
        }
    }

    /// Packs what is not packed, unless it is too little to be worth it or somebody else has it too.
    pub(crate) fn pack(&mut self) {
        self.pack_by(&mut Packer::default());
    }

    fn pack_by(&mut self, packer: &mut Packer) {
        let Form::Shared(shared) = &self.0 else {
            return;
        };
        let is_ours =
            |(_, histogram): &(u32, Arc<FloatHistogram>)| Arc::strong_count(histogram) == 1;
        if shared.len() < 2 || !shared.iter().all(is_ours) {
            return;
        }
        let samples = self.samples();
        let histograms = shared.iter().map(|(_, histogram)| &**histogram);
        if let Some((histograms, places)) = PackedHistograms::pack(histograms, packer) {
            let steps = shared.iter().map(|(step, _)| *step);
            self.0 = Form::Packed(Box::new(Packed {
                histograms,
                places: steps.zip(places).collect(),
                samples,
            }));
        }
    }

    fn into_shared(self) -> Vec<(u32, Arc<FloatHistogram>)> {
        match self.0 {
            Form::Shared(shared) => shared,
            Form::Packed(_) => {
                let unpacked = self.iter();
                unpacked
                    .map(|(step, histogram)| (step as u32, histogram.into_owned()))
                    .collect()
            }
        }
    }
}

/// Histograms of a column that is being computed. Each is packed before the next one is made, which gets the same memory.
#[derive(Debug)]
pub(crate) struct Packing {
    all: StepHistograms,
    packer: Packer,
    /// How many there may be.
    most: usize,
}

impl Packing {
    /// Begins with none. There is room for `most` when it is known how large one is.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            all: StepHistograms::default(),
            packer: Packer::default(),
            most,
        }
    }

    /// Appends a histogram, at a step after all that there are.
    pub(crate) fn push(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        if let Form::Packed(packed) = &mut self.all.0
            && let Some(place) = packed.histograms.push(&histogram, &mut self.packer)
        {
            packed.places.push((step as u32, place));
            packed.samples += histogram_samples(&histogram);
            return;
        }
        self.all.push(step, histogram);
        if self.all.len() == 2 {
            self.all.pack_by(&mut self.packer);
            if let Form::Packed(packed) = &mut self.all.0 {
                let others = self.most.saturating_sub(2);
                packed.histograms.reserve(others, packed.places[1].1);
                packed.places.reserve_exact(others);
            }
        }
    }

    /// Returns all, packed if the first two could be.
    pub(crate) fn finish(mut self) -> StepHistograms {
        if let Form::Packed(packed) = &mut self.all.0 {
            packed.histograms.shrink();
            packed.places.shrink_to_fit();
        }
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(step: usize) -> FloatHistogram {
        let text = format!("{{{{schema:0 count:{step} sum:{step} buckets:[{step} 0 1]}}}}");
        FloatHistogram::from_text(&text).expect("it is one")
    }

    /// Histograms at every third step.
    fn thirds(first: usize) -> StepHistograms {
        let mut histograms = StepHistograms::default();
        for step in (first..30).step_by(3) {
            histograms.push(step, histogram(step).into());
        }
        histograms
    }

    fn check(histograms: &StepHistograms, expected: impl Fn(usize) -> bool) {
        let expected: Vec<usize> = (0..33).filter(|step| expected(*step)).collect();
        assert!(histograms.steps().eq(expected.iter().copied()));
        assert!(
            histograms
                .iter()
                .map(|(step, _)| step)
                .eq(expected.iter().copied())
        );
        for (step, found) in histograms.iter() {
            assert!(found.equals(&histogram(step)));
        }
        for step in 0..33 {
            assert_eq!(histograms.has(step), expected.contains(&step));
            assert_eq!(histograms.at(step).is_some(), expected.contains(&step));
        }
        let sizes = expected
            .iter()
            .map(|step| histogram_samples(&histogram(*step)));
        assert_eq!(histograms.samples(), sizes.sum::<usize>());
    }

    #[test]
    fn packed_histograms_are_as_those_that_are_not() {
        for packs in [false, true] {
            let mut histograms = thirds(0);
            let mut others = thirds(1);
            if packs {
                histograms.pack();
                others.pack();
                assert!(matches!(histograms.0, Form::Packed(_)));
            }
            check(&histograms, |step| step % 3 == 0 && step < 30);
            histograms.absorb(others);
            check(&histograms, |step| step % 3 < 2 && step < 30);
            histograms.retain(|step| step % 2 == 0);
            check(&histograms, |step| {
                step % 3 < 2 && step % 2 == 0 && step < 30
            });
            histograms.push(31, histogram(31).into());
            check(&histograms, |step| {
                step % 3 < 2 && step % 2 == 0 && step < 30 || step == 31
            });
        }
    }

    #[test]
    fn histograms_are_packed_as_they_come() {
        let mut packing = Packing::new(15);
        for step in (0..30).step_by(2) {
            packing.push(step, histogram(step).into());
        }
        let histograms = packing.finish();
        assert!(matches!(histograms.0, Form::Packed(_)));
        check(&histograms, |step| step % 2 == 0 && step < 30);
        let mut at = histograms.in_order();
        for step in [1, 2, 7, 8, 20, 28, 31] {
            let expected = (step % 2 == 0).then(|| histogram(step));
            assert_eq!(
                at(step).as_deref().map(ToString::to_string),
                expected.map(|h| h.to_string())
            );
        }
    }

    #[test]
    fn histograms_of_somebody_else_are_not_packed() {
        let mut histograms = thirds(0);
        let elsewhere = histograms.at(3);
        histograms.pack();
        assert!(matches!(histograms.0, Form::Shared(_)));
        drop(elsewhere);
        histograms.pack();
        assert!(matches!(histograms.0, Form::Packed(_)));
    }
}
