//! What follows a selector or subquery: `offset`, `@`, `anchored`, `smoothed`.

use super::operand::sign;
use super::{Context, Parser};
use crate::format;
use crate::gomath::to_i64;
use crate::parser::ast::{At, ExtendedRange, TimeShift, VectorSelector};
use crate::parser::token::{Keyword, Preprocessor, TokenKind};
use crate::parser::{NodeId, NodeKind, ParseError};

impl Parser<'_> {
    /// Reads `offset` and its duration.
    pub(super) fn offset(&mut self, operand: NodeId) -> Result<(), ParseError> {
        self.tokens.next()?;
        let offset = self.offset_duration()?;
        let end = self.tokens.last_closing();
        let span = self.span(operand);
        let Some(shift) = self.shift(operand) else {
            return Err(self.not_shiftable("offset", operand));
        };
        if !shift.offset.is_zero() {
            return Err(self.error(span, "offset may not be set multiple times"));
        }
        shift.offset = offset;
        self.expr[operand].span.end = end;
        Ok(())
    }

    /// Reads `@` and its time.
    pub(super) fn at(&mut self, operand: NodeId) -> Result<(), ParseError> {
        const CONTEXT: Context = Context {
            name: "@",
            expected: "timestamp",
        };
        self.tokens.next()?;
        let token = self.tokens.peek()?;
        let at = if let TokenKind::Preprocessor(word @ (Preprocessor::Start | Preprocessor::End)) =
            token.kind
        {
            self.tokens.next()?;
            self.tokens.expect(TokenKind::LeftParen, CONTEXT)?;
            self.tokens.expect(TokenKind::RightParen, CONTEXT)?;
            if word == Preprocessor::Start {
                At::Start
            } else {
                At::End
            }
        } else {
            let sign = sign(token);
            if sign.is_some() {
                self.tokens.next()?;
            }
            let token = self.tokens.peek()?;
            if !matches!(token.kind, TokenKind::Number | TokenKind::Duration) {
                return Err(self.tokens.unexpected(token, CONTEXT));
            }
            let seconds = self.number()?.value;
            At::Timestamp(
                self.timestamp(operand, sign.map_or(seconds, |sign| sign.apply(seconds)))?,
            )
        };
        let end = self.tokens.last_closing();
        let span = self.span(operand);
        let Some(shift) = self.shift(operand) else {
            return Err(self.not_shiftable("@", operand));
        };
        if shift.at.is_some() {
            return Err(self.error(span, "@ <timestamp> may not be set multiple times"));
        }
        shift.at = Some(at);
        self.expr[operand].span.end = end;
        Ok(())
    }

    /// Reads `anchored` or `smoothed`, which does not change where the selector ends.
    pub(super) fn extended_range(
        &mut self,
        operand: NodeId,
        keyword: Keyword,
    ) -> Result<(), ParseError> {
        self.tokens.next()?;
        let extended = if keyword == Keyword::Anchored {
            ExtendedRange::Anchored
        } else {
            ExtendedRange::Smoothed
        };
        let word = extended.as_str();
        let span = self.span(operand);
        if !self.options.extended_range_selectors {
            return Err(self.error(
                span,
                format!("{word} modifier is experimental and not enabled"),
            ));
        }
        let complaint = match &self.expr[operand].kind {
            NodeKind::Subquery(_) => format!("{word} modifier is not supported for subqueries"),
            _ => format!("{word} modifier not implemented"),
        };
        match self.vector_selector(operand) {
            None => Err(self.error(span, complaint)),
            Some(selector) if selector.extended.is_some_and(|other| other != extended) => Err(self
                .error(
                    span,
                    "anchored and smoothed modifiers cannot be used together",
                )),
            Some(selector) => {
                selector.extended = Some(extended);
                Ok(())
            }
        }
    }

    /// Converts seconds to a time in milliseconds.
    fn timestamp(&self, operand: NodeId, seconds: f64) -> Result<i64, ParseError> {
        const LIMIT: f64 = i64::MAX as f64;
        if !(-LIMIT < seconds && seconds < LIMIT) {
            let message = format!(
                "timestamp out of bounds for @ modifier: {}",
                format::with_decimals(seconds, 6)
            );
            return Err(self.error(self.span(operand), message));
        }
        Ok(to_i64((seconds * 1000.0).round()))
    }

    fn not_shiftable(&self, modifier: &str, operand: NodeId) -> ParseError {
        let message = format!(
            "{modifier} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
        );
        self.error(self.span(operand), message)
    }

    /// Returns what `offset` and `@` of an operand change; of a range selector, that of its vector selector.
    fn shift(&mut self, operand: NodeId) -> Option<&mut TimeShift> {
        if matches!(self.expr[operand].kind, NodeKind::Subquery(_)) {
            let NodeKind::Subquery(subquery) = &mut self.expr[operand].kind else {
                return None;
            };
            return Some(&mut subquery.shift);
        }
        self.vector_selector(operand)
            .map(|selector| &mut selector.shift)
    }

    /// Returns a vector selector, or that of a range selector.
    fn vector_selector(&mut self, operand: NodeId) -> Option<&mut VectorSelector> {
        let id = match &self.expr[operand].kind {
            NodeKind::Matrix(matrix) => matrix.selector,
            _ => operand,
        };
        match &mut self.expr[id].kind {
            NodeKind::Vector(selector) => Some(selector),
            _ => None,
        }
    }
}
