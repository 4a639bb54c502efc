//! Reading and writing answers: recorded bodies, and whatever else a server may send.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

use std::{collections::BTreeMap, io::Read as _};

use promql::value::{SampleValue, Value, VectorSample};
use promxy::{
    api::write_json,
    series::{Histogram, Native, Samples, Series},
    servergroup::{
        decode::{
            Annotations, DecodeError, Decoded, OwnTimes, ResultType, Shape, Stream, columns,
            samples,
        },
        time_range::Grid,
    },
};
use proptest::prelude::*;

fn bodies() -> BTreeMap<String, String> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/query/bodies.json.gz"
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Reads an answer as queries do, to histograms that can be computed with.
fn read(body: &str) -> Result<Decoded<Samples<Native>>, DecodeError> {
    let mut stream = Stream::new(OwnTimes::<Native>::new(), Shape::default(), usize::MAX);
    stream.push(body.as_bytes())?;
    stream.finish().map(|(decoded, _)| decoded)
}

/// The element of a vector that a series of one sample is.
fn element(series: &Series<Samples<Native>>) -> VectorSample {
    let Samples { floats, histograms } = &series.data;
    let float = floats
        .first()
        .map(|(time, value)| (*time, SampleValue::Float(*value)));
    let histogram = || {
        let (time, histogram) = histograms[0].clone();
        (time, SampleValue::Histogram(histogram))
    };
    let (timestamp, value) = float.unwrap_or_else(histogram);
    VectorSample {
        labels: series.labels.clone(),
        timestamp,
        value,
    }
}

#[test]
fn recorded_answers_are_written_as_they_were_read() {
    let bodies = bodies();
    let (mut queries, mut errors, mut others, mut plain) = (0, 0, 0, 0);
    for (name, body) in &bodies {
        if body.starts_with(r#"{"status":"error""#) {
            let error = read(body).unwrap_err().to_string();
            let (kind, message) = error.split_once(": ").unwrap();
            assert_eq!(
                &write_json::error(kind, message, &Annotations::default()),
                body
            );
            errors += 1;
            continue;
        }
        let Ok(decoded) = read(body) else {
            others += 1;
            continue;
        };
        let data = match decoded.result_type {
            ResultType::Matrix => write_json::matrix(&decoded.series),
            ResultType::Scalar => {
                let (time, value) = decoded.series[0].data.floats[0];
                write_json::scalar(time, value)
            }
            ResultType::String => {
                let answer: serde_json::Value = serde_json::from_str(body).unwrap();
                let result = &answer["data"]["result"];
                write_json::string(
                    (result[0].as_f64().unwrap() * 1000.0) as i64,
                    result[1].as_str().unwrap(),
                )
            }
            ResultType::Vector => {
                let elements = decoded.series.iter().map(element);
                write_json::value(&Value::Vector(elements.collect()))
            }
        };
        let answer: serde_json::Value = serde_json::from_str(body).unwrap();
        // Places in the query are cut from warnings and infos, so only the data is compared as it stands.
        let written = format!(r#"{{"status":"success","data":{data}"#);
        // The original writes the largest and the smallest numbers without an exponent; Prometheus, and we, with one.
        if body.contains("00000000000000000000000000") {
            let again = read(&format!("{written}}}")).unwrap();
            assert_eq!(
                format!("{:?}", again.series),
                format!("{:?}", decoded.series)
            );
            plain += 1;
            continue;
        }
        assert!(
            body.starts_with(&written),
            "{name}:\nexpected {body}\ngot      {written}"
        );
        let count = |key: &str| answer[key].as_array().map_or(0, Vec::len);
        assert_eq!(
            decoded.annotations.warnings.len() + decoded.annotations.infos.len(),
            count("warnings") + count("infos"),
            "{name}"
        );
        queries += 1;
    }
    println!(
        "bodies.json.gz: {queries} answers and {errors} errors of {} read and written the same, \
         {plain} with the same numbers in another form, {others} are no answers to queries",
        bodies.len()
    );
    assert!(queries > 100);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(
        series in prop::collection::vec((
            prop::collection::btree_map("[a-z_]{1,6}", "\\PC{1,8}", 0..4),
            prop::collection::btree_map(0i64..4_000_000_000_000, any::<f64>(), 1..20),
        ), 0..6),
    ) {
        let series: Vec<Series<Samples<Native>>> = series.into_iter().map(|(labels, floats)| Series {
            labels: labels.into_iter().collect(),
            data: Samples { floats: floats.into_iter().collect(), histograms: Vec::new() },
        }).collect();
        let body = write_json::success(&write_json::matrix(&series), &Annotations::default());
        let decoded = read(&body).unwrap();
        prop_assert_eq!(format!("{:?}", decoded.series), format!("{:?}", series));
    }

    #[test]
    fn pieces_of_an_answer_are_read_as_the_whole(
        series in prop::collection::vec((
            prop::collection::btree_map("[a-z_]{1,6}", "\\PC{1,8}", 0..3),
            prop::collection::btree_map(0i64..4_000_000_000_000, prop_oneof![
                any::<f64>(),
                any::<i32>().prop_map(f64::from),
                (any::<i32>(), 0..9).prop_map(|(digits, decimals)| f64::from(digits) / f64::powi(10.0, decimals)),
            ], 1..9),
        ), 1..5),
        piece in 1usize..300,
        change in prop::option::of((0usize..10_000, prop::sample::select(&b" \"\\,.:[]{}-+0159eEN\x00\xff"[..]))),
    ) {
        let series: Vec<Series<Samples<Native>>> = series.into_iter().map(|(labels, floats)| Series {
            labels: labels.into_iter().collect(),
            data: Samples { floats: floats.into_iter().collect(), histograms: Vec::new() },
        }).collect();
        let none = Annotations::default();
        let mut body = write_json::success(&write_json::matrix(&series), &none).into_bytes();
        if let Some((at, byte)) = change {
            let length = body.len();
            body[at % length] = byte;
        }
        let whole = samples(200, &body, usize::MAX).map(|decoded| format!("{:?}", decoded.series));
        let mut stream = Stream::new(OwnTimes::<Histogram>::new(), Shape::default(), usize::MAX);
        let pushed = body.chunks(piece).try_for_each(|piece| stream.push(piece));
        let read = pushed.and_then(|()| stream.finish());
        let read = read.map(|(decoded, _)| format!("{:?}", decoded.series));
        prop_assert_eq!(read.is_ok(), whole.is_ok(), "{:?} {:?}", read, whole);
        if let (Ok(read), Ok(whole)) = (read, whole) {
            prop_assert_eq!(read, whole);
        }
    }

    #[test]
    fn a_body_that_was_cut_or_changed_never_panics(cut in 0usize..10_000, at in 0usize..10_000, byte in any::<u8>()) {
        let body = br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b\u00e9"},"values":[[1,"1"],[2.5,"NaN"]],"histograms":[[3,{"count":"1","sum":"2","buckets":[[0,"-1","1","1"]]}]]}]},"infos":["x (1:2)"]}"#;
        let end = cut % body.len();
        let grid = Grid { start: 0, end: 10_000, step: 500 };
        prop_assert!(columns(200, &body[..end], grid, 0, 100).is_err());
        let mut changed = body.to_vec();
        changed[at % body.len()] = byte;
        let _either_way = columns(200, &changed, grid, 0, 100).is_ok();
    }
}
