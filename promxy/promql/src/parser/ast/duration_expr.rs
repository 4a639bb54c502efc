//! Duration expressions: arithmetic in place of a duration, kept unevaluated until the query's step and range are known.

use crate::SignedDuration;
use crate::parser::{NumberLiteral, Sign, Span};

/// A duration in a selector: known, or an expression.
#[derive(Clone, Debug)]
pub enum DurationValue {
    /// A duration written as a literal.
    Fixed(SignedDuration),
    /// Anything else.
    Expr(DurationExpr),
}

impl DurationValue {
    /// Whether it is the literal zero.
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::Fixed(SignedDuration::ZERO))
    }
}

/// A duration expression; like [`Expr`](crate::parser::Expr), a list with children before their parents.
#[derive(Clone, Debug, Default)]
pub struct DurationExpr {
    pub(crate) nodes: Vec<DurationNode>,
}

/// Names a node of one [`DurationExpr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationId(u32);

impl DurationId {
    /// Returns the place of the node in [`DurationExpr::nodes`].
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A part of a duration expression.
#[derive(Clone, Debug)]
pub struct DurationNode {
    /// What it is.
    pub kind: DurationKind,
    /// Where it stands in the query, as Prometheus counts: without parentheses and without the words `min_of(`, `max_of(`.
    pub span: Span,
    /// Whether it was, and is to be printed, in parentheses.
    pub wrapped: bool,
}

/// What a part of a duration expression is.
#[derive(Clone, Debug)]
pub enum DurationKind {
    /// Seconds.
    Number(NumberLiteral),
    /// `step()`: the step of the query.
    Step,
    /// `range()`: the length of the query.
    Range,
    /// `-x`. A plus stands for parentheses around a plain number, or was written in front of an offset.
    Unary {
        /// The sign.
        op: Sign,
        /// What it is applied to.
        operand: DurationId,
    },
    /// `a * b`, `min_of(a, b)`
    Binary {
        /// The operation.
        op: DurationOp,
        /// The first operand.
        lhs: DurationId,
        /// The second operand.
        rhs: DurationId,
    },
}

/// An operation on two durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DurationOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `min_of`
    MinOf,
    /// `max_of`
    MaxOf,
}

impl DurationOp {
    /// Returns the operator, or the function's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::MinOf => "min_of",
            Self::MaxOf => "max_of",
        }
    }

    /// Whether it is written as a function.
    pub fn is_function(self) -> bool {
        matches!(self, Self::MinOf | Self::MaxOf)
    }
}

impl DurationExpr {
    pub(crate) fn push(&mut self, kind: DurationKind, span: Span) -> DurationId {
        let id =
            DurationId(u32::try_from(self.nodes.len()).expect("a query has fewer than 2^32 nodes"));
        self.nodes.push(DurationNode {
            kind,
            span,
            wrapped: false,
        });
        id
    }

    /// Names the node that is the whole expression.
    pub fn root_id(&self) -> DurationId {
        DurationId((self.nodes.len() - 1) as u32)
    }

    /// Returns all nodes, each after its children; the last is the whole expression.
    pub fn nodes(&self) -> &[DurationNode] {
        &self.nodes
    }
}

impl std::ops::Index<DurationId> for DurationExpr {
    type Output = DurationNode;

    fn index(&self, id: DurationId) -> &DurationNode {
        &self.nodes[id.0 as usize]
    }
}

impl std::ops::IndexMut<DurationId> for DurationExpr {
    fn index_mut(&mut self, id: DurationId) -> &mut DurationNode {
        &mut self.nodes[id.0 as usize]
    }
}

impl DurationKind {
    /// Returns the child with the given number, counted from zero.
    pub fn child(&self, number: usize) -> Option<DurationId> {
        match self {
            Self::Number(_) | Self::Step | Self::Range => None,
            Self::Unary { operand, .. } => (number == 0).then_some(*operand),
            Self::Binary { lhs, rhs, .. } => [*lhs, *rhs].get(number).copied(),
        }
    }
}
