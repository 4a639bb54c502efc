//! The order of `topk`, `sort` and the like, among equal values too.
//!
//! The reference keeps a binary heap and sorts it with an algorithm that, up to twelve elements, is insertion sort. Both are done
//! here step by step, so that ties come out alike; beyond twelve the order of ties is nobody's promise. Pinned by
//! `aggregators.test` and `limit.test`.

/// Up to how many elements the reference sorts by insertion.
const INSERTION: usize = 12;

/// An element and where it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    pub(crate) value: f64,
    pub(crate) series: usize,
}

/// Which values are at the top of a heap, that is, go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Least {
    Smallest,
    Largest,
}

impl Least {
    /// Whether `a` is above `b`. NaN is above everything, NaN included.
    fn is_above(self, a: &Ranked, b: &Ranked) -> bool {
        a.value.is_nan() || self.goes_before(a.value, b.value)
    }

    fn goes_before(self, a: f64, b: f64) -> bool {
        match self {
            Self::Smallest => a < b,
            Self::Largest => a > b,
        }
    }
}

/// A binary heap with the element to lose on top.
#[derive(Clone, Debug)]
pub(crate) struct Heap {
    least: Least,
    elements: Vec<Ranked>,
}

impl Heap {
    pub(crate) fn new(least: Least) -> Self {
        Self {
            least,
            elements: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.elements.len()
    }

    pub(crate) fn push(&mut self, element: Ranked) {
        self.elements.push(element);
        let mut child = self.elements.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !self.above(child, parent) {
                break;
            }
            self.elements.swap(child, parent);
            child = parent;
        }
    }

    /// Puts an element in the place of the top one if it is the better of the two.
    pub(crate) fn offer(&mut self, element: Ranked) {
        let Some(top) = self.elements.first_mut() else {
            return;
        };
        let is_better = self.least.goes_before(top.value, element.value)
            || top.value.is_nan() && !element.value.is_nan();
        if !is_better {
            return;
        }
        *top = element;
        let mut parent = 0;
        loop {
            let left = 2 * parent + 1;
            if left >= self.elements.len() {
                return;
            }
            let right = left + 1;
            let child = if right < self.elements.len() && self.above(right, left) {
                right
            } else {
                left
            };
            if !self.above(child, parent) {
                return;
            }
            self.elements.swap(child, parent);
            parent = child;
        }
    }

    fn above(&self, a: usize, b: usize) -> bool {
        self.least.is_above(&self.elements[a], &self.elements[b])
    }

    /// Returns the elements as they lie.
    pub(crate) fn elements(&self) -> &[Ranked] {
        &self.elements
    }

    /// Returns the elements, the best first.
    pub(crate) fn into_sorted(mut self) -> Vec<Ranked> {
        sort_reversed(&mut self.elements, self.least);
        self.elements
    }
}

/// Sorts so that what goes first in a heap comes last, and NaN after everything.
pub(crate) fn sort_reversed(elements: &mut [Ranked], least: Least) {
    if insertion_sort(elements, |a, b| least.is_above(b, a)) {
        return;
    }
    elements.sort_by(|a, b| {
        let nan = a.value.is_nan().cmp(&b.value.is_nan());
        nan.then_with(|| {
            if least.goes_before(b.value, a.value) {
                std::cmp::Ordering::Less
            } else if least.goes_before(a.value, b.value) {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
    });
}

/// Sorts few elements as the reference does, also by a rule that is no order; does nothing to many.
pub(crate) fn insertion_sort<T>(elements: &mut [T], goes_before: impl Fn(&T, &T) -> bool) -> bool {
    if elements.len() > INSERTION {
        return false;
    }
    for index in 1..elements.len() {
        let mut at = index;
        while at > 0 && goes_before(&elements[at], &elements[at - 1]) {
            elements.swap(at - 1, at);
            at -= 1;
        }
    }
    true
}
