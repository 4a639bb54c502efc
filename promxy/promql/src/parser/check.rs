//! The type check: what may be combined with what.
//!
//! Follows the AST check of Prometheus' parser (`promql/parser/parse.go`), which runs when the grammar is content. Types were
//! noted when the nodes were made, so each rule looks at a node and its children only and the whole is linear; the reference
//! derives them anew at every level. The tasks on the stack keep the reference's order, because only the first error is shown.

use std::collections::HashSet;

use shared::regex::{self, PatternError};

use crate::format;
use crate::parser::ast::METRIC_NAME;
use crate::parser::{
    Aggregate, AggregateOp, Arity, Binary, Call, Cardinality, Expr, Grouping, MatchOp, Matcher,
    NodeId, NodeKind, ParseError, Span, ValueType, VectorSelector,
};

/// Checks a parsed query and settles how the elements of its vectors match.
pub(super) fn check(expr: &mut Expr, input: &str) -> Result<(), ParseError> {
    let mut checker = Checker {
        expr,
        input,
        tasks: Vec::new(),
    };
    checker.tasks.push(Task::Visit(checker.expr.root_id()));
    while let Some(task) = checker.tasks.pop() {
        checker.run(task)?;
    }
    Ok(())
}

struct Checker<'a> {
    expr: &'a mut Expr,
    input: &'a str,
    /// What is left to do, next last.
    tasks: Vec<Task>,
}

#[derive(Clone, Copy)]
enum Task {
    /// Check a node and everything in it.
    Visit(NodeId),
    /// Check a binary operator whose operands are sound.
    Binary(NodeId),
    /// Check a sign, or a subquery, whose operand is sound.
    Operand(NodeId),
    /// Check the type of an argument that is sound: the argument and the call or aggregation.
    Argument(NodeId, ValueType, NodeId),
}

