//! Duration expressions in ranges, steps and offsets: the expression parser once more, smaller.
//!
//! A number in parentheses is an expression, not a literal, so that it prints with its parentheses. Behind `offset` a sign
//! binds to one literal, function or group, and what follows belongs to the query: `x offset -2^2` is `(x offset -2)^2`.

use super::operand::sign;
use super::{Context, Parser};
use crate::SignedDuration;
use crate::parser::ast::{
    DurationExpr, DurationId, DurationKind, DurationOp, DurationValue, NumberLiteral, Sign,
};
use crate::parser::token::{Preprocessor, Token, TokenKind};
use crate::parser::{BinaryOp, ParseError, Span};

/// A construct that waits for an operand.
enum Frame {
    /// `(`
    Paren { open: Span },
    /// A sign.
    Sign { op: Sign, span: Span },
    /// A left operand and its operator.
    Binary {
        lhs: DurationId,
        op: BinaryOp,
        span: Span,
    },
    /// `min_of(` or `max_of(`
    First { op: DurationOp },
    /// The same with its first argument.
    Second { op: DurationOp, first: DurationId },
}

/// A duration expression in the making.
struct Durations {
    expr: DurationExpr,
    frames: Vec<Frame>,
    context: Context,
}

impl Durations {
    fn new(context: Context) -> Self {
        Self {
            expr: DurationExpr::default(),
            frames: Vec::new(),
            context,
        }
    }
}

