//! Where buckets are, as runs of adjacent ones.

use std::ops::Deref;

/// A run of adjacent buckets, by the index of its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: i32,
    pub(super) length: u32,
}

impl Run {
    const EMPTY: Self = Self {
        first: 0,
        length: 0,
    };

    /// The index behind the last bucket.
    pub(super) fn end(self) -> i32 {
        self.first.wrapping_add_unsigned(self.length)
    }
}

/// Runs, ascending, none of which touches the next or is empty. Two of them, which are most that there are, need no memory of
/// their own, so that copying a histogram allocates one thing less.
#[derive(Clone, Debug)]
pub(super) enum Runs {
    /// Behind the last there are empty ones.
    Few([Run; 2]),
    Many(Vec<Run>),
}

/// No runs.
impl Default for Runs {
    fn default() -> Self {
        Self::Few([Run::EMPTY; 2])
    }
}

impl Deref for Runs {
    type Target = [Run];

    #[inline]
    fn deref(&self) -> &[Run] {
        match self {
            Self::Many(runs) => runs,
            Self::Few([one, _]) if one.length == 0 => &[],
            Self::Few([one, two]) if two.length == 0 => std::slice::from_ref(one),
            Self::Few(runs) => runs,
        }
    }
}

impl PartialEq for Runs {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Few(own), Self::Few(others)) => own == others,
            _ => **self == **other,
        }
    }
}

impl Runs {
    /// Adds a run behind all others, joining it with the last one if they touch.
    pub(super) fn push(&mut self, run: Run) {
        if run.length == 0 {
            return;
        }
        let last = match self {
            Self::Many(runs) => runs.last_mut(),
            Self::Few([one, two]) if two.length == 0 => Some(one),
            Self::Few([_, two]) => Some(two),
        };
        if let Some(last) = last.filter(|last| last.length > 0 && last.end() == run.first) {
            last.length += run.length;
            return;
        }
        match self {
            Self::Many(runs) => runs.push(run),
            Self::Few([one, _]) if one.length == 0 => *one = run,
            Self::Few([_, two]) if two.length == 0 => *two = run,
            Self::Few([one, two]) => *self = Self::Many(vec![*one, *two, run]),
        }
    }
}

impl FromIterator<Run> for Runs {
    fn from_iter<I: IntoIterator<Item = Run>>(all: I) -> Self {
        let mut runs = Self::default();
        for run in all {
            runs.push(run);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_touch_are_joined_however_many_there_are() {
        let run = |first, length| Run { first, length };
        let f = |pushed: &[Run], expected: &[Run]| {
            let runs: Runs = pushed.iter().copied().collect();
            assert_eq!(*runs, *expected);
            let again: Runs = runs.iter().copied().collect();
            assert_eq!(runs, again);
        };
        f(&[], &[]);
        f(&[run(3, 0)], &[]);
        f(&[run(0, 2)], &[run(0, 2)]);
        f(&[run(-1, 1), run(0, 2)], &[run(-1, 3)]);
        f(
            &[run(-3, 1), run(0, 2), run(2, 1)],
            &[run(-3, 1), run(0, 3)],
        );
        f(
            &[run(-9, 1), run(0, 2), run(3, 1), run(4, 1), run(8, 2)],
            &[run(-9, 1), run(0, 2), run(3, 2), run(8, 2)],
        );
    }
}