impl Checker<'_> {
    fn run(&mut self, task: Task) -> Result<(), ParseError> {
        match task {
            Task::Visit(id) => self.visit(id),
            Task::Binary(id) => self.binary(id),
            Task::Operand(id) => self.operand(id),
            Task::Argument(argument, expected, of) => self.argument(argument, expected, of),
        }
    }

    fn visit(&mut self, id: NodeId) -> Result<(), ParseError> {
        let tasks = &mut self.tasks;
        match &self.expr[id].kind {
            NodeKind::Number(_) | NodeKind::String(_) => {}
            NodeKind::Vector(selector) => return self.selector(selector, id),
            NodeKind::Matrix(matrix) => tasks.push(Task::Visit(matrix.selector)),
            NodeKind::Paren(inner) => tasks.push(Task::Visit(*inner)),
            NodeKind::Subquery(subquery) => {
                tasks.extend([Task::Operand(id), Task::Visit(subquery.expr)]);
            }
            NodeKind::Unary { operand, .. } => {
                tasks.extend([Task::Operand(id), Task::Visit(*operand)]);
            }
            NodeKind::Binary(binary) => {
                tasks.extend([
                    Task::Binary(id),
                    Task::Visit(binary.rhs),
                    Task::Visit(binary.lhs),
                ]);
            }
            NodeKind::Aggregate(aggregate) => {
                let Aggregate {
                    op,
                    expr,
                    param,
                    grouping: _,
                } = **aggregate;
                if let Some(param) = param {
                    let expected = if op == AggregateOp::CountValues {
                        ValueType::String
                    } else {
                        ValueType::Scalar
                    };
                    tasks.extend([Task::Argument(param, expected, id), Task::Visit(param)]);
                }
                tasks.extend([
                    Task::Argument(expr, ValueType::Vector, id),
                    Task::Visit(expr),
                ]);
            }
            NodeKind::Call(call) => {
                for (number, argument) in call.args.iter().enumerate().rev() {
                    let types = call.function.arg_types;
                    if let Some(expected) = types.get(number).or(types.last()) {
                        tasks.push(Task::Argument(*argument, *expected, id));
                    }
                    // The second argument of `info` may select everything.
                    let is_label_filter = call.function.name == "info" && number == 1;
                    if !is_label_filter {
                        tasks.push(Task::Visit(*argument));
                    }
                }
                return self.call(call, id);
            }
        }
        Ok(())
    }

    fn selector(&self, selector: &VectorSelector, id: NodeId) -> Result<(), ParseError> {
        let VectorSelector {
            name,
            matchers,
            shift: _,
            extended: _,
        } = selector;
        if name.is_empty() {
            if matchers.iter().all(accepts_empty) {
                return Err(self.error(
                    id,
                    "vector selector must contain at least one non-empty matcher",
                ));
            }
            return Ok(());
        }
        // The last matcher is that of the name in front of the braces.
        let (_, written) = matchers.split_last().expect("a name has a matcher");
        match written.iter().find(|matcher| matcher.name == METRIC_NAME) {
            Some(other) => {
                let (name, other) = (
                    format::quote(name.as_bytes()),
                    format::quote(other.value.as_bytes()),
                );
                Err(self.error(
                    id,
                    format!("metric name must not be set twice: {name} or {other}"),
                ))
            }
            None => Ok(()),
        }
    }

    fn call(&self, call: &Call, id: NodeId) -> Result<(), ParseError> {
        let Call { function, args } = call;
        let (name, types, given) = (
            format::quote(function.name.as_bytes()),
            function.arg_types.len(),
            args.len(),
        );
        let complaint = match function.arity {
            Arity::Exact if given != types => Some(format!("expected {types}")),
            Arity::Optional(_) | Arity::Unlimited if given < types - 1 => {
                Some(format!("expected at least {}", types - 1))
            }
            Arity::Optional(more) if given > types - 1 + more => {
                Some(format!("expected at most {}", types - 1 + more))
            }
            _ => None,
        };
        if let Some(complaint) = complaint {
            return Err(self.error(
                id,
                format!("{complaint} argument(s) in call to {name}, got {given}"),
            ));
        }
        let Some(labels) = args.get(1).filter(|_| function.name == "info") else {
            return Ok(());
        };
        let node = &self.expr[*labels];
        match &node.kind {
            _ if node.value_type != ValueType::Vector => {
                let (expected, got) =
                    (ValueType::Vector.documented(), node.value_type.documented());
                Err(self.error(
                    id,
                    format!("expected type {expected} in call to function {name}, got {got}"),
                ))
            }
            NodeKind::Vector(selector) if selector.name.is_empty() => Ok(()),
            NodeKind::Vector(_) => Err(self.error(
                *labels,
                "expected label selectors only, got vector selector instead",
            )),
            _ => Err(self.error(*labels, "expected label selectors only")),
        }
    }

    fn argument(
        &self,
        argument: NodeId,
        expected: ValueType,
        of: NodeId,
    ) -> Result<(), ParseError> {
        let got = self.expr[argument].value_type;
        if got == expected {
            return Ok(());
        }
        let place = match &self.expr[of].kind {
            NodeKind::Call(call) => format!(
                "call to function {}",
                format::quote(call.function.name.as_bytes())
            ),
            NodeKind::Aggregate(aggregate) if aggregate.param == Some(argument) => {
                "aggregation parameter".to_owned()
            }
            _ => "aggregation expression".to_owned(),
        };
        let (expected, got) = (expected.documented(), got.documented());
        Err(self.error(
            argument,
            format!("expected type {expected} in {place}, got {got}"),
        ))
    }

    fn operand(&self, id: NodeId) -> Result<(), ParseError> {
        match &self.expr[id].kind {
            NodeKind::Unary { operand, .. } => match self.expr[*operand].value_type {
                ValueType::Scalar | ValueType::Vector => Ok(()),
                got => {
                    let got = format::quote(got.documented().as_bytes());
                    let allowed = "expressions of type scalar or instant vector";
                    Err(self.error(
                        id,
                        format!("unary expression only allowed on {allowed}, got {got}"),
                    ))
                }
            },
            NodeKind::Subquery(subquery) => match self.expr[subquery.expr].value_type {
                ValueType::Vector => Ok(()),
                got => {
                    let got = got.as_str();
                    Err(self.error(
                        id,
                        format!("subquery is only allowed on instant vector, got {got} instead"),
                    ))
                }
            },
            _ => Ok(()),
        }
    }

    fn binary(&mut self, id: NodeId) -> Result<(), ParseError> {
        let NodeKind::Binary(binary) = &self.expr[id].kind else {
            return Ok(());
        };
        let fault = self.binary_fault(binary, id);
        if let Some((span, message)) = fault {
            return Err(ParseError::new(self.input, span, message));
        }
        let both_vectors = [binary.lhs, binary.rhs]
            .iter()
            .all(|side| self.expr[*side].value_type == ValueType::Vector);
        let NodeKind::Binary(binary) = &mut self.expr[id].kind else {
            return Ok(());
        };
        if !both_vectors {
            binary.matching = None;
        } else if binary.op.is_set_operator()
            && let Some(matching) = &mut binary.matching
        {
            matching.cardinality = Cardinality::ManyToMany;
        }
        Ok(())
    }

    /// Returns what is wrong with an operator and where, if anything.
    fn binary_fault(&self, binary: &Binary, id: NodeId) -> Option<(Span, String)> {
        let Binary {
            op,
            lhs,
            rhs,
            return_bool,
            matching,
        } = binary;
        let (left, right) = (&self.expr[*lhs], &self.expr[*rhs]);
        let whole = self.expr[id].span;
        let at_operator =
            |message: String| Some((self.operator_span(left.span, right.span), message));
        let scalars = [left, right]
            .iter()
            .filter(|side| side.value_type == ValueType::Scalar)
            .count();

        if *return_bool && !op.is_comparison() {
            return at_operator(
                "bool modifier can only be used on comparison operators".to_owned(),
            );
        }
        if op.is_comparison() && !return_bool && scalars == 2 {
            return at_operator("comparisons between scalars must use BOOL modifier".to_owned());
        }
        let matching = matching.as_ref()?;
        let labels = matching
            .grouping
            .as_ref()
            .map(Grouping::labels)
            .unwrap_or_default();
        if matching.grouping.as_ref().is_some_and(Grouping::is_only) {
            let include: HashSet<&String> = matching.include.iter().flatten().collect();
            if let Some(label) = labels.iter().find(|label| include.contains(label)) {
                let label = format::quote(label.as_bytes());
                return at_operator(format!(
                    "label {label} must not occur in ON and GROUP clause at once"
                ));
            }
        }
        for side in [left, right] {
            if !matches!(side.value_type, ValueType::Scalar | ValueType::Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return Some((side.span, message.to_owned()));
            }
        }
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        let op_name = format::quote(op.as_str().as_bytes());
        let message = if scalars > 0 && !labels.is_empty() {
            "vector matching only allowed between instant vectors".to_owned()
        } else if scalars > 0 && fills {
            "filling in missing series only allowed between instant vectors".to_owned()
        } else if scalars > 0 && op.is_set_operator() {
            format!("set operator {op_name} not allowed in binary scalar expression")
        } else if op.is_set_operator() && matching.cardinality != Cardinality::OneToOne {
            format!("no grouping allowed for {op_name} operation")
        } else if op.is_set_operator() && fills {
            "filling in missing series not allowed for set operators".to_owned()
        } else {
            return None;
        };
        Some((whole, message))
    }

    /// Returns where an operator and its modifiers stand: between the operands, without the space at the edges. Like the
    /// reference's, the end is that of the last byte, not after it.
    fn operator_span(&self, lhs: Span, rhs: Span) -> Span {
        let is_space = |at: &usize| {
            matches!(
                self.input.as_bytes().get(*at),
                Some(b' ' | b'\t' | b'\n' | b'\r')
            )
        };
        let start = (lhs.end..self.input.len())
            .find(|at| !is_space(at))
            .unwrap_or(lhs.end);
        let end = (0..rhs.start)
            .rfind(|at| !is_space(at))
            .unwrap_or(rhs.start);
        Span { start, end }
    }

    fn error(&self, id: NodeId, message: impl Into<String>) -> ParseError {
        ParseError::new(self.input, self.expr[id].span, message)
    }
}

/// Whether a matcher accepts a series without the label.
fn accepts_empty(matcher: &Matcher) -> bool {
    let Matcher { name: _, op, value } = matcher;
    match op {
        MatchOp::Equal => value.is_empty(),
        MatchOp::NotEqual => !value.is_empty(),
        // The pattern was read once already.
        MatchOp::Regex => pattern_accepts_empty(value.as_bytes()).unwrap_or(true),
        MatchOp::NotRegex => !pattern_accepts_empty(value.as_bytes()).unwrap_or(true),
    }
}

/// Whether a matcher's pattern accepts the empty text.
///
/// Plain texts with bars between them are no pattern to the reference, in `model/labels/regexp.go`, and may be any bytes.
pub(super) fn pattern_accepts_empty(pattern: &[u8]) -> Result<bool, PatternError> {
    let is_special = |byte: &u8| br"\.+*?()[]{}^$".contains(byte);
    if pattern.iter().any(is_special) {
        return regex::accepts_empty(pattern);
    }
    Ok(pattern.split(|byte| *byte == b'|').any(<[u8]>::is_empty))
}
