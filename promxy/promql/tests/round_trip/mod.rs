//! What has to hold for any text that is parsed, whether a random one of the tests or one that a fuzzer thought of.

use promql::parser::{
    At, BinaryOp, DurationKind, DurationValue, Expr, NodeKind, NumberLiteral, ParserOptions,
    TimeShift, parse,
};
use serde_json::Value;

const CONFIGURATIONS: [ParserOptions; 4] = [
    ParserOptions::v3_14().with_all_features(),
    ParserOptions::v3_14(),
    ParserOptions::v3_5().with_all_features(),
    ParserOptions::v3_5(),
];

/// Parses and prints in every configuration, and in the first parses again what was printed. Returns whether the query is valid
/// there.
pub(crate) fn check(query: &str) -> bool {
    for options in &CONFIGURATIONS {
        match parse(query, options) {
            Ok(expr) => {
                let _: (String, String, String) = (expr.to_string(), expr.pretty(), expr.to_json());
            }
            Err(error) => {
                assert!(
                    error.span().start <= query.len() && error.span().end <= query.len(),
                    "{query:?}: {error}"
                );
                assert!(!error.to_string().is_empty());
            }
        }
    }
    let [all, ..] = &CONFIGURATIONS;
    let Ok(expr) = parse(query, all) else {
        return false;
    };
    check_spans(&expr, query);
    // A plus in front of an offset's parentheses is not printed, though it ends the offset there.
    let squeezed = query.replace(char::is_whitespace, "").to_ascii_lowercase();
    if squeezed.contains("offset+(") || !prints_exactly(&expr) {
        return true;
    }
    for text in [expr.to_string(), expr.pretty()] {
        let again = parse(&text, all)
            .unwrap_or_else(|error| panic!("{query:?} printed as {text:?}: {error}"));
        assert_eq!(
            again.to_string(),
            expr.to_string(),
            "printed again: {query:?}"
        );
        assert_eq!(shape(&again), shape(&expr), "parsed again: {query:?}");
    }
    true
}

fn check_spans(expr: &Expr, query: &str) {
    for (id, node) in expr.nodes() {
        let span = node.span;
        assert!(
            span.start < span.end && span.end <= query.len(),
            "{query:?}: {span:?} of {:?}",
            node.kind
        );
        assert!(query.is_char_boundary(span.start), "{query:?}: {span:?}");
        for child in (0..).map_while(|number| node.kind.child(number)) {
            assert!(child < id, "{query:?}: a child after its parent");
        }
    }
}

/// Whether the text tells all of the query. As in the reference, durations print in milliseconds and without a sign for zero,
/// times as decimals, and an offset such as `--2 * 3` without the parentheses it would need.
fn prints_exactly(expr: &Expr) -> bool {
    let whole = |duration: &DurationValue| match duration {
        DurationValue::Fixed(duration) => duration.as_nanos() % 1_000_000 == 0,
        DurationValue::Expr(expr) => expr.nodes().iter().all(|node| match &node.kind {
            DurationKind::Number(number) => prints_number_exactly(*number),
            _ => true,
        }),
    };
    let near = |at: Option<At>| !matches!(at, Some(At::Timestamp(millis)) if millis.unsigned_abs() > 1 << 50);
    let closed = |offset: &DurationValue| match offset {
        DurationValue::Fixed(_) => true,
        DurationValue::Expr(expr) => {
            let root = &expr[expr.root_id()];
            root.wrapped
                || !matches!(&root.kind, DurationKind::Binary { op, .. } if !op.is_function())
        }
    };
    let plain = |shift: &TimeShift| whole(&shift.offset) && closed(&shift.offset) && near(shift.at);
    expr.nodes().all(|(_, node)| match &node.kind {
        NodeKind::Number(number) => prints_number_exactly(*number),
        // `Inf` prints with a sign, which binds less tightly than the power.
        NodeKind::Binary(binary) if binary.op == BinaryOp::Pow => {
            !matches!(&expr[binary.lhs].kind, NodeKind::Number(number) if number.value.is_infinite())
        }
        NodeKind::Vector(selector) => plain(&selector.shift),
        NodeKind::Matrix(matrix) => whole(&matrix.range),
        NodeKind::Subquery(subquery) => {
            whole(&subquery.range)
                && subquery.step.as_ref().is_none_or(whole)
                && plain(&subquery.shift)
        }
        _ => true,
    })
}

fn prints_number_exactly(number: NumberLiteral) -> bool {
    let is_minus_zero = number.value == 0.0 && number.value.is_sign_negative();
    !number.is_duration || number.value.fract() == 0.0 && number.value.abs() < 1e9 && !is_minus_zero
}

/// Returns the tree without what printing leaves out: positions, the order of matchers, empty lists, a plus before an offset.
fn shape(expr: &Expr) -> String {
    fn strip(tree: &mut Value) {
        match tree {
            Value::Object(node) => {
                node.remove("pos");
                for list in ["grouping", "labels", "include"] {
                    if node
                        .get(list)
                        .is_some_and(|value| value.as_array().is_some_and(Vec::is_empty))
                    {
                        node.remove(list);
                    }
                }
                if let Some(Value::Array(matchers)) = node.get_mut("matchers") {
                    matchers.sort_by_key(ToString::to_string);
                }
                let is_plus =
                    node.get("op").is_some_and(|op| op == "+") && !node.contains_key("lhs");
                if is_plus && !node.contains_key("wrapped") {
                    if let Some(operand) = node.remove("rhs") {
                        *tree = operand;
                    }
                    return strip(tree);
                }
                node.values_mut().for_each(strip);
            }
            Value::Array(nodes) => nodes.iter_mut().for_each(strip),
            _ => {}
        }
    }
    // A tree that is too deep for the reader of JSON is compared by its printed form alone.
    let Ok(mut tree) = serde_json::from_str(&expr.to_json()) else {
        return String::new();
    };
    strip(&mut tree);
    tree.to_string()
}
