//! Numbers and durations.
//!
//! The reference's scanner is generous: it accepts shapes that reading the number refuses later (`1e`), and it takes the first
//! `e` of a hexadecimal number for an exponent. Both show in error texts, so the rules here are the same.

use super::{Lexer, is_alphanumeric};
use crate::format;
use crate::parser::ParseError;
use crate::parser::token::TokenKind;

impl Lexer<'_> {
    /// Whether a token that begins with `c`, already read, is a number.
    pub(super) fn at_number(&self, c: char) -> bool {
        c.is_ascii_digit() || c == '.' && self.peek().is_some_and(|next| next.is_ascii_digit())
    }

    /// Reads a number or a duration, of which the first character, one byte, has been read.
    pub(super) fn number_or_duration(&mut self) -> Result<TokenKind, ParseError> {
        self.position = self.start;
        if self.number() {
            return Ok(TokenKind::Number);
        }
        if self.rest_of_duration() {
            return Ok(TokenKind::Duration);
        }
        let text = format::quote(self.token_text().as_bytes());
        Err(self.error(format!("bad number or duration syntax: {text}")))
    }

    /// Reads a number, or as much of it as is one, and says whether nothing alphanumeric follows.
    fn number(&mut self) -> bool {
        let hexadecimal = self.accept(|c| c == '0') && self.accept(|c| matches!(c, 'x' | 'X'));
        if hexadecimal {
            self.accept(|c| c == '_');
        }
        let is_digit = |c: char| {
            if hexadecimal {
                c.is_ascii_hexdigit()
            } else {
                c.is_ascii_digit()
            }
        };
        let is_exponent = |c: char| matches!(c, 'e' | 'E');
        // A leading dot does not count as the dot.
        self.accept(|c| c == '.');
        self.accept(is_digit);
        let (mut dot_seen, mut exponent_seen) = (false, false);
        while let Some(c) = self.peek() {
            if c == '.' {
                self.bump();
                if dot_seen || self.accept(|c| matches!(c, '_' | '.')) || hexadecimal {
                    return false;
                }
                dot_seen = true;
            } else if is_exponent(c) {
                self.bump();
                if exponent_seen {
                    return false;
                }
                exponent_seen = true;
                self.accept(|c| matches!(c, '+' | '-'));
                if self.accept(ends_badly) || self.peek().is_none() {
                    return false;
                }
            } else if c == '_' {
                self.bump();
                if self.accept(ends_badly) || self.peek().is_none() {
                    return false;
                }
            } else if is_digit(c) {
                self.bump_while(is_digit);
            } else {
                break;
            }
        }
        !self.peek().is_some_and(is_alphanumeric)
    }

    /// Reads units and further numbers after the first number of a duration. Units are only roughly checked here.
    fn rest_of_duration(&mut self) -> bool {
        let is_digit = |c: char| c.is_ascii_digit();
        if !self.accept(|c| "smhdwy".contains(c)) {
            return false;
        }
        self.accept(|c| c == 's');
        while self.accept(is_digit) {
            self.bump_while(is_digit);
            // Years come first, if at all.
            if !self.accept(|c| "smhdw".contains(c)) {
                return false;
            }
            self.accept(|c| c == 's');
        }
        // The character in the way belongs to the error text.
        !self.accept(is_alphanumeric)
    }
}

/// What must not follow an exponent's mark or an underscore.
fn ends_badly(c: char) -> bool {
    matches!(c, '.' | '_' | 'e' | 'E')
}
