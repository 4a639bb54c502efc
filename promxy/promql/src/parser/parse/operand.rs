//! Where an operand is expected: literals, signs, parentheses, and the start of everything that has a name.

use super::{Frame, Parser};
use crate::SignedDuration;
use crate::parser::token::{Keyword, Token, TokenKind};
use crate::parser::{
    BinaryOp, NodeId, NodeKind, NumberLiteral, ParseError, Sign, ValueType, literal,
};

impl Parser<'_> {
    /// Reads an operand, or opens something that needs one itself.
    pub(super) fn operand(&mut self) -> Result<Option<NodeId>, ParseError> {
        let token = self.tokens.peek()?;
        if let Some(op) = sign(token) {
            self.tokens.next()?;
            self.frames.push(Frame::Sign {
                op,
                span: token.span,
            });
            return Ok(None);
        }
        match token.kind {
            TokenKind::LeftParen => {
                self.tokens.next()?;
                self.frames.push(Frame::Paren { open: token.span });
                Ok(None)
            }
            TokenKind::Number | TokenKind::Duration => {
                let number = self.number()?;
                Ok(Some(self.expr.push(
                    NodeKind::Number(number),
                    token.span,
                    ValueType::Scalar,
                )))
            }
            TokenKind::String => {
                self.tokens.next()?;
                let value = literal::unquote(self.tokens.text(token));
                Ok(Some(self.expr.push(
                    NodeKind::String(value),
                    token.span,
                    ValueType::String,
                )))
            }
            TokenKind::LeftBrace => self.selector(None).map(Some),
            kind if kind.is_metric_name() => {
                self.tokens.next()?;
                self.named(token)
            }
            _ => Err(self.unexpected_here(token)),
        }
    }

    /// Reads what begins with a name: an aggregation, a call or a selector, as the next token says.
    fn named(&mut self, name: Token) -> Result<Option<NodeId>, ParseError> {
        match (name.kind, self.tokens.peek()?.kind) {
            (
                TokenKind::Aggregate(op),
                TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without),
            ) => self.aggregation(name, op),
            (TokenKind::Identifier, TokenKind::LeftParen) => self.call(name),
            (TokenKind::Preprocessor(_), TokenKind::LeftParen) if self.is_3_14() => self.call(name),
            _ => self.selector(Some(name)).map(Some),
        }
    }

    /// Reads a number or a duration, which the next token is.
    pub(super) fn number(&mut self) -> Result<NumberLiteral, ParseError> {
        let token = self.tokens.next()?;
        let text = self.tokens.text(token);
        let is_duration = token.kind == TokenKind::Duration;
        let value = if is_duration {
            text.parse()
                .map(SignedDuration::as_secs_f64)
                .map_err(|error| self.error(token.span, error.to_string()))
        } else {
            literal::number(text).map_err(|message| self.error(token.span, message))
        }?;
        Ok(NumberLiteral { value, is_duration })
    }
}

/// Returns the sign that a token is.
pub(super) fn sign(token: Token) -> Option<Sign> {
    match token.kind {
        TokenKind::Binary(BinaryOp::Add) => Some(Sign::Plus),
        TokenKind::Binary(BinaryOp::Sub) => Some(Sign::Minus),
        _ => None,
    }
}
