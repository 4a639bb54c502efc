//! From the syntax tree to a plan, leaves first: durations and `@` resolved, parts that do not change found.
//!
//! Follows `PreprocessExpr` and its helpers in `promql/engine.go`; pinned by `at_modifier.test` and `duration_expression.test`.

use std::sync::Arc;

use super::duration::{Bounds, QueryTimes, resolve};
use super::{
    AggregatePlan, BinaryPlan, CallPlan, Plan, PlanId, PlanKind, PlanNode, RangeSelector, Select,
    Selector, SubqueryPlan,
};
use crate::error::QueryError;
use crate::exec::Grid;
use crate::labels::LabelMatcher;
use crate::parser::{
    At, Call, Compat, Expr, Node, NodeKind, Sign, Span, TimeShift, ValueType, VectorSelector,
    node_index,
};

/// The times and switches that a plan depends on. Times are in milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub(crate) grid: Grid,
    /// The step as the query gave it: zero for an instant query.
    pub(crate) step: i64,
    pub(crate) lookback: i64,
    pub(crate) compat: Compat,
    /// The step of subqueries that give none, by their range.
    pub(crate) default_step: &'a (dyn Fn(i64) -> i64 + Sync),
}

/// Functions whose value depends on the time of evaluation even if their arguments do not.
const TIME_DEPENDENT: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
    "end",
    "range",
    "start",
    "step",
];

impl Plan {
    /// Makes the plan of a query.
    pub(crate) fn new(expr: &Expr, settings: &Settings<'_>) -> Result<Self, QueryError> {
        let mut builder = Builder {
            nodes: Vec::new(),
            facts: Vec::new(),
            ids: Vec::new(),
            spans: Vec::new(),
            times: QueryTimes {
                start: settings.grid.start,
                end: settings.grid.end,
                step: settings.step,
            },
            settings,
        };
        for (id, node) in expr.nodes() {
            builder.ids.resize(node_index(id) + 1, PlanId(0));
            builder.spans.push(node.span);
            builder.ids[node_index(id)] = builder.node(id, node)?;
        }
        let root = builder.ids[node_index(expr.root_id())];
        if builder.facts[root.index()].wrappable {
            builder.facts[root.index()].wrapped = true;
        }
        let wrapped: Vec<bool> = builder.facts.iter().map(|facts| facts.wrapped).collect();
        let mut plan = Self {
            nodes: builder.nodes,
            root,
            selects: Vec::<Select>::new(),
        };
        plan.assign_grids(&wrapped, settings, expr.root_id());
        Ok(plan)
    }
}

/// What is known of a node below its parents.
#[derive(Clone, Copy, Default)]
struct Facts {
    /// Its value is the same at every step.
    invariant: bool,
    /// It is worth evaluating once: not so literals and ranges.
    wrappable: bool,
    /// It is the highest invariant node of its branch.
    wrapped: bool,
}

struct Builder<'a> {
    nodes: Vec<PlanNode>,
    /// For every node of `nodes`.
    facts: Vec<Facts>,
    /// The plan's node for every node of the tree; parentheses are their content.
    ids: Vec<PlanId>,
    /// The places of the tree's nodes.
    spans: Vec<Span>,
    times: QueryTimes,
    settings: &'a Settings<'a>,
}

