//! Brackets: range selectors and subqueries.

use super::{Context, Parser};
use crate::parser::ast::{DurationValue, MatrixSelector, Subquery, TimeShift, VectorSelector};
use crate::parser::token::{Token, TokenKind};
use crate::parser::{At, NodeId, NodeKind, ParseError, Span, ValueType};

const AFTER_RANGE: Context = Context {
    name: "subquery or range",
    expected: "\":\" or \"]\"",
};
const AFTER_STEP: Context = Context {
    name: "subquery selector",
    expected: "\"]\"",
};

impl Parser<'_> {
    /// Reads brackets after an operand.
    pub(super) fn range_or_subquery(&mut self, operand: NodeId) -> Result<NodeId, ParseError> {
        let open = self.tokens.next()?;
        let (range_context, step_context) = if self.is_3_14() {
            (
                Context {
                    name: "subquery or range selector",
                    expected: "number, duration, step(), or range()",
                },
                Context {
                    name: "subquery selector",
                    expected: "number, duration, step(), range(), or \"]\"",
                },
            )
        } else {
            (
                Context {
                    name: "subquery selector",
                    expected: "number or duration",
                },
                Context {
                    name: "subquery selector",
                    expected: "number or duration or \"]\"",
                },
            )
        };
        let range = self.positive_duration(range_context)?;
        let token = self.tokens.next()?;
        match token.kind {
            TokenKind::RightBracket => self.range_selector(operand, range, open, token),
            TokenKind::Colon => self.subquery(operand, range, step_context),
            _ => Err(self.tokens.unexpected(token, AFTER_RANGE)),
        }
    }

    fn range_selector(
        &mut self,
        operand: NodeId,
        range: DurationValue,
        open: Token,
        close: Token,
    ) -> Result<NodeId, ParseError> {
        let complaint = match &self.expr[operand].kind {
            NodeKind::Vector(selector) => self.misplaced_modifier(selector),
            _ => Some("ranges only allowed for vector selectors"),
        };
        if let Some(complaint) = complaint {
            return Err(self.error(open.span.to(close.span), complaint));
        }
        let span = Span {
            start: self.span(operand).start,
            end: self.tokens.last_closing(),
        };
        let matrix = NodeKind::Matrix(Box::new(MatrixSelector {
            selector: operand,
            range,
        }));
        Ok(self.expr.push(matrix, span, ValueType::Matrix))
    }

    /// Whether a selector has a modifier that belongs behind the brackets. 3.5 overlooks some.
    fn misplaced_modifier(&self, selector: &VectorSelector) -> Option<&'static str> {
        let overlooks = !self.is_3_14();
        let has_offset = match &selector.shift.offset {
            DurationValue::Fixed(_) => !selector.shift.offset.is_zero(),
            DurationValue::Expr(_) => !overlooks,
        };
        let has_at = match selector.shift.at {
            Some(At::Timestamp(_)) => true,
            Some(At::Start | At::End) => !overlooks,
            None => false,
        };
        if has_offset {
            Some("no offset modifiers allowed before range")
        } else if has_at {
            Some("no @ modifiers allowed before range")
        } else {
            None
        }
    }

    /// Reads a subquery after its colon.
    fn subquery(
        &mut self,
        expr: NodeId,
        range: DurationValue,
        context: Context,
    ) -> Result<NodeId, ParseError> {
        let (step, close) = match self.tokens.accept(TokenKind::RightBracket)? {
            Some(close) => (None, close),
            None => (
                Some(self.positive_duration(context)?),
                self.tokens.expect(TokenKind::RightBracket, AFTER_STEP)?,
            ),
        };
        let span = self.span(expr).to(close.span);
        let subquery = Subquery {
            expr,
            range,
            step,
            shift: TimeShift::default(),
        };
        Ok(self.expr.push(
            NodeKind::Subquery(Box::new(subquery)),
            span,
            ValueType::Matrix,
        ))
    }
}
