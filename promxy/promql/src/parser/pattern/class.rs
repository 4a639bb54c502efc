//! Character classes: `[a-z]`, `[[:alpha:]]`, `\p{Greek}`. Which characters they hold makes no difference here.

use super::{Fault, Recogniser};

const RANGE: &str = "invalid character class range";

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

impl<'a> Recogniser<'a> {
    /// Reads a class in brackets.
    pub(super) fn class(&mut self) -> Result<(), Fault<'a>> {
        let start = self.rest;
        self.bump();
        if self.rest.starts_with('^') {
            self.bump();
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
                self.bump();
                self.bump();
                continue;
            }
            let range = self.rest;
            let low = self.class_character(start)?;
            let mut after = self.rest.chars();
            if after.next() == Some('-') && after.next().is_some_and(|c| c != ']') {
                self.bump();
                if self.class_character(start)? < low {
                    return Err(Fault {
                        reason: RANGE,
                        part: self.since(range),
                    });
                }
            }
        }
        self.bump();
        Ok(())
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

    /// Reads `\pL` or `\p{Name}`.
    pub(super) fn unicode_class(&mut self) -> Result<(), Fault<'a>> {
        let start = self.rest;
        self.bump();
        self.bump();
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
        if is_unicode_class(name.strip_prefix('^').unwrap_or(name)) {
            return Ok(());
        }
        Err(Fault {
            reason: RANGE,
            part: self.since(start),
        })
    }
}

/// Whether a script or general category has the name.
fn is_unicode_class(name: &str) -> bool {
    // The names are those of the Unicode tables of the syntax crate, which would also take a property with a value.
    let is_plain = name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
    is_plain
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && regex_syntax::parse(&format!(r"\p{{{name}}}")).is_ok()
}