impl Builder<'_> {
    fn node(&mut self, id: crate::parser::NodeId, node: &Node) -> Result<PlanId, QueryError> {
        let (kind, facts) = match &node.kind {
            NodeKind::Paren(inner) => return Ok(self.plan(*inner)),
            NodeKind::Unary {
                op: Sign::Plus,
                operand,
            } => return Ok(self.plan(*operand)),
            NodeKind::Number(number) => (PlanKind::Number(number.value), Facts::literal()),
            NodeKind::String(text) => (PlanKind::String(text.clone()), Facts::literal()),
            NodeKind::Vector(selector) => {
                let selector = self.selector(selector)?;
                let facts = Facts::pinned(selector.at);
                (PlanKind::Selector(selector), facts)
            }
            NodeKind::Matrix(matrix) => {
                let range = resolve(&matrix.range, Bounds::Positive, self.times)?;
                let inner = self.plan(matrix.selector);
                let PlanKind::Selector(selector) = &self.nodes[inner.index()].kind else {
                    return Err(QueryError::execution("a range selector is one of series"));
                };
                let selector = selector.clone();
                let facts = Facts {
                    invariant: selector.at.is_some(),
                    ..Facts::default()
                };
                (PlanKind::Range(RangeSelector { selector, range }), facts)
            }
            NodeKind::Subquery(subquery) => {
                let (original_offset, at) = self.shift(&subquery.shift)?;
                let step = match &subquery.step {
                    Some(step) => resolve(step, Bounds::Positive, self.times)?,
                    None => 0,
                };
                let range = resolve(&subquery.range, Bounds::Positive, self.times)?;
                let step = match step {
                    0 => (self.settings.default_step)(range),
                    step => step,
                };
                let expr = self.plan(subquery.expr);
                if self.facts[expr.index()].invariant {
                    self.facts[expr.index()].wrapped = true;
                }
                let kind = PlanKind::Subquery(SubqueryPlan {
                    expr,
                    range,
                    step: step.max(1),
                    offset: original_offset,
                    original_offset,
                    at,
                });
                let facts = Facts {
                    invariant: at.is_some(),
                    ..Facts::default()
                };
                (kind, facts)
            }
            NodeKind::Unary { operand, .. } => {
                let operand = self.plan(*operand);
                (PlanKind::Negate(operand), self.facts[operand.index()])
            }
            NodeKind::Binary(binary) => {
                let (lhs, rhs) = (self.plan(binary.lhs), self.plan(binary.rhs));
                let kind = PlanKind::Binary(BinaryPlan {
                    op: binary.op,
                    lhs,
                    rhs,
                    return_bool: binary.return_bool,
                    matching: binary.matching.clone(),
                });
                (kind, self.combine(&[lhs, rhs], true))
            }
            NodeKind::Call(call) => self.call(call),
            NodeKind::Aggregate(aggregate) => {
                let expr = self.plan(aggregate.expr);
                let kind = PlanKind::Aggregate(AggregatePlan {
                    op: aggregate.op,
                    expr,
                    expr_span: match self.settings.compat {
                        Compat::V3_5 => self.spans[node_index(aggregate.expr)],
                        Compat::V3_14 => self.nodes[expr.index()].span,
                    },
                    param: aggregate.param.map(|param| self.plan(param)),
                    grouping: aggregate.grouping.clone(),
                });
                // A parameter that changes does not count, as in the reference.
                (kind, self.facts[expr.index()])
            }
        };
        let facts = Facts {
            wrapped: false,
            ..facts
        };
        Ok(self.push(kind, facts, id, node))
    }

    fn plan(&self, id: crate::parser::NodeId) -> PlanId {
        self.ids[node_index(id)]
    }

    fn push(
        &mut self,
        kind: PlanKind,
        facts: Facts,
        expr: crate::parser::NodeId,
        node: &Node,
    ) -> PlanId {
        let id = PlanId(self.nodes.len() as u32);
        self.nodes.push(PlanNode {
            kind,
            expr,
            span: node.span,
            argument_span: node.span,
            value_type: node.value_type,
            grid: self.settings.grid,
            repeated: None,
            needed: false,
        });
        self.facts.push(facts);
        id
    }

    /// A node is invariant if its children are and it is itself; else those children that can be are evaluated once.
    fn combine(&mut self, children: &[PlanId], itself: bool) -> Facts {
        let all = children
            .iter()
            .all(|child| self.facts[child.index()].invariant);
        if all && itself {
            return Facts {
                invariant: true,
                wrappable: true,
                wrapped: false,
            };
        }
        for child in children {
            let facts = &mut self.facts[child.index()];
            facts.wrapped = facts.wrappable;
        }
        Facts::default()
    }

    fn call(&mut self, call: &Call) -> (PlanKind, Facts) {
        let name = call.function.name;
        let seconds = |millis: i64| millis as f64 / 1000.0;
        let constant = match name {
            "start" => Some(seconds(self.times.start)),
            "end" => Some(seconds(self.times.end)),
            "range" => Some(seconds(self.times.end.saturating_sub(self.times.start))),
            "step" if self.times.start == self.times.end => Some(0.0),
            "step" => Some(seconds(self.times.step)),
            _ => None,
        };
        if let Some(value) = constant {
            return (PlanKind::Number(value), Facts::literal());
        }
        let args: Vec<PlanId> = call.args.iter().map(|arg| self.plan(*arg)).collect();
        // The time of a sample of a pinned selector does not change, that of any other expression's does.
        let is_pinned_timestamp = name == "timestamp"
            && args
                .iter()
                .all(|arg| matches!(self.nodes[arg.index()].kind, PlanKind::Selector(_)));
        let itself = is_pinned_timestamp || !TIME_DEPENDENT.contains(&name);
        let facts = self.combine(&args, itself);
        if !facts.invariant {
            for (arg, inner) in call.args.iter().zip(&args) {
                if self.facts[inner.index()].invariant {
                    self.nodes[inner.index()].argument_span = self.spans[node_index(*arg)];
                }
            }
        }
        let kind = PlanKind::Call(CallPlan {
            function: call.function,
            args,
            info: None,
        });
        (kind, facts)
    }

    fn selector(&self, selector: &VectorSelector) -> Result<Selector, QueryError> {
        let (original_offset, at) = self.shift(&selector.shift)?;
        let matchers: Result<Arc<[LabelMatcher]>, _> =
            selector.matchers.iter().map(LabelMatcher::new).collect();
        Ok(Selector {
            matchers: matchers.map_err(|error| QueryError::BadData(error.to_string()))?,
            offset: original_offset,
            original_offset,
            at,
            extended: selector.extended,
            counts_only: false,
            select: usize::MAX,
        })
    }

    /// Returns the offset and the time of `@`.
    fn shift(&self, shift: &TimeShift) -> Result<(i64, Option<i64>), QueryError> {
        let offset = resolve(&shift.offset, Bounds::Any, self.times)?;
        let at = shift.at.map(|at| match at {
            At::Timestamp(time) => time,
            At::Start => self.times.start,
            At::End => self.times.end,
        });
        Ok((offset, at))
    }
}

impl Facts {
    fn literal() -> Self {
        Self {
            invariant: true,
            ..Self::default()
        }
    }

    fn pinned(at: Option<i64>) -> Self {
        Self {
            invariant: at.is_some(),
            wrappable: at.is_some(),
            wrapped: false,
        }
    }
}

/// Whether an expression is a text in parentheses, which 3.5 cannot evaluate.
pub(crate) fn is_text_in_parentheses(expr: &Expr) -> bool {
    matches!(expr.root().kind, NodeKind::Paren(_)) && expr.root().value_type == ValueType::String
}
