//! The answers of two replicas to one range query, 4,000 series of 240 steps each: 960,000 samples read as they come, in pieces
//! of 64 KiB, onto columns, then merged.

use std::fmt::Write as _;

use divan::{Bencher, counter::BytesCount};
use promxy::{
    labels::Labels,
    merge::{Options, sets},
    series::{Column, Native, Series},
    servergroup::{
        decode::{OnGrid, Shape, Stream},
        time_range::Grid,
    },
};

fn main() {
    divan::main();
}

const STEPS: i64 = 240;

fn grid() -> Grid {
    let start = 1_700_000_000_000;
    Grid {
        start,
        end: start + (STEPS - 1) * 15_000,
        step: 15_000,
    }
}

fn answer(seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut body = String::from(r#"{"status":"success","data":{"resultType":"matrix","result":["#);
    for number in 0..4_000 {
        body += if number == 0 { "" } else { "," };
        write!(
            body,
            r#"{{"metric":{{"__name__":"http_requests_total","code":"200","handler":"/api/v1/query_range","instance":"10.0.{}.{}:9090","job":"prometheus"}},"values":["#,
            number / 250,
            number % 250
        )
        .expect("a String takes it");
        for step in 0..STEPS {
            let comma = if step == 0 { "" } else { "," };
            let (time, value) = (1_700_000_000 + step * 15, random.u32(..1_000_000));
            write!(body, r#"{comma}[{time},"{value}"]"#).expect("a String takes it");
        }
        body += "]}";
    }
    body + "]}}"
}

fn read(body: &[u8]) -> Vec<Series<Column<Native>>> {
    let added: Labels = [("az", "a")].into_iter().collect();
    let shape = Shape::new(added, std::sync::Arc::from([]));
    let mut stream = Stream::new(OnGrid::new(grid(), 0), shape, usize::MAX);
    for piece in body.chunks(64 << 10) {
        stream.push(piece).expect("it is an answer");
    }
    stream.finish().expect("it is a whole answer").0.series
}

#[divan::bench(sample_count = 10)]
fn read_and_merge(bencher: Bencher<'_, '_>) {
    let bodies = [answer(1), answer(2)];
    let bytes = BytesCount::new(bodies.iter().map(String::len).sum::<usize>());
    bencher.counter(bytes).bench_local(|| {
        let members = bodies.iter().map(|body| read(body.as_bytes())).collect();
        let options = Options {
            buffer_ms: 10_000,
            dynamic: false,
            prefer_max: false,
        };
        sets(members, options, &grid())
    });
}

#[divan::bench(sample_count = 10)]
fn merge_alone(bencher: Bencher<'_, '_>) {
    let members = [read(answer(1).as_bytes()), read(answer(2).as_bytes())];
    bencher
        .with_inputs(|| members.to_vec())
        .bench_local_values(|members| sets(members, Options::GROUPS, &grid()));
}
