//! Binary operators and their modifiers: `bool`, `on`, `ignoring`, `group_left`, `group_right`, `fill`.

use super::operand::sign;
use super::{Frame, Parser};
use crate::parser::ast::{Binary, BinaryOp, Cardinality, Grouping, VectorMatching};
use crate::parser::token::{Keyword, TokenKind};
use crate::parser::{NodeId, NodeKind, ParseError, Sign, ValueType};

impl Parser<'_> {
    /// Reads an operator, which is next, and its modifiers.
    pub(super) fn binary_operator(&mut self, lhs: NodeId, op: BinaryOp) -> Result<(), ParseError> {
        self.tokens.next()?;
        let return_bool = self
            .tokens
            .accept(TokenKind::Keyword(Keyword::Bool))?
            .is_some();
        let grouping = self.matching_labels()?;
        // Only after `on` or `ignoring` may one side have several elements.
        let (cardinality, include) = if grouping.is_some() {
            self.cardinality()?
        } else {
            (Cardinality::OneToOne, None)
        };
        let (fill_left, fill_right) = self.fill()?;
        let matching = VectorMatching {
            cardinality,
            grouping,
            include,
            fill_left,
            fill_right,
        };
        // The right operand is filled in when it is known.
        self.frames.push(Frame::Binary(Box::new(Binary {
            op,
            lhs,
            rhs: lhs,
            return_bool,
            matching: Some(matching),
        })));
        Ok(())
    }

    /// Joins an operator and its right operand.
    pub(super) fn finish_binary(
        &mut self,
        binary: Binary,
        rhs: NodeId,
    ) -> Result<NodeId, ParseError> {
        let span = self.span(binary.lhs).to(self.span(rhs));
        let fills = binary
            .matching
            .as_ref()
            .is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some());
        if fills && !self.options.fill_modifiers {
            return Err(self.error(
                span,
                "binop fill modifiers are experimental and not enabled",
            ));
        }
        let value_type = match (self.value_type(binary.lhs), self.value_type(rhs)) {
            (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
            _ => ValueType::Vector,
        };
        Ok(self.expr.push(
            NodeKind::Binary(Box::new(Binary { rhs, ..binary })),
            span,
            value_type,
        ))
    }

    fn matching_labels(&mut self) -> Result<Option<Grouping>, ParseError> {
        let grouping = match self.tokens.peek()?.kind {
            TokenKind::Keyword(Keyword::On) => Grouping::Only,
            TokenKind::Keyword(Keyword::Ignoring) => Grouping::AllBut,
            _ => return Ok(None),
        };
        self.tokens.next()?;
        self.labels().map(grouping).map(Some)
    }

    fn cardinality(&mut self) -> Result<(Cardinality, Option<Vec<String>>), ParseError> {
        let cardinality = match self.tokens.peek()?.kind {
            TokenKind::Keyword(Keyword::GroupLeft) => Cardinality::ManyToOne,
            TokenKind::Keyword(Keyword::GroupRight) => Cardinality::OneToMany,
            _ => return Ok((Cardinality::OneToOne, None)),
        };
        self.tokens.next()?;
        // The list may be left out if an operand follows; a parenthesis always begins the list.
        let next = self.tokens.peek()?.kind;
        let include = if next != TokenKind::LeftParen && next.starts_expression() {
            None
        } else {
            Some(self.labels()?)
        };
        Ok((cardinality, include))
    }

    /// Reads `fill (v)`, or `fill_left (v)` and `fill_right (v)` in either order.
    fn fill(&mut self) -> Result<(Option<f64>, Option<f64>), ParseError> {
        let (mut left, mut right) = (None, None);
        loop {
            let (fills_left, fills_right) = match self.tokens.peek()?.kind {
                TokenKind::Keyword(Keyword::Fill) if left.is_none() && right.is_none() => {
                    (true, true)
                }
                TokenKind::Keyword(Keyword::FillLeft) if left.is_none() => (true, false),
                TokenKind::Keyword(Keyword::FillRight) if right.is_none() => (false, true),
                _ => return Ok((left, right)),
            };
            self.tokens.next()?;
            let value = Some(self.fill_value()?);
            left = if fills_left { value } else { left };
            right = if fills_right { value } else { right };
        }
    }

    fn fill_value(&mut self) -> Result<f64, ParseError> {
        self.expect_here(TokenKind::LeftParen)?;
        let sign = sign(self.tokens.peek()?);
        if sign.is_some() {
            self.tokens.next()?;
        }
        let token = self.tokens.peek()?;
        if !matches!(token.kind, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected_here(token));
        }
        let value = self.number()?.value;
        self.expect_here(TokenKind::RightParen)?;
        Ok(sign.unwrap_or(Sign::Plus).apply(value))
    }

    fn expect_here(&mut self, kind: TokenKind) -> Result<(), ParseError> {
        let token = self.tokens.peek()?;
        if token.kind != kind {
            return Err(self.unexpected_here(token));
        }
        self.tokens.next().map(drop)
    }
}
