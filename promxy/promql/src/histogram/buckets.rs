//! The buckets on one side of zero: where they are, and what is in each.

use super::kahan::Tally;
use super::runs::{Run, Runs};

/// A run of adjacent buckets, as protocols and storages write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// How many buckets are left out since the last run; for the first run, the index of its first bucket.
    pub offset: i32,
    /// How many buckets the run has.
    pub length: u32,
}

/// Why spans and counts do not make buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// A run begins before the last one ended.
    #[error(
        "span number {number} with offset {offset}: histogram has a span whose offset is negative"
    )]
    NegativeOffset {
        /// Which span, from one on.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// Spans and counts differ in number.
    #[error(
        "spans need {needed} buckets, have {present} buckets: \
         histogram spans specify different number of buckets than provided"
    )]
    CountMismatch {
        /// How many buckets the spans have.
        needed: u64,
        /// How many counts there are.
        present: usize,
    },
    /// An index is beyond what 32 bits hold.
    #[error("histogram has a bucket whose index is out of range")]
    IndexOutOfRange,
}

/// Buckets by index, ascending; buckets that were never touched are left out.
///
/// Runs end before the highest index.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Buckets<T> {
    runs: Runs,
    counts: Vec<T>,
}

/// No buckets.
impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Self {
            runs: Runs::default(),
            counts: Vec::new(),
        }
    }
}

impl<T: Tally> Buckets<T> {
    /// Makes buckets of spans and counts. Empty spans are dropped and touching ones joined.
    pub(super) fn new(spans: &[Span], counts: Vec<T>) -> Result<Self, SpanError> {
        let needed = spans.iter().map(|span| u64::from(span.length)).sum();
        if needed != counts.len() as u64 {
            return Err(SpanError::CountMismatch {
                needed,
                present: counts.len(),
            });
        }
        let mut runs = Runs::default();
        let mut index = 0i64;
        for (i, span) in spans.iter().enumerate() {
            if i > 0 && span.offset < 0 {
                return Err(SpanError::NegativeOffset {
                    number: i + 1,
                    offset: span.offset,
                });
            }
            let first = index + i64::from(span.offset);
            index = first + i64::from(span.length);
            if first <= i64::from(i32::MIN) || index >= i64::from(i32::MAX) {
                return Err(SpanError::IndexOutOfRange);
            }
            runs.push(Run {
                first: first as i32,
                length: span.length,
            });
        }
        Ok(Self { runs, counts })
    }

    /// Makes buckets of indices and counts, which ascend.
    pub(super) fn from_ascending(buckets: impl IntoIterator<Item = (i32, T)>) -> Self {
        let mut made = Self::default();
        for (index, count) in buckets {
            made.push(index, count);
        }
        made
    }

    /// Makes buckets of the [runs](Self::runs) and counts that others had.
    pub(super) fn of_runs(runs: Runs, counts: Vec<T>) -> Self {
        Self { runs, counts }
    }

    /// Adds a bucket behind all others.
    fn push(&mut self, index: i32, count: T) {
        self.runs.push(Run {
            first: index,
            length: 1,
        });
        self.counts.push(count);
    }

    // === looking ===

    /// How many buckets there are, empty ones included.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there is no bucket, not even an empty one.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The counts in order.
    pub(super) fn counts(&self) -> &[T] {
        &self.counts
    }

    /// The counts in order, to change them.
    pub(super) fn counts_mut(&mut self) -> &mut [T] {
        &mut self.counts
    }

    /// The runs that the buckets are in.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many runs the buckets are in.
    pub(super) fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// The runs, as protocols write them.
    pub(super) fn spans(&self) -> impl Iterator<Item = Span> {
        let mut end = 0;
        self.runs.iter().map(move |run| {
            let offset = run.first.wrapping_sub(end);
            end = run.end();
            Span {
                offset,
                length: run.length,
            }
        })
    }

    /// The index of the last bucket.
    pub(super) fn last_index(&self) -> Option<i32> {
        self.runs.last().map(|run| run.end() - 1)
    }

    /// The index of the first bucket.
    pub(super) fn first_index(&self) -> Option<i32> {
        self.runs.first().map(|run| run.first)
    }

    /// Whether the same buckets are there, whatever is in them.
    pub(super) fn same_layout<U>(&self, other: &Buckets<U>) -> bool {
        self.runs == other.runs
    }

