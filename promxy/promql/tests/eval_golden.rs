//! Runs every shared script of the reference, and compares with results that were recorded from Prometheus 3.14 and 3.5.3, bit for
//! bit, with annotations and errors.
//!
//! The recorded data is read from `$PROMQL_TESTDATA`, by default `shared/golden/promql` beside the workspace; its README says
//! how it was made. Without it the tests say so and pass.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it compared"
)]

mod eval;

use std::collections::{BTreeMap, HashMap};

use eval::{
    comparable, for_each_eval, json_lines, options_3_5, options_3_14, testdata, uses_types, written,
};
use promql::parser::Compat;
use promql::testing::{EngineSubject, MemoryStorage, Script, run};
use promql::{Engine, EngineOptions};
use serde_json::Value;

/// Cases that do not hold, as `column file:line`, with the reason. A case that comes to hold has to be taken off the list.
const FAILING: &[&str] = &[
    // Of several NaNs at the cut, and of sums without compensation, the order of 3.5's storage decides, which is random.
    "extra-v353 extra.test:208",
    "extra-v353 extra.test:214",
    "v353 native_histograms.test:1204",
    "v353 native_histograms.test:1225",
    "v353 native_histograms.test:1538",
    // 3.5 puts a count into the wrong bucket when spans have gaps; fixed in later versions.
    "v353 native_histograms.test:1370",
    // 3.5 crashes.
    "v353 info.test:109",
    // 3.5 reads info series only within the times of the other selectors.
    "v353 info.test:248",
    // 3.5 mixes up series that do not have a sample at every step.
    "v353 info.test:263",
    "v353 info.test:279",
    "v353 info.test:284",
];

/// Compares what failed with the list.
fn check(column: &str, total: usize, failures: &BTreeMap<String, String>) {
    println!("{column}: {} of {total} cases hold", total - failures.len());
    let prefix = format!("{column} ");
    let known: Vec<&str> = FAILING
        .iter()
        .filter_map(|case| case.strip_prefix(&prefix))
        .collect();
    for (case, failure) in failures {
        println!("{column} {case}\n{failure}");
    }
    let fixed: Vec<&&str> = known
        .iter()
        .filter(|case| !failures.contains_key(**case))
        .collect();
    let new: Vec<&String> = failures
        .keys()
        .filter(|case| !known.contains(&case.as_str()))
        .collect();
    assert!(
        new.is_empty() && fixed.is_empty(),
        "{column}: new {new:?}, fixed {fixed:?}"
    );
}

fn subject(options: EngineOptions, file: &str) -> EngineSubject {
    let options = EngineOptions {
        type_and_unit_labels: uses_types(file),
        ..options
    };
    new_subject(options)
}

fn new_subject(options: EngineOptions) -> EngineSubject {
    let compat = options.parser.compat;
    let mut subject = EngineSubject::new(Engine::new(options));
    if compat == Compat::V3_5 {
        subject.storage = MemoryStorage::like_3_5();
    }
    subject
}

/// Returns the reference's scripts by file name.
fn scripts() -> Option<Vec<(String, Script)>> {
    let dir = testdata()?.join("testdata/prometheus");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let scripts = files.into_iter().map(|file| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, script)
    });
    Some(scripts.collect())
}

#[test]
fn the_scripts_of_the_reference_hold() {
    let Some(scripts) = scripts() else { return };
    let mut total = 0;
    let mut failures = BTreeMap::new();
    for (file, script) in scripts {
        let cases = run(&script, &mut subject(options_3_14(true), &file));
        let failed = cases.iter().filter(|case| case.result.is_err()).count();
        println!("{file}: {} of {}", cases.len() - failed, cases.len());
        total += cases.len();
        for case in cases {
            if let Err(failure) = case.result {
                failures.insert(format!("{file}:{}", case.line), failure);
            }
        }
    }
    check("script", total, &failures);
}

/// Compares the exact results of the reference's scripts with one column of the recordings.
fn compare_results(column: &str, options: &EngineOptions, expected: impl Fn(&Value) -> Value) {
    let (Some(dir), Some(scripts)) = (testdata(), scripts()) else {
        return;
    };
    let mut recorded: HashMap<(String, usize), Value> = HashMap::new();
    for case in json_lines(&dir.join("eval-results.jsonl")) {
        let file = case["file"].as_str().unwrap().to_owned();
        let line = case["line"].as_u64().unwrap() as usize;
        recorded.insert((file, line), case);
    }
    let mut total = 0;
    let mut failures = BTreeMap::new();
    for (file, script) in scripts {
        let mut subject = subject(options.clone(), &file);
        for_each_eval(&script, &mut subject, |line, query, _, outcome| {
            let case = &recorded[&(file.clone(), line)];
            if case["unstable"] == true {
                return;
            }
            total += 1;
            let (expected, got) = (expected(case), written(&outcome, query));
            if comparable(&expected, false) != comparable(&got, false) {
                failures.insert(
                    format!("{file}:{line}"),
                    format!("  {query}\n  expected {expected}\n  got      {got}"),
                );
            }
        });
    }
    check(column, total, &failures);
}

fn plain(case: &Value) -> Value {
    case.get("plain").unwrap_or(&case["r"]).clone()
}

#[test]
fn results_with_delayed_name_removal_are_as_recorded() {
    compare_results("r", &options_3_14(true), |case| case["r"].clone());
}

#[test]
fn results_are_as_recorded() {
    compare_results("plain", &options_3_14(false), plain);
}

#[test]
fn results_of_3_5_are_as_recorded() {
    compare_results("v353", &options_3_5(true), |case| match case.get("v353") {
        Some(older) => older["r"].clone(),
        None => plain(case),
    });
}

/// Compares the corner cases with one column of the recordings.
fn compare_extra(column: &str, options: EngineOptions, expected: impl Fn(&Value) -> Value) {
    let Some(dir) = testdata() else { return };
    let text = std::fs::read_to_string(dir.join("extra/extra.test")).unwrap();
    let script = Script::parse(&text).unwrap();
    let recorded: HashMap<usize, Value> = json_lines(&dir.join("extra/extra-results.jsonl"))
        .into_iter()
        .map(|case| (case["line"].as_u64().unwrap() as usize, case))
        .collect();
    let mut total = 0;
    let mut failures = BTreeMap::new();
    let mut subject = new_subject(options);
    for_each_eval(&script, &mut subject, |line, query, _, outcome| {
        let case = &recorded[&line];
        if case["unstable"] == true {
            return;
        }
        total += 1;
        let ordered = case["order_unstable"] != true && query.contains("sort");
        let (expected, got) = (expected(case), written(&outcome, query));
        if comparable(&expected, ordered) != comparable(&got, ordered) {
            failures.insert(
                format!("extra.test:{line}"),
                format!("  {query}\n  expected {expected}\n  got      {got}"),
            );
        }
    });
    check(column, total, &failures);
}

#[test]
fn corner_cases_are_as_recorded() {
    compare_extra("extra", options_3_14(false), |case| case["plain"].clone());
}

#[test]
fn corner_cases_with_delayed_name_removal_are_as_recorded() {
    compare_extra("extra-delayed", options_3_14(true), |case| {
        case.get("delayed").unwrap_or(&case["plain"]).clone()
    });
}

#[test]
fn corner_cases_of_3_5_are_as_recorded() {
    compare_extra("extra-v353", options_3_5(false), |case| {
        match case.get("v353") {
            Some(older) => older.get("r").unwrap_or(older).clone(),
            None => case["plain"].clone(),
        }
    });
}
