//! Targets that fail in every way: the rest answers, or an error says what is missing.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod groups_support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use groups_support::{Reply, Stub, group, one_group, start};
use promxy::{
    servergroup::{Groups, time_range::Grid},
    upstream::{Asker, Budget, FailureKind, Upstream as _, UpstreamError},
};
use shared::testing::eventually;

const NOW: Grid = Grid {
    start: 1_700_000_000_000,
    end: 1_700_000_000_000,
    step: 0,
};

const UP: &str = r#"{"metric":{"__name__":"up","i":"1"},"value":[1700000000,"1"]}"#;

fn healthy() -> Stub {
    Stub::new(|_| Reply::vector(UP))
}

/// Asks for `up`, and writes what comes.
async fn up(groups: &Groups) -> Result<String, UpstreamError> {
    let answer = groups.query("up", NOW, &Asker::default()).await?;
    let series = answer.data.iter().flat_map(|part| {
        let series = part.series.iter();
        series.map(|series| format!("{}={}", series.labels, series.data.get(0).unwrap()))
    });
    let mut text: Vec<String> = series.collect();
    text.extend(answer.annotations.warnings);
    Ok(text.join(";"))
}

fn broken() -> Vec<(&'static str, Reply, &'static str)> {
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    vec![
        ("close", raw(""), "Post \"U/api/v1/query\": EOF"),
        (
            "html",
            Reply::json(200, "<html>login</html>"),
            "bad_response: ",
        ),
        (
            "html with an error",
            Reply::json(403, "<html>"),
            "client_error: client error: 403",
        ),
        (
            "no content",
            Reply::json(204, ""),
            "bad_response: status 204",
        ),
        ("nothing", Reply::json(200, ""), "bad_response: EOF"),
        ("null", Reply::json(200, "null"), "bad_response: "),
        (
            "half a body",
            raw(
                "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[",
            ),
            "unexpected EOF",
        ),
        (
            "a cut answer",
            Reply::json(
                200,
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a"#,
            ),
            "bad_response: EOF",
        ),
        (
            "a cut list",
            Reply::json(
                200,
                r#"{"status":"success","data":{"resultType":"vector","result":[]"#,
            ),
            "bad_response: EOF",
        ),
        (
            "no http",
            raw("hello\r\n\r\n"),
            "Post \"U/api/v1/query\": net/http: ",
        ),
        (
            "an error",
            Reply::json(
                422,
                r#"{"status":"error","errorType":"execution","error":"too many samples"}"#,
            ),
            "execution: too many samples",
        ),
        (
            "an error that says success",
            Reply::json(
                200,
                r#"{"status":"error","errorType":"execution","error":"weird","data":{"resultType":"vector","result":[]}}"#,
            ),
            "execution: weird",
        ),
        (
            "broken gzip",
            Reply::Full {
                status: 200,
                headers: vec![("Content-Encoding".to_owned(), "gzip".to_owned())],
                body: b"this is long enough for a head of gzip, and is none".to_vec(),
            },
            "gzip: invalid data",
        ),
        (
            "brotli",
            Reply::Full {
                status: 200,
                headers: vec![("Content-Encoding".to_owned(), "br".to_owned())],
                body: Vec::new(),
            },
            "unknown content encoding \"br\"",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_an_error_that_names_the_target() {
    for (name, reply, expected) in broken() {
        let (good, bad) = (healthy(), Stub::new(move |_| reply.clone()));
        let url = format!("http://{}", bad.address);
        let two = format!(
            "promxy:\n  server_groups:\n{}{}",
            group(&[&good], "    labels: {az: a}\n"),
            group(&[&bad], "    labels: {az: b}\n")
        );
        let error = up(&start(&two).groups).await.unwrap_err();
        let prefix = format!("error in servergroup ord=1: error in target={url}: ");
        let expected = prefix + &expected.replace('U', &url);
        assert!(
            error.message.starts_with(&expected),
            "{name}:\nexpected {expected}\ngot      {}",
            error.message
        );
        assert_eq!(error.kind, FailureKind::Execution, "{name}");
        // A replica that fails is not missed.
        let replicas = start(&one_group(&[&bad, &good], ""));
        assert_eq!(
            up(&replicas.groups).await.unwrap(),
            r#"{__name__="up", i="1"}=1"#,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_decide_what_becomes_of_errors() {
    let (good, bad) = (healthy(), Stub::new(|_| Reply::json(500, "boom")));
    let ask = async |keys: &str| {
        let config = format!(
            "promxy:\n  server_groups:\n{}{}",
            group(&[&good], ""),
            group(&[&bad], keys)
        );
        up(&start(&config).groups).await.unwrap()
    };
    let warning = format!(
        "error in servergroup ord=1: error in target=http://{}: server_error: server error: 500",
        bad.address
    );
    let up = r#"{__name__="up", i="1"}=1"#;
    assert_eq!(ask("    ignore_error: true\n").await, up);
    assert_eq!(
        ask("    downgrade_error: true\n").await,
        format!("{up};{warning}")
    );
    assert_eq!(
        ask("    downgrade_error: true\n    ignore_error: true\n").await,
        up
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_there_is_named_as_go_names_it() {
    let port = shared::testing::wire::free_tcp_port();
    let config = format!(
        "promxy: {{server_groups: [{{static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]}}"
    );
    let error = up(&start(&config).groups).await.unwrap_err();
    assert_eq!(
        error.message,
        format!(
            "error in servergroup ord=0: error in target=http://127.0.0.1:{port}: Post \"http://127.0.0.1:{port}/api/v1/query\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_the_wait_for_headers() {
    let (good, hung) = (healthy(), Stub::new(|_| Reply::Hang(Vec::new())));
    let keys = "    timeout: 300ms\n";
    let error = up(&start(&one_group(&[&hung], keys)).groups)
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Timeout);
    assert!(
        error
            .message
            .ends_with("net/http: timeout awaiting response headers"),
        "{error}"
    );
    let found = up(&start(&one_group(&[&hung, &good], keys)).groups).await;
    assert_eq!(found.unwrap(), r#"{__name__="up", i="1"}=1"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_silent_at_the_deadline_is_named_and_its_replicas_answer() {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"status\":\"success\",";
    let (good, hung) = (
        healthy(),
        Stub::new(move |_| Reply::Hang(begun.as_bytes().to_vec())),
    );
    let ask = async |targets: &[&Stub]| {
        let running = start(&one_group(targets, ""));
        let asker = Asker {
            deadline: Some(tokio::time::Instant::now() + Duration::from_millis(300)),
            ..Asker::default()
        };
        let answer = running.groups.query("up", NOW, &asker).await?;
        Ok::<usize, UpstreamError>(answer.data[0].series.len())
    };
    let error = ask(&[&hung]).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Timeout);
    assert_eq!(
        error.message,
        format!(
            "error in servergroup ord=0: error in target=http://{}: context deadline exceeded",
            hung.address
        )
    );
    assert_eq!(ask(&[&hung, &good]).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_group_is_told_before_slow_ones_answer() {
    let slow = Stub::new(|_| Reply::Hang(Vec::new()));
    let bad = Stub::new(|_| Reply::json(500, "boom"));
    let config = format!(
        "promxy:\n  server_groups:\n{}{}",
        group(&[&slow], ""),
        group(&[&bad], "")
    );
    let error = up(&start(&config).groups).await.unwrap_err();
    assert!(
        error.message.starts_with("error in servergroup ord=1: "),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_label_set_of_a_group_has_to_answer() {
    let (good, bad) = (healthy(), Stub::new(|_| Reply::json(500, "boom")));
    let keys = "    relabel_configs:\n    - {source_labels: [__address__], target_label: server}\n";
    let error = up(&start(&one_group(&[&good, &bad], keys)).groups)
        .await
        .unwrap_err();
    assert!(
        error
            .message
            .contains(&format!("error in target=http://{}: ", bad.address)),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_sums_that_get_the_same_labels_all_count() {
    let two = r#"{"metric":{"i":"1"},"value":[1700000000,"1"]},{"metric":{"i":"2"},"value":[1700000000,"2"]}"#;
    let target = Stub::new(move |_| Reply::vector(two));
    let running = start(&one_group(&[&target], "    labels: {i: g}\n"));
    let asker = Asker::default();
    for (text, values) in [("sum by (i) (x)", vec![1.0, 2.0]), ("x", vec![1.0])] {
        let answer = running.groups.query(text, NOW, &asker).await.unwrap();
        let series = answer.data.iter().flat_map(|part| &part.series);
        let found: Vec<f64> = series.map(|series| series.data.get(0).unwrap()).collect();
        assert_eq!(found, values, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_of_the_downstream_that_runs_out_of_time_are_timeouts() {
    let slow = Stub::new(|_| {
        Reply::json(
            503,
            r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#,
        )
    });
    let error = up(&start(&one_group(&[&slow], "")).groups)
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Timeout);
    assert!(error.message.ends_with(": timeout: query timed out"));
}

/// A server that never stops to send.
fn endless(head: &'static str, piece: &'static str) -> Stub {
    Stub::new(move |_| {
        let mut body = head.to_owned();
        for _ in 0..200_000 {
            body += piece;
        }
        Reply::gzip(body.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_of_a_query_bounds_what_is_read() {
    let samples = endless(
        r#"{"status":"success","data":{"resultType":"vector","result":["#,
        r#"{"metric":{"i":"1"},"value":[1700000000,"1"]},"#,
    );
    let spaces = endless(
        "{",
        "                                                            ",
    );
    let ask = async |stub: &Stub, budget: Budget| {
        let running = start(&one_group(&[stub], "    ignore_error: true\n"));
        let asker = Asker {
            budget: Arc::new(budget),
            ..Asker::default()
        };
        running.groups.query("up", NOW, &asker).await.unwrap_err()
    };
    let error = ask(&samples, Budget::new(u64::MAX, 1000)).await;
    assert_eq!(error.kind, FailureKind::TooMuch);
    assert!(
        error.message.ends_with(
            "query processing would load too many samples into memory in query execution"
        ),
        "{error}"
    );
    let error = ask(&samples, Budget::new(100_000, u64::MAX)).await;
    assert_eq!(error.kind, FailureKind::TooMuch);
    assert!(
        error.message.contains("larger than 100000 bytes"),
        "{error}"
    );
    let error = ask(&spaces, Budget::new(100_000, u64::MAX)).await;
    assert_eq!(error.kind, FailureKind::TooMuch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_samples_on_many_long_grids_take_what_the_grids_do() {
    let series: Vec<String> = (0..1000)
        .map(|i| format!(r#"{{"metric":{{"i":"{i}"}},"values":[[1700000000,"1"]]}}"#))
        .collect();
    let body = format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#,
        series.join(",")
    );
    let sparse = Stub::new(move |_| Reply::json(200, body.clone()));
    let running = start(&one_group(&[&sparse], ""));
    let ask = async |steps: i64, budget: Budget| {
        let asker = Asker {
            budget: Arc::new(budget),
            ..Asker::default()
        };
        let start = 1_700_000_000_000;
        let grid = Grid {
            start,
            end: start + (steps - 1) * 1000,
            step: 1000,
        };
        let answer = running.groups.query("up", grid, &asker).await;
        answer.map(|answer| answer.data[0].series.len())
    };
    let too_much = |answer: Result<usize, UpstreamError>, text: &str| {
        let error = answer.unwrap_err();
        assert_eq!(error.kind, FailureKind::TooMuch);
        assert!(error.message.contains(text), "{error}");
    };
    assert_eq!(ask(11_000, Budget::default()).await, Ok(1000));
    let samples = |most| Budget::new(u64::MAX, most);
    too_much(ask(11_000, samples(10_000_000)).await, "too many samples");
    assert_eq!(ask(9_999, samples(10_000_000)).await, Ok(1000));
    // Asked for in parts, each of which alone would do.
    too_much(ask(20_000, samples(15_000_000)).await, "too many samples");
    assert_eq!(ask(20_000, samples(31_000_000)).await, Ok(1000));
    let few_bytes = Budget::new(10_000_000, u64::MAX);
    too_much(ask(11_000, few_bytes).await, "larger than 10000000 bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_query_closes_its_connections() {
    let hung = Stub::new(|_| Reply::Hang(Vec::new()));
    let running = start(&one_group(&[&hung], ""));
    let begin = Instant::now();
    let asked = tokio::time::timeout(Duration::from_millis(300), up(&running.groups)).await;
    assert!(asked.is_err());
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert_eq!(hung.take().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_targets_are_told_and_others_answer() {
    let good = healthy();
    let config = format!(
        "promxy:\n  server_groups:\n{}  - static_configs: [{{targets: ['http://127.0.0.1:1/']}}]\n",
        group(&[&good], "")
    );
    let running = start(&config);
    let waiting = running.groups.not_ready();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].ordinal, 1);
    assert!(
        waiting[0].reason.contains("invalid port"),
        "{}",
        waiting[0].reason
    );
    let error = up(&running.groups).await.unwrap_err();
    assert!(
        error
            .message
            .starts_with("error in servergroup ord=1: parse "),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_filter_with_a_dead_target_filters_nothing() {
    let good = healthy();
    let port = shared::testing::wire::free_tcp_port();
    let address = good.address;
    let config = format!(
        "promxy:\n  server_groups:\n  - static_configs: [{{targets: ['{address}', '127.0.0.1:{port}']}}]\n    label_filter: {{dynamic_labels: [job]}}\n"
    );
    let running = start(&config);
    assert!(running.groups.not_ready().is_empty());
    assert_eq!(
        up(&running.groups).await.unwrap(),
        r#"{__name__="up", i="1"}=1"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_read_and_saves_requests() {
    let stub = Stub::new(|seen| {
        if seen.path.starts_with("/api/v1/label/") {
            assert_eq!(seen.param("start"), Some("0"));
            return Reply::json(200, r#"{"status":"success","data":["api"]}"#);
        }
        Reply::vector(UP)
    });
    let keys = "    label_filter: {dynamic_labels: [job]}\n";
    let running = start(&one_group(&[&stub], keys));
    eventually("the filter is there", || {
        stub.take();
        let ask = async {
            let asker = Asker::default();
            running.groups.query(r#"up{job="x"}"#, NOW, &asker).await
        };
        let answer = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(ask).unwrap()
        });
        let queries = stub.take();
        let queries = queries.iter().filter(|seen| seen.path == "/api/v1/query");
        (queries.count() == 0 && answer.data[0].series.is_empty()).then_some(())
    });
    let page = shared::metrics::Registry::new(vec![Arc::new(running.groups.clone())]);
    let page = String::from_utf8(page.page().unwrap()).unwrap();
    assert!(
        page.contains("promxy_label_filter_filtered_count_total{type=\"Query\"} "),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_targets_and_refuses_what_cannot_be() {
    let (one, two) = (healthy(), healthy());
    let running = start(&one_group(&[&one], "    labels: {az: a}\n"));
    let config = |text: &str| promxy::config::parse(text).unwrap().config;
    let next = one_group(&[&two], "    labels: {az: b}\n");
    let refused = one_group(
        &[&two],
        "    http_client: {tls_config: {ca_file: /nowhere/ca.pem}}\n",
    );
    let error = running.groups.prepare(&config(&refused)).unwrap_err();
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    assert_eq!(
        up(&running.groups).await.unwrap(),
        r#"{__name__="up", az="a", i="1"}=1"#
    );
    let prepared = running.groups.prepare(&config(&next)).unwrap();
    assert!(two.take().is_empty());
    running.groups.switch(prepared);
    assert_eq!(
        up(&running.groups).await.unwrap(),
        r#"{__name__="up", az="b", i="1"}=1"#
    );
    assert_eq!(two.take().len(), 1);
    running.groups.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_targets_answers_nothing() {
    let good = healthy();
    let config = format!(
        "promxy:\n  server_groups:\n{}  - name: none\n",
        group(&[&good], "")
    );
    let running = start(&config);
    assert_eq!(
        up(&running.groups).await.unwrap(),
        r#"{__name__="up", i="1"}=1"#
    );
    let page = shared::metrics::Registry::new(vec![Arc::new(running.groups.clone())]);
    let page = String::from_utf8(page.page().unwrap()).unwrap();
    let host = good.address;
    for line in [
        "server_group_targets{name=\"none\",ordinal=\"1\"} 0".to_owned(),
        "# TYPE server_group_request_duration_seconds summary".to_owned(),
        format!(
            "server_group_request_duration_seconds_count{{call=\"query\",host=\"{host}\",status=\"success\"}} 1"
        ),
    ] {
        assert!(page.contains(&line), "{line}\n{page}");
    }
}
