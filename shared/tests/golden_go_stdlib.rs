//! Flags and durations against what Go's standard library does (`tests/golden/go-stdlib`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

use std::{ffi::OsString, path::Path};

use clap::{Arg, ArgAction, Command};
use serde_json::Value;
use shared::config::{
    args::{bool_flag, normalise},
    duration::{format_nanos, parse_nanos},
};

fn golden(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/go-stdlib")
        .join(file);
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn durations_parse_and_print_as_in_go() {
    let cases = golden("duration.jsonl");
    for case in &cases {
        if let Some(nanos) = case["ns"].as_str() {
            let nanos: i64 = nanos.parse().unwrap();
            assert_eq!(
                format_nanos(nanos),
                case["string"].as_str().unwrap(),
                "{case}"
            );
            if let Some(text) = case["in"].as_str() {
                assert_eq!(parse_nanos(text), Ok(nanos), "{case}");
            }
        } else {
            let error = parse_nanos(case["in"].as_str().unwrap()).unwrap_err();
            assert_eq!(error.to_string(), case["error"].as_str().unwrap(), "{case}");
        }
    }
    println!("{} durations as in Go", cases.len());
}

/// The flags of the recorded program. Numbers are read as text: which numerals Go takes is another golden file's matter.
fn recorded_program() -> Command {
    let text = |name: &'static str, default: &'static str| {
        Arg::new(name).long(name).default_value(default)
    };
    Command::new("prog")
        .args_override_self(true)
        .arg(text("s", "dflt"))
        .arg(bool_flag("b"))
        .arg(bool_flag("bt").default_value("true"))
        .arg(text("n", "7"))
        .arg(text("u", "3"))
        .arg(text("d", "1s").value_parser(|text: &str| parse_nanos(text)))
        .arg(text("f", "0"))
        .arg(text("long-name", ""))
        .arg(Arg::new("rest").action(ArgAction::Append).num_args(0..))
}

#[test]
fn command_lines_are_taken_as_in_go() {
    let (mut accepted, mut refused, mut numerals) = (0, 0, 0);
    for case in golden("flag.jsonl") {
        let words = case["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| OsString::from(word.as_str().unwrap()));
        let words = normalise(
            std::iter::once("prog".into()).chain(words),
            &recorded_program(),
        );
        let parsed = recorded_program().try_get_matches_from(words);
        if let Some(error) = case["error"].as_str() {
            if ["-n", "-u", "-f"].iter().any(|flag| {
                error.ends_with(&format!("for flag {flag}: parse error"))
                    || error.contains(&format!("for flag {flag}:"))
            }) {
                numerals += 1;
                continue;
            }
            let failure = parsed.expect_err(&case.to_string());
            assert_eq!(
                failure.exit_code() as i64,
                case["exit_if_ExitOnError"].as_i64().unwrap(),
                "{case}"
            );
            refused += 1;
            continue;
        }
        let parsed = parsed.unwrap_or_else(|failure| panic!("{case}: {failure}"));
        assert_eq!(
            parsed.get_one::<String>("s").unwrap(),
            case["s"].as_str().unwrap(),
            "{case}"
        );
        assert_eq!(
            parsed.get_one::<String>("long-name").unwrap(),
            case["long-name"].as_str().unwrap(),
            "{case}"
        );
        assert_eq!(
            parsed.get_one::<bool>("b"),
            case["b"].as_bool().as_ref(),
            "{case}"
        );
        assert_eq!(
            parsed.get_one::<bool>("bt"),
            case["bt"].as_bool().as_ref(),
            "{case}"
        );
        assert_eq!(
            format_nanos(*parsed.get_one::<i64>("d").unwrap()),
            case["d"].as_str().unwrap(),
            "{case}"
        );
        let rest: Vec<&str> = parsed
            .get_many::<String>("rest")
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let expected: Vec<&str> = case["rest"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        assert_eq!(rest, expected, "{case}");
        accepted += 1;
    }
    println!(
        "{accepted} command lines accepted, {refused} refused as in Go; {numerals} are about numerals"
    );
    assert!(accepted > 15 && refused > 5);
}
