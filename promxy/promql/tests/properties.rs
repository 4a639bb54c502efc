//! Random and mutated queries: nothing panics, and printing a query and parsing the text again changes nothing more.
//!
//! The seeds are fixed, so a failure repeats. `PROMQL_PROPERTY_ROUNDS` multiplies the number of cases.

use std::path::{Path, PathBuf};

use fastrand::Rng;
use promql::parser::{
    At, BinaryOp, Compat, DurationKind, DurationValue, Expr, NodeKind, NumberLiteral,
    ParserOptions, TimeShift, ValueType, functions, parse,
};
use serde_json::Value;

const CONFIGURATIONS: [ParserOptions; 4] = [
    ParserOptions::v3_14().with_all_features(),
    ParserOptions::v3_14(),
    ParserOptions::v3_5().with_all_features(),
    ParserOptions::v3_5(),
];

fn rounds(base: usize) -> usize {
    let factor = std::env::var("PROMQL_PROPERTY_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    base * factor.unwrap_or(1)
}

/// Parses and prints in every configuration, and checks the fixed point in the first.
fn check(query: &str) -> bool {
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
    let json = expr.to_json();
    let Ok(mut tree) = serde_json::from_str(&json) else {
        return json;
    };
    strip(&mut tree);
    tree.to_string()
}

/// Writes random queries that are valid more often than not.
struct Generator {
    rng: Rng,
    out: String,
}

impl Generator {
    fn query(&mut self, depth: usize) -> &str {
        self.out.clear();
        let value_type = self.pick(&[
            ValueType::Vector,
            ValueType::Vector,
            ValueType::Scalar,
            ValueType::Matrix,
        ]);
        self.expr(value_type, depth);
        &self.out
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(..choices.len())]
    }

    fn word(&mut self, words: &[&str]) {
        let word = self.pick(words);
        self.out.push_str(word);
    }

    fn sometimes(&mut self, text: &str) -> bool {
        let chosen = self.rng.u8(..3) == 0;
        if chosen {
            self.out.push_str(text);
        }
        chosen
    }

    fn expr(&mut self, value_type: ValueType, depth: usize) {
        match value_type {
            ValueType::Scalar => self.scalar(depth),
            ValueType::String => self.word(&[r#""a""#, "'b\\n'", "`c`", r#""\xff""#, "\"é\""]),
            ValueType::Vector => self.vector(depth),
            ValueType::Matrix => self.matrix(depth),
        }
    }

    fn scalar(&mut self, depth: usize) {
        match if depth == 0 { 0 } else { self.rng.u8(..5) } {
            0 => self.word(&[
                "1", "0x1f", "1e3", ".5", "Inf", "NaN", "5m", "-2", "1_000", "010", "1e-7", "1e22",
            ]),
            1 => self.binary(ValueType::Scalar, depth),
            2 => self.wrapped("(", ValueType::Scalar, depth, ")"),
            3 => self.wrapped("-", ValueType::Scalar, depth, ""),
            _ => self.call(ValueType::Scalar, depth),
        }
    }

    fn vector(&mut self, depth: usize) {
        match if depth == 0 { 0 } else { self.rng.u8(..7) } {
            0 => {
                self.selector();
                self.sometimes(" smoothed");
                self.shift();
            }
            1 | 2 => self.binary(ValueType::Vector, depth),
            3 => self.wrapped("(", ValueType::Vector, depth, ")"),
            4 => self.wrapped("+", ValueType::Vector, depth, ""),
            5 => self.aggregation(depth),
            _ => self.call(ValueType::Vector, depth),
        }
    }

    fn matrix(&mut self, depth: usize) {
        if depth == 0 || self.rng.bool() {
            self.selector();
            self.out.push('[');
            self.duration(2);
            self.out.push(']');
            self.sometimes(" anchored");
        } else {
            self.wrapped("(", ValueType::Vector, depth, ")[");
            self.duration(2);
            self.out.push(':');
            if self.rng.bool() {
                self.duration(1);
            }
            self.out.push(']');
        }
        self.shift();
    }

    fn wrapped(&mut self, open: &str, value_type: ValueType, depth: usize, close: &str) {
        self.out.push_str(open);
        self.expr(value_type, depth - 1);
        self.out.push_str(close);
    }

    fn selector(&mut self) {
        self.word(&[
            "up", "a:b", "sum", "offset", "by", "fill", "start", "step", "or", "x", "{\"a b\"",
            "{a=\"b\"",
        ]);
        if self.out.ends_with('"') {
            self.sometimes(", ");
            self.out.push('}');
        } else if self.sometimes("{") {
            self.word(&[
                "",
                "job=\"a\"",
                "job!=\"\",",
                "x=~\"a.*\",b!~`c|`",
                "'q r'=\"\\xff\"",
                "b=\"1\", a=\"2\"",
            ]);
            self.out.push('}');
        }
    }

    fn shift(&mut self) {
        if self.sometimes(" @ ") {
            self.word(&["1", "-2.5", "start()", "end()", "1e9", "5m"]);
        }
        if self.sometimes(" offset ") {
            self.word(&[
                "5m",
                "-1h30m",
                "(1m + 2)",
                "-(5)",
                "step()",
                "-range()",
                "+ 3",
                "min_of(1m, step())",
                "--2 * 3",
            ]);
        }
    }

    fn duration(&mut self, depth: usize) {
        match if depth == 0 { 0 } else { self.rng.u8(..6) } {
            0 | 1 => self.word(&[
                "5m", "1h30m", "90", "1y2w", "0x10", "step()", "range()", "1.5",
            ]),
            2 => {
                self.duration(depth - 1);
                self.word(&[" + ", "-", " * ", "/", "%", " ^ "]);
                self.duration(depth - 1);
            }
            3 => {
                self.out.push('(');
                self.duration(depth - 1);
                self.out.push(')');
            }
            4 => {
                self.word(&["min_of(", "max_of("]);
                self.duration(depth - 1);
                self.out.push(',');
                self.duration(depth - 1);
                self.out.push(')');
            }
            _ => {
                self.word(&["-", "+"]);
                self.duration(depth - 1);
            }
        }
    }

    fn binary(&mut self, value_type: ValueType, depth: usize) {
        self.expr(value_type, depth - 1);
        let arithmetic = ["+", "-", "*", "/", "%", "^", "atan2"];
        if value_type == ValueType::Scalar {
            self.out.push(' ');
            self.word(&[arithmetic.as_slice(), &["== bool", "<bool"]].concat());
        } else {
            self.out.push(' ');
            self.word(
                &[
                    arithmetic.as_slice(),
                    &["==", ">= bool", "</", ">/", "and", "or", "unless"],
                ]
                .concat(),
            );
            if self.rng.bool() {
                self.word(&[
                    " on (a, \"b c\")",
                    " ignoring ()",
                    " on()",
                    " ignoring(by,)",
                ]);
                if self.sometimes(" group_left") {
                    self.word(&["", "()", "(x)"]);
                }
            }
            if self.sometimes(" ") {
                self.word(&[
                    "fill(0)",
                    "fill_left(-1) fill_right(1e9)",
                    "fill_right (NaN)",
                ]);
            }
        }
        self.out.push(' ');
        self.expr(value_type, depth - 1);
    }

    fn aggregation(&mut self, depth: usize) {
        let op = self.pick(&[
            "sum",
            "avg",
            "topk",
            "count_values",
            "quantile",
            "limit_ratio",
            "MAX",
        ]);
        self.out.push_str(op);
        let grouped = self.sometimes(" by (a, \"b c\") ") || self.sometimes(" without () ");
        self.out.push('(');
        match op {
            "topk" | "quantile" | "limit_ratio" => {
                self.scalar(depth - 1);
                self.out.push(',');
            }
            "count_values" => self.out.push_str("\"v\", "),
            _ => {}
        }
        self.vector(depth - 1);
        self.out.push(')');
        if !grouped {
            self.sometimes(" by (le)");
        }
    }

    fn call(&mut self, value_type: ValueType, depth: usize) {
        let choices: Vec<_> = functions(Compat::V3_14)
            .filter(|function| function.return_type == value_type)
            .collect();
        let function = self.pick(&choices);
        self.out.push_str(function.name);
        self.out.push('(');
        for (number, arg_type) in function.arg_types.iter().enumerate() {
            if number > 0 {
                self.out.push_str(", ");
            }
            if function.name == "info" && number == 1 {
                self.out.push_str("{a=~\".*\"}");
            } else {
                self.expr(*arg_type, depth - 1);
            }
        }
        self.out.push(')');
    }
}

/// Changes a few places of a query.
fn mutate(rng: &mut Rng, query: &str, other: &str) -> String {
    const PIECES: [&str; 44] = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "`",
        "\\",
        ",",
        ":",
        "=",
        "=~",
        "!~",
        "!",
        "<",
        "/",
        ">/",
        "@",
        "#",
        "\n",
        "+",
        "-",
        "^",
        " ",
        "é",
        "\u{fffd}",
        "5m",
        "1e",
        "0x",
        ".",
        "_",
        "offset",
        "by",
        "on",
        "bool",
        "sum",
        "fill(",
        "step()",
        "atan2",
        "group_left",
        "without",
        "start",
    ];
    let mut chars: Vec<char> = query.chars().collect();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=chars.len());
        match rng.u8(..4) {
            0 => {
                let piece = PIECES[rng.usize(..PIECES.len())];
                chars.splice(at..at, piece.chars());
            }
            1 => {
                let end = (at + rng.usize(1..4)).min(chars.len());
                chars.drain(at..end);
            }
            2 => {
                let other: Vec<char> = other.chars().collect();
                let from = rng.usize(..=other.len());
                let to = rng.usize(from..=other.len());
                chars.splice(
                    at..at,
                    other.get(from..to).unwrap_or_default().iter().copied(),
                );
            }
            _ => chars.truncate(at.max(1)),
        }
    }
    chars.into_iter().collect()
}

