//! Batches: [`Open`] ones, which lines are added to, and closed and compressed ones ([`Batch`]), which wait and travel.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::spool::Ticket;

/// Lines in a full batch, as in the original.
pub const MAX_LINES: usize = 5_000;
/// Bytes at which a batch is closed although it has fewer lines. Far above what 5000 lines of real metrics take.
pub const MAX_BYTES: usize = 4 << 20;

/// Lines that wait for more: whole lines, each with its line feed.
#[derive(Debug, Default)]
pub struct Open {
    data: Vec<u8>,
    lines: usize,
}

impl Open {
    /// Adds a line, without its line feed.
    pub fn push(&mut self, line: &[u8]) {
        self.data.extend_from_slice(line);
        self.data.push(b'\n');
        self.lines += 1;
    }

    /// Adds `count` whole lines with their line feeds.
    pub fn extend(&mut self, lines: &[u8], count: usize) {
        self.data.extend_from_slice(lines);
        self.lines += count;
    }

    /// Returns the lines.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Returns the bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.data.capacity()
    }

    /// Returns how many lines there are.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Returns whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Returns how many more lines fit; none once the bytes are too many.
    pub fn room(&self) -> usize {
        if self.data.len() >= MAX_BYTES {
            0
        } else {
            MAX_LINES.saturating_sub(self.lines)
        }
    }
}

/// An open batch, and the full ones that came before it.
#[derive(Debug, Default)]
pub struct Filling {
    /// Takes the next lines.
    pub open: Open,
    /// Full, oldest first.
    pub full: Vec<Open>,
}

impl Filling {
    /// Adds a line, without its line feed.
    pub fn push(&mut self, line: &[u8]) {
        self.open.push(line);
        self.close_if_full();
    }

    /// Moves the open batch to the full ones if nothing more fits.
    pub fn close_if_full(&mut self) {
        if self.open.room() == 0 {
            self.close();
        }
    }

    /// Moves the open batch to the full ones unless it is empty.
    pub fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
        }
    }
}

/// A closed batch as it travels: a gzip stream of lines.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The gzip stream.
    pub body: Bytes,
    /// Lines in it.
    pub lines: u32,
    /// Bytes before compression.
    pub raw_bytes: u32,
    /// When it was closed.
    pub closed: Moment,
    /// Where in the spool it lies, if it does.
    pub ticket: Option<Ticket>,
}

/// A point in time that a restart understands: milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Returns the present.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.unwrap_or_default().as_millis() as u64)
    }

    /// Returns how long ago it was; nothing if the clock was set back.
    pub fn age(self) -> Duration {
        Duration::from_millis(Self::now().0.saturating_sub(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_at_5000_lines_or_at_its_bytes() {
        let mut filling = Filling::default();
        for _ in 0..MAX_LINES {
            filling.push(b"");
        }
        assert_eq!((filling.full.len(), filling.open.lines()), (1, 0));
        let long = vec![b'x'; 65_535];
        for _ in 0..64 {
            filling.push(&long);
        }
        assert_eq!((filling.full.len(), filling.full[1].lines()), (2, 64));
    }
}
