use super::*;

const MOST: usize = 1_000;

fn error(status: u16, body: &str) -> String {
    samples(status, body.as_bytes(), MOST)
        .unwrap_err()
        .to_string()
}

#[test]
fn what_is_no_answer_is_an_error() {
    let f = |status: u16, body: &str, expected: &str| {
        let found = error(status, body);
        assert!(found.starts_with(expected), "{status} {body}: {found}");
    };
    let envelope = r#"{"status":"error","errorType":"execution","error":"no"}"#;
    f(422, envelope, "execution: no");
    f(200, envelope, "execution: no");
    f(502, "<html>", "server_error: server error: 502");
    f(404, "", "client_error: client error: 404");
    // D15: these were empty successes.
    f(204, "", "bad_response: status 204");
    f(
        403,
        r#"{"message":"forbidden"}"#,
        "client_error: client error: 403",
    );
    f(200, "null", "bad_response: ");
    f(200, "{}", "bad_response: no status");
    f(200, "", "bad_response: EOF");
    f(
        200,
        r#"{"status":"success"}"#,
        "bad_response: no result type",
    );
    f(
        200,
        r#"{"status":"success","data":{"resultType":"streams","result":[]}}"#,
        "bad_response: unexpected value type",
    );
    f(
        200,
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}"#,
        "bad_response: invalid value",
    );
    f(
        200,
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"#,
        "bad_response: EOF",
    );
    f(
        200,
        r#"{"status":"success","data":{"resultType":"vector","result":[]}} x"#,
        "bad_response: trailing",
    );
    f(200, &"[".repeat(100_000), "bad_response: ");
    let deep = format!(r#"{{"status":"success","x":{}"#, "[".repeat(100_000));
    f(200, &deep, "bad_response: EOF");
}

#[test]
fn every_result_type_is_read() {
    let f = |data: &str, expected: &str| {
        let body = format!(r#"{{"status":"success","data":{data}}}"#);
        let decoded = samples(200, body.as_bytes(), MOST).unwrap();
        let series = decoded.series.iter().map(|s| {
            format!(
                "{}{:?}{:?}",
                s.labels,
                s.data.floats,
                s.data.histograms.len()
            )
        });
        assert_eq!(series.collect::<Vec<_>>().join(";"), expected, "{data}");
    };
    f(
        r#"{"resultType":"scalar","result":[1.5,"2"]}"#,
        "{}[(1500, 2.0)]0",
    );
    f(r#"{"resultType":"string","result":[1.5,"x"]}"#, "");
    f(r#"{"resultType":"vector","result":null}"#, "");
    f(
        r#"{"resultType":"vector","result":[{"metric":{"b":"x\ny","a":"1"},"value":[1700000000.001,"+Inf"]}]}"#,
        "{a=\"1\", b=\"x\\ny\"}[(1700000000001, inf)]0",
    );
    f(
        r#"{"result":[{"metric":{},"values":[[1,"1"],[2,"-Inf"]]}],"resultType":"matrix"}"#,
        "{}[(1000, 1.0), (2000, -inf)]0",
    );
    f(
        r#"{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"2","buckets":[[3,"-0.5","0.5","1"]]}]}]}"#,
        "{}[]1",
    );
}

#[test]
fn too_many_samples_are_refused() {
    let body = br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"1"],[3,"1"]]}]}}"#;
    assert!(samples(200, body, 4).is_ok());
    assert_eq!(
        samples(200, body, 2).unwrap_err(),
        DecodeError::TooManySamples(2)
    );
}

#[test]
fn series_take_what_they_have_room_for() {
    let body = br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"1"},"values":[[1,"1"]]},{"metric":{ "a":"2"},"values":[[1,"1"],[2,"1"]]}]}}"#;
    let grid = Grid {
        start: 1000,
        end: 100_000,
        step: 1000,
    };
    let read = |most| {
        let sink = OnGrid::<Histogram>::new(grid, 0);
        let mut stream = Stream::new(sink, Shape::default(), most);
        stream.push(body)?;
        stream.finish().map(|(_, size)| size)
    };
    let size = Size {
        samples: 200,
        empty: 197,
        series: 2,
    };
    assert_eq!(read(MOST), Ok(size));
    assert_eq!(read(150), Err(DecodeError::TooManySamples(150)));
    assert_eq!(
        columns(200, body, grid, 0, 150),
        Err(DecodeError::TooManySamples(150))
    );
}

#[test]
fn samples_off_the_grid_are_counted() {
    let body = br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[60,"2"],[61,"3"],[600,"4"]]}]}}"#;
    let grid = Grid {
        start: 60_000,
        end: 120_000,
        step: 60_000,
    };
    let decoded = columns(200, body, grid, 0, MOST).unwrap();
    assert_eq!(
        (
            decoded.off_grid,
            decoded.series[0].data.count(),
            decoded.series[0].data.get(0)
        ),
        (3, 1, Some(2.0))
    );
    let shifted = columns(200, body, grid, 60_000, MOST).unwrap();
    assert_eq!(
        (
            shifted.off_grid,
            shifted.series[0].data.get(0),
            shifted.series[0].data.get(1)
        ),
        (2, Some(1.0), Some(2.0))
    );
}

#[test]
fn lists_are_read() {
    let body = br#"{"status":"success","data":["a","b"],"warnings":["w"]}"#;
    let (found, annotations) = words(200, body).unwrap();
    assert_eq!(
        (found, annotations.warnings),
        (vec!["a".to_owned(), "b".to_owned()], vec!["w".to_owned()])
    );
    let body = br#"{"status":"success","data":[{"b":"1","a":"2"}]}"#;
    assert_eq!(
        label_sets(200, body).unwrap().0[0].to_string(),
        r#"{a="2", b="1"}"#
    );
    assert!(words(200, br#"{"status":"success","data":{}}"#).is_err());
}
