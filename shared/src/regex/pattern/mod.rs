//! RE2's language as Go has it (`regexp/syntax` with Perl flags): judged in Go's words and put into those of crate `regex`.
//!
//! One pass over the pattern does three things. It refuses what Go refuses, with the same error text, which clients see with
//! the part of the pattern that is at fault. It writes the same pattern for crate `regex`, where some of it means something
//! else or nothing. And it finds whether the pattern matches the empty string; to know that, no tree and no automaton is
//! needed: each part either can be empty or cannot. The pass is a loop over heap memory, so no pattern overflows the stack.

mod class;
mod escape;
mod group;

use class::NOTHING;
use group::{Flags, Group, Part};

use super::PatternError;

/// A pattern that Go takes.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The pattern for crate `regex`, with the same numbers of groups.
    pub(super) translation: String,
    /// The names of groups with their numbers, in order. Several groups may share a name, which crate `regex` does not allow.
    pub(super) names: Vec<(String, usize)>,
    /// Whether the pattern matches the empty string when it has to match the whole text.
    pub(super) accepts_empty: bool,
}

impl Pattern {
    /// Judges and translates a pattern.
    pub(super) fn read(pattern: &str) -> Result<Self, PatternError> {
        Recogniser::new(pattern, Flags::default())
            .run()
            .map_err(|fault| PatternError::new(fault.reason, fault.part))
    }

    /// Judges a pattern on its own and translates it to one that has to match the whole text, where a dot matches a newline.
    /// That need not be possible by writing anchors around the pattern: `\Qa` would quote them.
    pub(super) fn read_matcher(pattern: &str) -> Result<Self, PatternError> {
        let mut flags = Flags::default();
        flags.put('s', true);
        let mut read = Recogniser::new(pattern, flags)
            .run()
            .map_err(|fault| PatternError::new(fault.reason, fault.part))?;
        read.translation = format!("^(?s:{})$", read.translation);
        Ok(read)
    }
}

/// The largest number of repetitions, also when repetitions nest.
const MOST_REPETITIONS: u32 = 1000;

/// How deep groups may nest.
pub(super) const DEEPEST: usize = 1000;

/// What is said of a pattern that nests deeper.
pub(super) const TOO_DEEP: &str = "expression nests too deeply";

/// What is said of a pattern that would take too much memory.
pub(super) const TOO_LARGE: &str = "expression too large";

/// What is wrong, and the part of the pattern where.
#[derive(Debug, PartialEq, Eq)]
struct Fault<'a> {
    reason: &'static str,
    part: &'a str,
}

/// A repetition: at least and at most how often.
#[derive(Clone, Copy)]
struct Repetition {
    least: u32,
    most: Option<u32>,
}

struct Recogniser<'a> {
    pattern: &'a str,
    rest: &'a str,
    /// The groups around the current one, outermost first.
    outer: Vec<Group>,
    group: Group,
    /// Whether the rest was seen to have no `:]`.
    posix_classes_are_over: bool,
    /// How many groups capture so far.
    captures: usize,
    names: Vec<(String, usize)>,
    /// How many ranges of characters the Unicode classes hold so far.
    ranges: usize,
    /// The translation so far.
    out: String,
}

impl<'a> Recogniser<'a> {
    fn new(pattern: &'a str, flags: Flags) -> Self {
        Self {
            pattern,
            rest: pattern,
            outer: Vec::new(),
            group: Group::new(0, flags, flags),
            posix_classes_are_over: false,
            captures: 0,
            names: Vec::new(),
            ranges: 0,
            out: String::with_capacity(pattern.len()),
        }
    }

