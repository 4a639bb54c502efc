//! Function calls and aggregations, which share the form of their arguments.

use super::{Context, Frame, Parser};
use crate::format;
use crate::parser::ast::{Aggregate, AggregateOp, Call, Grouping};
use crate::parser::token::{Keyword, Token, TokenKind};
use crate::parser::{NodeId, NodeKind, ParseError, Span, ValueType, function, literal};

/// A function or aggregation whose arguments are being read.
pub(super) struct Arguments {
    name: Token,
    callee: Callee,
    pub(super) args: Vec<NodeId>,
}

enum Callee {
    Function,
    /// An aggregation, and its `by` or `without` if that came first.
    Aggregation(AggregateOp, Option<Grouping>),
}

impl Arguments {
    pub(super) fn is_aggregation(&self) -> bool {
        matches!(self.callee, Callee::Aggregation(..))
    }
}

impl Parser<'_> {
    /// Begins a call; the parenthesis is next.
    pub(super) fn call(&mut self, name: Token) -> Result<Option<NodeId>, ParseError> {
        self.open_arguments(Arguments {
            name,
            callee: Callee::Function,
            args: Vec::new(),
        })
    }

    /// Begins an aggregation; the parenthesis or a keyword is next.
    pub(super) fn aggregation(
        &mut self,
        name: Token,
        op: AggregateOp,
    ) -> Result<Option<NodeId>, ParseError> {
        let grouping = self.aggregation_grouping()?;
        let next = self.tokens.peek()?;
        if next.kind != TokenKind::LeftParen {
            return Err(self.tokens.unexpected(next, Context::AGGREGATION));
        }
        self.open_arguments(Arguments {
            name,
            callee: Callee::Aggregation(op, grouping),
            args: Vec::new(),
        })
    }

    /// Reads the parenthesis. Without arguments this is already the end.
    fn open_arguments(&mut self, arguments: Arguments) -> Result<Option<NodeId>, ParseError> {
        self.tokens.next()?;
        if self.tokens.peek()?.kind == TokenKind::RightParen {
            return self.finish_arguments(arguments).map(Some);
        }
        self.frames.push(Frame::Arguments(Box::new(arguments)));
        Ok(None)
    }

    /// Reads the comma after an argument, which another argument has to follow.
    pub(super) fn argument_separator(&mut self) -> Result<(), ParseError> {
        let comma = self.tokens.next()?;
        if self.tokens.peek()?.kind.starts_expression() {
            return Ok(());
        }
        Err(self.error(
            comma.span,
            "trailing commas not allowed in function call args",
        ))
    }

    /// Reads the closing parenthesis and whatever else belongs to a call or an aggregation.
    pub(super) fn finish_arguments(&mut self, arguments: Arguments) -> Result<NodeId, ParseError> {
        self.tokens.next()?;
        let Arguments { name, callee, args } = arguments;
        match callee {
            Callee::Function => self.finish_call(name, args),
            Callee::Aggregation(op, before) => self.finish_aggregation(name, op, before, &args),
        }
    }

    fn finish_call(&mut self, name: Token, args: Vec<NodeId>) -> Result<NodeId, ParseError> {
        let span = Span {
            start: name.span.start,
            end: self.tokens.close_call(),
        };
        let text = self.tokens.text(name);
        let Some(function) = function(text, self.options.compat) else {
            return Err(self.error(
                name.span,
                format!(
                    "unknown function with name {}",
                    format::quote(text.as_bytes())
                ),
            ));
        };
        if function.experimental && !self.options.experimental_functions {
            return Err(self.error(
                name.span,
                format!("function {} is not enabled", format::quote(text.as_bytes())),
            ));
        }
        Ok(self.expr.push(
            NodeKind::Call(Box::new(Call { function, args })),
            span,
            function.return_type,
        ))
    }

    fn finish_aggregation(
        &mut self,
        name: Token,
        op: AggregateOp,
        before: Option<Grouping>,
        args: &[NodeId],
    ) -> Result<NodeId, ParseError> {
        let grouping = if before.is_some() {
            before
        } else {
            self.aggregation_grouping()?
        };
        let end = if grouping.is_some() {
            self.tokens.close_aggregation_with_labels()
        } else {
            self.tokens.close_aggregation()
        };
        let span = Span {
            start: name.span.start,
            end,
        };
        if args.is_empty() {
            return Err(self.error(span, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let flag = "--enable-feature=promql-experimental-functions";
            let message = format!(
                "{}() is experimental and must be enabled with {flag}",
                op.as_str()
            );
            return Err(self.error(span, message));
        }
        let (param, expr) = match (op.has_param(), args) {
            (false, [expr]) => (None, *expr),
            (true, [param, expr]) => (Some(*param), *expr),
            (has_param, args) => {
                let message = format!(
                    "wrong number of arguments for aggregate expression provided, expected {}, got {}",
                    1 + usize::from(has_param),
                    args.len()
                );
                return Err(self.error(span, message));
            }
        };
        let aggregate = Aggregate {
            op,
            expr,
            param,
            grouping,
        };
        Ok(self.expr.push(
            NodeKind::Aggregate(Box::new(aggregate)),
            span,
            ValueType::Vector,
        ))
    }

    /// Reads `by (...)` or `without (...)` if that is next.
    fn aggregation_grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        let grouping = match self.tokens.peek()?.kind {
            TokenKind::Keyword(Keyword::By) => Grouping::Only,
            TokenKind::Keyword(Keyword::Without) => Grouping::AllBut,
            _ => return Ok(None),
        };
        self.tokens.next()?;
        self.labels().map(grouping).map(Some)
    }

    /// Reads a list of labels in parentheses.
    pub(super) fn labels(&mut self) -> Result<Vec<String>, ParseError> {
        const OPEN: Context = Context {
            name: "grouping opts",
            expected: "\"(\"",
        };
        const LABEL: Context = Context {
            name: "grouping opts",
            expected: "label",
        };
        const SEPARATOR: Context = Context {
            name: "grouping opts",
            expected: "\",\" or \")\"",
        };

        self.tokens.expect(TokenKind::LeftParen, OPEN)?;
        let mut labels = Vec::new();
        loop {
            // A comma may be last, but not alone.
            let token = self.tokens.next()?;
            match token.kind {
                TokenKind::RightParen => return Ok(labels),
                TokenKind::String => labels.push(self.quoted_label(token)?),
                kind if kind.is_label_name() => labels.push(self.tokens.text(token).to_owned()),
                _ => return Err(self.tokens.unexpected(token, LABEL)),
            }
            let token = self.tokens.next()?;
            match token.kind {
                TokenKind::Comma => {}
                TokenKind::RightParen => return Ok(labels),
                _ => return Err(self.tokens.unexpected(token, SEPARATOR)),
            }
        }
    }

    fn quoted_label(&self, token: Token) -> Result<String, ParseError> {
        let label = literal::unquote(self.tokens.text(token));
        match label.to_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => {
                let message = format!(
                    "invalid label name for grouping: {}",
                    format::quote(label.as_bytes())
                );
                Err(self.error(token.span, message))
            }
        }
    }
}
