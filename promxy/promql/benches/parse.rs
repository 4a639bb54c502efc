//! How long parsing and printing take: a selector, a query as dashboards have them, and a sum of a thousand of those.

use std::hint::black_box;

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher};
use promql::parser::{ParserOptions, parse};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const SHORT: &str = r#"up{job="api"}"#;

const TYPICAL: &str = r#"histogram_quantile(0.99, sum by (le, route) (rate(request_duration_seconds_bucket{job="api", code=~"2.."}[5m]))) > 0.25 and on (route) sum by (route) (rate(request_duration_seconds_count{job="api"}[5m] offset 1h)) > 10"#;

#[derive(Debug)]
enum Query {
    Short,
    Typical,
    Huge,
}

const QUERIES: [Query; 3] = [Query::Short, Query::Typical, Query::Huge];

impl Query {
    fn text(&self) -> String {
        match self {
            Self::Short => SHORT.to_owned(),
            Self::Typical => TYPICAL.to_owned(),
            Self::Huge => vec![format!("({TYPICAL})"); 1000].join(" + "),
        }
    }
}

fn main() {
    divan::main();
}

#[divan::bench(args = QUERIES)]
fn parsing(bencher: Bencher<'_, '_>, query: &Query) {
    let text = query.text();
    let options = ParserOptions::default();
    bencher
        .counter(BytesCount::of_str(&text))
        .bench_local(|| parse(black_box(&text), &options));
}

#[divan::bench(args = QUERIES)]
fn printing(bencher: Bencher<'_, '_>, query: &Query) {
    let expr = parse(&query.text(), &ParserOptions::default()).expect("the query is valid");
    bencher.bench_local(|| black_box(&expr).to_string());
}

#[divan::bench(args = QUERIES)]
fn formatting(bencher: Bencher<'_, '_>, query: &Query) {
    let expr = parse(&query.text(), &ParserOptions::default()).expect("the query is valid");
    bencher.bench_local(|| black_box(&expr).pretty());
}
