//! What the parser has to know of a regular expression: whether it is one, and whether it matches the empty string.
//!
//! The language is RE2's as Go has it (`regexp/syntax` with Perl flags), and so are the error texts, which clients see with the
//! part of the pattern that is at fault. A selector whose matchers all accept the empty string is refused, because it would
//! select everything; to know that, no tree and no automaton is needed: each part either can be empty or cannot. Pinned by the
//! `matcher` rows of `tests/misc_golden.rs`.

mod class;
mod escape;

use crate::Text;

/// Whether `pattern`, which has to match a whole value, matches the empty string; or why it is not a pattern.
pub(crate) fn matches_empty(pattern: &Text) -> Result<bool, String> {
    let Some(text) = pattern.to_str() else {
        return Err(format!(
            "error parsing regexp: invalid UTF-8: `{}`",
            pattern.to_str_lossy()
        ));
    };
    Recogniser::new(text)
        .run()
        .map_err(|fault| format!("error parsing regexp: {}: `{}`", fault.reason, fault.part))
}

/// The largest number of repetitions, also when repetitions nest.
const MOST_REPETITIONS: u32 = 1000;

/// How deep groups may nest.
const DEEPEST: usize = 1000;

/// What is wrong, and the part of the pattern where.
#[derive(Debug, PartialEq, Eq)]
struct Fault<'a> {
    reason: &'static str,
    part: &'a str,
}

/// What is known of a part of the pattern.
#[derive(Clone, Copy)]
struct Part {
    /// Whether it can match nothing.
    is_empty: bool,
    /// How often its innermost piece is repeated at most, as far as that was counted out.
    repetitions: u32,
}

impl Part {
    const NOTHING: Self = Self {
        is_empty: true,
        repetitions: 1,
    };
    const CHARACTER: Self = Self {
        is_empty: false,
        repetitions: 1,
    };

    fn then(self, next: Self) -> Self {
        Self {
            is_empty: self.is_empty && next.is_empty,
            repetitions: self.repetitions.max(next.repetitions),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            is_empty: self.is_empty || other.is_empty,
            repetitions: self.repetitions.max(other.repetitions),
        }
    }
}

/// An open group, or the whole pattern.
#[derive(Clone, Copy)]
struct Group {
    /// The alternatives before the current one.
    alternatives: Option<Part>,
    /// The current alternative up to its last piece.
    before: Part,
    /// The last piece, to which a repetition applies.
    last: Option<Part>,
}

impl Group {
    const EMPTY: Self = Self {
        alternatives: None,
        before: Part::NOTHING,
        last: None,
    };

    fn push(&mut self, part: Part) {
        self.before = self.alternative();
        self.last = Some(part);
    }

    fn alternative(&self) -> Part {
        self.last.map_or(self.before, |last| self.before.then(last))
    }

    fn next_alternative(&mut self) {
        *self = Self {
            alternatives: Some(self.whole()),
            ..Self::EMPTY
        };
    }

    fn whole(&self) -> Part {
        let alternative = self.alternative();
        self.alternatives
            .map_or(alternative, |others| others.or(alternative))
    }
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
}

impl<'a> Recogniser<'a> {
    fn new(pattern: &'a str) -> Self {
        Self {
            pattern,
            rest: pattern,
            outer: Vec::new(),
            group: Group::EMPTY,
            posix_classes_are_over: false,
        }
    }

