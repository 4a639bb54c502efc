//! The canonical one-line form of a query.
//!
//! Follows Prometheus' printer (`promql/parser/printer.go`). A node with n children has n + 1 pieces of text of its own, around
//! and between them: `sum by (a) (`, `, `, `)`. [`Expr::write_piece`] writes one, and everything else is a loop over a stack of
//! nodes and piece numbers.

use std::fmt::{self, Write};

use crate::format;
use crate::parser::ast::{
    At, Binary, Cardinality, DurationExpr, DurationKind, DurationValue, ExtendedRange, Grouping,
    METRIC_NAME, MatchOp, Matcher, MatrixSelector, NumberLiteral, Sign, Subquery, TimeShift,
    VectorMatching, VectorSelector,
};
use crate::parser::{Compat, Expr, NodeId, NodeKind};
use crate::{SignedDuration, Text};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_node(self.root_id(), f)
    }
}

impl Expr {
    /// Returns something that writes a part of the query in its canonical form.
    ///
    /// ```
    /// use promql::parser::{NodeKind, ParserOptions, parse};
    ///
    /// let expr = parse("-(a+b)", &ParserOptions::default())?;
    /// let NodeKind::Unary { operand, .. } = expr.root().kind else { panic!("a sign") };
    /// assert_eq!(expr.display(operand).to_string(), "(a + b)");
    /// # Ok::<(), promql::parser::ParseError>(())
    /// ```
    pub fn display(&self, id: NodeId) -> impl fmt::Display + '_ {
        Part { expr: self, id }
    }

    /// Writes a node in its one-line form.
    pub(super) fn write_node(&self, id: NodeId, out: &mut dyn Write) -> fmt::Result {
        let mut stack = vec![(id, 0)];
        while let Some((id, piece)) = stack.pop() {
            self.write_piece(id, piece, out)?;
            if let Some(child) = self.printed_child(id, piece) {
                stack.extend([(id, piece + 1), (child, 0)]);
            }
        }
        Ok(())
    }

    /// Returns a child that is printed by itself. A range selector prints its vector selector as a part of its own text.
    pub(super) fn printed_child(&self, id: NodeId, number: usize) -> Option<NodeId> {
        match &self[id].kind {
            NodeKind::Matrix(_) => None,
            kind => kind.child(number),
        }
    }

    /// Writes the text of a node that stands before its child of the same number, or at the end.
    pub(super) fn write_piece(&self, id: NodeId, piece: usize, out: &mut dyn Write) -> fmt::Result {
        match (&self[id].kind, piece) {
            (NodeKind::Number(number), _) => write_number(number, out),
            (NodeKind::String(value), _) => out.write_str(&format::quote(value.as_bytes())),
            (NodeKind::Vector(selector), _) => write_selector(selector, out),
            (NodeKind::Matrix(matrix), _) => self.write_matrix(matrix, out),
            (NodeKind::Subquery(_), 0) => Ok(()),
            (NodeKind::Subquery(subquery), _) => write_subquery(subquery, out),
            (NodeKind::Paren(_), 0) => out.write_str("("),
            (NodeKind::Unary { op, .. }, 0) => out.write_str(op.as_str()),
            (NodeKind::Unary { .. }, _) => Ok(()),
            (NodeKind::Binary(binary), 1) => {
                out.write_str(" ")?;
                self.write_operator(binary, out)?;
                out.write_str(" ")
            }
            (NodeKind::Binary(_), _) => Ok(()),
            (NodeKind::Call(call), 0) => {
                write!(out, "{}(", call.function.name)?;
                if call.args.is_empty() {
                    out.write_str(")")
                } else {
                    Ok(())
                }
            }
            (NodeKind::Call(call), piece) if piece < call.args.len() => out.write_str(", "),
            (NodeKind::Aggregate(aggregate), 0) => {
                out.write_str(aggregate.op.as_str())?;
                self.write_grouping(aggregate.grouping.as_ref(), out)?;
                out.write_str("(")
            }
            (NodeKind::Aggregate(aggregate), 1) if aggregate.param.is_some() => out.write_str(", "),
            (NodeKind::Paren(_) | NodeKind::Call(_) | NodeKind::Aggregate(_), _) => {
                out.write_str(")")
            }
        }
    }

    /// Writes an operator with its modifiers.
    pub(super) fn write_operator(&self, binary: &Binary, out: &mut dyn Write) -> fmt::Result {
        out.write_str(binary.op.as_str())?;
        if binary.return_bool {
            out.write_str(" bool")?;
        }
        match &binary.matching {
            Some(matching) => self.write_matching(matching, out),
            None => Ok(()),
        }
    }

    fn write_matching(&self, matching: &VectorMatching, out: &mut dyn Write) -> fmt::Result {
        let VectorMatching {
            cardinality,
            grouping,
            include,
            fill_left,
            fill_right,
        } = matching;
        let group = match cardinality {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        let labels = grouping.as_ref().map(Grouping::labels).unwrap_or_default();
        let is_on = grouping.as_ref().is_some_and(Grouping::is_only);
        // 3.5 loses the group together with an empty `ignoring ()`.
        let group = group.filter(|_| is_on || !labels.is_empty() || self.compat() >= Compat::V3_14);
        if is_on || !labels.is_empty() || group.is_some() {
            out.write_str(if is_on { " on (" } else { " ignoring (" })?;
            self.write_matching_labels(labels, out)?;
            out.write_str(")")?;
        }
        if let Some(group) = group {
            write!(out, " {group} (")?;
            self.write_matching_labels(include.as_deref().unwrap_or_default(), out)?;
            out.write_str(")")?;
        }
        match (fill_left, fill_right) {
            (Some(left), Some(right)) if left == right => {
                write!(out, " fill ({})", format::general(*left))
            }
            (left, right) => {
                if let Some(left) = left {
                    write!(out, " fill_left ({})", format::general(*left))?;
                }
                if let Some(right) = right {
                    write!(out, " fill_right ({})", format::general(*right))?;
                }
                Ok(())
            }
        }
    }

    fn write_grouping(&self, grouping: Option<&Grouping>, out: &mut dyn Write) -> fmt::Result {
        let (word, labels) = match grouping {
            Some(Grouping::AllBut(labels)) => ("without", labels),
            Some(Grouping::Only(labels)) if !labels.is_empty() => ("by", labels),
            _ => return Ok(()),
        };
        write!(out, " {word} (")?;
        for (number, label) in labels.iter().enumerate() {
            // 3.5 holds labels against the rules for metric names, which may have colons.
            let plain = is_label_name(label)
                || self.compat() == Compat::V3_5 && is_label_name(&label.replace(':', "_"));
            write_label(label, plain, number, out)?;
        }
        out.write_str(") ")
    }

    fn write_matching_labels(&self, labels: &[String], out: &mut dyn Write) -> fmt::Result {
        for (number, label) in labels.iter().enumerate() {
            // 3.5 forgets to quote here.
            write_label(
                label,
                self.compat() == Compat::V3_5 || is_label_name(label),
                number,
                out,
            )?;
        }
        Ok(())
    }

    /// Writes a range selector: the brackets stand before the modifiers of its vector selector.
    fn write_matrix(&self, matrix: &MatrixSelector, out: &mut dyn Write) -> fmt::Result {
        let NodeKind::Vector(selector) = &self[matrix.selector].kind else {
            return Ok(());
        };
        write_series(selector, out)?;
        out.write_str("[")?;
        write_duration(&matrix.range, out)?;
        out.write_str("]")?;
        write_extended(selector.extended, out)?;
        write_at(&selector.shift, out)?;
        write_offset(&selector.shift, out)
    }
}

