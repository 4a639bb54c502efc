//! The syntax tree of a query, as Prometheus' user interface reads it.
//!
//! Keys stand in the order of the alphabet and are there even when they say nothing. As in the parser, nothing recurses: however
//! deep a query nests, no deep stack is needed.

use promql::{
    format,
    parser::{
        self, Arity, At, Binary, Call, DurationValue, Expr, Grouping, Matcher, NodeId, NodeKind,
        TimeShift, VectorSelector,
    },
};

use super::{Answered, Success, error::ApiError, json, params};
use crate::message::form::Form;

/// Writes the syntax tree of a query.
pub(super) fn parse(form: &Form) -> Answered {
    let query = parser::parse(form.get("query"), &params::LANGUAGE)
        .map_err(|error| ApiError::invalid("query", error))?;
    Ok(Some(Success::plain(tree(&query))))
}

/// What is still to be written.
enum Piece {
    Node(NodeId),
    Text(String),
}

impl Piece {
    fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// Writes a tree from the root down.
fn tree(query: &Expr) -> String {
    let mut out = String::new();
    let mut rest = vec![Piece::Node(query.root_id())];
    while let Some(piece) = rest.pop() {
        match piece {
            Piece::Text(text) => out.push_str(&text),
            Piece::Node(id) => rest.extend(pieces(query, id).into_iter().rev()),
        }
    }
    out
}

/// Takes a node apart: its own text, with its children in between.
fn pieces(query: &Expr, id: NodeId) -> Vec<Piece> {
    match &query[id].kind {
        NodeKind::Number(number) => {
            let value = format::fixed(number.value);
            vec![Piece::Text(format!(
                r#"{{"type":"numberLiteral","val":"{value}"}}"#
            ))]
        }
        NodeKind::String(text) => {
            let text = json::quoted(&text.to_str_lossy());
            vec![Piece::Text(format!(
                r#"{{"type":"stringLiteral","val":{text}}}"#
            ))]
        }
        NodeKind::Vector(vector) => vec![Piece::Text(selector(vector, ""))],
        NodeKind::Matrix(matrix) => match &query[matrix.selector].kind {
            NodeKind::Vector(vector) => {
                let range = format!(r#""range":{},"#, millis(&matrix.range));
                vec![Piece::Text(selector(vector, &range))]
            }
            _ => vec![Piece::Node(matrix.selector)],
        },
        NodeKind::Subquery(subquery) => {
            let (at, timestamp) = at(&subquery.shift);
            vec![
                Piece::text(r#"{"expr":"#),
                Piece::Node(subquery.expr),
                Piece::Text(format!(
                    r#","offset":{},"range":{},"startOrEnd":{at},"step":{},"timestamp":{timestamp},"type":"subquery"}}"#,
                    millis(&subquery.shift.offset),
                    millis(&subquery.range),
                    subquery.step.as_ref().map_or(0, millis),
                )),
            ]
        }
        NodeKind::Paren(inner) => vec![
            Piece::text(r#"{"expr":"#),
            Piece::Node(*inner),
            Piece::text(r#","type":"parenExpr"}"#),
        ],
        NodeKind::Unary { op, operand } => vec![
            Piece::text(r#"{"expr":"#),
            Piece::Node(*operand),
            Piece::Text(format!(r#","op":"{}","type":"unaryExpr"}}"#, op.as_str())),
        ],
        NodeKind::Binary(node) => binary(node),
        NodeKind::Call(node) => call(node),
        NodeKind::Aggregate(node) => {
            let op = node.op.as_str();
            let labels = labels(node.grouping.as_ref());
            let without = node.grouping.as_ref().is_some_and(|by| !by.is_only());
            let param = node.param.map_or_else(|| Piece::text("null"), Piece::Node);
            vec![
                Piece::text(r#"{"expr":"#),
                Piece::Node(node.expr),
                Piece::Text(format!(r#","grouping":{labels},"op":"{op}","param":"#)),
                param,
                Piece::Text(format!(r#","type":"aggregation","without":{without}}}"#)),
            ]
        }
    }
}

fn binary(node: &Binary) -> Vec<Piece> {
    let op = json::quoted(node.op.as_str());
    let matching = node.matching.as_ref().map_or_else(
        || "null".to_owned(),
        |matching| {
            let include = matching.include.as_deref().unwrap_or_default();
            format!(
                r#"{{"card":"{}","include":{},"labels":{},"on":{}}}"#,
                matching.cardinality.as_str(),
                strings(include),
                labels(matching.grouping.as_ref()),
                matching.grouping.as_ref().is_some_and(Grouping::is_only),
            )
        },
    );
    vec![
        Piece::Text(format!(r#"{{"bool":{},"lhs":"#, node.return_bool)),
        Piece::Node(node.lhs),
        Piece::Text(format!(r#","matching":{matching},"op":{op},"rhs":"#)),
        Piece::Node(node.rhs),
        Piece::text(r#","type":"binaryExpr"}"#),
    ]
}

fn call(node: &Call) -> Vec<Piece> {
    let function = node.function;
    let variadic = match function.arity {
        Arity::Exact => "0".to_owned(),
        Arity::Optional(more) => more.to_string(),
        Arity::Unlimited => "-1".to_owned(),
    };
    let types: Vec<String> = function
        .arg_types
        .iter()
        .map(|kind| kind.as_str().to_owned())
        .collect();
    let mut pieces = vec![Piece::text(r#"{"args":["#)];
    for (position, argument) in node.args.iter().enumerate() {
        if position > 0 {
            pieces.push(Piece::text(","));
        }
        pieces.push(Piece::Node(*argument));
    }
    pieces.push(Piece::Text(format!(
        r#"],"func":{{"argTypes":{},"name":"{}","returnType":"{}","variadic":{variadic}}},"type":"call"}}"#,
        strings(&types),
        function.name,
        function.return_type.as_str(),
    )));
    pieces
}

/// Writes a selector; one of ranges has the key for them, with a comma behind it.
fn selector(vector: &VectorSelector, range: &str) -> String {
    let matchers: Vec<String> = vector.matchers.iter().map(matcher).collect();
    let (at, timestamp) = at(&vector.shift);
    let kind = if range.is_empty() { "vector" } else { "matrix" };
    format!(
        r#"{{"matchers":[{}],"name":{},"offset":{},{range}"startOrEnd":{at},"timestamp":{timestamp},"type":"{kind}Selector"}}"#,
        matchers.join(","),
        json::quoted(&vector.name),
        millis(&vector.shift.offset),
    )
}

fn matcher(matcher: &Matcher) -> String {
    format!(
        r#"{{"name":{},"type":"{}","value":{}}}"#,
        json::quoted(&matcher.name.to_str_lossy()),
        matcher.op.as_str(),
        json::quoted(&matcher.value.to_str_lossy()),
    )
}

/// Returns which end of the query `@` names, and which time.
fn at(shift: &TimeShift) -> (&'static str, String) {
    let none = || "null".to_owned();
    match shift.at {
        None => ("null", none()),
        Some(At::Timestamp(millis)) => ("null", millis.to_string()),
        Some(At::Start) => (r#""start""#, none()),
        Some(At::End) => (r#""end""#, none()),
    }
}

/// Returns a duration in milliseconds. The language here has no expressions in place of durations.
fn millis(duration: &DurationValue) -> i64 {
    match duration {
        DurationValue::Fixed(duration) => duration.as_millis(),
        DurationValue::Expr(_) => 0,
    }
}

fn labels(grouping: Option<&Grouping>) -> String {
    strings(grouping.map_or(&[], Grouping::labels))
}

fn strings(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| json::quoted(text)).collect();
    format!("[{}]", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_recorded_query_has_is_written_too() {
        let f = |text: &str, expected: &str| {
            let query = parser::parse(text, &params::LANGUAGE).expect("a query");
            assert_eq!(tree(&query), expected, "{text}");
        };
        f(
            "x[5m] @ end()",
            r#"{"matchers":[{"name":"__name__","type":"=","value":"x"}],"name":"x","offset":0,"range":300000,"startOrEnd":"end","timestamp":null,"type":"matrixSelector"}"#,
        );
        f(
            "topk without (a) (2, vector(time()))",
            r#"{"expr":{"args":[{"args":[],"func":{"argTypes":[],"name":"time","returnType":"scalar","variadic":0},"type":"call"}],"func":{"argTypes":["scalar"],"name":"vector","returnType":"vector","variadic":0},"type":"call"},"grouping":["a"],"op":"topk","param":{"type":"numberLiteral","val":"2"},"type":"aggregation","without":true}"#,
        );
    }

    #[test]
    fn deep_trees_need_no_deep_stack() {
        let depth = 100_000;
        let text = format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
        let query = parser::parse(&text, &params::LANGUAGE).expect("a query");
        assert_eq!(tree(&query).matches("parenExpr").count(), depth);
    }
}
