//! What becomes of the parts that groups answer with: copies or shares, histograms, limits.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected"
)]

mod in_memory;

use std::sync::Arc;

use in_memory::{
    points, queries,
    watched::{PARSER, Then, Watched, answer, servers, value},
};
use promxy::{config::Groups, query::Params};
use tokio::runtime::Runtime;

#[test]
fn partial_results_of_groups_are_copies_unless_groups_are_disjoint() {
    let f = |query: &str, overlapping: &str, disjoint: &str| {
        for (groups, expected) in [
            (Groups::Overlapping, overlapping),
            (Groups::Disjoint, disjoint),
        ] {
            let outcome =
                answer(&queries(Arc::new(servers(false)), groups, PARSER), query).unwrap();
            let mut values: Vec<String> = points(&outcome.value)
                .into_iter()
                .map(|((labels, _), value)| format!("{labels} {value:?}"))
                .collect();
            values.sort();
            assert_eq!(values.join("; "), expected, "{query} {groups:?}");
            let warns = outcome
                .annotations
                .warnings
                .iter()
                .any(|text| text.contains("promxy.groups"));
            assert_eq!(
                warns,
                groups == Groups::Overlapping && query.contains('('),
                "{query} {groups:?}"
            );
        }
    };
    f("sum(b)", "{} Float(5.0)", "{} Float(12.0)");
    f("count(b)", "{} Float(1.0)", "{} Float(2.0)");
    f("avg(b)", "{} Float(5.0)", "{} Float(6.0)");
    f("min(b)", "{} Float(5.0)", "{} Float(5.0)");
    f("max(b)", "{} Float(5.0)", "{} Float(7.0)");
    f(
        "count_values(\"v\", c)",
        "{v=\"1\"} Float(1.0)",
        "{v=\"1\"} Float(2.0)",
    );
    f(
        "c",
        "{__name__=\"c\"} Float(1.0)",
        "{__name__=\"c\"} Float(1.0)",
    );
}

#[test]
fn answers_with_histograms_are_fetched_again_as_samples() {
    let upstream = Arc::new(Watched::new(|_| Then::Answer));
    let queries = queries(upstream.clone(), Groups::Overlapping, PARSER);
    let outcome = answer(&queries, "sum(h) + on () count(a)").unwrap();
    assert!(
        outcome.annotations.warnings.is_empty(),
        "{:?}",
        outcome.annotations
    );
    assert_eq!(
        value(&queries, "histogram_sum(sum(h))"),
        r#"{"resultType":"vector","result":[{"metric":{},"value":[600,"9"]}]}"#
    );
    let asked = upstream.asked.lock().unwrap().clone();
    let expected = [
        "sum(h) 600..600",
        "count(a) 600..600",
        "raw __name__=\"h\" 300001..600000",
        // Of a function of histograms it is known before.
        "raw __name__=\"h\" 300001..600000",
    ];
    assert_eq!(asked, expected);
}

#[test]
fn groups_that_would_lose_buckets_are_named_unless_matchers_exclude_them() {
    let mut upstream = Watched::new(|_| Then::Answer);
    upstream.histogram = "h";
    let queries = queries(Arc::new(upstream), Groups::Overlapping, PARSER);
    let f = |query: &str, groups: &str| {
        let failure = answer(&queries, query).unwrap_err();
        let expected = format!(
            "native histogram query targets server_group(s) ordinal=[{groups}] without remote_read; configure remote_read on those groups (preferred — preserves sparse-span schema) or set native_histogram.allow_lossy: true to accept JSON-API fidelity loss"
        );
        assert_eq!(failure.message, expected);
        assert_eq!(failure.kind.http(), (422, "execution"));
    };
    f("rate(h[5m])", "0 1");
    f("a + {__name__=\"h\"}", "0 1");
    f("histogram_count(b{az=\"1\"}) + a", "1");
    answer(&queries, "rate(a[5m])").unwrap();
}

#[test]
fn series_beyond_a_limit_are_left_out_with_a_warning() {
    let queries = queries(Arc::new(servers(true)), Groups::Overlapping, PARSER);
    let runtime = Runtime::new().unwrap();
    let params = |limit| Params {
        limit: Some(limit),
        ..Params::default()
    };
    let outcome = runtime
        .block_on(queries.instant("{i=~\".+\",__name__=~\"a|b\"}", 600_000, &params(3)))
        .unwrap();
    assert_eq!(
        outcome.annotations.warnings,
        ["results truncated due to limit"]
    );
    assert_eq!(points(&outcome.value).len(), 3);
    let outcome = runtime
        .block_on(queries.range("a", 0, 600_000, 60_000, &params(2)))
        .unwrap();
    assert!(outcome.annotations.warnings.is_empty());
}
