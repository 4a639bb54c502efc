//! Custom buckets with different bounds are reduced to the bounds they share before two histograms are added or compared.

use std::sync::Arc;

use super::buckets::Buckets;
use super::distribution::Distribution;
use super::kahan::Tally;

/// Whether bounds are the same.
pub(super) fn same_bounds(a: &Arc<[f64]>, b: &Arc<[f64]>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// Whether bounds are the same bit for bit: zero has two signs.
pub(super) fn identical_bounds(a: &Arc<[f64]>, b: &Arc<[f64]>) -> bool {
    let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
    Arc::ptr_eq(a, b) || a.len() == b.len() && a.iter().zip(b.iter()).all(same)
}

/// Returns the bounds that are in both, which ascend.
pub(super) fn shared_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let mut others = b.iter().peekable();
    a.iter()
        .filter(|bound| {
            while others.next_if(|other| other < bound).is_some() {}
            others.next_if(|other| other == bound).is_some()
        })
        .copied()
        .collect()
}

/// Adds up all buckets of one layout that fall between two bounds of a coarser one, whose bounds are among those of the first.
struct Target<'a, T> {
    bounds: &'a [f64],
    counts: Vec<T>,
}

impl<'a, T: Tally> Target<'a, T> {
    fn new(bounds: &'a [f64]) -> Self {
        Self {
            bounds,
            counts: vec![T::default(); bounds.len() + 1],
        }
    }

    /// Brings in what `source`, a layout with the bounds `from`, has.
    fn merge<U: Tally>(&mut self, source: &Buckets<U>, from: &[f64], combine: impl Fn(&mut T, U)) {
        let mut target = 0;
        for (index, count) in source.iter() {
            let upper = usize::try_from(index)
                .ok()
                .and_then(|index| from.get(index));
            target = match upper {
                // The last bucket has no bound.
                None => self.bounds.len(),
                Some(upper) => {
                    let behind = self.bounds.get(target..).unwrap_or_default();
                    target + behind.iter().take_while(|bound| *bound < upper).count()
                }
            };
            combine(&mut self.counts[target], count);
        }
    }

    fn finish(self) -> Buckets<T> {
        let counts = self.counts.into_iter().enumerate();
        Buckets::from_ascending(
            counts
                .filter(|(_, count)| !count.is_zero())
                .map(|(index, count)| (index as i32, count)),
        )
    }
}

impl<T: Tally> Distribution<T> {
    /// Brings the buckets of `other`, which has other custom bounds, into these, at the bounds that both have.
    pub(super) fn merge_custom<U: Tally>(
        &mut self,
        other: &Distribution<U>,
        combine: impl Fn(&mut T, U),
    ) {
        let bounds = shared_bounds(&self.bounds, &other.bounds);
        let mut target = Target::new(&bounds);
        target.merge(&self.positive, &self.bounds, |count: &mut T, own: T| {
            count.add(own);
        });
        target.merge(&other.positive, &other.bounds, combine);
        self.positive = target.finish();
        self.bounds = bounds;
    }

    /// The buckets as they would be with `bounds`, which are among those of this distribution.
    pub(super) fn at_bounds(&self, bounds: &[f64]) -> Vec<T> {
        let mut target = Target::new(bounds);
        target.merge(&self.positive, &self.bounds, |count: &mut T, own: T| {
            count.add(own);
        });
        target.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bounds_are_in_both() {
        let f = |a: &[f64], b: &[f64], expected: &[f64]| {
            assert_eq!(&*shared_bounds(a, b), expected, "{a:?} {b:?}");
            assert_eq!(&*shared_bounds(b, a), expected, "{b:?} {a:?}");
        };
        f(&[], &[1.0], &[]);
        f(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]);
        f(&[1.0, 2.0, 3.0], &[0.0, 2.0, 2.5, 3.0], &[2.0, 3.0]);
        f(&[1.0, 3.0], &[2.0, 4.0], &[]);
    }
}
