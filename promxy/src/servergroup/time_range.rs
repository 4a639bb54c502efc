//! For which times a group is asked (`absolute_time_range`, `relative_time_range`).
//!
//! A window says at which times a group is looked into. For a query those are the times of evaluation, or what `@` puts in
//! their place, less offsets; how far a selector then looks back does not matter. For everything else they are the start and
//! the end that the request names.

use promql::parser::{At, DurationValue, Expr, NodeKind, TimeShift};

/// A window as it is configured. Ends in milliseconds: since 1970, or from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeRange {
    /// Between two times.
    Absolute {
        /// The first time of the window.
        start_ms: Option<i64>,
        /// The last.
        end_ms: Option<i64>,
        /// Whether requests are cut to the window.
        truncate: bool,
    },
    /// Between two distances from now, negative ones being in the past.
    Relative {
        /// The distance of the first time.
        start_ms: Option<i64>,
        /// The distance of the last.
        end_ms: Option<i64>,
        /// Whether requests are cut to the window.
        truncate: bool,
    },
}

/// A window at some moment. Times in milliseconds since 1970, both ends belonging to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: i64,
    end: i64,
    truncate: bool,
}

/// The times of evaluation of a query: `start`, `start + step` and so on, up to `end`. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// The first time.
    pub start: i64,
    /// No time is later.
    pub end: i64,
    /// The distance of the times; zero for a query of one time.
    pub step: i64,
}

impl Grid {
    /// Returns the grid of a query of one time.
    pub fn instant(time: i64) -> Self {
        let (start, end, step) = (time, time, 0);
        Self { start, end, step }
    }

    /// Whether the grid has one time because the query has.
    pub fn is_instant(&self) -> bool {
        self.step <= 0
    }

    /// Returns how many times there are.
    pub fn len(&self) -> usize {
        if self.is_instant() {
            1
        } else if self.end < self.start {
            0
        } else {
            usize::try_from((self.end - self.start) / self.step).map_or(0, |steps| steps + 1)
        }
    }

    /// Whether there is no time.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the time with a number, counted from zero.
    pub fn time(&self, number: usize) -> i64 {
        self.start + self.step * number as i64
    }

    /// Returns the number of a time that is on the grid.
    pub fn index(&self, time: i64) -> Option<usize> {
        let distance = usize::try_from(time.checked_sub(self.start)?).ok()?;
        if self.is_instant() {
            return (distance == 0).then_some(0);
        }
        let step = usize::try_from(self.step).ok()?;
        (time <= self.end && distance % step == 0).then_some(distance / step)
    }

    /// Returns the grid with all times earlier by an offset.
    #[must_use]
    pub fn shifted(&self, offset_ms: i64) -> Self {
        Self {
            start: self.start.saturating_sub(offset_ms),
            end: self.end.saturating_sub(offset_ms),
            step: self.step,
        }
    }
}

impl TimeRange {
    /// Returns the window at a moment.
    pub fn window(&self, now_ms: i64) -> Window {
        let (start, end, truncate, zero) = match *self {
            Self::Absolute {
                start_ms,
                end_ms,
                truncate,
            } => (start_ms, end_ms, truncate, 0),
            Self::Relative {
                start_ms,
                end_ms,
                truncate,
            } => (start_ms, end_ms, truncate, now_ms),
        };
        Window {
            start: start.map_or(i64::MIN, |start| zero.saturating_add(start)),
            end: end.map_or(i64::MAX, |end| zero.saturating_add(end)),
            truncate,
        }
    }
}

impl Window {
    /// Returns the grid that is left of a query's, if the group is asked at all.
    ///
    /// Cutting moves the start to the first time of the query's own grid that is in the window. A query that names its times
    /// with `@` is not cut: its times of evaluation say nothing of where it looks.
    pub fn query(&self, expr: &Expr, grid: Grid) -> Option<Grid> {
        let looks = looks(expr, grid);
        if looks.is_empty() {
            return self
                .overlaps(grid.start, grid.end)
                .then(|| self.cut(grid))
                .flatten();
        }
        let is_inside = looks.iter().any(|look| self.overlaps(look.start, look.end));
        let is_fixed = looks.iter().any(|look| look.is_fixed);
        let offset = looks
            .iter()
            .find(|look| !look.is_fixed)
            .map_or(0, |look| grid.start - look.start);
        match (is_inside, is_fixed) {
            (false, _) => None,
            (true, true) => Some(grid),
            (true, false) => self
                .cut(grid.shifted(offset))
                .map(|grid| grid.shifted(-offset)),
        }
    }

