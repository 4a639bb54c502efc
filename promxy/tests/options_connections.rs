//! Keys of server groups that say how connections to targets are made and kept.

#![allow(clippy::unwrap_used, reason = "a failed test says what it expected")]

mod support;

use std::{
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use serde_json::json;
use shared::testing::eventually;
use support::{
    Promxy, config, group,
    stub::{Asked, Reply, Stub},
};

const NOW: i64 = 1_700_000_000;

fn one(asked: &Asked) -> Reply {
    let time = asked.parameter("time");
    Reply::result(
        "vector",
        &format!(r#"{{"metric":{{"i":"1"}},"value":[{time},"1"]}}"#),
    )
}

fn slow(asked: &Asked) -> Reply {
    Reply::After(Duration::from_millis(200), Box::new(one(asked)))
}

#[track_caller]
fn ask(promxy: &Promxy) {
    let (result, answer) = promxy.query("up", NOW);
    assert_eq!(result[0]["value"], json!([NOW, "1"]), "{answer}");
}

#[test]
fn idle_conn_timeout_closes_a_connection_that_nobody_uses_and_another_is_made() {
    let (kept, closed) = (Stub::start(one), Stub::start(one));
    let promxy = Promxy::start(
        &config(&[
            group(&[&kept], "labels: {sg: kept}"),
            group(&[&closed], "labels: {sg: closed}\nidle_conn_timeout: 100ms"),
        ]),
        &[],
    )
    .ready();
    ask(&promxy);
    eventually("an idle connection to be closed", || {
        (closed.connections() == (1, 0)).then_some(())
    });
    ask(&promxy);
    assert_eq!(closed.connections().0, 2);
    // That of the other group is the same all the time.
    assert_eq!(kept.connections(), (1, 1));
}

#[test]
fn max_idle_conns_bound_what_is_kept_for_a_host_and_for_all() {
    let f = |keys: &str, stubs: usize, expected: usize| {
        let stubs: Vec<Stub> = (0..stubs).map(|_| Stub::start(slow)).collect();
        let targets: Vec<&Stub> = stubs.iter().collect();
        let promxy = Promxy::start(&config(&[group(&targets, keys)]), &[]).ready();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| ask(&promxy));
            }
        });
        let open = || stubs.iter().map(|stub| stub.connections().1).sum::<usize>();
        eventually(keys, || (open() == expected).then_some(()));
        ask(&promxy);
        eventually(keys, || (open() == expected).then_some(()));
    };
    f("max_idle_conns_per_host: 1", 2, 2);
    f("max_idle_conns: 1", 2, 1);
}

#[test]
fn timeout_and_dial_timeout_end_the_wait_for_a_target() {
    let hangs = Stub::start(|asked| Reply::After(Duration::from_secs(30), Box::new(one(asked))));
    let promxy = Promxy::start(&config(&[group(&[&hangs], "timeout: 100ms")]), &[]).ready();
    let (_, answer) = promxy.query("up", NOW);
    let error = answer["error"].as_str().unwrap();
    assert!(
        error.contains("timeout awaiting response headers"),
        "{error}"
    );
    // One whose queue is full does not say so: it is silent.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = full.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let waiting: Vec<TcpStream> = std::iter::from_fn(connect).collect();
    let config = format!(
        "promxy:\n  server_groups:\n  - static_configs: [{{targets: ['{address}']}}]\n    http_client: {{dial_timeout: 50ms}}\n"
    );
    let promxy = Promxy::start(&config, &["--query.timeout=20s"]).ready();
    let (_, answer) = promxy.query("up", NOW);
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains("i/o timeout"), "{error}");
    drop(waiting);
}
