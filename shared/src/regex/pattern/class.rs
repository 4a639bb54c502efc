//! Character classes: `[a-z]`, `[[:alpha:]]`, `\p{Greek}`.

use regex_syntax::hir::{Class, HirKind};

use super::{Fault, Recogniser, push_code_point};

const RANGE: &str = "invalid character class range";

/// How many ranges of characters all Unicode classes of a pattern may hold together; Go has a limit for them, too.
const MOST_RANGES: usize = 1 << 22;

/// What no character is in. Surrogates are code points, but not characters.
pub(super) const NOTHING: &str = r"[^\x{0}-\x{10FFFF}]";

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

impl<'a> Recogniser<'a> {
    /// Reads a class in brackets.
    pub(super) fn class(&mut self) -> Result<(), Fault<'a>> {
        let start = self.rest;
        self.bump();
        self.out.push('[');
        if self.rest.starts_with('^') {
            self.bump();
            self.out.push('^');
        }
        let mut is_first = true;
        while is_first || !self.rest.starts_with(']') {
            is_first = false;
            if self.rest.starts_with("[:") && self.posix_class()? {
                continue;
            }
            if self.rest.starts_with(r"\p") || self.rest.starts_with(r"\P") {
                self.unicode_class()?;
                continue;
            }
            if self.is_at_perl_class() {
                self.perl_class();
                continue;
            }
            let range = self.rest;
            let low = self.class_character(start)?;
            let mut high = low;
            let mut after = self.rest.chars();
            if after.next() == Some('-') && after.next().is_some_and(|c| c != ']') {
                self.bump();
                high = self.class_character(start)?;
                if high < low {
                    return Err(Fault {
                        reason: RANGE,
                        part: self.since(range),
                    });
                }
            }
            self.push_range(low, high);
        }
        self.bump();
        self.out.push(']');
        Ok(())
    }

    /// Writes a range without the surrogates in it.
    fn push_range(&mut self, low: u32, high: u32) {
        const SURROGATES: std::ops::RangeInclusive<u32> = 0xd800..=0xdfff;
        let is_in = |c: &u32| SURROGATES.contains(c);
        let low = if is_in(&low) {
            SURROGATES.end() + 1
        } else {
            low
        };
        let high = if is_in(&high) {
            SURROGATES.start() - 1
        } else {
            high
        };
        if low > high {
            self.out.push_str(NOTHING);
            return;
        }
        push_code_point(&mut self.out, low);
        if high > low {
            self.out.push('-');
            push_code_point(&mut self.out, high);
        }
    }

    fn class_character(&mut self, class: &'a str) -> Result<u32, Fault<'a>> {
        match self.rest.chars().next() {
            None => Err(Fault {
                reason: "missing closing ]",
                part: class,
            }),
            Some('\\') => self.escape(),
            Some(c) => {
                self.bump();
                Ok(u32::from(c))
            }
        }
    }

    /// Reads `[:name:]`, unless it has no end.
    fn posix_class(&mut self) -> Result<bool, Fault<'a>> {
        let start = self.rest;
        // If there is no end, it is searched for only once, so that the whole stays linear.
        if self.posix_classes_are_over {
            return Ok(false);
        }
        let Some((name, after)) = start.get(2..).and_then(|inside| inside.split_once(":]")) else {
            self.posix_classes_are_over = true;
            return Ok(false);
        };
        self.rest = after;
        if POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            self.out.push_str(self.since(start));
            return Ok(true);
        }
        Err(Fault {
            reason: RANGE,
            part: self.since(start),
        })
    }

    /// Whether `\d`, `\s`, `\w` or one of their opposites is next.
    pub(super) fn is_at_perl_class(&self) -> bool {
        matches!(
            self.rest.as_bytes(),
            [b'\\', b'd' | b'D' | b's' | b'S' | b'w' | b'W', ..]
        )
    }

    /// Reads a Perl class, whose characters are ASCII.
    pub(super) fn perl_class(&mut self) {
        self.bump();
        let text = match self.bump() {
            Some('d') => "[0-9]",
            Some('D') => "[^0-9]",
            Some('s') => r"[\t\n\f\r ]",
            Some('S') => r"[^\t\n\f\r ]",
            Some('w') => "[0-9A-Za-z_]",
            _ => "[^0-9A-Za-z_]",
        };
        self.out.push_str(text);
    }

    /// Reads `\pL` or `\p{Name}`.
    pub(super) fn unicode_class(&mut self) -> Result<(), Fault<'a>> {
        let start = self.rest;
        self.bump();
        let is_small = self.bump() == Some('p');
        let name = if let Some(inside) = self.rest.strip_prefix('{') {
            let Some((name, after)) = inside.split_once('}') else {
                return Err(Fault {
                    reason: RANGE,
                    part: start,
                });
            };
            self.rest = after;
            name
        } else {
            let after_mark = self.rest;
            self.bump();
            self.since(after_mark)
        };
        let plain_name = name.strip_prefix('^').unwrap_or(name);
        let Some(class) = UnicodeClass::named(plain_name) else {
            return Err(Fault {
                reason: RANGE,
                part: self.since(start),
            });
        };
        self.ranges = self.ranges.saturating_add(class.ranges);
        if self.ranges > MOST_RANGES {
            return Err(Fault {
                reason: super::TOO_LARGE,
                part: self.pattern,
            });
        }
        // Either of the two signs negates, both together do not.
        let is_negated = is_small == (name.len() > plain_name.len());
        self.out.push_str(if is_negated { "[^" } else { "[" });
        self.out.push_str(&class.text);
        self.out.push(']');
        Ok(())
    }
}

/// A general category or script.
struct UnicodeClass {
    /// As crate `regex` calls it.
    text: String,
    /// How many ranges of characters it holds.
    ranges: usize,
}

impl UnicodeClass {
    /// Finds the category or script in the tables of the syntax crate, which takes names in more spellings.
    fn named(name: &str) -> Option<Self> {
        let is_plain = name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
        if !is_plain || !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        if name == "Cs" {
            let (text, ranges) = (NOTHING.to_owned(), 0);
            return Some(Self { text, ranges });
        }
        ["gc", "sc"].into_iter().find_map(|property| {
            let text = format!(r"\p{{{property}={name}}}");
            let ranges = match regex_syntax::parse(&text).ok()?.into_kind() {
                HirKind::Class(Class::Unicode(class)) => class.ranges().len(),
                _ => 1,
            };
            Some(Self { text, ranges })
        })
    }
}
