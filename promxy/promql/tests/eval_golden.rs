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
    comparable, for_each_eval, holds_in_some_order, json_lines, options_3_5, options_3_14,
    testdata, uses_types, written,
};
use promql::parser::Compat;
use promql::testing::{EngineSubject, Evaluation, MemoryStorage, Script, Subject, run};
use promql::{Engine, EngineOptions, Outcome};
use serde_json::Value;

/// Cases whose recording shows the order that the reference's storage happened to have, which is random. They have to hold in
/// some order of the series. A case that holds in the order of labels has to be taken off the list.
const ORDER_SHOWS: &[&str] = &[
    // Of several NaNs, one is cut off.
    "extra-v353 extra.test:208",
    "extra-v353 extra.test:214",
    // Sums without compensation.
    "v353 native_histograms.test:1204",
    "v353 native_histograms.test:1225",
    "v353 native_histograms.test:1538",
    // 3.5's `info` takes series for others that stand before them.
    "v353 info.test:263",
    "v353 info.test:284",
];

/// Says how many cases hold, and fails if any does not.
fn check(column: &str, total: usize, failures: &BTreeMap<String, String>) {
    println!("{column}: {} of {total} cases hold", total - failures.len());
    for (case, failure) in failures {
        println!("{column} {case}\n{failure}");
    }
    assert!(failures.is_empty(), "{column}");
}

/// A case of a column that is compared.
struct Compared<'c> {
    column: &'c str,
    case: String,
    subject: &'c EngineSubject,
    query: &'c str,
    evaluation: Evaluation,
    /// Whether the order of a vector counts.
    ordered: bool,
}

impl Compared<'_> {
    /// Compares an outcome with what was recorded. Returns what is wrong.
    fn failure(&self, outcome: &Outcome, expected: &Value) -> Option<String> {
        let compat = self.subject.parser_options().compat;
        let wanted = comparable(expected, self.ordered);
        let holds = |outcome: &Outcome| {
            comparable(&written(outcome, self.query, compat), self.ordered) == wanted
        };
        let listed = ORDER_SHOWS.contains(&format!("{} {}", self.column, self.case).as_str());
        let query = self.query;
        match (holds(outcome), listed) {
            (true, false) => None,
            (true, true) => Some(format!("  {query}\n  holds in the order of labels")),
            (false, true) if holds_in_some_order(self.subject, query, self.evaluation, holds) => {
                None
            }
            (false, _) => {
                let got = written(outcome, query, compat);
                Some(format!(
                    "  {query}\n  expected {expected}\n  got      {got}"
                ))
            }
        }
    }
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
        for_each_eval(
            &script,
            &mut subject,
            |subject, line, query, evaluation, outcome| {
                let recorded = &recorded[&(file.clone(), line)];
                if recorded["unstable"] == true {
                    return;
                }
                total += 1;
                let case = Compared {
                    column,
                    case: format!("{file}:{line}"),
                    subject,
                    query,
                    evaluation,
                    ordered: false,
                };
                if let Some(failure) = case.failure(&outcome, &expected(recorded)) {
                    failures.insert(case.case, failure);
                }
            },
        );
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
    for_each_eval(
        &script,
        &mut subject,
        |subject, line, query, evaluation, outcome| {
            let recorded = &recorded[&line];
            if recorded["unstable"] == true {
                return;
            }
            total += 1;
            let case = Compared {
                column,
                case: format!("extra.test:{line}"),
                subject,
                query,
                evaluation,
                ordered: recorded["order_unstable"] != true && query.contains("sort"),
            };
            if let Some(failure) = case.failure(&outcome, &expected(recorded)) {
                failures.insert(case.case, failure);
            }
        },
    );
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