struct Part<'a> {
    expr: &'a Expr,
    id: NodeId,
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.write_node(self.id, f)
    }
}

fn write_selector(selector: &VectorSelector, out: &mut dyn Write) -> fmt::Result {
    write_series(selector, out)?;
    write_at(&selector.shift, out)?;
    write_extended(selector.extended, out)?;
    write_offset(&selector.shift, out)
}

/// Writes the name and the matchers, sorted as text.
fn write_series(selector: &VectorSelector, out: &mut dyn Write) -> fmt::Result {
    let VectorSelector {
        name,
        matchers,
        shift: _,
        extended: _,
    } = selector;
    out.write_str(name)?;
    let says_the_name = |matcher: &&Matcher| {
        let Matcher {
            name: label,
            op,
            value,
        } = matcher;
        *label == METRIC_NAME
            && *op == MatchOp::Equal
            && *value == name.as_str()
            && !value.is_empty()
    };
    let mut texts: Vec<String> = matchers
        .iter()
        .filter(|matcher| !says_the_name(matcher))
        .map(ToString::to_string)
        .collect();
    if texts.is_empty() {
        return Ok(());
    }
    texts.sort_unstable();
    write!(out, "{{{}}}", texts.join(","))
}

fn write_subquery(subquery: &Subquery, out: &mut dyn Write) -> fmt::Result {
    let Subquery {
        expr: _,
        range,
        step,
        shift,
    } = subquery;
    out.write_str("[")?;
    write_duration(range, out)?;
    out.write_str(":")?;
    if let Some(step) = step.as_ref().filter(|step| !step.is_zero()) {
        write_duration(step, out)?;
    }
    out.write_str("]")?;
    write_at(shift, out)?;
    write_offset(shift, out)
}