    fn run(mut self) -> Result<bool, Fault<'a>> {
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
                }
                '*' | '+' | '?' | '{' => {
                    if let Some(repetition) = self.repetition(start)? {
                        self.repeat(repetition, start, last_repeated)?;
                        repeated = Some(start);
                    } else {
                        self.bump();
                        self.group.push(Part::CHARACTER);
                    }
                }
                '^' | '$' => {
                    self.bump();
                    self.group.push(Part::NOTHING);
                }
                '[' => {
                    self.class()?;
                    self.group.push(Part::CHARACTER);
                }
                '\\' => self.backslash()?,
                _ => {
                    self.bump();
                    self.group.push(Part::CHARACTER);
                }
            }
        }
        if self.outer.is_empty() {
            Ok(self.group.whole().is_empty)
        } else {
            Err(Fault {
                reason: "missing closing )",
                part: self.pattern,
            })
        }
    }

    // === groups ===

    fn open_group(&mut self) -> Result<(), Fault<'a>> {
        if !self.rest.starts_with("(?") {
            self.bump();
            return self.push_group();
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

    fn push_group(&mut self) -> Result<(), Fault<'a>> {
        if self.outer.len() >= DEEPEST {
            return Err(Fault {
                reason: "expression nests too deeply",
                part: self.pattern,
            });
        }
        self.outer
            .push(std::mem::replace(&mut self.group, Group::EMPTY));
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
        let inner = std::mem::replace(&mut self.group, outer).whole();
        self.group.push(inner);
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
        self.push_group()
    }

    /// Reads `(?i)`, `(?i:`, `(?i-s:` and the like. Which flags hold makes no difference here.
    fn flags(&mut self) -> Result<(), Fault<'a>> {
        let start = self.rest;
        self.bump();
        self.bump();
        let (mut negated, mut any) = (false, false);
        while let Some(c) = self.bump() {
            match c {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !negated => (negated, any) = (true, false),
                ':' if any || !negated => return self.push_group(),
                ')' if any || !negated => return Ok(()),
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
                part: self.since(start),
            });
        }
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

/// Reads a count. One with a leading zero is none; one that is far too large need not be exact.
fn count(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    (is_number && !has_leading_zero).then(|| text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_string_is_found_without_running_the_pattern() {
        let f = |pattern: &str, expected: bool| {
            assert_eq!(matches_empty(&pattern.into()), Ok(expected), "{pattern}");
        };
        f("", true);
        f(".*", true);
        f(".+", false);
        f("a|", true);
        f("(a?)(b*)", true);
        f("(a|b){0,3}", true);
        f("(|a)b", false);
        f("(|a){3}", true);
        f("^$", true);
        f(r"\b", false);
        f(r"\B", true);
        f(r"\Q\E", true);
        f("(?i)", true);
        f("(?i:a)", false);
        f("x{,3}", false); // plain text
        f("x{01}", false); // plain text too
        f("(?P<n>)(?<n>)", true);
        f("[]a]*", true);
    }

    #[test]
    fn a_refused_pattern_says_so_in_gos_words() {
        let f = |pattern: &str, expected: &str| {
            assert_eq!(
                matches_empty(&pattern.into()),
                Err(format!("error parsing regexp: {expected}")),
                "{pattern}"
            );
        };
        f("a{2,1}", "invalid repeat count: `{2,1}`");
        f("a{99999999999}", "invalid repeat count: `{99999999999}`");
        f("((a{10}){10}){11}", "invalid repeat count: `{11}`");
        f("a*?*", "invalid nested repetition operator: `*?*`");
        f("(*a)", "missing argument to repetition operator: `*`");
        f("(?-)", "invalid or unsupported Perl syntax: `(?-)`");
        f("(?<a b>)", "invalid named capture: `(?<a b>`");
        f(r"\x{110000}", r"invalid escape sequence: `\x{110000`");
        f(r"[a-\d]", r"invalid escape sequence: `\d`");
        f(r"\p{Greek", r"invalid character class range: `\p{Greek`");
    }

    #[test]
    fn a_long_or_deep_pattern_is_read_once() {
        let long = 1_000_000;
        assert!(matches_empty(&"(".repeat(long).as_str().into()).is_err());
        assert!(matches_empty(&"[".repeat(long).as_str().into()).is_err());
        assert_eq!(matches_empty(&"a?".repeat(long).as_str().into()), Ok(true));
        assert_eq!(matches_empty(&"{".repeat(long).as_str().into()), Ok(false));
        assert_eq!(
            matches_empty(&"[[:a]".repeat(long).as_str().into()),
            Ok(false)
        );
        assert!(matches_empty(&"[[:".repeat(long).as_str().into()).is_err());
    }
}
