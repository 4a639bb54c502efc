//! The syntax tree as JSON, for tools and for comparison with recorded trees.
//!
//! The keys tell what a node is: `num`, `str`, `vector`, `matrix`, `subquery`, `paren`, `unary`, `bin`, `call`, `agg`. Every node
//! has `pos`, its bytes in the query; keys without a meaning for a node are left out.

use std::fmt::Write;

use crate::format;
use crate::parser::ast::{
    At, DurationExpr, DurationKind, DurationValue, Grouping, NumberLiteral, TimeShift,
    VectorMatching, VectorSelector,
};
use crate::parser::{Expr, NodeId, NodeKind, Span};

impl Expr {
    /// Returns the syntax tree as JSON.
    ///
    /// ```
    /// use promql::parser::{ParserOptions, parse};
    ///
    /// let expr = parse("-(2)", &ParserOptions::default())?;
    /// assert_eq!(expr.to_json(), r#"{"unary":"-","pos":[0,4],"expr":{"paren":{"num":"2","pos":[2,3]},"pos":[1,4]}}"#);
    /// # Ok::<(), promql::parser::ParseError>(())
    /// ```
    pub fn to_json(&self) -> String {
        let mut json = Json(String::new());
        let mut stack = vec![(self.root_id(), 0)];
        while let Some((id, piece)) = stack.pop() {
            self.write_json_piece(id, piece, &mut json);
            if let Some(child) = self[id].kind.child(piece) {
                stack.extend([(id, piece + 1), (child, 0)]);
            }
        }
        json.0
    }

    /// Writes the text of a node that stands before its child of the same number, or at the end.
    fn write_json_piece(&self, id: NodeId, piece: usize, json: &mut Json) {
        let node = &self[id];
        let has_child = node.kind.child(piece).is_some();
        if piece == 0 {
            json.0.push('{');
        }
        match (&node.kind, piece) {
            (NodeKind::Number(number), _) => json.number(number),
            (NodeKind::String(value), _) => json.text("str", &value.to_str_lossy()),
            (NodeKind::Vector(selector), _) => json.vector(selector),
            (NodeKind::Matrix(_), 0) => json.key("matrix"),
            (NodeKind::Matrix(matrix), _) => json.duration("range", &matrix.range),
            (NodeKind::Subquery(_), 0) => json.key("subquery"),
            (NodeKind::Subquery(subquery), _) => {
                json.duration("range", &subquery.range);
                match &subquery.step {
                    Some(step) => json.duration("step", step),
                    None => json.raw("step_ms", "0"),
                }
                json.shift(&subquery.shift);
            }
            (NodeKind::Paren(_), 0) => json.key("paren"),
            (NodeKind::Paren(_), _) => {}
            (NodeKind::Unary { op, .. }, 0) => {
                json.text("unary", op.as_str());
                json.span(node.span);
                json.key("expr");
            }
            (NodeKind::Binary(binary), 0) => {
                json.text("bin", binary.op.as_str());
                json.span(node.span);
                json.flag("bool", binary.return_bool);
                if let Some(matching) = &binary.matching {
                    json.matching(matching);
                }
                json.key("lhs");
            }
            (NodeKind::Binary(_), 1) => json.key("rhs"),
            (NodeKind::Call(call), 0) => {
                json.text("call", call.function.name);
                json.span(node.span);
                json.key("args");
                json.0.push_str(if has_child { "[" } else { "[]" });
            }
            (NodeKind::Call(_), _) => json.0.push(if has_child { ',' } else { ']' }),
            (NodeKind::Aggregate(aggregate), 0) => {
                json.text("agg", aggregate.op.as_str());
                json.span(node.span);
                if let Some(grouping) = &aggregate.grouping {
                    json.strings("grouping", grouping.labels());
                    json.flag("without", !grouping.is_only());
                }
                json.key(if aggregate.param.is_some() {
                    "param"
                } else {
                    "expr"
                });
            }
            (NodeKind::Aggregate(_), 1) if has_child => json.key("expr"),
            (NodeKind::Unary { .. } | NodeKind::Binary(_) | NodeKind::Aggregate(_), _) => {}
        }
        if has_child {
            return;
        }
        // The others have told theirs.
        let tells_span_last = matches!(
            node.kind,
            NodeKind::Number(_)
                | NodeKind::String(_)
                | NodeKind::Vector(_)
                | NodeKind::Matrix(_)
                | NodeKind::Subquery(_)
                | NodeKind::Paren(_)
        );
        if tells_span_last {
            json.span(node.span);
        }
        json.0.push('}');
    }
}

