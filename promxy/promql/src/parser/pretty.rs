//! The formatter: a query over several lines.
//!
//! Follows Prometheus' prettifier (`promql/parser/prettier.go`): a node whose one-line form is longer than 100 bytes is split,
//! with its children on lines of their own, indented by two spaces a level. The lengths are found in one pass from the
//! leaves up. In one thing this differs: below [`DEEPEST`] levels nothing is split any more, so that indentation cannot make
//! the text of a hostile query grow with the square of its depth.

use std::fmt::{self, Write};

use crate::parser::ast::node_index;
use crate::parser::{Expr, NodeId, NodeKind};

const LONGEST_LINE: usize = 100;

const DEEPEST: usize = 200;

impl Expr {
    /// Returns the query as Prometheus' formatter would write it.
    ///
    /// ```
    /// use promql::parser::{ParserOptions, parse};
    ///
    /// let query = "sum by (job) (rate(http_requests_total{code=~\"5..\", handler=\"/api/v1/query\"}[5m])) \
    ///              / sum by (job) (rate(http_requests_total[5m]))";
    /// let expr = parse(query, &ParserOptions::default())?;
    /// assert_eq!(
    ///     expr.pretty(),
    ///     "  sum by (job) (rate(http_requests_total{code=~\"5..\",handler=\"/api/v1/query\"}[5m]))\n\
    ///      /\n  sum by (job) (rate(http_requests_total[5m]))",
    /// );
    /// # Ok::<(), promql::parser::ParseError>(())
    /// ```
    pub fn pretty(&self) -> String {
        let mut printer = Printer {
            expr: self,
            lengths: self.lengths(),
            out: String::new(),
            at_sign: false,
        };
        printer.run().expect("writing to a String cannot fail");
        printer.out
    }

    /// Returns the length of the one-line form of every node.
    fn lengths(&self) -> Vec<usize> {
        let mut lengths: Vec<usize> = Vec::new();
        for (id, _) in self.nodes() {
            let mut length = Length(0);
            for piece in 0.. {
                self.write_piece(id, piece, &mut length)
                    .expect("counting cannot fail");
                match self.printed_child(id, piece) {
                    Some(child) => {
                        length.0 += lengths.get(node_index(child)).copied().unwrap_or_default();
                    }
                    None => break,
                }
            }
            lengths.push(length.0);
        }
        lengths
    }
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

struct Printer<'a> {
    expr: &'a Expr,
    lengths: Vec<usize>,
    out: String,
    /// Whether a sign was just written, whose operand goes on in the same line.
    at_sign: bool,
}

impl Printer<'_> {
    fn run(&mut self) -> fmt::Result {
        let mut stack = vec![(self.expr.root_id(), 0, 0)];
        while let Some((id, level, piece)) = stack.pop() {
            let kind = &self.expr[id].kind;
            if piece == 0 && !self.splits(id, level) {
                // The reference does not indent a subquery.
                if !matches!(kind, NodeKind::Subquery(_)) {
                    self.indent(level);
                }
                self.at_sign = false;
                self.expr.write_node(id, &mut self.out)?;
                continue;
            }
            self.write_split_piece(id, level, piece)?;
            if let Some(child) = kind.child(piece) {
                let same_level = matches!(kind, NodeKind::Unary { .. } | NodeKind::Subquery(_));
                stack.extend([
                    (id, level, piece + 1),
                    (child, level + usize::from(!same_level), 0),
                ]);
            }
        }
        Ok(())
    }

    fn splits(&self, id: NodeId, level: usize) -> bool {
        match &self.expr[id].kind {
            NodeKind::Number(_)
            | NodeKind::String(_)
            | NodeKind::Vector(_)
            | NodeKind::Matrix(_) => false,
            // A sign never splits, but what follows it may.
            NodeKind::Unary { .. } => level < DEEPEST,
            _ => {
                level < DEEPEST
                    && self
                        .lengths
                        .get(node_index(id))
                        .is_some_and(|length| *length > LONGEST_LINE)
            }
        }
    }

    /// Writes the text of a split node that stands before its child of the same number, or at the end.
    fn write_split_piece(&mut self, id: NodeId, level: usize, piece: usize) -> fmt::Result {
        let kind = &self.expr[id].kind;
        let is_last = kind.child(piece).is_none();
        match kind {
            NodeKind::Binary(binary) => {
                if piece == 1 {
                    self.out.push('\n');
                    self.indent(level);
                    self.expr.write_operator(binary, &mut self.out)?;
                    self.out.push('\n');
                }
                Ok(())
            }
            NodeKind::Unary { .. } => {
                if piece == 0 {
                    self.indent(level);
                    self.at_sign = true;
                }
                self.expr.write_piece(id, piece, &mut self.out)
            }
            NodeKind::Subquery(_) => self.expr.write_piece(id, piece, &mut self.out),
            _ if piece == 0 => {
                self.indent(level);
                self.expr.write_piece(id, piece, &mut self.out)?;
                self.out.push('\n');
                Ok(())
            }
            _ if is_last => {
                self.out.push('\n');
                self.indent(level);
                self.out.push(')');
                Ok(())
            }
            _ => {
                self.out.push_str(",\n");
                Ok(())
            }
        }
    }

    fn indent(&mut self, level: usize) {
        if !std::mem::take(&mut self.at_sign) {
            self.out.extend(std::iter::repeat_n("  ", level));
        }
    }
}
