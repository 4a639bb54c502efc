//! What a query asks of the groups, and what becomes of it when they differ, fail, or take too long.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected"
)]

mod in_memory;

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use in_memory::{Group, LIMITS, Servers, ask, points, queries, source};
use promql::{
    parser::{Matcher, ParserOptions},
    testing::{Command, MemoryStorage, Script},
};
use promxy::{
    api::write_json,
    config::Groups,
    labels::Labels,
    query::{Limits, Outcome, Params, Queries, QueryFailure, QueryFailureKind, Settings},
    series::{Column, Native, Samples},
    servergroup::time_range::Grid,
    upstream::{
        Answer, Asked, Asker, Asking, Exemplars, FailureKind, Metadata, Part, Upstream,
        UpstreamError,
    },
};
use shared::testing::PATIENCE;
use tokio::{runtime::Runtime, sync::Barrier};

const PARSER: ParserOptions = ParserOptions::v3_5();

/// Two groups, each with a series of its own labels.
const AZ: [(&str, &str); 2] = [
    (
        "0",
        "load 1m\n a{i=\"1\"} 0+1x20\n b{i=\"1\"} 5x20\n c 1x20\n d_total 0+6x20\n h{i=\"1\"} {{schema:0 count:2 sum:3 buckets:[1 1]}}x20",
    ),
    (
        "1",
        "load 1m\n a{i=\"1\"} 0+2x20\n b{i=\"2\"} 7x20\n c 1x20\n d_total 0+12x20\n h{i=\"1\"} {{schema:0 count:4 sum:6 buckets:[1 3]}}x20",
    ),
];

const NOW: Grid = Grid {
    start: 600_000,
    end: 600_000,
    step: 0,
};

fn storage(script: &str) -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    for command in Script::parse(script).unwrap().commands {
        if let Command::Load(load) = command {
            storage.load(&load);
        }
    }
    storage
}

fn servers(with_labels: bool) -> Servers {
    let groups = AZ.iter().map(|(az, script)| Group {
        labels: if with_labels {
            [("az", az)].into_iter().collect()
        } else {
            Labels::empty()
        },
        replicas: vec![storage(script)],
    });
    Servers::new(groups.collect(), PARSER)
}

/// What is done with a request before it is answered.
enum Then {
    Answer,
    Fail(FailureKind),
    Hang,
}

/// Groups that remember what they were asked, and do as a test says.
struct Watched {
    servers: Servers,
    asked: Mutex<Vec<String>>,
    then: Box<dyn Fn(&str) -> Then + Send + Sync>,
    /// All requests wait here for each other.
    together: Option<Barrier>,
    histogram: &'static str,
    loses_labels: bool,
}

impl Watched {
    fn new(then: impl Fn(&str) -> Then + Send + Sync + 'static) -> Self {
        Self {
            servers: servers(true),
            asked: Mutex::default(),
            then: Box::new(then),
            together: None,
            histogram: "",
            loses_labels: false,
        }
    }

    fn asked(&self) -> BTreeSet<String> {
        let asked = self.asked.lock().unwrap();
        let once: BTreeSet<String> = asked.iter().cloned().collect();
        assert_eq!(once.len(), asked.len(), "asked twice: {asked:?}");
        once
    }

    async fn asking(&self, text: String) -> Result<(), UpstreamError> {
        let then = (self.then)(&text);
        self.asked.lock().unwrap().push(text);
        if let Some(together) = &self.together {
            together.wait().await;
        }
        match then {
            Then::Answer => Ok(()),
            Then::Fail(kind) => Err(UpstreamError {
                kind,
                message: "error in servergroup ord=1: boom".to_owned(),
            }),
            Then::Hang => pending().await,
        }
    }
}

impl Upstream for Watched {
    fn query<'a>(
        &'a self,
        text: &'a str,
        grid: Grid,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Column<Native>>>>> {
        Box::pin(async move {
            self.asking(format!("{text} {}..{}", grid.start / 1000, grid.end / 1000))
                .await?;
            Upstream::query(&self.servers, text, grid, asker).await
        })
    }

    fn raw<'a>(
        &'a self,
        matchers: &'a [Matcher],
        start: i64,
        end: i64,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<Part<Samples<Native>>>>> {
        Box::pin(async move {
            let matchers_text: Vec<String> = matchers.iter().map(ToString::to_string).collect();
            self.asking(format!("raw {} {start}..{end}", matchers_text.join(",")))
                .await?;
            Upstream::raw(&self.servers, matchers, start, end, asker).await
        })
    }

    fn series<'a>(&'a self, asked: &'a Asked, asker: &'a Asker) -> Asking<'a, Answer<Vec<Labels>>> {
        self.servers.series(asked, asker)
    }

    fn label_names<'a>(
        &'a self,
        asked: &'a Asked,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>> {
        self.servers.label_names(asked, asker)
    }

    fn label_values<'a>(
        &'a self,
        label: &'a str,
        asked: &'a Asked,
        asker: &'a Asker,
    ) -> Asking<'a, Answer<Vec<String>>> {
        self.servers.label_values(label, asked, asker)
    }

    fn metadata<'a>(
        &'a self,
        metric: &'a str,
        limit: Option<u64>,
        asker: &'a Asker,
    ) -> Asking<'a, Vec<(String, Vec<Metadata>)>> {
        self.servers.metadata(metric, limit, asker)
    }

    fn exemplars<'a>(&'a self, asked: &'a Asked, asker: &'a Asker) -> Asking<'a, Vec<Exemplars>> {
        self.servers.exemplars(asked, asker)
    }

    fn loses_labels(&self) -> bool {
        self.loses_labels
    }

    fn is_histogram(&self, metric: &str) -> bool {
        metric == self.histogram
    }

    fn lossy_groups(&self, selectors: &[&[Matcher]]) -> Vec<usize> {
        if self.histogram.is_empty() {
            return Vec::new();
        }
        // The first group has a label that a matcher can exclude.
        let excludes = |matchers: &[Matcher]| matchers.iter().any(|m| m.to_string() == "az=\"1\"");
        if selectors.iter().all(|matchers| excludes(matchers)) {
            vec![1]
        } else {
            vec![0, 1]
        }
    }
}

fn limited(upstream: Arc<dyn Upstream>, limits: Limits) -> Queries {
    let settings = Settings {
        parser: PARSER,
        lookback: Duration::from_secs(300),
        limits,
    };
    Queries::new(settings, source(upstream, Groups::Overlapping))
}

fn answer(queries: &Queries, text: &str) -> Result<Outcome, QueryFailure> {
    ask(&Runtime::new().unwrap(), queries, text, NOW)
}

fn value(queries: &Queries, text: &str) -> String {
    write_json::value(&answer(queries, text).unwrap().value)
}

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

/// Queries that do not end when their time is over, with what is wrong.
const NOT_YET: &[(&str, &str)] = &[(
    "quantile_over_time(0.5, vector(time())[12h:100ms])",
    "the engine looks at the time between series, and not within one that has many long windows",
)];

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
    let terms: Vec<String> = (100..200)
        .map(|rank| format!("quantile_over_time(0.{rank}, vector(time())[1h:1s])"))
        .collect();
    let slow = terms.join(" + ");
    let evaluated = runtime.block_on(queries.range(&slow, 0, 300_000_000, 60_000, &params));
    assert_eq!(
        text(evaluated.unwrap_err()),
        timed_out("expression evaluation")
    );
    println!("not yet ended in time: {NOT_YET:?}");
}

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
