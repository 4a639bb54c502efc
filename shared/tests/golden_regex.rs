//! Regular expressions and their templates against what Go's `regexp` does (`tests/golden/go-stdlib/regexp.jsonl`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

use std::path::Path;

use serde_json::{Value, json};
use shared::regex::{PatternError, Regex, Template};

/// What Go would have recorded under two keys: the answer or the error.
fn recorded(
    regex: &Result<Regex, PatternError>,
    answer: &str,
    error: &str,
    of: impl Fn(&Regex) -> Value,
) -> Vec<(String, Value)> {
    match regex {
        Ok(regex) => vec![(answer.to_owned(), of(regex))],
        Err(refusal) => vec![(error.to_owned(), json!(refusal.to_string()))],
    }
}

#[test]
fn patterns_and_templates_are_taken_as_in_go() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/go-stdlib/regexp.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    let (mut matches, mut expansions, mut failures) = (0, 0, Vec::new());
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (pattern, input) = (
            case["pattern"].as_str().unwrap(),
            case["input"].as_str().unwrap(),
        );
        let anchored = Regex::anchored(pattern);
        let mut got = vec![
            ("pattern".to_owned(), json!(pattern)),
            ("input".to_owned(), json!(input)),
        ];
        if let Some(template) = case["template"].as_str() {
            got.push(("template".to_owned(), json!(template)));
            let template = Template::new(template);
            got.extend(recorded(&anchored, "expand", "anchored_error", |regex| {
                json!(regex.expand(&template, input))
            }));
            expansions += 1;
        } else {
            let is_match = |regex: &Regex| json!(regex.is_match(input));
            let unanchored = Regex::unanchored(pattern);
            got.extend(recorded(&unanchored, "search", "compile_error", is_match));
            got.extend(recorded(&anchored, "anchored", "anchored_error", is_match));
            matches += 1;
        }
        let got = Value::Object(got.into_iter().collect());
        if got != case {
            failures.push(format!("expected {case}\n     got {got}"));
        }
    }
    println!("{matches} matches and {expansions} expansions as in Go");
    assert_eq!(matches + expansions, 97);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