fn write_at(shift: &TimeShift, out: &mut dyn Write) -> fmt::Result {
    match shift.at {
        None => Ok(()),
        Some(At::Timestamp(millis)) => write!(
            out,
            " @ {}",
            format::with_decimals(millis as f64 / 1000.0, 3)
        ),
        Some(At::Start) => out.write_str(" @ start()"),
        Some(At::End) => out.write_str(" @ end()"),
    }
}

fn write_offset(shift: &TimeShift, out: &mut dyn Write) -> fmt::Result {
    if shift.offset.is_zero() {
        return Ok(());
    }
    out.write_str(" offset ")?;
    write_duration(&shift.offset, out)
}

fn write_extended(extended: Option<ExtendedRange>, out: &mut dyn Write) -> fmt::Result {
    match extended {
        Some(extended) => write!(out, " {}", extended.as_str()),
        None => Ok(()),
    }
}

fn write_duration(duration: &DurationValue, out: &mut dyn Write) -> fmt::Result {
    match duration {
        DurationValue::Fixed(duration) => write!(out, "{duration}"),
        DurationValue::Expr(expr) => write!(out, "{expr}"),
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut stack = vec![(self.root_id(), 0)];
        while let Some((id, piece)) = stack.pop() {
            let node = &self[id];
            let child = node.kind.child(piece);
            if node.wrapped && piece == 0 {
                f.write_str("(")?;
            }
            write_duration_piece(&node.kind, piece, f)?;
            match child {
                Some(child) => stack.extend([(id, piece + 1), (child, 0)]),
                None if node.wrapped => f.write_str(")")?,
                None => {}
            }
        }
        Ok(())
    }
}

fn write_duration_piece(kind: &DurationKind, piece: usize, out: &mut dyn Write) -> fmt::Result {
    match (kind, piece) {
        (DurationKind::Number(number), _) => write_number(number, out),
        (DurationKind::Step, _) => out.write_str("step()"),
        (DurationKind::Range, _) => out.write_str("range()"),
        (
            DurationKind::Unary {
                op: Sign::Minus, ..
            },
            0,
        ) => out.write_str("-"),
        (DurationKind::Binary { op, .. }, 0) if op.is_function() => write!(out, "{}(", op.as_str()),
        (DurationKind::Binary { op, .. }, 1) if op.is_function() => out.write_str(", "),
        (DurationKind::Binary { op, .. }, 2) if op.is_function() => out.write_str(")"),
        (DurationKind::Binary { op, .. }, 1) => write!(out, " {} ", op.as_str()),
        (DurationKind::Unary { .. } | DurationKind::Binary { .. }, _) => Ok(()),
    }
}

fn write_number(number: &NumberLiteral, out: &mut dyn Write) -> fmt::Result {
    let NumberLiteral { value, is_duration } = *number;
    if !is_duration {
        return out.write_str(&format::fixed(value));
    }
    if value < 0.0 {
        out.write_str("-")?;
    }
    // Here the reference cuts to whole nanoseconds where it rounds elsewhere.
    let nanos = crate::gomath::to_i64(value.abs() * 1e9);
    write!(out, "{}", SignedDuration::from_nanos(nanos))
}

fn write_label(label: &str, plain: bool, number: usize, out: &mut dyn Write) -> fmt::Result {
    if number > 0 {
        out.write_str(", ")?;
    }
    if plain {
        out.write_str(label)
    } else {
        out.write_str(&format::quote(label.as_bytes()))
    }
}

/// Whether a label needs no quotes.
fn is_label_name(label: &str) -> bool {
    label
        .bytes()
        .enumerate()
        .all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || i > 0 && b.is_ascii_digit())
        && !label.is_empty()
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, op, value } = self;
        match name.to_str().filter(|name| is_label_name(name)) {
            Some(name) => f.write_str(name)?,
            None => write_quoted(name, f)?,
        }
        f.write_str(op.as_str())?;
        write_quoted(value, f)
    }
}

fn write_quoted(text: &Text, out: &mut dyn Write) -> fmt::Result {
    out.write_str(&format::quote(text.as_bytes()))
}
