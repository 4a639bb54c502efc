//! What a line is: the pure part of the plaintext listener.
//!
//! Lines end with LF; one CR before it is cut. A last line without LF counts when its sender closes. With its terminator a
//! line has 65,536 bytes at most: a longer one is skipped, up to its LF, and counted. Nothing else is looked at unless
//! lines are to be validated. Pinned by the golden cases `ingest/*`.

use memchr::{memchr, memchr_iter};

use crate::{batch::Filling, validate};

/// The longest line with its terminator, in bytes.
pub const MAX_LINE: usize = 65_536;

/// What happens to lines that no carbon would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// They pass, as in the original.
    Nothing,
    /// They are dropped and counted.
    Graphite,
}

/// What became of the lines of some bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines that are in a batch now.
    pub taken: u64,
    /// Lines skipped because they are too long.
    pub oversize: u64,
    /// Lines dropped because no carbon would take them.
    pub invalid: u64,
}

impl Tally {
    /// Returns how many lines were read, whatever became of them.
    pub fn read(self) -> u64 {
        self.taken + self.oversize + self.invalid
    }
}

/// Cuts the bytes of one stream into lines.
#[derive(Debug)]
pub struct LineReader {
    check: Check,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// Within a line that is too long.
    skipping: bool,
}

impl LineReader {
    /// Starts at the beginning of a line.
    pub fn new(check: Check) -> Self {
        Self {
            check,
            partial: Vec::new(),
            skipping: false,
        }
    }

    /// Returns whether the last bytes have left a line without its end.
    pub fn is_within_line(&self) -> bool {
        self.skipping || !self.partial.is_empty()
    }

    /// Takes the next bytes; whole lines go to `filling`.
    pub fn feed(&mut self, chunk: &[u8], filling: &mut Filling) -> Tally {
        let mut tally = Tally::default();
        let mut rest = chunk;
        if self.is_within_line() {
            let Some(end) = memchr(b'\n', rest) else {
                self.hold_back(rest, &mut tally);
                return tally;
            };
            let (head, tail) = rest.split_at(end + 1);
            self.end_partial(&head[..end], filling, &mut tally);
            rest = tail;
        }
        let whole = self.whole_lines(rest, filling, &mut tally);
        self.hold_back(&rest[whole..], &mut tally);
        tally
    }

