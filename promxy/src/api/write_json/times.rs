//! The times of many series, each written once.
//!
//! The series of an answer mostly have the same times, and writing one takes as long as writing its value.

use super::{END_OF_POINT, begin_float_point};

/// How many times are kept: as many as a range may have.
const MOST: usize = 11_001;

/// Times that were written, ascending.
#[derive(Debug, Default)]
pub struct Times {
    millis: Vec<i64>,
    /// What stands before the value of each time: `],[1700000000,"`.
    text: String,
    /// Where the text of each ends.
    ends: Vec<usize>,
}

/// The times of one series.
#[derive(Debug)]
pub(super) struct Cursor<'t> {
    times: &'t mut Times,
    at: usize,
}

impl Times {
    /// Goes to the beginning.
    pub(super) fn series(&mut self) -> Cursor<'_> {
        Cursor { times: self, at: 0 }
    }

    fn text(&self, at: usize) -> &str {
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(begin..self.ends[at]).unwrap_or_default()
    }
}

impl Cursor<'_> {
    /// Writes what stands between two values, of which the second is of this time, which comes after all others of the series.
    pub(super) fn write(&mut self, millis: i64, out: &mut String) {
        let Self { times, at } = self;
        while times.millis.get(*at).is_some_and(|known| *known < millis) {
            *at += 1;
        }
        let is_new = *at == times.millis.len() && *at < MOST;
        if is_new {
            write_new(millis, &mut times.text);
            times.millis.push(millis);
            times.ends.push(times.text.len());
        }
        if times.millis.get(*at) == Some(&millis) {
            out.push_str(times.text(*at));
            *at += 1;
        } else {
            write_new(millis, out);
        }
    }
}

fn write_new(millis: i64, out: &mut String) {
    out.push_str(END_OF_POINT);
    out.push(',');
    begin_float_point(millis, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_if_it_were_the_first() {
        let mut times = Times::default();
        let mut f = |series: &[i64]| {
            let (mut found, mut expected) = (String::new(), String::new());
            let mut cursor = times.series();
            for millis in series {
                cursor.write(*millis, &mut found);
                write_new(*millis, &mut expected);
            }
            assert_eq!(found, expected, "{series:?}");
        };
        f(&[1000, 2000, 3500]);
        f(&[1000, 2000, 3500, 4000]);
        f(&[2000, 4000]);
        // Between others, before them, and none.
        f(&[-500, 1500, 2000, 9000]);
        f(&[]);
        let many: Vec<i64> = (0..20_000).collect();
        f(&many);
        f(&many);
        assert!(times.millis.len() <= MOST);
    }
}
