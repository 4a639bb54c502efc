//! Random and mutated queries: nothing panics, and printing a query and parsing the text again changes nothing more.
//!
//! The seeds are fixed, so a failure repeats. `PROMQL_PROPERTY_ROUNDS` multiplies the number of cases.

mod round_trip;

use std::path::{Path, PathBuf};

use fastrand::Rng;
use promql::parser::{Compat, ValueType, functions};
use round_trip::check;
use serde_json::Value;

fn rounds(base: usize) -> usize {
    let factor = std::env::var("PROMQL_PROPERTY_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    base * factor.unwrap_or(1)
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
fn what_a_fuzzer_found_stays_mended() {
    // Trees that are deeper than readers of JSON go.
    for signs in ["+", "-", "+-"] {
        assert!(check(&format!("a + {}b", signs.repeat(150))));
        check(&format!("sum{} by\u{fffd}Q\\\"", signs.repeat(150)));
    }
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
