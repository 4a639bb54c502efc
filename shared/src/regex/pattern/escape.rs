//! What begins with a backslash.

use super::{Fault, Part, Recogniser};

impl<'a> Recogniser<'a> {
    /// Reads an assertion, a class, quoted text or an escaped character outside brackets.
    pub(super) fn backslash(&mut self) -> Result<(), Fault<'a>> {
        let start = self.rest;
        let (part, text) = match start.as_bytes() {
            [_, b'A', ..] => (Part::NOTHING, r"\A"),
            [_, b'z', ..] => (Part::NOTHING, r"\z"),
            [_, b'B', ..] => (Part::NOTHING, r"(?-u:\B)"),
            // No place of an empty text is at the edge of a word.
            [_, b'b', ..] => (Part::CHARACTER, r"(?-u:\b)"),
            [_, b'C', ..] => {
                return Err(Fault {
                    reason: "invalid escape sequence",
                    part: r"\C",
                });
            }
            [_, b'Q', ..] => {
                self.quoted_text();
                return Ok(());
            }
            [_, b'p' | b'P', ..] => {
                self.begin(Part::CHARACTER);
                return self.unicode_class();
            }
            _ if self.is_at_perl_class() => {
                self.begin(Part::CHARACTER);
                self.perl_class();
                return Ok(());
            }
            _ => {
                let code_point = self.escape()?;
                self.character(code_point);
                return Ok(());
            }
        };
        self.bump();
        self.bump();
        self.begin(part);
        self.out.push_str(text);
        Ok(())
    }

    /// Reads `\Q...\E`, whose end may be missing. Without text it is not a piece that could be repeated.
    fn quoted_text(&mut self) {
        let inside = self.rest.get(2..).unwrap_or_default();
        let (text, after) = inside.split_once(r"\E").unwrap_or((inside, ""));
        self.rest = after;
        for c in text.chars() {
            self.character(u32::from(c));
        }
    }

    /// Reads an escaped character and returns its code point.
    pub(super) fn escape(&mut self) -> Result<u32, Fault<'a>> {
        let start = self.rest;
        self.bump();
        let Some(c) = self.bump() else {
            return Err(Fault {
                reason: "trailing backslash at end of expression",
                part: "",
            });
        };
        let value = match c {
            // A single digit would refer back to a group, which is not supported.
            '1'..='7' if !self.rest.starts_with(|c| matches!(c, '0'..='7')) => None,
            '0'..='7' => Some(self.octal(c)),
            'x' => self.hexadecimal(),
            'a' => Some(0x07),
            'f' => Some(0x0c),
            'n' => Some(u32::from('\n')),
            'r' => Some(u32::from('\r')),
            't' => Some(u32::from('\t')),
            'v' => Some(0x0b),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        value.ok_or_else(|| Fault {
            reason: "invalid escape sequence",
            part: self.since(start),
        })
    }

    fn octal(&mut self, first: char) -> u32 {
        let mut value = first.to_digit(8).unwrap_or_default();
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                break;
            };
            self.bump();
            value = value * 8 + digit;
        }
        value
    }

    /// Reads two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.bump()?;
        if first != '{' {
            // The error shows both characters even if the first is no digit.
            let second = self.bump();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let mut value: Option<u32> = None;
        loop {
            match self.bump()? {
                '}' => return value,
                digit => {
                    let next = value.unwrap_or_default() * 16 + digit.to_digit(16)?;
                    value = Some(next).filter(|next| *next <= u32::from(char::MAX));
                    value?;
                }
            }
        }
    }
}
