//! Quoted and raw strings: finding their end and refusing bad escapes. [`crate::parser::literal::unquote`] reads them.

use super::Lexer;
use crate::format;
use crate::parser::ParseError;
use crate::parser::token::TokenKind;

impl Lexer<'_> {
    /// Reads a string after its opening quote.
    pub(super) fn quoted_string(&mut self, quote: char) -> Result<TokenKind, ParseError> {
        loop {
            match self.bump() {
                None | Some('\n') => return Err(self.error("unterminated quoted string")),
                // The reference cannot tell the character from ill-formed input.
                Some(char::REPLACEMENT_CHARACTER) => return Err(self.error("invalid UTF-8 rune")),
                Some('\\') => self.escape(quote)?,
                Some(c) if c == quote => return Ok(TokenKind::String),
                Some(_) => {}
            }
        }
    }

    /// Reads a string after its opening backtick.
    pub(super) fn raw_string(&mut self) -> Result<TokenKind, ParseError> {
        loop {
            match self.bump() {
                None => return Err(self.error("unterminated raw string")),
                Some(char::REPLACEMENT_CHARACTER) => return Err(self.error("invalid UTF-8 rune")),
                Some('`') => return Ok(TokenKind::String),
                Some(_) => {}
            }
        }
    }

    /// Checks an escape after its backslash.
    fn escape(&mut self, quote: char) -> Result<(), ParseError> {
        let unterminated = "escape sequence not terminated";
        let Some(c) = self.bump() else {
            return Err(self.error(unterminated));
        };
        let (digits, radix, largest, first) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => (3, 8, 0xff, Some(c)),
            'x' => (2, 16, 0xff, self.bump()),
            'u' => (4, 16, u32::from(char::MAX), self.bump()),
            'U' => (8, 16, u32::from(char::MAX), self.bump()),
            _ => {
                return Err(
                    self.error(format!("unknown escape sequence {}", format::code_point(c)))
                );
            }
        };
        let mut next = first;
        let mut value: u32 = 0;
        for digit in 1..=digits {
            let Some(c) = next else {
                return Err(self.error(unterminated));
            };
            let Some(worth) = c.to_digit(radix) else {
                return Err(self.error(format!(
                    "illegal character {} in escape sequence",
                    format::code_point(c)
                )));
            };
            // Eight hexadecimal digits just fit.
            value = value * radix + worth;
            if digit < digits {
                next = self.bump();
            }
        }
        if value > largest || (0xd800..0xe000).contains(&value) {
            return Err(self.error("escape sequence is an invalid Unicode code point"));
        }
        Ok(())
    }
}