    /// Indices and counts, ascending.
    pub(super) fn iter(&self) -> Iter<'_, T> {
        Iter {
            runs: &self.runs,
            taken_front: 0,
            taken_back: 0,
            counts: self.counts.iter(),
        }
    }

    // === changing ===

    /// The same layout with something else in each bucket.
    pub(super) fn map<U>(&self, f: impl Fn(T) -> U) -> Buckets<U> {
        Buckets {
            runs: self.runs.clone(),
            counts: self.counts.iter().map(|count| f(*count)).collect(),
        }
    }

    /// Brings the buckets of `other` into these: with `combine` where there is one, else made by `insert`. Leaves out the first
    /// ones of `other` as long as they are `inside` of something else.
    pub(super) fn merge<U: Tally>(
        &mut self,
        other: &Buckets<U>,
        inside: impl Fn(i32) -> bool,
        insert: impl Fn(U) -> T,
        combine: impl Fn(&mut T, U),
    ) {
        let Some(first) = other
            .iter()
            .map(|(index, _)| index)
            .find(|index| !inside(*index))
        else {
            return;
        };
        if self.runs == other.runs && other.first_index() == Some(first) {
            for (count, added) in self.counts.iter_mut().zip(&other.counts) {
                combine(count, *added);
            }
            return;
        }
        let mut merged = Self {
            runs: Runs::default(),
            counts: Vec::with_capacity(self.counts.len().max(other.counts.len())),
        };
        let mut own = self.iter().peekable();
        for (index, added) in other.iter().filter(|(index, _)| *index >= first) {
            while let Some((before, count)) = own.next_if(|(own, _)| *own < index) {
                merged.push(before, count);
            }
            match own.next_if(|(own, _)| *own == index) {
                Some((_, mut count)) => {
                    combine(&mut count, added);
                    merged.push(index, count);
                }
                None => merged.push(index, insert(added)),
            }
        }
        for (index, count) in own {
            merged.push(index, count);
        }
        *self = merged;
    }

    /// Adds an empty bucket wherever `other` has one and this has not.
    pub(super) fn pad_like<U: Tally>(&mut self, other: &Buckets<U>) {
        if !self.same_layout(other) {
            self.merge(other, |_| false, |_| T::default(), |_, _| {});
        }
    }

    /// Gives every bucket another index, which ascends with the old one, and adds up those that get the same.
    pub(super) fn regroup(&self, index: impl Fn(i32) -> i32) -> Self {
        let mut grouped = Self {
            runs: Runs::default(),
            counts: Vec::new(),
        };
        for (old, count) in self.iter() {
            let new = index(old);
            match grouped.counts.last_mut() {
                Some(last) if grouped.runs.last().is_some_and(|run| run.end() == new + 1) => {
                    last.add(count);
                }
                _ => grouped.push(new, count),
            }
        }
        grouped
    }

    /// The populated buckets whose index is wanted.
    pub(super) fn retained(&self, wanted: impl Fn(i32) -> bool) -> Self {
        Self::from_ascending(
            self.iter()
                .filter(|(index, count)| wanted(*index) && !count.is_zero()),
        )
    }

    /// Drops empty buckets at the edges of runs and wherever more than `gap` of them follow each other, and joins runs that are
    /// at most `gap` buckets apart.
    pub(super) fn compact(&mut self, gap: u32) {
        let tight =
            self.counts.iter().all(|count| !count.is_zero()) && (gap == 0 || self.runs.len() < 2);
        if tight {
            return;
        }
        let kept = self.counts.iter().filter(|count| !count.is_zero());
        let kept = kept.count();
        if kept == 0 {
            *self = Self::default();
            return;
        }
        let mut compacted = Self {
            runs: Runs::default(),
            counts: Vec::with_capacity(if gap == 0 { kept } else { self.counts.len() }),
        };
        for (index, count) in self.iter().filter(|(_, count)| !count.is_zero()) {
            if let Some(last) = compacted.last_index() {
                let missing = index.wrapping_sub(last).wrapping_sub(1) as u32;
                if missing <= gap {
                    for between in last + 1..index {
                        compacted.push(between, T::default());
                    }
                }
            }
            compacted.push(index, count);
        }
        *self = compacted;
    }
}

impl Buckets<f64> {
    /// What is more in each bucket than in the same one of `other`, which has the same layout.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let counts = self.counts.iter().zip(&other.counts);
        Self {
            runs: self.runs.clone(),
            counts: counts.map(|(own, other)| own - other).collect(),
        }
    }
}

/// Indices and counts, from both ends.
#[derive(Clone, Debug)]
pub(super) struct Iter<'a, T> {
    /// The runs that are not used up.
    runs: &'a [Run],
    /// How many buckets of the first run are used up.
    taken_front: u32,
    /// How many buckets of the last run are used up.
    taken_back: u32,
    counts: std::slice::Iter<'a, T>,
}

impl<T: Copy> Iterator for Iter<'_, T> {
    type Item = (i32, T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let count = *self.counts.next()?;
        let mut run = *self.runs.first()?;
        if self.taken_front == run.length {
            self.runs = self.runs.get(1..)?;
            self.taken_front = 0;
            run = *self.runs.first()?;
        }
        let index = run.first.wrapping_add_unsigned(self.taken_front);
        self.taken_front += 1;
        Some((index, count))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.counts.size_hint()
    }
}

impl<T: Copy> DoubleEndedIterator for Iter<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let count = *self.counts.next_back()?;
        let mut run = *self.runs.last()?;
        if self.taken_back == run.length {
            self.runs = self.runs.get(..self.runs.len() - 1)?;
            self.taken_back = 0;
            run = *self.runs.last()?;
        }
        self.taken_back += 1;
        let index = run.end().wrapping_sub_unsigned(self.taken_back);
        Some((index, count))
    }
}

impl<T: Copy> ExactSizeIterator for Iter<'_, T> {}
