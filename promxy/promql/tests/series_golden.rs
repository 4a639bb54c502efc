//! Parses every series description in the recorded test scripts, and some that are wrong.
//!
//! The scripts are read from `$PROMQL_TESTDATA`, by default `shared/golden/promql` beside the workspace. Without them that test
//! says so and passes.

use std::path::{Path, PathBuf};

use promql::parser::{CounterResetHint, HistogramLiteral, SeriesItem, Sign, parse_series};

#[test]
fn every_series_of_the_recorded_scripts_parses() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/promql");
    let root = std::env::var_os("PROMQL_TESTDATA").map_or(default, PathBuf::from);
    let mut scripts = vec![root.join("extra/extra.test")];
    for dir in ["testdata/prometheus", "testdata/promxy"] {
        let Ok(entries) = std::fs::read_dir(root.join(dir)) else {
            println!("SKIPPED: no recorded scripts; set PROMQL_TESTDATA");
            return;
        };
        scripts.extend(entries.map(|entry| entry.expect("the folder can be read").path()));
    }
    let mut count = 0;
    for script in scripts.iter().filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "test")
    }) {
        let text = std::fs::read_to_string(script).expect("the script can be read");
        let mut in_load = false;
        for line in text.lines().map(str::trim) {
            if line.is_empty() {
                in_load = false;
            } else if line.starts_with("load") {
                in_load = true;
            } else if in_load && !line.starts_with('#') && !line.contains("@st") {
                let series = parse_series(line)
                    .unwrap_or_else(|error| panic!("{}: {line}: {error}", script.display()));
                assert!(!series.items.is_empty(), "{line}");
                count += 1;
            }
        }
    }
    println!("{count} series in {} scripts", scripts.len());
}

#[test]
fn items_may_be_repeated_and_changed() {
    let f = |items: &str, expected: &[SeriesItem]| {
        let series =
            parse_series(&format!("x {items}")).unwrap_or_else(|error| panic!("{items}: {error}"));
        assert_eq!(series.items, expected, "{items}");
    };
    let floats = |first, increment, steps| SeriesItem::Floats {
        first,
        increment,
        steps,
    };
    f("", &[]);
    f(
        "1 -2.5e+1  +3",
        &[
            floats(1.0, 0.0, 1),
            floats(-25.0, 0.0, 1),
            floats(3.0, 0.0, 1),
        ],
    );
    f("1x3", &[floats(1.0, 0.0, 4)]);
    f(
        "-1-2x3 Inf",
        &[floats(-1.0, -2.0, 4), floats(f64::INFINITY, 0.0, 1)],
    );
    f(
        "_ _x3 stale",
        &[
            SeriesItem::Gap { steps: 1 },
            SeriesItem::Gap { steps: 3 },
            SeriesItem::Stale,
        ],
    );
    let histogram = HistogramLiteral {
        schema: -1,
        sum: 2.0,
        buckets: vec![1.0, 2.0],
        counter_reset_hint: Some(CounterResetHint::NotReset),
        ..HistogramLiteral::default()
    };
    f(
        "{{schema:-1 sum:2 buckets:[1 2 ] counter_reset_hint:not_reset}}-{{ }}x1",
        &[SeriesItem::Histograms {
            first: Box::new(histogram),
            change: Some((Sign::Minus, Box::default())),
            steps: 2,
        }],
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let f = |text: &str, expected: &str| {
        assert_eq!(
            parse_series(text).map_err(|error| error.to_string()),
            Err(expected.to_owned()),
            "{text}"
        );
    };
    f(
        "x a",
        "1:3: parse error: error parsing number: strconv.ParseFloat: parsing \"a\": invalid syntax",
    );
    f(
        "x 1+2",
        "1:6: parse error: unexpected text in series values, expected \"x\"",
    );
    f(
        "x 1x",
        "1:5: parse error: invalid repetition in series values",
    );
    f(
        "x{a!=\"b\"} 1",
        "1:4: parse error: unexpected \"!=\" in series, expected \"=\"",
    );
    f(
        "x {{sum:1 sum:2}}",
        "1:11: parse error: duplicate key \"sum\" in histogram",
    );
    f(
        "x {{foo:1}}",
        "1:5: parse error: bad histogram descriptor found: \"foo\"",
    );
    f(
        "x {{sum:1",
        "1:10: parse error: unexpected text in histogram description, expected a space",
    );
}
