//! Computes with the native histograms of the recorded test scripts, without the engine: what single operations, functions and
//! aggregations make of the series of a script, exactly as recorded from Prometheus 3.14.0 and 3.5.3.
//!
//! The scripts are read from `$PROMQL_TESTDATA`, by default `shared/golden/promql` beside the workspace. Without them the test
//! says so and passes. Queries that need labels, matching or subqueries are the engine's and left out here.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and prints what it counted"
)]

mod evaluate;
mod script;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use promql::parser::{Compat, ParserOptions, parse};
use serde_json::Value as Json;

use crate::evaluate::{ANNOTATIONS, Context};
use crate::script::{Value, instant_queries};

const SCRIPTS: [&str; 5] = [
    "native_histograms.test",
    "histograms.test",
    "extended_vectors.test",
    "functions.test",
    "aggregators.test",
];

/// 3.5 adds plainly, so a sum of 3.1, 1e100, -1e100 and 1.3 depends on the order of series, which is the storage's secret.
const DEPEND_ON_ORDER: [(&str, u64, Compat); 2] = [
    ("native_histograms.test", 1204, Compat::V3_5),
    ("native_histograms.test", 1225, Compat::V3_5),
];

#[test]
fn single_operations_on_recorded_histograms_are_exact() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/promql");
    let root = std::env::var_os("PROMQL_TESTDATA").map_or(default, PathBuf::from);
    let Ok(results) = std::fs::read_to_string(root.join("eval-results.jsonl")) else {
        println!("SKIPPED: no recorded results; set PROMQL_TESTDATA");
        return;
    };
    let results: HashMap<(String, u64), Json> = results
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap())
        .map(|case| {
            let file = case["file"].as_str().unwrap().to_owned();
            ((file, case["line"].as_u64().unwrap()), case)
        })
        .collect();
    for compat in [Compat::V3_14, Compat::V3_5] {
        let (mut checked, mut left_out, mut wrong) = (0, 0, 0);
        for script in SCRIPTS {
            let text = std::fs::read_to_string(root.join("testdata/prometheus").join(script));
            for (line, time, query, data) in instant_queries(&text.unwrap(), compat) {
                let case = &results[&(script.to_owned(), line)];
                if case["unstable"] == true || DEPEND_ON_ORDER.contains(&(script, line, compat)) {
                    left_out += 1;
                    continue;
                }
                let recorded = match compat {
                    Compat::V3_14 => &case["r"],
                    Compat::V3_5 => case.pointer("/v353/r").unwrap_or(&case["r"]),
                };
                let expected = recorded.pointer("/value/vector").and_then(Json::as_array);
                let options = ParserOptions::v3_14().with_all_features();
                let parsed = parse(&query, &options);
                let (Some(expected), Ok(expr)) = (expected, parsed) else {
                    left_out += 1;
                    continue;
                };
                let context = Context {
                    expr: &expr,
                    data: &data,
                    time,
                    compat,
                    only_counts_and_sums: Cell::default(),
                    told: RefCell::default(),
                };
                let Some(values) = context.vector(expr.root_id()) else {
                    left_out += 1;
                    continue;
                };
                let mut got: Vec<String> = values.iter().map(Value::text).collect();
                let mut expected: Vec<String> = expected
                    .iter()
                    .map(|element| (element.get("h").or(element.get("v"))).unwrap())
                    .map(|value| value.as_str().unwrap().to_owned())
                    .collect();
                got.sort();
                expected.sort();
                checked += 1;
                let told = ["warnings", "infos"].map(|kind| recorded[kind].as_array());
                let told = told
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter_map(Json::as_str);
                let told: BTreeSet<&str> = told
                    .filter_map(|text| ANNOTATIONS.into_iter().find(|words| text.contains(words)))
                    .collect();
                if *context.told.borrow() != told {
                    wrong += 1;
                    println!(
                        "{script}:{line} ({compat:?}): {query}\n  expected {told:?}\n  got      {:?}",
                        context.told.borrow()
                    );
                }
                if got != expected {
                    wrong += 1;
                    println!(
                        "{script}:{line} ({compat:?}): {query}\n  expected {expected:?}\n  got      {got:?}"
                    );
                }
            }
        }
        println!(
            "{compat:?}: {checked} queries checked, {left_out} left to the engine, {wrong} wrong"
        );
        assert_eq!(wrong, 0);
        assert!(checked > 200, "{checked}");
    }
}
