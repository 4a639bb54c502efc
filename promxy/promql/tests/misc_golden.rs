//! Compares the formats of numbers, durations and strings, and regular expressions in matchers and in `label_replace`, with what
//! Go said.
//!
//! The recorded data is read from `$PROMQL_TESTDATA`, by default `shared/golden/promql` beside the workspace; its README says
//! how it was made. Without it the tests say so and pass.

#![expect(clippy::print_stdout, reason = "a test says what it compared")]

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promql::labels::{Labels, natural_less};
use promql::parser::{ParserOptions, parse};
use promql::{SignedDuration, format};
use serde_json::Value;
use shared::regex::{Regex, Template};

/// Calls `check` for every recorded case of a kind and prints how many there were.
fn for_each(kind: &str, mut check: impl FnMut(&Value)) {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/promql");
    let file = std::env::var_os("PROMQL_TESTDATA")
        .map_or(default, PathBuf::from)
        .join("misc.jsonl");
    let Ok(recorded) = std::fs::read_to_string(file) else {
        println!("SKIPPED: no recorded formats; set PROMQL_TESTDATA");
        return;
    };
    let cases = recorded
        .lines()
        .map(|line| serde_json::from_str(line).expect("a recorded case is JSON"));
    let mut count = 0;
    for case in cases.filter(|case: &Value| case["kind"] == kind) {
        check(&case);
        count += 1;
    }
    println!("{kind}: {count} cases");
    assert_ne!(count, 0, "no case of kind {kind}");
}

#[test]
fn floats_print_as_recorded() {
    for_each("float_format", |case| {
        let bits = case["bits"].as_str().expect("bits are text");
        let value = f64::from_bits(u64::from_str_radix(bits, 16).expect("bits are hexadecimal"));
        assert_eq!(
            case["count_values_and_ast"],
            format::fixed(value),
            "fixed: {case}"
        );
        assert_eq!(case["v"], format::general(value), "general: {case}");
    });
}

#[test]
fn durations_read_and_print_as_recorded() {
    for_each("duration", |case| {
        let text = case["in"].as_str().expect("the input is text");
        match text.parse::<SignedDuration>() {
            Ok(duration) => {
                assert_eq!(case["ms"], duration.as_millis(), "{case}");
                assert_eq!(case["string"], duration.to_string(), "{case}");
            }
            Err(error) => assert_eq!(case["error"], error.to_string(), "{case}"),
        }
    });
}

#[test]
fn strings_are_quoted_as_recorded() {
    for_each("go_quote", |case| {
        let bytes = STANDARD
            .decode(case["in_bytes"].as_str().expect("the input is text"))
            .expect("it is base64");
        assert_eq!(case["out"], format::quote(&bytes), "{case}");
    });
}

#[test]
fn patterns_are_refused_as_recorded() {
    let all = ParserOptions::v3_14().with_all_features();
    for_each("matcher", |case| {
        let pattern = case["pattern"].as_str().expect("the pattern is text");
        let selector = format!("{{x=~{}}}", format::quote(pattern.as_bytes()));
        let accepts_empty = case["matches"]
            .as_array()
            .is_some_and(|values| values.contains(&"".into()));
        match (&case["parse_error"], parse(&selector, &all)) {
            (Value::String(expected), result) => {
                assert_eq!(
                    result.map(|_| ()).map_err(|error| error.to_string()),
                    Err(expected.clone()),
                    "{case}"
                );
            }
            (_, Ok(_)) => assert!(!accepts_empty, "{case}"),
            (_, Err(error)) => {
                assert_eq!(
                    error.message(),
                    "vector selector must contain at least one non-empty matcher",
                    "{case}"
                );
                assert!(accepts_empty, "{case}");
            }
        }
    });
}

#[test]
fn matchers_match_as_recorded() {
    let mut values = Value::Null;
    for_each("matcher_values", |case| values = case["values"].clone());
    let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
    for_each("matcher", |case| {
        let pattern = case["pattern"].as_str().expect("the pattern is text");
        match Regex::matcher(pattern) {
            Ok(regex) => {
                let matches: Vec<_> = values
                    .iter()
                    .filter(|value| value.as_str().is_some_and(|text| regex.is_match(text)))
                    .cloned()
                    .collect();
                assert_eq!(case["matches"], Value::Array(matches), "{case}");
            }
            Err(error) => assert_eq!(case["error"], error.to_string(), "{case}"),
        }
    });
}

#[test]
fn label_sets_hash_as_recorded() {
    for_each("hash", |case| {
        let words: Vec<&str> = case["labels"]
            .as_array()
            .map(|words| words.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        // Long values are described, not written out.
        let described = words.iter().map(|word| {
            let width = word.strip_prefix("zero-padded decimal 1 of width ");
            match width.and_then(|width| width.parse::<usize>().ok()) {
                Some(width) => "0".repeat(width - 1) + "1",
                None => (*word).to_owned(),
            }
        });
        let words: Vec<String> = described.collect();
        let labels: Labels = words.chunks(2).map(|pair| (&pair[0], &pair[1])).collect();
        assert_eq!(case["hash"], labels.hash64().to_string(), "{case}");
    });
}

#[test]
fn texts_sort_naturally_as_recorded() {
    let mut all: Vec<String> = Vec::new();
    for_each("natsort_less", |case| {
        all.push(case["a"].as_str().unwrap_or_default().to_owned());
    });
    for_each("natsort_less", |case| {
        let a = case["a"].as_str().unwrap_or_default();
        let after: Vec<&String> = all
            .iter()
            .filter(|b| *b != a && natural_less(a, b))
            .collect();
        let mut expected: Vec<&str> = case["less_than"]
            .as_array()
            .map(|texts| texts.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        expected.retain(|b| *b != a && all.iter().any(|known| known == b));
        assert_eq!(expected, after, "{case}");
    });
}

#[test]
fn templates_are_filled_as_recorded() {
    for_each("label_replace", |case| {
        let text = |key: &str| case[key].as_str().expect("a field is text");
        let regex = Regex::anchored(text("regex")).expect("a recorded pattern is accepted");
        let result = regex.expand(&Template::new(text("replacement")), text("value"));
        assert_eq!(case["match"], result.is_some(), "{case}");
        assert_eq!(case["result"].as_str(), result.as_deref(), "{case}");
    });
}
