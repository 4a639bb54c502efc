//! The times at which an expression is evaluated.

/// Evenly spaced times. Expressions inside subqueries and expressions that do not change have grids of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// The first time, in milliseconds since 1970.
    pub(crate) start: i64,
    /// The distance of times in milliseconds, at least one.
    pub(crate) step: i64,
    /// How many there are.
    pub(crate) count: usize,
    /// What the caller gave as the last time, which need not be one of the grid.
    pub(crate) end: i64,
}

impl Grid {
    /// Returns the times from `start` to `end`.
    pub(crate) fn new(start: i64, end: i64, step: i64) -> Self {
        let step = step.max(1);
        let count = if end < start {
            0
        } else {
            (end.saturating_sub(start) / step) as usize + 1
        };
        Self {
            start,
            step,
            count,
            end,
        }
    }

    /// Returns the first time alone, at which expressions are evaluated that do not change.
    pub(crate) fn first_only(self) -> Self {
        Self {
            count: self.count.min(1),
            end: self.start.min(self.end),
            ..self
        }
    }

    /// Returns the time of a step.
    pub(crate) fn time(self, step: usize) -> i64 {
        self.start
            .saturating_add(self.step.saturating_mul(step as i64))
    }

    /// Returns the last time that is evaluated.
    pub(crate) fn last(self) -> i64 {
        self.time(self.count.saturating_sub(1))
    }

    /// Whether results keep the order of evaluation, as those of instant queries do.
    pub(crate) fn is_instant(self) -> bool {
        self.count == 1 && self.start == self.end
    }

    /// Returns all times.
    pub(crate) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |step| self.time(step))
    }
}