    /// Returns what is left of the times that a request names; an end that it leaves open is that of the window, or stays open.
    pub fn span(&self, start: Option<i64>, end: Option<i64>) -> Option<(Option<i64>, Option<i64>)> {
        let (first, last) = (start.unwrap_or(i64::MIN), end.unwrap_or(i64::MAX));
        if !self.overlaps(first, last) {
            return None;
        }
        if !self.truncate {
            return Some((start, end));
        }
        let (first, last) = (first.max(self.start), last.min(self.end));
        Some((
            (first != i64::MIN).then_some(first),
            (last != i64::MAX).then_some(last),
        ))
    }

    fn overlaps(&self, start: i64, end: i64) -> bool {
        start <= self.end && end >= self.start
    }

    fn cut(&self, grid: Grid) -> Option<Grid> {
        if !self.truncate || grid.is_instant() {
            return Some(grid);
        }
        let missing = self.start.saturating_sub(grid.start).max(0);
        let steps = missing / grid.step + i64::from(missing % grid.step != 0);
        let cut = Grid {
            start: grid.start.saturating_add(steps.saturating_mul(grid.step)),
            end: grid.end.min(self.end),
            step: grid.step,
        };
        (cut.start <= cut.end).then_some(cut)
    }
}

/// The times at which a selector looks.
struct Look {
    start: i64,
    end: i64,
    /// Whether `@` says so.
    is_fixed: bool,
}

/// Lists the times at which the selectors of an expression look.
fn looks(expr: &Expr, grid: Grid) -> Vec<Look> {
    let mut looks = Vec::new();
    let mut stack = vec![(expr.root_id(), grid, false)];
    while let Some((id, grid, is_fixed)) = stack.pop() {
        let kind = &expr[id].kind;
        let (grid, is_fixed) = match kind {
            NodeKind::Vector(selector) => {
                let (look, is_fixed) = shifted(&selector.shift, grid, is_fixed);
                let (start, end) = (look.start, look.end);
                looks.push(Look {
                    start,
                    end,
                    is_fixed,
                });
                continue;
            }
            NodeKind::Subquery(subquery) => shifted(&subquery.shift, grid, is_fixed),
            _ => (grid, is_fixed),
        };
        stack.extend(
            (0..)
                .map_while(|n| kind.child(n))
                .map(|child| (child, grid, is_fixed)),
        );
    }
    looks
}

fn shifted(shift: &TimeShift, grid: Grid, is_fixed: bool) -> (Grid, bool) {
    let offset = match &shift.offset {
        DurationValue::Fixed(offset) => offset.as_millis(),
        DurationValue::Expr(_) => 0,
    };
    match shift.at {
        Some(At::Timestamp(time)) => (Grid::instant(time).shifted(offset), true),
        Some(At::Start) => (Grid::instant(grid.start).shifted(offset), true),
        Some(At::End) => (Grid::instant(grid.end).shifted(offset), true),
        None => (grid.shifted(offset), is_fixed),
    }
}

/// Returns how much later the samples of an answer have to be made, for a server that moves range queries to whole steps
/// (`align_query_range_with_step`). Milliseconds.
pub fn step_shift(grid: Grid) -> i64 {
    if grid.is_instant() {
        0
    } else {
        grid.start.rem_euclid(grid.step)
    }
}

#[cfg(test)]
mod tests {
    use promql::parser::{ParserOptions, parse};

    use super::*;

    const START: i64 = 1_700_000_400_000;
    const END: i64 = 1_700_000_700_000;

    fn window(end_ms: Option<i64>, truncate: bool) -> Window {
        let start_ms = Some(START);
        TimeRange::Absolute {
            start_ms,
            end_ms,
            truncate,
        }
        .window(0)
    }

