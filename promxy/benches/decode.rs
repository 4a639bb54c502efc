//! Reading answers: a matrix of 500 series by 1000 steps, and a vector of 20,000 series.

use std::fmt::Write as _;

use divan::{Bencher, counter::BytesCount};
use promxy::servergroup::{
    decode::{columns, samples},
    time_range::Grid,
};

fn main() {
    divan::main();
}

const STEPS: i64 = 1000;

fn grid() -> Grid {
    let start = 1_700_000_000_000;
    Grid {
        start,
        end: start + (STEPS - 1) * 15_000,
        step: 15_000,
    }
}

fn metric(number: usize) -> String {
    format!(
        r#"{{"metric":{{"__name__":"http_requests_total","code":"200","handler":"/api/v1/query_range","instance":"10.0.{}.{}:9090","job":"prometheus"}}"#,
        number / 250,
        number % 250
    )
}

fn matrix() -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut body = String::from(r#"{"status":"success","data":{"resultType":"matrix","result":["#);
    for number in 0..500 {
        body += if number == 0 { "" } else { "," };
        write!(body, r#"{},"values":["#, metric(number)).expect("a String takes it");
        for step in 0..STEPS {
            let comma = if step == 0 { "" } else { "," };
            let (time, value) = (1_700_000_000 + step * 15, random.f64() * 1000.0);
            write!(body, r#"{comma}[{time},"{value}"]"#).expect("a String takes it");
        }
        body += "]}";
    }
    body + "]}}"
}

fn vector() -> String {
    let series = (0..20_000)
        .map(|number| format!(r#"{},"value":[1700000000,"{number}"]}}"#, metric(number)));
    let series: Vec<String> = series.collect();
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
        series.join(",")
    )
}

#[divan::bench]
fn matrix_to_columns(bencher: Bencher<'_, '_>) {
    let body = matrix();
    let bytes = BytesCount::new(body.len());
    bencher
        .counter(bytes)
        .bench_local(|| columns(200, body.as_bytes(), grid(), 0, usize::MAX));
}

#[divan::bench]
fn matrix_to_samples(bencher: Bencher<'_, '_>) {
    let body = matrix();
    let bytes = BytesCount::new(body.len());
    bencher
        .counter(bytes)
        .bench_local(|| samples(200, body.as_bytes(), usize::MAX));
}

#[divan::bench]
fn vector_to_columns(bencher: Bencher<'_, '_>) {
    let body = vector();
    let grid = Grid::instant(1_700_000_000_000);
    let bytes = BytesCount::new(body.len());
    bencher
        .counter(bytes)
        .bench_local(|| columns(200, body.as_bytes(), grid, 0, usize::MAX));
}
