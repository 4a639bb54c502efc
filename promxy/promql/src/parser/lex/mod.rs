//! Text to tokens.
//!
//! Follows Prometheus' lexer (`promql/parser/lex.go`), whose errors win over grammar errors that would come later. Its state
//! is small: whether a brace or a bracket is open, how many parentheses are, and whether the next token is the first of a
//! range. White space and comments never become tokens.

mod number;
mod string;

use crate::format;
use crate::parser::token::{Token, TokenKind};
use crate::parser::{BinaryOp, Compat, ParseError, Span};

/// Cuts a query into tokens.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    input: &'a str,
    compat: Compat,
    /// The next byte to read.
    position: usize,
    /// Where the current token began; an error reaches from here to the end of the query.
    start: usize,
    open_parens: usize,
    brace_open: bool,
    bracket: Bracket,
    colon_seen: bool,
    /// Like the reference, never reset: a second bracket may begin with a colon and is then the grammar's to refuse.
    duration_seen: bool,
}

/// Whether a bracket is open, and if so how far its contents have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bracket {
    Closed,
    /// Until the first number, only duration arithmetic may come.
    BeforeNumber,
    /// After it, nearly everything is a token for the grammar to judge.
    AfterNumber,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(input: &'a str, compat: Compat) -> Self {
        Self {
            input,
            compat,
            position: 0,
            start: 0,
            open_parens: 0,
            brace_open: false,
            bracket: Bracket::Closed,
            colon_seen: false,
            duration_seen: false,
        }
    }

    /// Returns the next token; at the end of the query, [`TokenKind::End`] as often as asked.
    pub(crate) fn next(&mut self) -> Result<Token, ParseError> {
        let kind = if self.brace_open {
            self.inside_braces()
        } else if self.bracket == Bracket::BeforeNumber {
            self.inside_duration()
        } else {
            self.outside()
        }?;
        Ok(Token {
            kind,
            span: Span {
                start: self.start,
                end: self.position,
            },
        })
    }

    /// Reads a token outside braces, or inside brackets after the first number.
    fn outside(&mut self) -> Result<TokenKind, ParseError> {
        self.skip_space_and_comments();
        let Some(c) = self.bump() else {
            return match (self.open_parens, self.bracket) {
                (0, Bracket::Closed) => Ok(TokenKind::End),
                (0, _) => Err(self.error("unclosed left bracket")),
                _ => Err(self.error("unclosed left parenthesis")),
            };
        };
        let binary = |op| Ok(TokenKind::Binary(op));
        match c {
            ',' => Ok(TokenKind::Comma),
            '@' => Ok(TokenKind::At),
            '*' => binary(BinaryOp::Mul),
            '/' => binary(BinaryOp::Div),
            '%' => binary(BinaryOp::Mod),
            '+' => binary(BinaryOp::Add),
            '-' => binary(BinaryOp::Sub),
            '^' => binary(BinaryOp::Pow),
            '=' => match self.peek() {
                Some('=') => Ok(self.also(TokenKind::Binary(BinaryOp::Eq))),
                Some('~') => Err(self.error("unexpected character after '=': '~'")),
                _ => Ok(TokenKind::Assign),
            },
            '!' => match self.bump() {
                Some('=') => binary(BinaryOp::NotEq),
                other => Err(self.error(format!(
                    "unexpected character after '!': {}",
                    quote_or_end(other)
                ))),
            },
            '<' => match self.peek() {
                Some('=') => Ok(self.also(TokenKind::Binary(BinaryOp::LessEq))),
                Some('/') if self.compat >= Compat::V3_14 => {
                    Ok(self.also(TokenKind::Binary(BinaryOp::TrimUpper)))
                }
                _ => binary(BinaryOp::Less),
            },
            '>' => match self.peek() {
                Some('=') => Ok(self.also(TokenKind::Binary(BinaryOp::GreaterEq))),
                Some('/') if self.compat >= Compat::V3_14 => {
                    Ok(self.also(TokenKind::Binary(BinaryOp::TrimLower)))
                }
                _ => binary(BinaryOp::Greater),
            },
            '"' | '\'' => self.quoted_string(c),
            '`' => self.raw_string(),
            '(' => Ok(self.open_paren()),
            ')' => self.close_paren(),
            '{' => {
                self.brace_open = true;
                Ok(TokenKind::LeftBrace)
            }
            '[' if self.bracket != Bracket::Closed => {
                Err(self.error("unexpected left bracket '['"))
            }
            '[' => {
                self.bracket = Bracket::BeforeNumber;
                self.colon_seen = false;
                Ok(TokenKind::LeftBracket)
            }
            ']' if self.bracket == Bracket::Closed => {
                Err(self.error("unexpected right bracket ']'"))
            }
            ']' => {
                self.bracket = Bracket::Closed;
                Ok(TokenKind::RightBracket)
            }
            _ if self.at_number(c) => self.number_or_duration(),
            _ if is_alpha(c) || c == ':' => {
                if self.bracket == Bracket::AfterNumber {
                    self.word_in_brackets(c)
                } else {
                    Ok(self.word())
                }
            }
            _ => Err(self.error(format!("unexpected character: {}", format::quote_char(c)))),
        }
    }

    /// Reads a token between braces, where every word is an identifier.
    fn inside_braces(&mut self) -> Result<TokenKind, ParseError> {
        self.skip_space_and_comments();
        let Some(c) = self.bump() else {
            return Err(self.error("unexpected end of input inside braces"));
        };
        match c {
            ',' => Ok(TokenKind::Comma),
            '"' | '\'' => self.quoted_string(c),
            '`' => self.raw_string(),
            '=' if self.peek() == Some('~') => Ok(self.also(TokenKind::MatchRegex)),
            '=' => Ok(TokenKind::Assign),
            '!' => match self.bump() {
                Some('~') => Ok(TokenKind::MatchNotRegex),
                Some('=') => Ok(TokenKind::Binary(BinaryOp::NotEq)),
                other => Err(self.error(format!(
                    "unexpected character after '!' inside braces: {}",
                    quote_or_end(other)
                ))),
            },
            '{' => Err(self.error("unexpected left brace '{'")),
            '}' => {
                self.brace_open = false;
                Ok(TokenKind::RightBrace)
            }
            _ if is_alpha(c) => {
                self.bump_while(is_alphanumeric);
                Ok(TokenKind::Identifier)
            }
            _ => Err(self.error(format!(
                "unexpected character inside braces: {}",
                format::quote_char(c)
            ))),
        }
    }

    /// Reads a token between `[` and the first number.
    fn inside_duration(&mut self) -> Result<TokenKind, ParseError> {
        self.bump_while(is_space);
        self.start = self.position;
        let Some(c) = self.bump() else {
            return Err(self.error("unexpected end of input in duration expression"));
        };
        let binary = |op| Ok(TokenKind::Binary(op));
        match c {
            '+' => binary(BinaryOp::Add),
            '-' => binary(BinaryOp::Sub),
            '*' => binary(BinaryOp::Mul),
            '/' => binary(BinaryOp::Div),
            '%' => binary(BinaryOp::Mod),
            '^' => binary(BinaryOp::Pow),
            '(' => Ok(self.open_paren()),
            ')' => self.close_paren(),
            ']' => {
                self.bracket = Bracket::Closed;
                self.colon_seen = false;
                Ok(TokenKind::RightBracket)
            }
            ':' => self.colon_in_duration(),
            ',' if self.compat >= Compat::V3_14 => Ok(TokenKind::Comma),
            _ if self.at_number(c) => {
                self.duration_seen = true;
                self.bracket = Bracket::AfterNumber;
                self.number_or_duration()
            }
            _ => self.duration_word(c).ok_or_else(|| {
                self.error(format!(
                    "unexpected character in duration expression: {}",
                    format::quote_char(c)
                ))
            }),
        }
    }

    fn colon_in_duration(&mut self) -> Result<TokenKind, ParseError> {
        // The reference has already given the token away when it finds the fault, so the error begins after it.
        let complaint = match (self.duration_seen, self.colon_seen) {
            (false, _) => "unexpected colon before duration in duration expression",
            (true, true) => "unexpected repeated colon in duration expression",
            (true, false) => {
                self.colon_seen = true;
                return Ok(TokenKind::Colon);
            }
        };
        self.start = self.position;
        Err(self.error(complaint))
    }

    /// Reads what begins with a letter or a colon after the first number in brackets.
    fn word_in_brackets(&mut self, c: char) -> Result<TokenKind, ParseError> {
        // 3.5 takes any letter for the colon.
        if c == ':' || self.compat == Compat::V3_5 {
            if self.colon_seen {
                return Err(self.error(format!("unexpected colon {}", format::quote_char(c))));
            }
            self.colon_seen = true;
            return Ok(TokenKind::Colon);
        }
        self.duration_word(c).ok_or_else(|| {
            self.error(format!(
                "unexpected character: {}, expected ':'",
                format::quote_char(c)
            ))
        })
    }

    /// Reads `step`, `range`, `min_of` or `max_of`, of which `first` has been read.
    fn duration_word(&mut self, first: char) -> Option<TokenKind> {
        if self.compat < Compat::V3_14 || !matches!(first.to_ascii_lowercase(), 's' | 'r' | 'm') {
            return None;
        }
        self.bump_while(is_alpha);
        TokenKind::of_duration_word(&self.token_text().to_ascii_lowercase())
    }

    /// Reads an identifier or a keyword, of which the first character has been read.
    fn word(&mut self) -> TokenKind {
        use crate::parser::token::Keyword::{Fill, FillLeft, FillRight};
        self.bump_while(|c| is_alphanumeric(c) || c == ':');
        match TokenKind::of_word(self.token_text(), self.compat) {
            // These came late to the language: without a parenthesis they stay metric names.
            TokenKind::Keyword(Fill | FillLeft | FillRight)
                if !self.rest().trim_start_matches(is_space).starts_with('(') =>
            {
                TokenKind::Identifier
            }
            kind => kind,
        }
    }

    fn open_paren(&mut self) -> TokenKind {
        self.open_parens += 1;
        TokenKind::LeftParen
    }

    fn close_paren(&mut self) -> Result<TokenKind, ParseError> {
        let Some(open) = self.open_parens.checked_sub(1) else {
            // As with the colon, the error begins after the token.
            self.start = self.position;
            return Err(self.error("unexpected right parenthesis ')'"));
        };
        self.open_parens = open;
        Ok(TokenKind::RightParen)
    }

    // === cursor ===

    fn skip_space_and_comments(&mut self) {
        loop {
            self.bump_while(is_space);
            if self.peek() != Some('#') {
                break;
            }
            self.bump_while(|c| c != '\n' && c != '\r');
        }
        self.start = self.position;
    }

    fn rest(&self) -> &'a str {
        self.input.get(self.position..).unwrap_or_default()
    }

    fn token_text(&self) -> &'a str {
        self.input
            .get(self.start..self.position)
            .unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.position += c.len_utf8();
        Some(c)
    }

    /// Reads the next character if it belongs to a set.
    fn accept(&mut self, set: impl Fn(char) -> bool) -> bool {
        let accepted = self.peek().is_some_and(set);
        if accepted {
            self.bump();
        }
        accepted
    }

    fn bump_while(&mut self, set: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.position += rest.find(|c| !set(c)).unwrap_or(rest.len());
    }

    /// Reads the second character of a token.
    fn also(&mut self, kind: TokenKind) -> TokenKind {
        self.bump();
        kind
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(
            self.input,
            Span {
                start: self.start,
                end: self.input.len(),
            },
            message,
        )
    }
}

fn quote_or_end(c: Option<char>) -> String {
    // The reference prints its end-of-input marker, which is no character, as the replacement character.
    format::quote_char(c.unwrap_or(char::REPLACEMENT_CHARACTER))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}