    fn run(mut self) -> Result<Pattern, Fault<'a>> {
        // Where the last piece's repetition began, if it had one.
        let mut repeated = None;
        while let Some(c) = self.rest.chars().next() {
            let start = self.rest;
            let last_repeated = repeated.take();
            match c {
                '(' => self.open_group()?,
                ')' => self.close_group()?,
                '|' => {
                    self.bump();
                    self.group.next_alternative();
                    self.out.push('|');
                }
                '*' | '+' | '?' | '{' => {
                    if let Some(repetition) = self.repetition(start)? {
                        self.repeat(repetition, start, last_repeated)?;
                        repeated = Some(start);
                    } else {
                        self.bump();
                        self.character(u32::from(c));
                    }
                }
                '^' | '$' | '.' => {
                    self.bump();
                    let is_empty = c != '.';
                    self.begin(if is_empty {
                        Part::NOTHING
                    } else {
                        Part::CHARACTER
                    });
                    self.out.push(c);
                }
                '[' => {
                    self.begin(Part::CHARACTER);
                    self.class()?;
                }
                '\\' => self.backslash()?,
                _ => {
                    self.bump();
                    self.character(u32::from(c));
                }
            }
        }
        if !self.outer.is_empty() {
            return Err(Fault {
                reason: "missing closing )",
                part: self.pattern,
            });
        }
        Ok(Pattern {
            accepts_empty: self.group.whole().is_empty,
            translation: self.out,
            names: self.names,
        })
    }

    // === translation ===

    /// Begins a piece, whose translation follows.
    fn begin(&mut self, part: Part) {
        self.write_flags();
        self.group.push(part, self.out.len());
    }

    /// Adds a piece that is a single character, given as code point.
    fn character(&mut self, code_point: u32) {
        self.begin(Part::CHARACTER);
        push_code_point(&mut self.out, code_point);
    }

    /// Writes changed flags. This waits for the next piece, because they may stand between a piece and its repetition.
    fn write_flags(&mut self) {
        let flags = self.group.flags;
        if flags == self.group.written_flags {
            return;
        }
        self.group.written_flags = flags;
        self.out.push_str("(?");
        self.out.extend(flags.with(true));
        if flags.with(false).next().is_some() {
            self.out.push('-');
            self.out.extend(flags.with(false));
        }
        self.out.push(')');
    }

    // === groups ===

    fn open_group(&mut self) -> Result<(), Fault<'a>> {
        if !self.rest.starts_with("(?") {
            self.bump();
            self.captures += 1;
            return self.push_group("(", self.group.flags);
        }
        if let Some(name) = self
            .rest
            .strip_prefix("(?P<")
            .or_else(|| self.rest.strip_prefix("(?<"))
        {
            return self.named_group(name);
        }
        self.flags()
    }

    /// Opens a group with what begins it in the translation and its flags.
    fn push_group(&mut self, text: &str, flags: Flags) -> Result<(), Fault<'a>> {
        if self.outer.len() >= DEEPEST {
            return Err(Fault {
                reason: TOO_DEEP,
                part: self.pattern,
            });
        }
        self.write_flags();
        // This is where the piece begins that the group will be.
        let start = self.out.len();
        self.out.push_str(text);
        let inner = Group::new(start, flags, self.group.written_flags);
        self.outer.push(std::mem::replace(&mut self.group, inner));
        Ok(())
    }

    fn close_group(&mut self) -> Result<(), Fault<'a>> {
        let Some(outer) = self.outer.pop() else {
            return Err(Fault {
                reason: "unexpected )",
                part: self.pattern,
            });
        };
        self.bump();
        self.out.push(')');
        let inner = std::mem::replace(&mut self.group, outer);
        self.group.push(inner.whole(), inner.start);
        Ok(())
    }

    /// Reads `(?P<name>` or `(?<name>`; `name` is what follows the angle.
    fn named_group(&mut self, name: &'a str) -> Result<(), Fault<'a>> {
        const REASON: &str = "invalid named capture";
        let start = self.rest;
        let Some((name, after)) = name.split_once('>') else {
            return Err(Fault {
                reason: REASON,
                part: start,
            });
        };
        self.rest = after;
        if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
            return Err(Fault {
                reason: REASON,
                part: self.since(start),
            });
        }
        self.captures += 1;
        self.names.push((name.to_owned(), self.captures));
        self.push_group("(", self.group.flags)
    }

    /// Reads `(?i)`, `(?i:`, `(?i-s:` and the like.
    fn flags(&mut self) -> Result<(), Fault<'a>> {
        let start = self.rest;
        self.bump();
        self.bump();
        let mut flags = self.group.flags;
        let (mut negated, mut any) = (false, false);
        while let Some(c) = self.bump() {
            match c {
                c if flags.put(c, !negated) => any = true,
                '-' if !negated => (negated, any) = (true, false),
                ':' if any || !negated => return self.push_group("(?:", flags),
                ')' if any || !negated => {
                    self.group.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(Fault {
            reason: "invalid or unsupported Perl syntax",
            part: self.since(start),
        })
    }

    // === repetitions ===

    /// Reads a repetition's operator; a brace may be none.
    fn repetition(&mut self, start: &'a str) -> Result<Option<Repetition>, Fault<'a>> {
        let (least, most) = match start.as_bytes() {
            [b'*', ..] => (0, None),
            [b'+', ..] => (1, None),
            [b'?', ..] => (0, Some(1)),
            _ => return self.counted_repetition(start),
        };
        self.bump();
        Ok(Some(Repetition { least, most }))
    }

    /// Reads `{n}`, `{n,}` or `{n,m}`; anything else is plain text.
    fn counted_repetition(&mut self, start: &'a str) -> Result<Option<Repetition>, Fault<'a>> {
        let inside = start.strip_prefix('{').unwrap_or_default();
        let end = inside
            .find(|c: char| c != ',' && !c.is_ascii_digit())
            .unwrap_or(inside.len());
        let (counts, rest) = inside.split_at(end);
        let Some(after) = rest.strip_prefix('}') else {
            return Ok(None);
        };
        let (least, most) = match counts.split_once(',') {
            None => (count(counts), count(counts).map(Some)),
            Some((least, "")) => (count(least), Some(None)),
            Some((least, most)) => (count(least), count(most).map(Some)),
        };
        let (Some(least), Some(most)) = (least, most) else {
            return Ok(None);
        };
        self.rest = after;
        if least > MOST_REPETITIONS
            || most.is_some_and(|most| most > MOST_REPETITIONS || most < least)
        {
            return Err(Fault {
                reason: "invalid repeat count",
                part: self.since(start),
            });
        }
        Ok(Some(Repetition { least, most }))
    }

    /// Repeats the last piece; `start` is where the operator begins.
    fn repeat(
        &mut self,
        by: Repetition,
        start: &'a str,
        last: Option<&'a str>,
    ) -> Result<(), Fault<'a>> {
        if let Some(lazy) = self.rest.strip_prefix('?') {
            self.rest = lazy;
        }
        let operator = self.since(start);
        if let Some(last) = last {
            return Err(Fault {
                reason: "invalid nested repetition operator",
                part: self.since(last),
            });
        }
        let Some(part) = &mut self.group.last else {
            return Err(Fault {
                reason: "missing argument to repetition operator",
                part: self.since(start),
            });
        };
        let times = by.most.unwrap_or(by.least);
        if start.starts_with('{') && by.most != Some(0) {
            part.repetitions = part.repetitions.saturating_mul(times.max(1));
        } else if by.most == Some(0) {
            part.repetitions = 1;
        }
        part.is_empty |= by.least == 0;
        if times >= 2 && part.repetitions > MOST_REPETITIONS {
            return Err(Fault {
                reason: "invalid repeat count",
                part: operator,
            });
        }
        self.write_repetition(operator)
    }

    /// Writes the operator behind the last piece. One that was repeated, with flags or empty quotes before the next operator, is
    /// put into a group first; otherwise the two would be read as one.
    fn write_repetition(&mut self, operator: &str) -> Result<(), Fault<'a>> {
        if self.group.last_repeats >= DEEPEST {
            return Err(Fault {
                reason: TOO_DEEP,
                part: self.pattern,
            });
        }
        if self.group.last_repeats > 0 {
            self.out.insert_str(self.group.last_start, "(?:");
            self.out.push(')');
        }
        self.group.last_repeats += 1;
        self.out.push_str(operator);
        Ok(())
    }

    // === cursor ===

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    /// Returns the pattern from `start`, an earlier rest, up to here.
    fn since(&self, start: &'a str) -> &'a str {
        start
            .get(..start.len() - self.rest.len())
            .unwrap_or_default()
    }
}

/// Writes a character of a literal or class.
fn push_code_point(out: &mut String, code_point: u32) {
    match char::from_u32(code_point) {
        None => out.push_str(NOTHING),
        Some(c) if c.is_ascii_alphanumeric() || !c.is_ascii() => out.push(c),
        Some(_) => {
            let digits = [code_point >> 4, code_point & 0xf].into_iter();
            out.push_str(r"\x");
            out.extend(digits.filter_map(|digit| char::from_digit(digit, 16)));
        }
    }
}

/// Reads a count. One with a leading zero is none; one that is far too large need not be exact.
fn count(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    (is_number && !has_leading_zero).then(|| text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
