//! Tokens with one token of lookahead, and where the last closing token ended.
//!
//! Prometheus takes the end of several nodes from the last closing token its lexer has read. When the parser had to look one
//! token ahead, that may be a token after the node; the positions in error texts and annotations show it. 3.5 remembers the
//! closing parentheses in a queue instead, which some constructs forget to empty, so that later ends are too early.

use std::collections::VecDeque;

use super::Context;
use crate::parser::lex::Lexer;
use crate::parser::token::{Token, TokenKind, describe};
use crate::parser::{Compat, ParseError, Span};

pub(super) struct Reader<'a> {
    input: &'a str,
    compat: Compat,
    lexer: Lexer<'a>,
    peeked: Option<Token>,
    /// Where the last token read began.
    last_start: usize,
    /// Where the last closing token read ended: a closing bracket of any kind, a number or a duration.
    last_closing: usize,
    /// Only in 3.5: the ends of closing parentheses that no node has claimed.
    unclaimed_parens: VecDeque<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a str, compat: Compat) -> Self {
        Self {
            input,
            compat,
            lexer: Lexer::new(input, compat),
            peeked: None,
            last_start: 0,
            last_closing: 0,
            unclaimed_parens: VecDeque::new(),
        }
    }

    /// Returns the next token without consuming it.
    pub(super) fn peek(&mut self) -> Result<Token, ParseError> {
        if let Some(token) = self.peeked {
            return Ok(token);
        }
        let token = self.lexer.next()?;
        self.last_start = token.span.start;
        match token.kind {
            TokenKind::RightParen => {
                self.last_closing = token.span.end;
                if self.compat == Compat::V3_5 {
                    self.unclaimed_parens.push_back(token.span.end);
                }
            }
            TokenKind::RightBrace
            | TokenKind::RightBracket
            | TokenKind::Number
            | TokenKind::Duration => {
                self.last_closing = token.span.end;
            }
            _ => {}
        }
        self.peeked = Some(token);
        Ok(token)
    }

    /// Consumes the next token.
    pub(super) fn next(&mut self) -> Result<Token, ParseError> {
        let token = self.peek()?;
        self.peeked = None;
        Ok(token)
    }

    /// Consumes the next token if it is of a kind.
    pub(super) fn accept(&mut self, kind: TokenKind) -> Result<Option<Token>, ParseError> {
        if self.peek()?.kind == kind {
            self.next().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Consumes a token of a kind, or complains of another in a context.
    pub(super) fn expect(
        &mut self,
        kind: TokenKind,
        context: Context,
    ) -> Result<Token, ParseError> {
        let token = self.peek()?;
        if token.kind == kind {
            self.next()
        } else {
            Err(self.unexpected(token, context))
        }
    }

    pub(super) fn text(&self, token: Token) -> &'a str {
        self.input
            .get(token.span.start..token.span.end)
            .unwrap_or_default()
    }

    // === ends of nodes ===

    /// Returns where the last closing token read ended.
    pub(super) fn last_closing(&self) -> usize {
        self.last_closing
    }

    /// Claims the closing parenthesis of a group, which ends there in any case.
    pub(super) fn close_group(&mut self) {
        self.unclaimed_parens.pop_front();
    }

    /// Returns the end of a call whose closing parenthesis was the last token read.
    pub(super) fn close_call(&mut self) -> usize {
        self.unclaimed_parens
            .pop_front()
            .unwrap_or(self.last_closing)
    }

    /// Returns the end of an aggregation with `by` or `without`, of which nothing after it was read.
    pub(super) fn close_aggregation_with_labels(&mut self) -> usize {
        if self.unclaimed_parens.len() > 1 {
            self.unclaimed_parens.pop_front();
        }
        self.close_call()
    }

    /// Returns the end of an aggregation without `by` or `without`, found only by reading one token more.
    pub(super) fn close_aggregation(&mut self) -> usize {
        if let Some(end) = self.unclaimed_parens.pop_front() {
            return end;
        }
        let bytes = self.input.as_bytes();
        if bytes.get(self.last_start) != Some(&b')') {
            return self.last_closing;
        }
        // That token was a parenthesis too: the aggregation's own stands before it, if nothing but space lies between.
        let before = bytes.get(..self.last_start).unwrap_or_default();
        match before
            .iter()
            .rposition(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
        {
            Some(at) if before.get(at) == Some(&b')') => at + 1,
            _ => self.last_closing,
        }
    }

    // === errors ===

    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.input, span, message)
    }

    pub(super) fn unexpected(&self, token: Token, context: Context) -> ParseError {
        let mut message = format!(
            "unexpected {}",
            describe(token.kind, self.text(token), self.compat)
        );
        if !context.name.is_empty() {
            message.push_str(" in ");
            message.push_str(context.name);
        }
        if !context.expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(context.expected);
        }
        self.error(token.span, message)
    }
}