/// JSON in the making. Every method writes a key with its value, or a key only.
struct Json(String);

impl Json {
    fn key(&mut self, key: &str) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
        self.string(key);
        self.0.push(':');
    }

    fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push_str(value);
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.string(value);
    }

    /// Writes a key only if it is true.
    fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.raw(key, "true");
        }
    }

    fn strings(&mut self, key: &str, values: &[String]) {
        self.key(key);
        self.0.push('[');
        for (number, value) in values.iter().enumerate() {
            if number > 0 {
                self.0.push(',');
            }
            self.string(value);
        }
        self.0.push(']');
    }

    fn span(&mut self, span: Span) {
        self.raw("pos", &format!("[{},{}]", span.start, span.end));
    }

    fn number(&mut self, number: &NumberLiteral) {
        self.text("num", &format::general(number.value));
        self.flag("duration", number.is_duration);
    }

    fn vector(&mut self, selector: &VectorSelector) {
        let VectorSelector {
            name,
            matchers,
            shift,
            extended,
        } = selector;
        self.text("vector", name);
        self.key("matchers");
        self.0.push('[');
        for (number, matcher) in matchers.iter().enumerate() {
            self.0.push_str(if number > 0 { ",[" } else { "[" });
            self.string(&matcher.name.to_str_lossy());
            self.0.push(',');
            self.string(matcher.op.as_str());
            self.0.push(',');
            self.string(&matcher.value.to_str_lossy());
            self.0.push(']');
        }
        self.0.push(']');
        self.shift(shift);
        if let Some(extended) = extended {
            self.flag(extended.as_str(), true);
        }
    }

    fn shift(&mut self, shift: &TimeShift) {
        match &shift.offset {
            DurationValue::Fixed(_) if shift.offset.is_zero() => {}
            DurationValue::Fixed(offset) => self.raw("offset_ms", &offset.as_millis().to_string()),
            DurationValue::Expr(expr) => {
                self.key("offset_expr");
                self.duration_expr(expr);
            }
        }
        match shift.at {
            Some(At::Timestamp(millis)) => self.raw("at_ms", &millis.to_string()),
            Some(At::Start) => self.text("at", "start"),
            Some(At::End) => self.text("at", "end"),
            None => {}
        }
    }

    fn duration(&mut self, name: &str, duration: &DurationValue) {
        let millis = match duration {
            DurationValue::Fixed(duration) => duration.as_millis(),
            DurationValue::Expr(expr) => {
                self.key(&format!("{name}_expr"));
                self.duration_expr(expr);
                0
            }
        };
        self.raw(&format!("{name}_ms"), &millis.to_string());
    }

    fn matching(&mut self, matching: &VectorMatching) {
        let VectorMatching {
            cardinality,
            grouping,
            include,
            fill_left,
            fill_right,
        } = matching;
        self.key("matching");
        self.0.push('{');
        self.text("card", cardinality.as_str());
        if let Some(grouping) = grouping {
            self.strings("labels", grouping.labels());
        }
        self.flag("on", grouping.as_ref().is_some_and(Grouping::is_only));
        if let Some(include) = include {
            self.strings("include", include);
        }
        for (key, value) in [("fill_lhs", fill_left), ("fill_rhs", fill_right)] {
            if let Some(value) = value {
                self.text(key, &format::general(*value));
            }
        }
        self.0.push('}');
    }

    fn duration_expr(&mut self, expr: &DurationExpr) {
        let mut stack = vec![(expr.root_id(), 0)];
        while let Some((id, piece)) = stack.pop() {
            let node = &expr[id];
            let child = node.kind.child(piece);
            if piece == 0 {
                self.0.push('{');
                match &node.kind {
                    DurationKind::Number(number) => self.number(number),
                    DurationKind::Step => self.text("op", "step"),
                    DurationKind::Range => self.text("op", "range"),
                    DurationKind::Unary { op, .. } => self.text("op", op.as_str()),
                    DurationKind::Binary { op, .. } => self.text("op", op.as_str()),
                }
                self.flag("wrapped", node.wrapped);
                self.span(node.span);
            }
            match child {
                Some(child) => {
                    let is_left = piece == 0 && matches!(node.kind, DurationKind::Binary { .. });
                    self.key(if is_left { "lhs" } else { "rhs" });
                    stack.extend([(id, piece + 1), (child, 0)]);
                }
                None => self.0.push('}'),
            }
        }
    }

    /// Writes a string with JSON's escapes.
    fn string(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                c if c < ' ' => {
                    write!(self.0, "\\u{:04x}", u32::from(c))
                        .expect("writing to a String cannot fail");
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }
}
