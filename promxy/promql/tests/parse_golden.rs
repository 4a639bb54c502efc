//! Parses every recorded input in the three recorded configurations and compares type, tree with positions, both printed
//! forms, and error texts with their positions.
//!
//! The recorded data is read from `$PROMQL_TESTDATA`, by default `shared/golden/promql` beside the workspace; its README says
//! how it was made. Without it the test says so and passes.

use std::path::{Path, PathBuf};

use promql::parser::{Expr, ParseError, ParserOptions, parse};
use serde_json::Value;

fn testdata() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/promql");
    let dir = std::env::var_os("PROMQL_TESTDATA").map_or(default, PathBuf::from);
    dir.join("parse.jsonl").is_file().then_some(dir)
}

/// How often a recorded fact was compared, and how often it held.
#[derive(Default)]
struct Count {
    compared: usize,
    held: usize,
}

/// The facts of one configuration.
#[derive(Default)]
struct Column {
    inputs: usize,
    outcome: Count,
    value_type: Count,
    tree: Count,
    text: Count,
    pretty: Count,
    error: Count,
    failures: Vec<String>,
}

impl Column {
    fn compare(
        &mut self,
        input: &str,
        recorded: &Value,
        trees: Trees,
        actual: &Result<Expr, ParseError>,
    ) {
        self.inputs += 1;
        let mut check = |count: &mut Count, what: &str, expected: &Value, got: &Value| {
            count.compared += 1;
            if expected == got {
                count.held += 1;
            } else {
                self.failures.push(format!(
                    "{what} of {input:?}\n  expected {expected}\n  got      {got}"
                ));
            }
        };
        check(
            &mut self.outcome,
            "outcome",
            &recorded["ok"],
            &actual.is_ok().into(),
        );
        match actual {
            Ok(expr) if recorded["ok"] == true => {
                let text = recorded["string"].as_str().unwrap_or(input);
                check(
                    &mut self.value_type,
                    "type",
                    &recorded["type"],
                    &expr.root().value_type.as_str().into(),
                );
                check(
                    &mut self.text,
                    "canonical form",
                    &text.into(),
                    &expr.to_string().into(),
                );
                if trees != Trees::NotRecorded {
                    let mut tree = serde_json::from_str(&expr.to_json()).expect("the tree is JSON");
                    let mut expected = recorded["ast"].clone();
                    if trees == Trees::WithoutPositions {
                        strip_positions(&mut tree);
                        strip_positions(&mut expected);
                    }
                    check(&mut self.tree, "tree", &expected, &tree);
                    let pretty = recorded["pretty"].as_str().unwrap_or(text);
                    check(
                        &mut self.pretty,
                        "pretty form",
                        &pretty.into(),
                        &expr.pretty().into(),
                    );
                }
            }
            Err(error) if recorded["ok"] == false => {
                let got =
                    serde_json::json!([error.to_string(), [error.span().start, error.span().end]]);
                check(
                    &mut self.error,
                    "error",
                    &serde_json::json!([recorded["error"], recorded["pos"]]),
                    &got,
                );
            }
            Err(error) => self
                .failures
                .push(format!("{input:?} was refused: {error}")),
            Ok(expr) => self
                .failures
                .push(format!("{input:?} was taken for {expr}")),
        }
    }
}

/// What is known of the trees of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trees {
    Recorded,
    WithoutPositions,
    NotRecorded,
}

fn strip_positions(tree: &mut Value) {
    match tree {
        Value::Object(node) => {
            node.remove("pos");
            node.values_mut().for_each(strip_positions);
        }
        Value::Array(nodes) => nodes.iter_mut().for_each(strip_positions),
        _ => {}
    }
}

#[test]
fn every_recorded_input_parses_and_prints_as_recorded() {
    let Some(dir) = testdata() else {
        println!("SKIPPED: no recorded parser data; set PROMQL_TESTDATA");
        return;
    };
    let recorded =
        std::fs::read_to_string(dir.join("parse.jsonl")).expect("the recorded data can be read");
    let all = ParserOptions::v3_14().with_all_features();
    let stock = ParserOptions::v3_14();
    let v353 = ParserOptions::v3_5();
    let mut columns = [
        ("all", Column::default()),
        ("stock", Column::default()),
        ("v353", Column::default()),
    ];

    for line in recorded.lines() {
        let case: Value = serde_json::from_str(line).expect("a recorded case is JSON");
        let input = case["input"].as_str().expect("a case has an input");
        // A column that is left out equals the one before. For the last that does not cover positions, and where it
        // differs its trees were not recorded.
        let in_stock = case.get("stock").unwrap_or(&case["all"]);
        let (in_v353, trees) = match case.get("v353") {
            Some(recorded) => (recorded, Trees::NotRecorded),
            None => (in_stock, Trees::WithoutPositions),
        };
        let [(_, first), (_, second), (_, third)] = &mut columns;
        first.compare(input, &case["all"], Trees::Recorded, &parse(input, &all));
        second.compare(input, in_stock, Trees::Recorded, &parse(input, &stock));
        third.compare(input, in_v353, trees, &parse(input, &v353));
    }

    let mut failed = 0;
    for (name, column) in &columns {
        let show = |count: &Count| format!("{}/{}", count.held, count.compared);
        println!(
            "{name}: {} inputs; outcome {}, type {}, tree {}, canonical {}, pretty {}, error {}",
            column.inputs,
            show(&column.outcome),
            show(&column.value_type),
            show(&column.tree),
            show(&column.text),
            show(&column.pretty),
            show(&column.error),
        );
        failed += column.failures.len();
        for failure in column.failures.iter().take(20) {
            println!("{name}: {failure}");
        }
    }
    assert_eq!(failed, 0, "cases that do not hold");
}
