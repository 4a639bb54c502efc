//! What a query asks of the groups, and what becomes of it when they differ, fail, or take too long.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected"
)]

mod in_memory;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use in_memory::{
    LIMITS, ask, queries, source,
    watched::{PARSER, Then, Watched, answer, limited, servers, value},
};
use promxy::{
    config::Groups,
    query::{Limits, Params, QueryFailure, QueryFailureKind},
    servergroup::time_range::Grid,
    upstream::FailureKind,
};
use shared::testing::PATIENCE;
use tokio::{runtime::Runtime, sync::Barrier};

#[test]
fn equal_parts_are_asked_for_once_and_all_parts_at_the_same_time() {
    let mut upstream = Watched::new(|_| Then::Answer);
    let expected = [
        "a 600..600",
        "count(b) 600..600",
        "raw __name__=\"d_total\" 300001..600000",
        "sum(b) 600..600",
    ];
    upstream.together = Some(Barrier::new(expected.len()));
    let upstream = Arc::new(upstream);
    let queries = queries(upstream.clone(), Groups::Overlapping, PARSER);
    let runtime = Runtime::new().unwrap();
    let query = "a + a + on () group_left () avg(b) + on () group_left () absent_over_time(d_total[5m]) or a";
    let params = Params::default();
    let asking =
        async { tokio::time::timeout(PATIENCE, queries.instant(query, 600_000, &params)).await };
    runtime.block_on(asking).unwrap().unwrap();
    assert_eq!(upstream.asked(), expected.map(str::to_owned).into());
}

#[test]
fn what_servers_cannot_know_stays_here() {
    let f = |query: &str, loses_labels, groups, expected: &[&str]| {
        let mut upstream = Watched::new(|_| Then::Answer);
        upstream.loses_labels = loses_labels;
        let upstream = Arc::new(upstream);
        let queries = queries(upstream.clone(), groups, PARSER);
        let grid = Grid {
            start: 600_000,
            end: 660_000,
            step: 60_000,
        };
        ask(&Runtime::new().unwrap(), &queries, query, grid).unwrap();
        let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(upstream.asked(), expected, "{query}");
    };
    let one = Groups::Overlapping;
    // Other groups may have the series; labels may be those of groups.
    f("sum(absent(a))", false, one, &["a 600..660"]);
    f(
        "count by (z) (label_replace(a, \"z\", \"$1\", \"az\", \"(.*)\"))",
        false,
        one,
        &["a 600..660"],
    );
    // Several series of a server are one here.
    f(
        "sum(rate(d_total[5m]))",
        true,
        one,
        &["rate(d_total[5m]) 600..660"],
    );
    f(
        "sum(rate(d_total[5m]))",
        false,
        one,
        &["sum(rate(d_total[5m])) 600..660"],
    );
    // Buckets may be in different groups.
    f(
        "histogram_quantile(0.5, a)",
        false,
        one,
        &["histogram_quantile(0.5, a) 600..660"],
    );
    f(
        "histogram_quantile(0.5, a)",
        false,
        Groups::Disjoint,
        &["a 600..660"],
    );
    // Whether the value is the same at all times depends on where `@` stands.
    f(
        "rate(a[5m] @ 300)",
        false,
        one,
        &["rate(a[5m] @ 300.000) 300..300"],
    );
    f(
        "count_over_time((a @ 300)[5m:2m])",
        false,
        one,
        &["count_over_time((a @ 300.000)[5m:2m]) 600..660"],
    );
    f(
        "max_over_time((a)[10s:45s] offset 40s)",
        false,
        one,
        &["a 585..620"],
    );
}

#[test]
fn what_groups_do_to_labels_comes_before_what_a_query_does() {
    let f = |query: &str, changed_label, expected: &[&str]| {
        let mut upstream = Watched::new(|_| Then::Answer);
        upstream.changed_label = changed_label;
        let upstream = Arc::new(upstream);
        let queries = queries(upstream.clone(), Groups::Overlapping, PARSER);
        answer(&queries, query).unwrap();
        let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(upstream.asked(), expected, "{query}");
    };
    let raw = "raw __name__=\"a\" 300001..600000";
    f(
        "count_values(\"v\", a)",
        "z",
        &["count_values(\"v\", a) 600..600"],
    );
    f("count_values(\"v\", a)", "v", &[raw]);
    // A label that groups add.
    f("count_values((\"az\"), a)", "z", &[raw]);
    f("sum by (i) (a > 1)", "i", &["sum by (i) (a > 1) 600..600"]);
    f("abs(a)", "z", &["abs(a) 600..600"]);
    f("abs(a)", "__name__", &[raw]);
}

