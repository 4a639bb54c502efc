//! Which steps of a column have a value.

/// A set of steps. Up to 64 steps need no memory of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bitmap {
    first: u64,
    rest: Vec<u64>,
}

const BITS: usize = u64::BITS as usize;

impl Bitmap {
    /// Returns the empty set for so many steps.
    pub(crate) fn none(steps: usize) -> Self {
        Self {
            first: 0,
            rest: vec![0; steps.div_ceil(BITS).saturating_sub(1)],
        }
    }

    /// Returns the set of those of so many steps whose bit is set: bit `n % 64` of word `n / 64`.
    pub(crate) fn of_words(mut words: Vec<u64>, steps: usize) -> Self {
        let count = steps.div_ceil(BITS);
        words.resize(count, 0);
        if let Some(last) = words.last_mut().filter(|_| !steps.is_multiple_of(BITS)) {
            *last &= (1 << (steps % BITS)) - 1;
        }
        if words.is_empty() {
            return Self::default();
        }
        let first = words.remove(0);
        Self { first, rest: words }
    }

    /// Returns the set of all of so many steps.
    pub(crate) fn all(steps: usize) -> Self {
        let mut all = Self::none(steps);
        let words = steps.div_ceil(BITS);
        for (index, word) in all.words_mut().enumerate().take(words) {
            let below = steps - index * BITS;
            *word = if below >= BITS {
                u64::MAX
            } else {
                (1 << below) - 1
            };
        }
        all
    }

    pub(crate) fn words(&self) -> impl DoubleEndedIterator<Item = u64> {
        std::iter::once(self.first).chain(self.rest.iter().copied())
    }

    pub(crate) fn words_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        std::iter::once(&mut self.first).chain(self.rest.iter_mut())
    }

    fn word(&self, index: usize) -> u64 {
        match index {
            0 => self.first,
            _ => self.rest.get(index - 1).copied().unwrap_or(0),
        }
    }

    fn word_mut(&mut self, index: usize) -> &mut u64 {
        match index {
            0 => &mut self.first,
            _ => &mut self.rest[index - 1],
        }
    }

    /// Whether a step is in the set.
    pub(crate) fn has(&self, step: usize) -> bool {
        self.word(step / BITS) >> (step % BITS) & 1 == 1
    }

    /// Adds a step.
    pub(crate) fn insert(&mut self, step: usize) {
        *self.word_mut(step / BITS) |= 1 << (step % BITS);
    }

    /// Takes a step out.
    pub(crate) fn remove(&mut self, step: usize) {
        *self.word_mut(step / BITS) &= !(1 << (step % BITS));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words().all(|word| word == 0)
    }

    /// Returns how many steps are in the set.
    pub(crate) fn count(&self) -> usize {
        self.words().map(|word| word.count_ones() as usize).sum()
    }

    /// Returns the first step of the set.
    pub(crate) fn first(&self) -> Option<usize> {
        self.iter().next()
    }

    /// Whether the sets share a step.
    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.first_shared(other).is_some()
    }

    /// Returns the first step that is in both sets.
    pub(crate) fn first_shared(&self, other: &Self) -> Option<usize> {
        let mut shared = self.words().zip(other.words()).map(|(a, b)| a & b);
        let index = shared.position(|word| word != 0)?;
        let word = self.word(index) & other.word(index);
        Some(index * BITS + word.trailing_zeros() as usize)
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    pub(crate) fn and_not(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    pub(crate) fn or_with(&mut self, other: &Self) {
        for (word, more) in self.words_mut().zip(other.words()) {
            *word |= more;
        }
    }

    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            first: f(self.first, other.first),
            rest: self
                .rest
                .iter()
                .zip(&other.rest)
                .map(|(a, b)| f(*a, *b))
                .collect(),
        }
    }

    /// Returns the steps in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.words().enumerate().flat_map(|(index, mut word)| {
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros() as usize;
                word &= word - 1;
                Some(index * BITS + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_back_in_their_order() {
        let steps = [0, 3, 63, 64, 65, 127, 128, 199];
        let mut bitmap = Bitmap::none(200);
        for step in steps {
            bitmap.insert(step);
        }
        assert_eq!(bitmap.iter().collect::<Vec<_>>(), steps);
        assert_eq!(Bitmap::all(200).and_not(&bitmap).count(), 200 - steps.len());
        assert_eq!(Bitmap::all(130).count(), 130);
        assert_eq!(Bitmap::all(0).count(), 0);
        assert_eq!(bitmap.first_shared(&Bitmap::all(200)), Some(0));
        let mut others = Bitmap::none(200);
        assert_eq!(bitmap.first_shared(&others), None);
        others.insert(66);
        others.insert(127);
        assert_eq!(bitmap.first_shared(&others), Some(127));
        for steps in [0, 1, 63, 64, 65, 128, 130] {
            let words = vec![u64::MAX; 3];
            assert_eq!(Bitmap::of_words(words, steps), Bitmap::all(steps));
        }
    }
}
