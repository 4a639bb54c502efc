//! Long and deep queries, on the 2 MiB stack that a test thread has: all are answered, printed and dropped.

use promql::parser::{Expr, ParseError, ParserOptions, parse};

const MILLION: usize = 1_000_000;

fn parsed(query: &str) -> Result<Expr, ParseError> {
    parse(query, &ParserOptions::v3_14().with_all_features())
}

/// Parses a valid query and compares its canonical form, then uses the other printers.
fn holds(query: &str, canonical: &str) {
    let expr = parsed(query).unwrap_or_else(|error| panic!("{error}"));
    assert!(expr.to_string() == canonical, "another canonical form");
    assert!(expr.to_json().ends_with('}'));
    assert!(expr.pretty().len() >= canonical.len());
    drop(expr);
}

fn fails(query: &str, error: &str) {
    assert_eq!(
        parsed(query).map(|_| ()).map_err(|error| error.to_string()),
        Err(error.to_owned())
    );
}

fn nested(open: &str, inner: &str, close: &str) -> String {
    let mut query = open.repeat(MILLION);
    query.push_str(inner);
    query.push_str(&close.repeat(MILLION));
    query
}

#[test]
fn a_million_open_parentheses_are_an_error() {
    fails(
        &"(".repeat(MILLION),
        "1:1000001: parse error: unclosed left parenthesis",
    );
    fails(
        &"sum(".repeat(MILLION),
        "1:4000001: parse error: unclosed left parenthesis",
    );
    fails(
        &"x[".repeat(MILLION),
        "1:3: parse error: unexpected character in duration expression: 'x'",
    );
    fails(
        &format!("x[{}", "(".repeat(MILLION)),
        "1:1000003: parse error: unexpected end of input in duration expression",
    );
}

#[test]
fn a_million_parentheses_hold() {
    let query = nested("(", "x", ")");
    holds(&query, &query);
}

#[test]
fn a_million_signs_hold() {
    let query = nested("-", "x", "");
    holds(&query, &query);
    fails(
        &"-".repeat(MILLION),
        "1:1000001: parse error: unexpected end of input",
    );
}

#[test]
fn a_million_calls_hold() {
    let query = nested("abs(", "x", ")");
    holds(&query, &query);
    let query = nested("sum(", "x", ")");
    holds(&query, &query);
}

#[test]
fn a_million_operators_hold_whichever_way_they_lean() {
    for op in ["+", "^", "or"] {
        let query = format!("x{}", format!(" {op} x").repeat(MILLION));
        holds(&query, &query);
    }
    // Rising and falling precedence.
    let query = format!("x{}", " or x ^ x".repeat(MILLION / 2));
    holds(&query, &query);
}

#[test]
fn a_million_subqueries_are_a_type_error() {
    let query = nested("", "x", "[1m:]");
    fails(
        &query,
        "1:1: parse error: subquery is only allowed on instant vector, got matrix instead",
    );
    let query = nested("rate(", "x", "[1m:])");
    holds(&query, &query);
}

#[test]
fn a_million_nested_durations_hold() {
    let query = format!("x[{}]", nested("(", "1m + 1m", ")"));
    holds(&query, "x[(1m + 1m)]");
    let query = format!("x[{}]", nested("min_of(1m, ", "1m", ")"));
    holds(&query, &query);
    let query = format!("x[1m{}]", " ^ 1m".repeat(MILLION));
    holds(&query, &query);
    let query = format!("x offset {}step()", "-".repeat(MILLION));
    holds(&query, &query);
}

#[test]
fn a_million_labels_hold() {
    let labels: Vec<String> = (0..MILLION).map(|i| format!("l{i}")).collect();
    let (first, last) = labels.split_at(MILLION / 2);
    let (first, last) = (first.join(", "), last.join(", "));
    let query = format!("x + on ({first}) group_left ({last}) x");
    holds(&query, &query);
    let query = format!("sum by ({first}) (x)");
    holds(&query, &query);
}

#[test]
fn an_operator_chain_with_wrong_types_is_checked_once() {
    let query = format!("\"a\"{}", " + \"a\"".repeat(MILLION));
    fails(
        &query,
        "1:1: parse error: binary expression must contain only scalar and instant vector types",
    );
}

#[test]
fn long_tokens_are_read_once() {
    let name = "a".repeat(MILLION);
    holds(&name, &name);
    fails(
        &format!("\"{name}"),
        "1:1: parse error: unterminated quoted string",
    );
    assert!(parsed(&"1".repeat(MILLION)).is_err());
    assert!(parsed(&"1d".repeat(MILLION)).is_err());
    fails(
        &"#".repeat(MILLION),
        "1:1: parse error: no expression found in input",
    );
    fails(
        &"\n".repeat(MILLION),
        "1:1: parse error: no expression found in input",
    );
    fails(
        &"fill ".repeat(2),
        "1:6: parse error: unexpected identifier \"fill\"",
    );
}