#[test]
fn the_first_failure_ends_all_requests_and_has_the_words_of_the_original() {
    let f = |query: &str, failing: &'static str, kind, expected: (u16, &str)| {
        let upstream = Watched::new(move |text| {
            if text.contains(failing) {
                Then::Fail(kind)
            } else {
                Then::Hang
            }
        });
        let queries = queries(Arc::new(upstream), Groups::Overlapping, PARSER);
        let failure = answer(&queries, query).unwrap_err();
        assert_eq!(
            (failure.kind.http().0, failure.message.as_str()),
            expected,
            "{query}"
        );
    };
    let failed = FailureKind::Execution;
    f(
        "a + b",
        "b",
        failed,
        (422, "error in servergroup ord=1: boom"),
    );
    f(
        "a + (b > 2)",
        "b",
        failed,
        (422, "error in servergroup ord=1: boom"),
    );
    f(
        "a + sum(b)",
        "b",
        failed,
        (422, "expanding series: error in servergroup ord=1: boom"),
    );
    f(
        "a + rate(b[5m])",
        "b",
        failed,
        (422, "expanding series: error in servergroup ord=1: boom"),
    );
    f(
        "b[5m]",
        "b",
        failed,
        (422, "expanding series: error in servergroup ord=1: boom"),
    );
    f(
        "b",
        "b",
        FailureKind::Timeout,
        (503, "error in servergroup ord=1: boom"),
    );
    f(
        "b",
        "b",
        FailureKind::TooMuch,
        (422, "error in servergroup ord=1: boom"),
    );
    f(
        "sum(b)",
        "b",
        FailureKind::TooMuch,
        (422, "error in servergroup ord=1: boom"),
    );
}

#[test]
fn time_limits_count_from_the_wait_to_the_evaluation() {
    let upstream = Arc::new(Watched::new(|text| {
        if text.starts_with("a ") {
            Then::Hang
        } else {
            Then::Answer
        }
    }));
    let limits = Limits {
        max_concurrency: Some(1),
        timeout: Duration::from_millis(200),
        ..LIMITS
    };
    let queries = limited(upstream, limits);
    let runtime = Runtime::new().unwrap();
    let params = Params::default();
    let short = Params {
        timeout: Some(Duration::from_millis(10)),
        ..Params::default()
    };
    let (first, second) = runtime.block_on(async {
        tokio::join!(
            queries.instant("a", 600_000, &params),
            queries.instant("b", 600_000, &short)
        )
    });
    let text = |failure: QueryFailure| (failure.kind, failure.message);
    let timed_out = |doing: &str| {
        (
            QueryFailureKind::Timeout,
            format!("query timed out in {doing}"),
        )
    };
    assert_eq!(text(first.unwrap_err()), timed_out("expression evaluation"));
    assert_eq!(text(second.unwrap_err()), timed_out("query queue"));
    // The place is free again.
    assert_eq!(
        value(&queries, "sum(b)"),
        r#"{"resultType":"vector","result":[{"metric":{},"value":[600,"12"]}]}"#
    );
    // Many series' worth of work, and one series with many long windows.
    let terms: Vec<String> = (100..200)
        .map(|rank| format!("quantile_over_time(0.{rank}, vector(time())[1h:1s])"))
        .collect();
    let long = "quantile_over_time(0.5, vector(time())[12h:100ms])".to_owned();
    for slow in [terms.join(" + "), long] {
        let evaluated = runtime.block_on(queries.range(&slow, 0, 300_000_000, 60_000, &params));
        assert_eq!(
            text(evaluated.unwrap_err()),
            timed_out("expression evaluation")
        );
    }
}

#[test]
fn too_many_samples_are_refused_and_what_servers_say_is_kept() {
    let limits = Limits {
        max_samples: 10,
        ..LIMITS
    };
    let queries = limited(Arc::new(servers(true)), limits);
    let failure = answer(&queries, "a[20m]").unwrap_err();
    assert_eq!(
        failure.message,
        "query processing would load too many samples into memory in query execution"
    );
    // Each of the servers says it, once and without a place in its own query.
    let outcome = answer(&queries, "rate(a[2m])").unwrap();
    assert_eq!(
        outcome.annotations.infos,
        [
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"a\""
        ]
    );
    assert!(outcome.stats.total >= 2);
}

#[test]
fn queries_that_begin_after_a_reload_ask_the_new_groups() {
    let queries = queries(Arc::new(servers(false)), Groups::Overlapping, PARSER);
    let before = value(&queries, "sum(b)");
    queries.swap(source(Arc::new(servers(true)), Groups::Overlapping));
    assert_ne!(before, value(&queries, "sum(b)"));
}

#[test]
fn futures_of_queries_move_between_threads() {
    fn movable<T: Send>(future: T) -> T {
        future
    }
    let queries = queries(Arc::new(servers(true)), Groups::Overlapping, PARSER);
    let params = Params::default();
    drop(movable(queries.instant("a", 0, &params)));
    drop(movable(queries.range("a", 0, 1, 1, &params)));
}