    fn grid(start: i64, end: i64, step: i64) -> Grid {
        let [start, end, step] = [start, end, step].map(|seconds| seconds * 1000);
        Grid { start, end, step }
    }

    #[test]
    fn queries_are_cut_to_the_window() {
        let f = |window: Window, query: &str, asked: Grid, expected: Option<Grid>| {
            let expr = parse(query, &ParserOptions::v3_5()).unwrap();
            assert_eq!(window.query(&expr, asked), expected, "{query} {asked:?}");
        };
        let whole = window(Some(END), false);
        let cut = window(Some(END), true);
        let open = window(None, true);
        let instant = |seconds: i64| Grid::instant(seconds * 1000);
        f(whole, "x", instant(1_700_000_300), None);
        f(
            whole,
            "x",
            instant(1_700_000_400),
            Some(instant(1_700_000_400)),
        );
        f(whole, "x", instant(1_700_000_701), None);
        f(
            open,
            "x",
            instant(1_700_000_701),
            Some(instant(1_700_000_701)),
        );
        let asked = grid(1_699_999_810, 1_700_001_010, 60);
        f(whole, "x", asked, Some(asked));
        f(
            cut,
            "x",
            asked,
            Some(grid(1_700_000_410, 1_700_000_700, 60)),
        );
        f(
            open,
            "x",
            asked,
            Some(grid(1_700_000_410, 1_700_001_010, 60)),
        );
        f(cut, "x", grid(1_700_000_800, 1_700_001_000, 60), None);
        // No time of the grid is in the window.
        f(cut, "x", grid(1_700_000_390, 1_700_001_390, 1000), None);
        // The offset counts, whether it is in the text or not.
        f(
            whole,
            "x offset 5m",
            instant(1_700_000_900),
            Some(instant(1_700_000_900)),
        );
        f(
            cut,
            "x offset 60s",
            grid(1_700_000_400, 1_700_001_000, 60),
            Some(grid(1_700_000_460, 1_700_000_760, 60)),
        );
        // D27: the time that @ names counts, not that of evaluation.
        f(
            whole,
            "x @ 1700000500",
            instant(1_700_001_500),
            Some(instant(1_700_001_500)),
        );
        f(
            whole,
            "x @ 1700000500 offset 10m",
            instant(1_700_000_500),
            None,
        );
        f(
            cut,
            "1",
            asked,
            Some(grid(1_700_000_410, 1_700_000_700, 60)),
        );
    }

    #[test]
    fn other_requests_are_cut_at_both_ends() {
        let f = |window: Window, asked: (i64, i64), expected: Option<(i64, i64)>| {
            let left = window.span(Some(asked.0), Some(asked.1));
            assert_eq!(
                left,
                expected.map(|(start, end)| (Some(start), Some(end))),
                "{asked:?}"
            );
        };
        let cut = window(Some(END), true);
        f(cut, (START - 1000, END + 1000), Some((START, END)));
        // D26: an end inside of the window stays.
        f(cut, (START + 1, END - 1), Some((START + 1, END - 1)));
        f(cut, (END + 1, END + 2), None);
        f(
            window(Some(END), false),
            (START - 1, END + 1),
            Some((START - 1, END + 1)),
        );
        assert_eq!(
            window(None, true).span(None, None),
            Some((Some(START), None))
        );
    }

    #[test]
    fn relative_windows_move_with_the_clock() {
        let range = TimeRange::Relative {
            start_ms: Some(-3_600_000),
            end_ms: None,
            truncate: true,
        };
        assert_eq!(
            range.window(10_000_000).span(Some(0), None),
            Some((Some(6_400_000), None))
        );
    }

    #[test]
    fn answers_of_aligning_servers_are_moved_to_the_grid() {
        assert_eq!(step_shift(grid(1_699_999_801, 1_700_000_401, 60)), 1000);
        assert_eq!(step_shift(grid(1_699_999_800, 1_700_000_400, 60)), 0);
        assert_eq!(step_shift(Grid::instant(1)), 0);
    }
}
