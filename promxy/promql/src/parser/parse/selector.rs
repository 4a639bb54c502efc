//! Vector selectors: a name, matchers in braces, or both.

use super::{Context, Parser};
use crate::Text;
use crate::parser::ast::{MatchOp, Matcher, TimeShift, VectorSelector};
use crate::parser::check::pattern_accepts_empty;
use crate::parser::token::{Token, TokenKind};
use crate::parser::{BinaryOp, NodeId, NodeKind, ParseError, ValueType, literal};

/// Returns the context of label matchers, with what is expected.
const fn matching(expected: &'static str) -> Context {
    Context {
        name: "label matching",
        expected,
    }
}

impl Parser<'_> {
    /// Reads a selector after its name, or from its brace on.
    pub(super) fn selector(&mut self, name: Option<Token>) -> Result<NodeId, ParseError> {
        let first = self.tokens.peek()?;
        let mut span = name.map_or(first.span, |name| name.span);
        let mut matchers = Vec::new();
        if first.kind == TokenKind::LeftBrace {
            self.tokens.next()?;
            span = span.to(self.matchers(&mut matchers)?.span);
        }
        let name = name.map(|name| self.tokens.text(name)).unwrap_or_default();
        if !name.is_empty() {
            // Most selectors have this matcher only, and room for more would double their size.
            matchers.reserve_exact(1);
            matchers.push(Matcher::metric_name(name.into()));
        }
        let selector = VectorSelector {
            name: name.to_owned(),
            matchers,
            shift: TimeShift::default(),
            extended: None,
        };
        Ok(self.expr.push(
            NodeKind::Vector(Box::new(selector)),
            span,
            ValueType::Vector,
        ))
    }

    /// Reads matchers up to the closing brace, which it returns.
    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Result<Token, ParseError> {
        loop {
            // A comma may be last, but not alone.
            let token = self.tokens.next()?;
            match token.kind {
                TokenKind::RightBrace => return Ok(token),
                TokenKind::Identifier => {
                    let op = self.match_op()?;
                    let Some(op) = op else {
                        let next = self.tokens.peek()?;
                        return Err(self
                            .tokens
                            .unexpected(next, matching("label matching operator")));
                    };
                    matchers.push(self.matcher(token, self.tokens.text(token).into(), op)?);
                }
                TokenKind::String => {
                    let text = literal::unquote(self.tokens.text(token));
                    matchers.push(match self.match_op()? {
                        Some(op) => self.matcher(token, text, op)?,
                        None => Matcher::metric_name(text),
                    });
                }
                _ => {
                    return Err(self
                        .tokens
                        .unexpected(token, matching("identifier or \"}\"")));
                }
            }
            let token = self.tokens.next()?;
            match token.kind {
                TokenKind::Comma => {}
                TokenKind::RightBrace => return Ok(token),
                _ => return Err(self.tokens.unexpected(token, matching("\",\" or \"}\""))),
            }
        }
    }

    fn match_op(&mut self) -> Result<Option<MatchOp>, ParseError> {
        let op = match self.tokens.peek()?.kind {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Binary(BinaryOp::NotEq) => MatchOp::NotEqual,
            TokenKind::MatchRegex => MatchOp::Regex,
            TokenKind::MatchNotRegex => MatchOp::NotRegex,
            _ => return Ok(None),
        };
        self.tokens.next()?;
        Ok(Some(op))
    }

    /// Reads the value of a matcher.
    fn matcher(&mut self, label: Token, name: Text, op: MatchOp) -> Result<Matcher, ParseError> {
        let token = self.tokens.expect(TokenKind::String, matching("string"))?;
        let value = literal::unquote(self.tokens.text(token));
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex)
            && let Err(refusal) = pattern_accepts_empty(value.as_bytes())
        {
            return Err(self.error(label.span.to(token.span), refusal.to_string()));
        }
        Ok(Matcher { name, op, value })
    }
}
