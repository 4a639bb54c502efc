//! Parts of a query that a host puts in from elsewhere.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Mutex;

use promql::labels::{LabelMatcher, Labels};
use promql::parser::{NodeKind, ParserOptions};
use promql::storage::{
    BoxFuture, Querier, Queryable, SelectHints, SeriesData, SeriesSet, StorageError,
};
use promql::testing::block_on;
use promql::value::Value;
use promql::{
    CancelToken, Engine, EngineOptions, NodeRewriter, RewriteNode, Rewritten, StepSeries,
};

/// Replaces every aggregation by one series that counts the steps, and misses the second.
struct Aggregations {
    offered: Mutex<Vec<String>>,
}

impl NodeRewriter for Aggregations {
    fn rewrite<'a>(
        &'a self,
        node: RewriteNode<'a>,
    ) -> BoxFuture<'a, Result<Option<Rewritten>, StorageError>> {
        let text = node.expr.display(node.id).to_string();
        self.offered.lock().unwrap().push(text);
        let rewritten = matches!(node.expr[node.id].kind, NodeKind::Aggregate(_)).then(|| {
            let labels: Labels = [("from", "elsewhere")].into_iter().collect();
            let mut series = StepSeries::new(labels, node.steps);
            for step in (0..node.steps).filter(|step| *step != 1) {
                series.set(step, step as f64);
            }
            Rewritten {
                series: vec![series],
                warnings: vec!["one server did not answer".to_owned()],
            }
        });
        Box::pin(std::future::ready(Ok(rewritten)))
    }
}

/// A storage that knows what it was asked and has nothing.
#[derive(Clone, Default)]
struct Asked(std::sync::Arc<Mutex<Vec<(String, SelectHints)>>>);

impl Queryable for Asked {
    fn querier(&self, _: i64, _: i64) -> BoxFuture<'_, Result<Box<dyn Querier>, StorageError>> {
        let querier: Box<dyn Querier> = Box::new(self.clone());
        Box::pin(std::future::ready(Ok(querier)))
    }
}

impl Querier for Asked {
    fn select(&self, hints: &SelectHints, matchers: &[LabelMatcher]) -> Box<dyn SeriesSet> {
        let text = format!("{matchers:?}");
        self.0.lock().unwrap().push((text, hints.clone()));
        Box::new(Nothing)
    }
}

struct Nothing;

impl SeriesSet for Nothing {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<SeriesData>, StorageError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

#[test]
fn a_rewritten_part_is_neither_selected_nor_looked_back_from() {
    let engine = Engine::new(EngineOptions::new(ParserOptions::default()));
    let query = engine
        .range_query("-sum(rate(a[5m])) or b", 0, 40_000, 10_000)
        .unwrap();
    let rewriter = Aggregations {
        offered: Mutex::default(),
    };
    let storage = Asked::default();
    let cancel = CancelToken::default();
    let text = query.text().to_owned();
    let prepared = block_on(query.prepare(&storage, Some(&rewriter), &cancel)).unwrap();
    let outcome = prepared.evaluate(&cancel);
    let Value::Matrix(matrix) = outcome.value.unwrap() else {
        panic!("a matrix")
    };
    let points: Vec<(i64, f64)> = matrix[0].floats().collect();
    assert_eq!(matrix[0].labels.to_string(), r#"{from="elsewhere"}"#);
    assert_eq!(
        points,
        [(0, 0.0), (20_000, -2.0), (30_000, -3.0), (40_000, -4.0)]
    );
    assert_eq!(
        outcome.annotations.warnings(&text),
        ["one server did not answer"]
    );
    let offered = rewriter.offered.into_inner().unwrap();
    assert_eq!(offered[0], "-sum(rate(a[5m])) or b");
    assert!(
        offered.contains(&"b".to_owned()) && !offered.iter().any(|text| text.starts_with("rate"))
    );
    let asked = storage.0.lock().unwrap();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].0, "[__name__=\"b\"]");
}

#[test]
fn selects_come_with_hints() {
    let f = |query: &str, expected: &[SelectHints]| {
        let engine = Engine::new(EngineOptions::new(ParserOptions::default()));
        let query = engine
            .range_query(query, 1_000_000, 2_000_000, 10_000)
            .unwrap();
        let storage = Asked::default();
        block_on(query.prepare(&storage, None, &CancelToken::default())).unwrap();
        let asked: Vec<SelectHints> = storage
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|(_, hints)| hints.clone())
            .collect();
        assert_eq!(asked, expected);
    };
    let hints = SelectHints {
        start: 700_001,
        end: 2_000_000,
        step: 10_000,
        ..SelectHints::default()
    };
    f("a", std::slice::from_ref(&hints));
    f(
        "sum by (x) (a offset 1m) + rate(b[1m])",
        &[
            SelectHints {
                start: 640_001,
                end: 1_940_000,
                function: "sum",
                grouping: vec!["x".to_owned()],
                by: true,
                ..hints.clone()
            },
            SelectHints {
                start: 940_001,
                range: 60_000,
                function: "rate",
                ..hints.clone()
            },
        ],
    );
    f(
        "max_over_time(a[10m:30s] @ 1500)",
        &[SelectHints {
            start: 600_001,
            end: 1_500_000,
            step: 30_000,
            function: "max_over_time",
            ..hints.clone()
        }],
    );
}