impl Parser<'_> {
    /// Reads a range or step.
    pub(super) fn positive_duration(
        &mut self,
        context: Context,
    ) -> Result<DurationValue, ParseError> {
        let mut durations = Durations::new(context);
        let root = self.duration_expression(&mut durations)?;
        if let DurationKind::Number(number) = &durations.expr[root].kind
            && number.value <= 0.0
        {
            return Err(self.error(durations.expr[root].span, "duration must be greater than 0"));
        }
        Ok(value(durations.expr, root))
    }

    /// Reads the duration of `offset`.
    pub(super) fn offset_duration(&mut self) -> Result<DurationValue, ParseError> {
        let expected = if self.is_3_14() {
            "number, duration, step(), or range()"
        } else {
            "number or duration"
        };
        let mut durations = Durations::new(Context {
            name: "offset",
            expected,
        });
        let durations = &mut durations;
        let token = self.tokens.peek()?;
        let root = if let Some(op) = sign(token) {
            self.tokens.next()?;
            self.signed_offset(op, token.span, durations)?
        } else if matches!(
            token.kind,
            TokenKind::Number | TokenKind::Duration | TokenKind::Preprocessor(_)
        ) {
            self.single_duration(durations)?
        } else {
            self.duration_expression(durations)?
        };
        Ok(value(std::mem::take(&mut durations.expr), root))
    }

    /// Reads what follows the sign of an offset.
    fn signed_offset(
        &mut self,
        op: Sign,
        span: Span,
        durations: &mut Durations,
    ) -> Result<DurationId, ParseError> {
        let token = self.tokens.peek()?;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => {
                // Only the number with its sign has to be in range, so that the error is at the sign.
                let number = DurationKind::Number(self.number()?);
                let operand = durations.expr.push(number, token.span);
                self.apply_sign(op, span, operand, durations)
            }
            TokenKind::Preprocessor(_) => {
                // A plus stays here, though it means nothing.
                let operand = self.single_duration(durations)?;
                let whole = span.to(durations.expr[operand].span);
                Ok(durations
                    .expr
                    .push(DurationKind::Unary { op, operand }, whole))
            }
            TokenKind::LeftParen if self.is_3_14() => {
                self.tokens.next()?;
                let inner = self.duration_expression(durations)?;
                self.tokens
                    .expect(TokenKind::RightParen, durations.context)?;
                // Here the reference counts the group from its inside.
                let inside = durations.expr[inner].span;
                self.check_enabled(inside)?;
                let group = self.wrap(inner, inside, durations);
                self.apply_sign(op, span, group, durations)
            }
            _ => {
                durations.frames.push(Frame::Sign { op, span });
                self.duration_expression(durations)
            }
        }
    }

    /// Reads one literal or one function call, not looking at what follows.
    fn single_duration(&mut self, durations: &mut Durations) -> Result<DurationId, ParseError> {
        loop {
            if let Some(operand) = self.duration_operand(durations)? {
                if durations.frames.is_empty() {
                    return Ok(operand);
                }
                // Inside a function's parentheses everything goes; its end is ours.
                if let Some(call) = self.duration_until_call_ends(operand, durations)? {
                    return Ok(call);
                }
            }
        }
    }

    /// Reads on after an operand inside a function call, until an operand is needed or the outermost call is complete.
    fn duration_until_call_ends(
        &mut self,
        operand: DurationId,
        durations: &mut Durations,
    ) -> Result<Option<DurationId>, ParseError> {
        let mut operand = operand;
        loop {
            match self.after_duration(operand, durations)? {
                None => return Ok(None),
                Some(larger) if durations.frames.is_empty() => return Ok(Some(larger)),
                Some(larger) => operand = larger,
            }
        }
    }

    /// Reads an expression up to a token that cannot belong to it.
    fn duration_expression(&mut self, durations: &mut Durations) -> Result<DurationId, ParseError> {
        loop {
            let Some(mut operand) = self.duration_operand(durations)? else {
                continue;
            };
            loop {
                if duration_op(self.tokens.peek()?.kind).is_none() {
                    operand = self.close_duration_operators(operand, 0, durations)?;
                    if durations.frames.is_empty() {
                        return Ok(operand);
                    }
                }
                match self.after_duration(operand, durations)? {
                    None => break,
                    Some(larger) => operand = larger,
                }
            }
        }
    }

    /// Reads an operand, or opens something that needs one itself.
    fn duration_operand(
        &mut self,
        durations: &mut Durations,
    ) -> Result<Option<DurationId>, ParseError> {
        let token = self.tokens.peek()?;
        if let Some(op) = sign(token) {
            self.tokens.next()?;
            durations.frames.push(Frame::Sign {
                op,
                span: token.span,
            });
            return Ok(None);
        }
        match token.kind {
            TokenKind::LeftParen => {
                self.tokens.next()?;
                durations.frames.push(Frame::Paren { open: token.span });
                Ok(None)
            }
            TokenKind::Number | TokenKind::Duration => {
                let number = self.number()?;
                self.check_duration(&number, token.span)?;
                Ok(Some(
                    durations
                        .expr
                        .push(DurationKind::Number(number), token.span),
                ))
            }
            TokenKind::Preprocessor(word) => self.duration_function(token, word, durations),
            _ => Err(self.tokens.unexpected(token, durations.context)),
        }
    }

    fn duration_function(
        &mut self,
        token: Token,
        word: Preprocessor,
        durations: &mut Durations,
    ) -> Result<Option<DurationId>, ParseError> {
        let kind = match word {
            Preprocessor::Step => DurationKind::Step,
            Preprocessor::Range => DurationKind::Range,
            Preprocessor::MinOf | Preprocessor::MaxOf => {
                self.tokens.next()?;
                self.tokens
                    .expect(TokenKind::LeftParen, durations.context)?;
                let op = if word == Preprocessor::MinOf {
                    DurationOp::MinOf
                } else {
                    DurationOp::MaxOf
                };
                durations.frames.push(Frame::First { op });
                return Ok(None);
            }
            Preprocessor::Start | Preprocessor::End => {
                return Err(self.tokens.unexpected(token, durations.context));
            }
        };
        self.tokens.next()?;
        self.tokens
            .expect(TokenKind::LeftParen, durations.context)?;
        let span = token.span.to(self
            .tokens
            .expect(TokenKind::RightParen, durations.context)?
            .span);
        self.check_enabled(span)?;
        Ok(Some(durations.expr.push(kind, span)))
    }

    /// Reads what follows an operand; yields nothing if another operand has to come.
    fn after_duration(
        &mut self,
        operand: DurationId,
        durations: &mut Durations,
    ) -> Result<Option<DurationId>, ParseError> {
        let token = self.tokens.peek()?;
        if let Some(op) = duration_op(token.kind) {
            let lhs = self.close_duration_operators(
                operand,
                op.precedence() + u8::from(!op.is_left_associative()),
                durations,
            )?;
            self.tokens.next()?;
            durations.frames.push(Frame::Binary {
                lhs,
                op,
                span: token.span,
            });
            return Ok(None);
        }
        let operand = self.close_duration_operators(operand, 0, durations)?;
        match (token.kind, durations.frames.pop()) {
            (TokenKind::RightParen, Some(Frame::Paren { open })) => {
                self.tokens.next()?;
                self.check_enabled(durations.expr[operand].span)?;
                Ok(Some(self.wrap(operand, open, durations)))
            }
            (TokenKind::Comma, Some(Frame::First { op })) => {
                self.tokens.next()?;
                durations.frames.push(Frame::Second { op, first: operand });
                Ok(None)
            }
            (TokenKind::RightParen, Some(Frame::Second { op, first })) => {
                self.tokens.next()?;
                let span = durations.expr[first].span.to(durations.expr[operand].span);
                self.check_enabled(span)?;
                Ok(Some(durations.expr.push(
                    DurationKind::Binary {
                        op,
                        lhs: first,
                        rhs: operand,
                    },
                    span,
                )))
            }
            _ => Err(self.tokens.unexpected(token, durations.context)),
        }
    }

    /// Completes the waiting operators of at least a precedence, innermost first.
    fn close_duration_operators(
        &mut self,
        operand: DurationId,
        at_least: u8,
        durations: &mut Durations,
    ) -> Result<DurationId, ParseError> {
        let mut value = operand;
        loop {
            let precedence = match durations.frames.last() {
                Some(Frame::Binary { op, .. }) => op.precedence(),
                Some(Frame::Sign { .. }) => BinaryOp::SIGN_PRECEDENCE,
                _ => return Ok(value),
            };
            if precedence < at_least {
                return Ok(value);
            }
            value = match durations.frames.pop() {
                Some(Frame::Binary { lhs, op, span }) => {
                    self.finish_duration_binary(lhs, op, span, value, durations)?
                }
                Some(Frame::Sign { op, span }) => self.apply_sign(op, span, value, durations)?,
                _ => value,
            };
        }
    }

    fn finish_duration_binary(
        &mut self,
        lhs: DurationId,
        op: BinaryOp,
        op_span: Span,
        rhs: DurationId,
        durations: &mut Durations,
    ) -> Result<DurationId, ParseError> {
        let (lhs_span, right) = (durations.expr[lhs].span, &durations.expr[rhs]);
        let span = lhs_span.to(right.span);
        self.check_enabled(lhs_span)?;
        let by_zero = matches!(&right.kind, DurationKind::Number(number) if number.value == 0.0);
        let op = match op {
            BinaryOp::Div if by_zero => return Err(self.error(op_span, "division by zero")),
            BinaryOp::Mod if by_zero => return Err(self.error(op_span, "modulo by zero")),
            BinaryOp::Div => DurationOp::Div,
            BinaryOp::Mod => DurationOp::Mod,
            BinaryOp::Add => DurationOp::Add,
            BinaryOp::Sub => DurationOp::Sub,
            BinaryOp::Mul => DurationOp::Mul,
            _ => DurationOp::Pow,
        };
        Ok(durations
            .expr
            .push(DurationKind::Binary { op, lhs, rhs }, span))
    }

    /// Applies a sign: a literal takes it in, an expression drops a plus.
    fn apply_sign(
        &self,
        op: Sign,
        span: Span,
        operand: DurationId,
        durations: &mut Durations,
    ) -> Result<DurationId, ParseError> {
        let node = &mut durations.expr[operand];
        if let DurationKind::Number(number) = &mut node.kind {
            number.value = op.apply(number.value);
            node.span.start = span.start;
            let number = *number;
            self.check_duration(&number, span)?;
            return Ok(operand);
        }
        if op == Sign::Plus {
            return Ok(operand);
        }
        let whole = span.to(node.span);
        Ok(durations
            .expr
            .push(DurationKind::Unary { op, operand }, whole))
    }

    /// Puts parentheses around an expression. 3.5 forgets those around a number.
    fn wrap(&self, operand: DurationId, open: Span, durations: &mut Durations) -> DurationId {
        let node = &durations.expr[operand];
        let group = match &node.kind {
            DurationKind::Number(_) if !self.is_3_14() => return operand,
            DurationKind::Number(_) => {
                let span = open.to(node.span);
                durations.expr.push(
                    DurationKind::Unary {
                        op: Sign::Plus,
                        operand,
                    },
                    span,
                )
            }
            _ => operand,
        };
        durations.expr[group].wrapped = true;
        group
    }

    fn check_duration(&self, number: &NumberLiteral, span: Span) -> Result<(), ParseError> {
        /// 2^63 nanoseconds.
        const LIMIT: f64 = 9_223_372_036_854_775_808.0 / 1e9;
        if number.value.abs() > LIMIT {
            return Err(self.error(span, "duration out of range"));
        }
        Ok(())
    }

    fn check_enabled(&self, span: Span) -> Result<(), ParseError> {
        if self.options.duration_expressions {
            return Ok(());
        }
        Err(self.error(span, "experimental duration expression is not enabled"))
    }
}

fn duration_op(kind: TokenKind) -> Option<BinaryOp> {
    use BinaryOp::{Add, Div, Mod, Mul, Pow, Sub};
    match kind {
        TokenKind::Binary(op @ (Add | Sub | Mul | Div | Mod | Pow)) => Some(op),
        _ => None,
    }
}

/// Returns a finished expression, of which a bare number is a literal.
fn value(expr: DurationExpr, root: DurationId) -> DurationValue {
    match &expr[root].kind {
        DurationKind::Number(number) => {
            DurationValue::Fixed(SignedDuration::from_secs_f64(number.value))
        }
        _ => DurationValue::Expr(expr),
    }
}
