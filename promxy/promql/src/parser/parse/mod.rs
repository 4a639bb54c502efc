//! Tokens to a tree: an operator-precedence parser with its own stack.
//!
//! Follows Prometheus' grammar (`promql/parser/generated_parser.y`). The parser alternates between two questions: *what
//! operand begins here* (`operand`) and *what follows this operand* (`after_operand`). Whatever is still open, such as a
//! parenthesis or an operator waiting for its right side, is a [`Frame`] on a heap stack, so depth costs memory only.
//!
//! Three properties of the generated parser show in its errors and are kept:
//! * errors have an order: a node's own complaint comes when the node is complete, and before that of the token after it, but
//!   a token that the lexer refuses is found as soon as the parser has to look at it;
//! * an unexpected token is reported in the words of the innermost construct that has an error rule: inside an aggregation's
//!   parentheses `in aggregation`, in parentheses or function calls nothing;
//! * the end of some nodes is the end of the last closing token *read*, which may lie after the node ([`Reader`]).

mod binary;
mod call;
mod duration;
mod modifier;
mod operand;
mod range;
mod reader;
mod selector;

use self::call::Arguments;
use self::reader::Reader;
use crate::parser::ast::{Binary, Matcher, Node};
use crate::parser::token::{Keyword, Token, TokenKind};
use crate::parser::{
    BinaryOp, Compat, Expr, NodeId, NodeKind, ParseError, ParserOptions, Sign, Span, ValueType,
};

/// Parses a query without checking its types.
pub(super) fn expression(input: &str, options: ParserOptions) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(input, options);
    // A node takes at least a byte, so that nodes can be counted with 32 bits.
    if u32::try_from(input.len()).is_err() {
        return Err(parser.error(Span::default(), "query is too long"));
    }
    if parser.tokens.peek()?.kind == TokenKind::End {
        return Err(parser
            .tokens
            .error(Span::default(), "no expression found in input"));
    }
    parser.run()?;
    Ok(parser.expr)
}

/// Parses a selector on its own and returns its matchers.
pub(super) fn selector(input: &str, options: ParserOptions) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(input, options);
    let token = parser.tokens.peek()?;
    let name = match token.kind {
        TokenKind::LeftBrace => None,
        kind if kind.is_metric_name() => Some(parser.tokens.next()?),
        _ => return Err(parser.tokens.unexpected(token, Context::NONE)),
    };
    let id = parser.selector(name)?;
    parser.tokens.expect(TokenKind::End, Context::NONE)?;
    match &mut parser.expr[id].kind {
        NodeKind::Vector(selector) => Ok(std::mem::take(&mut selector.matchers)),
        _ => Ok(Vec::new()),
    }
}

/// A parser in the middle of a query.
struct Parser<'a> {
    tokens: Reader<'a>,
    options: ParserOptions,
    expr: Expr,
    /// What has begun and not ended, outermost first.
    frames: Vec<Frame>,
}

/// A construct that waits for an operand.
enum Frame {
    /// `(`
    Paren { open: Span },
    /// A function or aggregation and its arguments so far.
    Arguments(Box<Arguments>),
    /// A sign.
    Sign { op: Sign, span: Span },
    /// A left operand and its operator with modifiers.
    Binary(Box<Binary>),
}

/// What came after an operand.
enum After {
    /// Something that needs another operand.
    Operand,
    /// Something that made the operand part of a larger one.
    Value(NodeId),
    /// The end of the query.
    End,
}

/// Where an unexpected token stands: a construct and what it expects. Empty words are left out of the message.
#[derive(Clone, Copy)]
struct Context {
    name: &'static str,
    expected: &'static str,
}

impl Context {
    const NONE: Self = Self {
        name: "",
        expected: "",
    };
    const AGGREGATION: Self = Self {
        name: "aggregation",
        expected: "",
    };
}

