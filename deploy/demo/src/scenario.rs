//! What a tool's part of the demo hands back: an [`Outcome`] per scenario, and the [`Stand`]s that are still up.

use std::{collections::HashMap, fmt, future::Future, pin::Pin, time::Duration};

/// How often each line, or metric, has arrived, or should have.
pub(crate) type Tally = HashMap<Vec<u8>, u64>;

/// What one scenario sent, and what became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The tool and what it was to do.
    pub(crate) name: String,
    /// What was sent, in words.
    pub(crate) sent: String,
    /// How long it took.
    pub(crate) took: Duration,
    /// What was to arrive, place by place.
    pub(crate) rows: Vec<Row>,
}

/// One place, and what was to arrive there.
#[derive(Debug)]
pub(crate) struct Row {
    /// The place, and how it is reached or chosen.
    pub(crate) place: String,
    /// What should be there.
    pub(crate) expected: u64,
    /// What is there.
    pub(crate) arrived: u64,
    /// What is expected and not there.
    pub(crate) lost: u64,
    /// What is there and not expected, or not that often.
    pub(crate) astray: u64,
}

/// Something that a tool leaves up when its scenarios are through.
pub(crate) struct Stand {
    /// What it is.
    pub(crate) name: String,
    /// What listens where.
    pub(crate) addresses: Vec<(String, String)>,
    /// Ends it in order, and shows that nothing was lost on the way out. Does nothing before it is awaited.
    pub(crate) drain: Drain,
}

/// The end of a [`Stand`].
pub(crate) type Drain = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>>>>;

/// Takes the outcomes of a tool's scenarios as they come.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Outcome);

impl Outcome {
    /// Returns whether everything arrived where it was expected, and nothing anywhere else.
    pub(crate) fn passed(&self) -> bool {
        self.rows.iter().all(Row::passed)
    }
}

impl Row {
    /// A row of mail that is compared piece by piece with what should be there.
    pub(crate) fn compare(place: impl Into<String>, expected: &Tally, mail: &Tally) -> Self {
        Self {
            place: place.into(),
            expected: expected.values().sum(),
            arrived: mail.values().sum(),
            lost: surplus(expected, mail),
            astray: surplus(mail, expected),
        }
    }

    /// A row of plain numbers, where too much is as wrong as too little.
    pub(crate) fn count(place: impl Into<String>, expected: u64, arrived: u64) -> Self {
        Self {
            place: place.into(),
            expected,
            arrived,
            lost: expected.saturating_sub(arrived),
            astray: arrived.saturating_sub(expected),
        }
    }

    fn passed(&self) -> bool {
        self.lost == 0 && self.astray == 0
    }
}

/// Counts what `tally` holds and `other` does not, or not that often.
fn surplus(tally: &Tally, other: &Tally) -> u64 {
    tally
        .iter()
        .map(|(piece, times)| times.saturating_sub(other.get(piece).copied().unwrap_or(0)))
        .sum()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .rows
            .iter()
            .map(|row| row.place.chars().count())
            .max()
            .unwrap_or(0);
        writeln!(f, "{}", self.name)?;
        writeln!(
            f,
            "  sent: {} in {:.1} s",
            self.sent,
            self.took.as_secs_f64()
        )?;
        writeln!(
            f,
            "    {:width$}  {:>9}  {:>9}  {:>9}  {:>9}",
            "where", "expected", "arrived", "lost", "astray"
        )?;
        for row in &self.rows {
            let Row {
                place,
                expected,
                arrived,
                lost,
                astray,
            } = row;
            let mark = if row.passed() { ' ' } else { '!' };
            writeln!(
                f,
                "  {mark} {place:width$}  {expected:>9}  {arrived:>9}  {lost:>9}  {astray:>9}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_passes_only_if_nothing_is_lost_and_nothing_astray() {
        let f = |expected, arrived, passes: bool| {
            let outcome = Outcome {
                name: "tool".to_owned(),
                sent: "lines".to_owned(),
                took: Duration::from_millis(1_500),
                rows: vec![
                    Row::count("fine", 1, 1),
                    Row::count("here", expected, arrived),
                ],
            };
            assert_eq!(outcome.passed(), passes, "{outcome}");
            assert_eq!(outcome.to_string().contains('!'), !passes, "{outcome}");
        };
        f(5, 5, true);
        f(5, 4, false);
        f(5, 6, false);
    }
}
