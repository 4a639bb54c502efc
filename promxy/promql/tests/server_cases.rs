//! Cases in which a Prometheus server answered unlike this engine once did, found by asking both at random.

#![allow(clippy::unwrap_used, reason = "a test's script is valid")]

use promql::parser::{Compat, ParserOptions, parse};
use promql::testing::{EngineSubject, Script, run};
use promql::{Engine, EngineOptions};

const BOTH: [Compat; 2] = [Compat::V3_5, Compat::V3_14];

/// Runs a script on engines of some versions.
fn holds(script: &str, compats: &[Compat], delayed_name_removal: bool) {
    for compat in compats {
        let base = match compat {
            Compat::V3_5 => ParserOptions::v3_5(),
            Compat::V3_14 => ParserOptions::v3_14(),
        };
        let engine = Engine::new(EngineOptions {
            delayed_name_removal,
            ..EngineOptions::new(base.with_all_features())
        });
        let script = Script::parse(script).unwrap();
        for case in run(&script, &mut EngineSubject::new(engine)) {
            assert_eq!(case.result, Ok(()), "{compat:?} {}", case.query);
        }
    }
}

/// Runs a script that has `DIFFERS` where the versions differ.
fn differs(script: &str, in_3_5: &str, in_3_14: &str, delayed_name_removal: bool) {
    for (compat, own) in [(Compat::V3_5, in_3_5), (Compat::V3_14, in_3_14)] {
        holds(
            &script.replace("DIFFERS", own),
            &[compat],
            delayed_name_removal,
        );
    }
}

#[test]
fn subqueries_forget_what_histograms_say_of_resets() {
    // The subquery misses the sample with the reset; the one after it claims that there was none.
    let script = r"
load 1m
  h {{schema:0 sum:9 count:9 buckets:[9]}} {{schema:0 sum:12 count:12 buckets:[12]}} {{schema:0 sum:1 count:1 buckets:[1]}} {{schema:0 sum:2 count:2 buckets:[2]}} {{schema:0 sum:3 count:3 buckets:[3]}}

eval instant at 4m resets(h[5m:2m])
  {} 1

eval instant at 3m resets(h[3m:2m] offset -1m)
  {} 0

eval instant at 3m resets(h[7m:3m])
  {} 1
";
    holds(script, &BOTH, false);
}