impl<'a> Parser<'a> {
    fn new(input: &'a str, options: ParserOptions) -> Self {
        Self {
            tokens: Reader::new(input, options.compat),
            options,
            expr: Expr::new(options.compat),
            frames: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), ParseError> {
        loop {
            let Some(mut operand) = self.operand()? else {
                continue;
            };
            loop {
                match self.after_operand(operand)? {
                    After::Operand => break,
                    After::Value(larger) => operand = larger,
                    After::End => return Ok(()),
                }
            }
        }
    }

    fn after_operand(&mut self, operand: NodeId) -> Result<After, ParseError> {
        let token = self.tokens.peek()?;
        match token.kind {
            TokenKind::LeftBracket => self.range_or_subquery(operand).map(After::Value),
            TokenKind::At => self.at(operand).map(|()| After::Value(operand)),
            TokenKind::Keyword(Keyword::Offset) => {
                self.offset(operand).map(|()| After::Value(operand))
            }
            TokenKind::Keyword(keyword @ (Keyword::Anchored | Keyword::Smoothed)) => self
                .extended_range(operand, keyword)
                .map(|()| After::Value(operand)),
            TokenKind::Binary(op) => {
                let lhs = self.close_operators(operand, |waiting| {
                    waiting > op.precedence()
                        || waiting == op.precedence() && op.is_left_associative()
                })?;
                self.binary_operator(lhs, op)?;
                Ok(After::Operand)
            }
            _ => {
                let operand = self.close_operators(operand, |_| true)?;
                match (token.kind, self.frames.pop()) {
                    (TokenKind::End, None) => Ok(After::End),
                    (TokenKind::RightParen, Some(Frame::Paren { open })) => {
                        self.tokens.next()?;
                        self.tokens.close_group();
                        let value_type = self.expr[operand].value_type;
                        let paren = self.expr.push(
                            NodeKind::Paren(operand),
                            open.to(token.span),
                            value_type,
                        );
                        Ok(After::Value(paren))
                    }
                    (TokenKind::RightParen, Some(Frame::Arguments(mut arguments))) => {
                        arguments.args.push(operand);
                        self.finish_arguments(*arguments).map(After::Value)
                    }
                    (TokenKind::Comma, Some(Frame::Arguments(mut arguments))) => {
                        arguments.args.push(operand);
                        self.frames.push(Frame::Arguments(arguments));
                        self.argument_separator()?;
                        Ok(After::Operand)
                    }
                    (_, frame) => {
                        self.frames.extend(frame);
                        Err(self.unexpected_here(token))
                    }
                }
            }
        }
    }

    /// Completes the waiting operators, innermost first, for as long as their precedence says so, and returns what became
    /// of the operand.
    fn close_operators(
        &mut self,
        operand: NodeId,
        binds: impl Fn(u8) -> bool,
    ) -> Result<NodeId, ParseError> {
        let mut value = operand;
        loop {
            let precedence = match self.frames.last() {
                Some(Frame::Binary(binary)) => binary.op.precedence(),
                Some(Frame::Sign { .. }) => BinaryOp::SIGN_PRECEDENCE,
                _ => return Ok(value),
            };
            if !binds(precedence) {
                return Ok(value);
            }
            value = match self.frames.pop() {
                Some(Frame::Binary(binary)) => self.finish_binary(*binary, value)?,
                Some(Frame::Sign { op, span }) => self.finish_sign(op, span, value),
                _ => value,
            };
        }
    }

    /// Applies a sign. In front of a bare number it becomes part of the number.
    fn finish_sign(&mut self, op: Sign, span: Span, operand: NodeId) -> NodeId {
        let Node {
            kind,
            span: operand_span,
            value_type,
        } = &mut self.expr[operand];
        if let NodeKind::Number(number) = kind {
            number.value = op.apply(number.value);
            operand_span.start = span.start;
            return operand;
        }
        let (span, value_type) = (span.to(*operand_span), *value_type);
        self.expr
            .push(NodeKind::Unary { op, operand }, span, value_type)
    }

    // === errors ===

    /// Complains of a token where an operand or an operator should be.
    fn unexpected_here(&self, token: Token) -> ParseError {
        self.tokens.unexpected(token, self.context_here())
    }

    /// Returns the context of the operand that is being read.
    fn context_here(&self) -> Context {
        let is_aggregation = |frame: &Frame| matches!(frame, Frame::Arguments(arguments) if arguments.is_aggregation());
        if self.frames.iter().any(is_aggregation) {
            Context::AGGREGATION
        } else {
            Context::NONE
        }
    }

    fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        self.tokens.error(span, message)
    }

    fn span(&self, id: NodeId) -> Span {
        self.expr[id].span
    }

    fn value_type(&self, id: NodeId) -> ValueType {
        self.expr[id].value_type
    }

    fn is_3_14(&self) -> bool {
        self.options.compat >= Compat::V3_14
    }
}
