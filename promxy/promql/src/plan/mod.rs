//! From a syntax tree to what is evaluated: every time resolved, every select known.
//!
//! A [`Plan`] is a list like the tree: children stand before their parents, so evaluation is a loop. What the tree leaves to the
//! moment of evaluation is decided here: on which grid a node is evaluated, how far it looks back, whether its value changes
//! from step to step.

mod build;
mod duration;
mod grids;
mod info;

use std::sync::Arc;

use crate::Text;
use crate::exec::Grid;
use crate::labels::LabelMatcher;
use crate::parser::{
    AggregateOp, BinaryOp, ExtendedRange, Function, Grouping, NodeId, Span, ValueType,
    VectorMatching,
};
use crate::storage::SelectHints;

pub(crate) use build::{Settings, is_text_in_parentheses};
pub(crate) use info::effective_info_names;

/// What is evaluated.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<PlanNode>,
    pub(crate) root: PlanId,
    pub(crate) selects: Vec<Select>,
}

/// Names a node of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PlanId(u32);

impl PlanId {
    /// Names no node.
    pub(crate) const NOWHERE: Self = Self(u32::MAX);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A part of a plan.
#[derive(Debug)]
pub(crate) struct PlanNode {
    pub(crate) kind: PlanKind,
    /// The node of the syntax tree.
    pub(crate) expr: NodeId,
    /// Where it stands in the query.
    pub(crate) span: Span,
    /// Where a function finds it as its argument: with its parentheses if it is evaluated only once, without them if not.
    pub(crate) argument_span: Span,
    pub(crate) value_type: ValueType,
    /// When it is evaluated.
    pub(crate) grid: Grid,
    /// Of a node whose value does not change: the grid of its parent, over which its first value is repeated.
    pub(crate) repeated: Option<Grid>,
    /// Whether anything needs it: what is in a matrix selector, or below a rewritten node, is not needed.
    pub(crate) needed: bool,
}

impl PlanNode {
    /// Returns the grid of the value that the parent sees.
    pub(crate) fn outer_grid(&self) -> Grid {
        self.repeated.unwrap_or(self.grid)
    }
}

/// What a part of a plan does.
#[derive(Debug)]
pub(crate) enum PlanKind {
    Number(f64),
    String(Text),
    Selector(Selector),
    Range(RangeSelector),
    Subquery(SubqueryPlan),
    Negate(PlanId),
    Binary(BinaryPlan),
    Call(CallPlan),
    Aggregate(AggregatePlan),
}

/// A selector of series.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) matchers: Arc<[LabelMatcher]>,
    /// How far back from the step it looks, in milliseconds. On a pinned selector this leads from the first step to the
    /// time it is pinned to.
    pub(crate) offset: i64,
    /// As written.
    pub(crate) original_offset: i64,
    /// The time of `@`.
    pub(crate) at: Option<i64>,
    pub(crate) extended: Option<ExtendedRange>,
    /// Whether count and sum of histograms are all that is looked at.
    pub(crate) counts_only: bool,
    /// Which of the plan's selects has its series.
    pub(crate) select: usize,
}

/// A selector of ranges of samples.
#[derive(Clone, Debug)]
pub(crate) struct RangeSelector {
    pub(crate) selector: Selector,
    /// In milliseconds.
    pub(crate) range: i64,
}

/// An expression evaluated on a grid of its own.
#[derive(Clone, Debug)]
pub(crate) struct SubqueryPlan {
    pub(crate) expr: PlanId,
    /// In milliseconds.
    pub(crate) range: i64,
    /// In milliseconds.
    pub(crate) step: i64,
    pub(crate) offset: i64,
    pub(crate) original_offset: i64,
    pub(crate) at: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct BinaryPlan {
    pub(crate) op: BinaryOp,
    pub(crate) lhs: PlanId,
    pub(crate) rhs: PlanId,
    pub(crate) return_bool: bool,
    pub(crate) matching: Option<VectorMatching>,
}

#[derive(Debug)]
pub(crate) struct CallPlan {
    pub(crate) function: &'static Function,
    pub(crate) args: Vec<PlanId>,
    /// Of `info`, where its info series are.
    pub(crate) info: Option<InfoPlan>,
}

/// The info series of a call of `info`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InfoPlan {
    /// Which of the plan's selects has them.
    pub(crate) select: usize,
    /// Samples before and after these times do not count.
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The time at which info series are looked at instead of that of the step.
    pub(crate) at: Option<i64>,
    /// How far before that time, in milliseconds.
    pub(crate) offset: i64,
}

#[derive(Debug)]
pub(crate) struct AggregatePlan {
    pub(crate) op: AggregateOp,
    pub(crate) expr: PlanId,
    /// Where annotations about the aggregated expression point: 3.5 counts its parentheses in.
    pub(crate) expr_span: Span,
    pub(crate) param: Option<PlanId>,
    pub(crate) grouping: Option<Grouping>,
}

/// Series that storage has to deliver.
#[derive(Debug)]
pub(crate) struct Select {
    pub(crate) matchers: Arc<[LabelMatcher]>,
    pub(crate) hints: SelectHints,
    /// Whether count and sum of histograms are all that is looked at.
    pub(crate) counts_only: bool,
    /// The node that needs them.
    pub(crate) node: PlanId,
}