#[test]
fn of_duplicates_on_the_one_side_the_first_is_told() {
    let script = r#"
load 1m
  many{g="z"} 1
  one{g="a", n="1"} 1
  one{g="b", n="1"} 1
  one{g="b", n="2"} 1
  one{g="a", n="3"} 1

eval instant at 0 many + on(g) one
  expect fail msg: found duplicate series for the match group {g="b"} on the right hand-side of the operation: [{__name__="one", g="b", n="2"}, {__name__="one", g="b", n="1"}];many-to-many matching not allowed: matching labels must be unique on one side
"#;
    let sorted = script.replace(
        r#"[{__name__="one", g="b", n="2"}, {__name__="one", g="b", n="1"}]"#,
        r#"[{__name__="one", g="b", n="1"}, {__name__="one", g="b", n="2"}]"#,
    );
    let reordered =
        |text: &str| text.replace(r#"  one{g="a", n="3"} 1"#, r#"  one{g="c", n="3"} 1"#);
    holds(&reordered(script), &[Compat::V3_5], false);
    holds(&reordered(&sorted), &[Compat::V3_14], false);
}

#[test]
fn counts_below_one_select_nothing_however_low() {
    let script = r"
load 1m
  x 1 2 3

eval instant at 1m topk(-Inf, x)

eval instant at 1m bottomk(-Inf, x)

eval instant at 1m limitk(-Inf, x)

eval instant at 1m topk(-1e300, x)
";
    holds(script, &BOTH, false);
}

#[test]
fn among_nans_no_other_quantile_is_warned_of() {
    let script = r"
load 1m
  x 1 2 3
  q 2 NaN 2

eval range from 0 to 2m step 1m quantile(scalar(q), x)
  expect warn msg: PromQL warning: quantile value should be between 0 and 1, got NaN (1:10)
  {} +Inf NaN +Inf
";
    holds(script, &BOTH, false);
}

#[test]
fn texts_given_to_functions_are_looked_at_before_their_series() {
    let script = r#"
load 1m
  x{a="1"} 1
  x{a="2"} 1

eval instant at 0 label_replace(x + ignoring(a) x, "", "", "", "(")
  expect fail msg: invalid regular expression in label_replace(): (

eval instant at 0 label_replace(x + ignoring(a) x, "", "", "", "")
  expect fail regex: invalid destination label name in label_replace\(\): .*

eval instant at 0 label_join(label_join(x + ignoring(a) x, "", ""), "b", "", "")
  expect fail regex: invalid source label name in label_join\(\): .*

eval instant at 0 sum(count_values("", x + ignoring(a) x))
  expect fail msg: invalid label name ""

eval instant at 0 (x + ignoring(a) x) + label_join(x, "", "")
  expect fail regex: found duplicate series .*
"#;
    holds(script, &BOTH, false);
}

#[test]
fn texts_by_which_series_are_sorted_may_be_missing() {
    // Of an empty text the reference calls neither less, so that few series stay where they are, or turn around.
    let script = r#"
load 1m
  l{a="x10y2", b="q"} 1
  l{a="x1y2"} 2
  l{a="x9"} 3

eval instant at 0 sort_by_label(l, "b")
  expect ordered
  l{a="x10y2", b="q"} 1
  l{a="x1y2"} 2
  l{a="x9"} 3

eval instant at 0 sort_by_label_desc(l, "b")
  expect ordered
  l{a="x9"} 3
  l{a="x1y2"} 2
  l{a="x10y2", b="q"} 1
"#;
    holds(script, &BOTH, false);
}

#[test]
fn times_of_pinned_samples_come_from_what_is_selected() {
    let script = r"
load 1m
  x 0+1x20

eval instant at 0 timestamp(x @ 600 offset -6m)

eval instant at 0 timestamp(x @ 600 offset -2m)
  {} 600

eval instant at 0 timestamp(x @ 600 offset 2m)
  {} 480
";
    holds(script, &BOTH, false);
}

#[test]
fn info_forgets_in_3_5_that_names_were_to_be_dropped_at_the_end() {
    let script = r#"
load 1m
  x_total{job="a"} 0 60 120
  target_info{job="a", data="d"} 1 1 1

eval range from 2m to 2m step 1m info(-x_total)
  x_total{job="a", data="d"} -120

eval range from 2m to 2m step 1m info(abs(target_info))
  target_info{job="a", data="d"} 1
"#;
    holds(script, &[Compat::V3_5], true);
    let dropped = script.replace(
        "  x_total{job=\"a\", data=\"d\"} -",
        "  {job=\"a\", data=\"d\"} -",
    );
    let (enriched, _) = dropped
        .split_once("eval range from 2m to 2m step 1m info(abs")
        .unwrap();
    holds(enriched, &[Compat::V3_14], true);
}

#[test]
fn without_a_condition_on_names_3_5_takes_no_series_for_an_info_series() {
    let script = r#"
load 1m
  target_info{job="a", data="d"} 1 1 1

eval instant at 2m info(target_info, {data="d"})
"#;
    holds(script, &[Compat::V3_5], false);
    let kept = script.trim_end().to_owned() + "\n  target_info{job=\"a\", data=\"d\"} 1\n";
    holds(&kept, &[Compat::V3_14], false);
}

#[test]
fn the_last_value_of_a_subquery_keeps_its_name_in_3_5() {
    let script = r#"
load 1m
  x{job="a"} 1 1 1

eval instant at 2m last_over_time((x * 2)[2m:1m])
  DIFFERS{job="a"} 2
"#;
    differs(script, "x", "", true);
}

#[test]
fn plain_texts_in_place_of_patterns_may_be_any_bytes() {
    let options = ParserOptions::v3_5();
    assert!(parse(r#"{a=~"\xff"}"#, &options).is_ok());
    assert!(parse(r#"{a=~"b|\xff"}"#, &options).is_ok());
    let error = |query: &str| parse(query, &options).unwrap_err().to_string();
    assert_eq!(
        error(r#"{a=~"\xff|"}"#),
        "1:1: parse error: vector selector must contain at least one non-empty matcher"
    );
    assert_eq!(
        error(r#"x{a=~"\xff.*"}"#),
        "1:3: parse error: error parsing regexp: invalid UTF-8: `\u{fffd}.*`"
    );
}

#[test]
fn buckets_are_left_out_for_the_first_selector_of_a_3_5_query_only() {
    // Without buckets nothing is seen of custom among exponential ones, unless the function is the whole query.
    let script = r#"
load 1m
  h{a="1"} {{schema:0 sum:3 count:1 buckets:[1]}}
  h{a="2"} {{schema:-53 sum:5 count:3 custom_values:[1] buckets:[3]}}

eval range from 0 to 0 step 1m histogram_sum(sum(h))
  expect warn

eval range from 0 to 0 step 1m 0 + histogram_sum(sum(h))
  expect no_warn
  {} 8

eval range from 0 to 0 step 1m vector(0) + histogram_count(sum(h))
  expect no_warn
  {} 4

eval range from 0 to 0 step 1m histogram_sum(h) or histogram_sum(sum(h))
  expect warn
  {a="1"} 3
  {a="2"} 5
"#;
    holds(script, &[Compat::V3_5], false);
}

#[test]
fn beyond_the_last_bucket_3_5_looks_for_lost_ones_at_one_place_only() {
    let script = r"
load 1m
  lost {{schema:0 sum:1 count:4 buckets:[1 0 0 3]}} {{schema:0 sum:1 count:5 buckets:[5]}}
  last {{schema:0 sum:1 count:4 buckets:[1 3]}} {{schema:0 sum:1 count:5 buckets:[5]}}

eval instant at 1m resets(lost[3m:1m])
  {} DIFFERS

eval instant at 1m resets(last[3m:1m])
  {} 1
";
    differs(script, "0", "1", false);
}

#[test]
fn below_bool_3_5_drops_included_names_too() {
    let script = r#"
load 1m
  many{g="z"} 1
  one{g="z"} 1

eval instant at 0 many == bool on(g) group_left(__name__) one
  DIFFERS{g="z"} 1

eval instant at 0 many + on(g) group_left(__name__) one
  one{g="z"} 2
"#;
    differs(script, "", "one", false);
}
