//! The syntax tree.
//!
//! An [`Expr`] is a list of [`Node`]s that refer to one another by [`NodeId`]. Children stand before their parents and the root
//! is last, so work that goes from the leaves up is a plain loop over [`Expr::nodes`], and however deep a hostile query nests,
//! nothing that visits, copies or drops it needs a deep stack.

mod duration_expr;
mod operators;
mod selector;

use std::ops::{Index, IndexMut};

use crate::Text;
use crate::parser::{Compat, Function};

pub use duration_expr::{
    DurationExpr, DurationId, DurationKind, DurationNode, DurationOp, DurationValue,
};
pub use operators::{AggregateOp, BinaryOp, Sign};
pub(crate) use selector::METRIC_NAME;
pub use selector::{
    At, ExtendedRange, MatchOp, Matcher, MatrixSelector, Subquery, TimeShift, VectorSelector,
};

/// A range of bytes of the query: from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// Returns the range from the start of `self` to the end of `last`.
    #[must_use]
    pub fn to(self, last: Self) -> Self {
        Self {
            start: self.start,
            end: last.end,
        }
    }
}

/// The type of an expression's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// A text.
    String,
    /// An instant vector: one sample for each series.
    Vector,
    /// A range vector: many samples for each series.
    Matrix,
}

impl ValueType {
    /// Returns the name that the HTTP API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
        }
    }

    /// Returns the name that the documentation and most errors use.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            other => other.as_str(),
        }
    }
}

/// Names a node of one [`Expr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

/// A parsed query.
///
/// `Display` writes Prometheus' canonical one-line form, [`Expr::pretty`] the form of its formatter.
#[derive(Clone, Debug)]
pub struct Expr {
    nodes: Vec<Node>,
    compat: Compat,
}

impl Expr {
    pub(crate) fn new(compat: Compat) -> Self {
        Self {
            nodes: Vec::new(),
            compat,
        }
    }

    /// Appends a node, whose children must be in the list already.
    pub(crate) fn push(&mut self, kind: NodeKind, span: Span, value_type: ValueType) -> NodeId {
        let id =
            NodeId(u32::try_from(self.nodes.len()).expect("a query has fewer than 2^32 nodes"));
        self.nodes.push(Node {
            kind,
            span,
            value_type,
        });
        id
    }

    /// Returns the node that is the whole query.
    pub fn root(&self) -> &Node {
        self.nodes.last().expect("a parsed query has a node")
    }

    /// Names the node that is the whole query.
    pub fn root_id(&self) -> NodeId {
        NodeId((self.nodes.len() - 1) as u32)
    }

    /// Returns all nodes, each after its children.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(i, node)| (NodeId(i as u32), node))
    }

    /// Returns the version in whose form the expression is printed.
    pub fn compat(&self) -> Compat {
        self.compat
    }
}

impl Index<NodeId> for Expr {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
}

impl IndexMut<NodeId> for Expr {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }
}

/// Returns the place of a node in [`Expr::nodes`], for tables beside the tree.
pub(crate) fn node_index(id: NodeId) -> usize {
    id.0 as usize
}

/// A part of the query.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Where it stands in the query, as Prometheus counts: not always all of its text.
    pub span: Span,
    /// What it evaluates to.
    pub value_type: ValueType,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// A number or a duration.
    Number(NumberLiteral),
    /// A quoted string.
    String(Text),
    /// `up{job="a"} offset 5m`
    Vector(Box<VectorSelector>),
    /// `up[5m]`
    Matrix(Box<MatrixSelector>),
    /// `rate(x[5m])[1h:1m]`
    Subquery(Box<Subquery>),
    /// `(x)`
    Paren(NodeId),
    /// `-x`
    Unary {
        /// The sign.
        op: Sign,
        /// What it is applied to.
        operand: NodeId,
    },
    /// `a + on (job) b`
    Binary(Box<Binary>),
    /// `rate(x[5m])`
    Call(Box<Call>),
    /// `sum by (job) (x)`
    Aggregate(Box<Aggregate>),
}

impl NodeKind {
    /// Returns the child with the given number, counted from zero in the order of the query's text.
    ///
    /// The selector in a [`MatrixSelector`] is its child; duration expressions are not nodes.
    pub fn child(&self, number: usize) -> Option<NodeId> {
        match self {
            Self::Number(_) | Self::String(_) | Self::Vector(_) => None,
            Self::Matrix(matrix) => (number == 0).then_some(matrix.selector),
            Self::Subquery(subquery) => (number == 0).then_some(subquery.expr),
            Self::Paren(inner) | Self::Unary { operand: inner, .. } => {
                (number == 0).then_some(*inner)
            }
            Self::Binary(binary) => [binary.lhs, binary.rhs].get(number).copied(),
            Self::Call(call) => call.args.get(number).copied(),
            Self::Aggregate(aggregate) => match (aggregate.param, number) {
                (Some(param), 0) => Some(param),
                (Some(_), 1) | (None, 0) => Some(aggregate.expr),
                _ => None,
            },
        }
    }
}

/// A number, possibly written as a duration.
#[derive(Clone, Copy, Debug)]
pub struct NumberLiteral {
    /// The number; of a duration, its seconds.
    pub value: f64,
    /// Whether it was written, and is to be printed, as a duration.
    pub is_duration: bool,
}

/// Two expressions with an operator between them.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// The left operand.
    pub lhs: NodeId,
    /// The right operand.
    pub rhs: NodeId,
    /// Whether a comparison yields 0 and 1 instead of dropping elements.
    pub return_bool: bool,
    /// How elements find each other, if both operands are instant vectors.
    pub matching: Option<VectorMatching>,
}

/// How the elements of two instant vectors find each other.
#[derive(Clone, Debug)]
pub struct VectorMatching {
    /// How many elements of a side may go with one of the other.
    pub cardinality: Cardinality,
    /// Which labels have to agree: `on` and `ignoring`; absent means all.
    pub grouping: Option<Grouping>,
    /// The labels of `group_left` or `group_right`, if that had a list.
    pub include: Option<Vec<String>>,
    /// The value of elements that are missing on the left side.
    pub fill_left: Option<f64>,
    /// The value of elements that are missing on the right side.
    pub fill_right: Option<f64>,
}

/// How many elements of a side of an operator may go with one of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// Neither side may have several.
    OneToOne,
    /// `group_left`: the left side may.
    ManyToOne,
    /// `group_right`: the right side may.
    OneToMany,
    /// Set operators: both may.
    ManyToMany,
}

impl Cardinality {
    /// Returns the name that the syntax tree's JSON uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// A list of labels and whether these or all others count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// These labels: `by`, `on`.
    Only(Vec<String>),
    /// All labels but these: `without`, `ignoring`.
    AllBut(Vec<String>),
}

impl Grouping {
    /// Returns the labels as written.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::Only(labels) | Self::AllBut(labels) => labels,
        }
    }

    /// Whether the listed labels are those that count.
    pub fn is_only(&self) -> bool {
        matches!(self, Self::Only(_))
    }
}

/// A function call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Its arguments.
    pub args: Vec<NodeId>,
}

/// An aggregation.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// The operation.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: NodeId,
    /// The first argument of operations that take two.
    pub param: Option<NodeId>,
    /// `by` or `without`, if there was one.
    pub grouping: Option<Grouping>,
}