    /// Ends the stream: a line without LF counts as a line.
    pub fn finish(&mut self, filling: &mut Filling) -> Tally {
        let mut tally = Tally::default();
        if !self.skipping && !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.take(&line, filling, &mut tally);
        }
        self.skipping = false;
        tally
    }

    /// Takes all lines that end within `bytes`, and returns how many bytes they are. Neighbours are copied together.
    fn whole_lines(&self, bytes: &[u8], filling: &mut Filling, tally: &mut Tally) -> usize {
        // Lines of `run` have been looked at and are to be copied as they are.
        let (mut run_start, mut run_lines) = (0, 0);
        let mut start = 0;
        let copy = |run: &[u8], lines: &mut usize, filling: &mut Filling| {
            filling.open.extend(run, *lines);
            *lines = 0;
            filling.close_if_full();
        };
        for end in memchr_iter(b'\n', bytes) {
            let line = &bytes[start..end];
            let after = end + 1;
            let cut = line.strip_suffix(b"\r");
            let text = cut.unwrap_or(line);
            let verdict = self.verdict(line.len() + 1, text, tally);
            match (verdict, cut) {
                (Verdict::Take, None) => run_lines += 1,
                (Verdict::Take, Some(text)) => {
                    copy(&bytes[run_start..start], &mut run_lines, filling);
                    filling.push(text);
                    run_start = after;
                }
                (Verdict::Skip, _) => {
                    copy(&bytes[run_start..start], &mut run_lines, filling);
                    run_start = after;
                }
            }
            start = after;
            if run_lines > 0
                && (run_lines >= filling.open.room()
                    || start - run_start >= crate::batch::MAX_BYTES)
            {
                copy(&bytes[run_start..start], &mut run_lines, filling);
                run_start = start;
            }
        }
        copy(&bytes[run_start..start], &mut run_lines, filling);
        start
    }

    /// Keeps bytes whose LF has not come.
    fn hold_back(&mut self, bytes: &[u8], tally: &mut Tally) {
        if bytes.is_empty() || self.skipping {
            return;
        }
        if self.partial.len() + bytes.len() >= MAX_LINE {
            self.partial = Vec::new();
            self.skipping = true;
            tally.oversize += 1;
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    /// The LF of a line has come whose beginning was held back.
    fn end_partial(&mut self, end: &[u8], filling: &mut Filling, tally: &mut Tally) {
        if std::mem::take(&mut self.skipping) {
            return;
        }
        let mut line = std::mem::take(&mut self.partial);
        line.extend_from_slice(end);
        let text = line.strip_suffix(b"\r").unwrap_or(&line);
        if self.verdict(line.len() + 1, text, tally) == Verdict::Take {
            filling.push(text);
        }
    }

    fn take(&self, text: &[u8], filling: &mut Filling, tally: &mut Tally) {
        if self.verdict(text.len(), text, tally) == Verdict::Take {
            filling.push(text);
        }
    }

    /// Decides over a line that has `length` bytes with its terminator, and counts it.
    fn verdict(&self, length: usize, text: &[u8], tally: &mut Tally) -> Verdict {
        if length > MAX_LINE {
            tally.oversize += 1;
            Verdict::Skip
        } else if self.check == Check::Graphite && !validate::carbon_takes(text) {
            tally.invalid += 1;
            Verdict::Skip
        } else {
            tally.taken += 1;
            Verdict::Take
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Take,
    Skip,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::MAX_LINES;

    /// What a reader makes of `chunks`, and the lines as batches.
    fn read(chunks: &[&[u8]]) -> (Tally, Vec<Vec<u8>>) {
        let (mut reader, mut filling) = (LineReader::new(Check::Nothing), Filling::default());
        let mut sum = Tally::default();
        let mut add = |tally: Tally| {
            sum.taken += tally.taken;
            sum.oversize += tally.oversize;
        };
        for chunk in chunks {
            add(reader.feed(chunk, &mut filling));
        }
        add(reader.finish(&mut filling));
        filling.close();
        let batches = filling.full.iter().map(|open| open.data().to_vec());
        (sum, batches.collect())
    }

    /// The rules, said once more and slowly.
    fn expected(bytes: &[u8]) -> (Tally, Vec<u8>) {
        let (mut tally, mut out) = (Tally::default(), Vec::new());
        let mut rest = bytes;
        while !rest.is_empty() {
            let (line, length, after) = match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let line = &rest[..end];
                    (line.strip_suffix(b"\r").unwrap_or(line), end + 1, end + 1)
                }
                None => (rest, rest.len() + 1, rest.len()),
            };
            if length > MAX_LINE {
                tally.oversize += 1;
            } else {
                tally.taken += 1;
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            rest = &rest[after..];
        }
        (tally, out)
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_its_neighbours_are_not() {
        let f = |length: usize, terminator: &[u8], oversize: u64| {
            let mut bytes = b"before 1 1\n".to_vec();
            bytes.extend(std::iter::repeat_n(b'x', length));
            bytes.extend_from_slice(terminator);
            bytes.extend_from_slice(b"after 1 1\n");
            for size in [1_000, 65_536, bytes.len()] {
                let (tally, batches) = read(&bytes.chunks(size).collect::<Vec<_>>());
                assert_eq!(
                    (tally.oversize, tally.taken),
                    (oversize, 3 - oversize),
                    "{length} {size}"
                );
                assert!(batches[0].ends_with(b"\nafter 1 1\n"));
            }
        };
        f(65_535, b"\n", 0);
        f(65_536, b"\n", 1);
        f(65_534, b"\r\n", 0);
        f(65_535, b"\r\n", 1);
        f(200_000, b"\n", 1);
    }

    #[test]
    fn a_chunk_with_many_lines_makes_batches_of_5000() {
        let bytes = b"\n".repeat(2 * MAX_LINES + 1);
        let (tally, batches) = read(&[&bytes]);
        assert_eq!(tally.taken, 10_001);
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(sizes, [5_000, 5_000, 1]);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just(b"\n".to_vec()),
                    Just(b"\r\n".to_vec()),
                    Just(b"\r".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..40),
                    (65_520usize..65_550).prop_map(|length| vec![b'y'; length]),
                ],
                0..30,
            ),
            size in 1usize..70_000,
        ) {
            let bytes = pieces.concat();
            let (tally, batches) = read(&bytes.chunks(size).collect::<Vec<_>>());
            let (wanted, lines) = expected(&bytes);
            prop_assert_eq!(tally, wanted);
            prop_assert_eq!(batches.concat(), lines);
        }
    }
}
