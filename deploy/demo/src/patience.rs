//! Waiting for something to become true: by looking again and again, with a deadline, never by sleeping for a guessed time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;

/// How long anything in the demo may take; on a machine at rest all of it takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_micros(500);

/// Looks until `probe` gives a value, and fails naming `what` if none comes.
pub(crate) fn until<T>(
    what: &str,
    mut probe: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("gave up waiting for {what}");
        }
        thread::sleep(LOOK);
    }
}

/// Looks until `count` is `wanted` or more, or has not grown for `limit`. Returns the last count: what is missing then is lost.
pub(crate) fn until_count(wanted: u64, limit: Duration, mut count: impl FnMut() -> u64) -> u64 {
    let (mut seen, mut grown) = (count(), Instant::now());
    while seen < wanted && grown.elapsed() < limit {
        thread::sleep(LOOK);
        let now = count();
        if now > seen {
            (seen, grown) = (now, Instant::now());
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_stands_still_is_given_up() {
        let mut count = 0;
        let mut grow = || {
            count = (count + 1).min(7);
            count
        };
        assert_eq!(until_count(5, Duration::from_millis(20), &mut grow), 5);
        assert_eq!(until_count(9, Duration::from_millis(20), &mut grow), 7);
    }
}