#[test]
fn generated_queries_keep_their_meaning_when_printed() {
    let mut generator = Generator {
        rng: Rng::with_seed(1),
        out: String::new(),
    };
    let count = rounds(20_000);
    let valid = (0..count)
        .filter(|i| check(generator.query(1 + i % 5)))
        .count();
    println!("{count} queries, {valid} of them valid");
    assert!(valid > count / 4, "too few valid queries to mean something");
}

#[test]
fn mutated_queries_do_no_harm() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/promql");
    let file = std::env::var_os("PROMQL_TESTDATA")
        .map_or(default, PathBuf::from)
        .join("parse.jsonl");
    let mut corpus: Vec<String> = match std::fs::read_to_string(file) {
        Ok(recorded) => recorded
            .lines()
            .filter_map(|line| {
                serde_json::from_str::<Value>(line).ok()?["input"]
                    .as_str()
                    .map(str::to_owned)
            })
            .collect(),
        Err(_) => Vec::new(),
    };
    let mut generator = Generator {
        rng: Rng::with_seed(2),
        out: String::new(),
    };
    corpus.extend((0..1000).map(|i| generator.query(1 + i % 4).to_owned()));
    let mut rng = Rng::with_seed(3);
    let count = rounds(60_000);
    let mut valid = 0;
    for _ in 0..count {
        let (query, other) = (
            &corpus[rng.usize(..corpus.len())],
            &corpus[rng.usize(..corpus.len())],
        );
        valid += usize::from(check(&mutate(&mut rng, query, other)));
    }
    println!(
        "{count} queries from {}, {valid} of them valid",
        corpus.len()
    );
}
