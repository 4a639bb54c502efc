//! Replicas that are asked one after the other (`hedge_after`), on sockets.

#![allow(clippy::unwrap_used, reason = "a failed test says what it expected")]

mod groups_support;

use std::{sync::Arc, time::Duration};

use groups_support::{Reply, Running, Stub, group, one_group, start};
use promxy::{
    servergroup::time_range::Grid,
    upstream::{Asker, Upstream as _},
};

const NOW: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn hedge_after_asks_another_replica_when_one_is_slow_or_fails() {
    const LATE: Duration = Duration::from_secs(600);
    let value = |number: u8| {
        Reply::vector(&format!(
            r#"{{"metric":{{"i":"1"}},"value":[1700000000,"{number}"]}}"#
        ))
    };
    let stub = |reply: Reply| Stub::new(move |_| reply.clone());
    let ask = async |running: &Running| {
        let asker = Asker::default();
        let asked = running.groups.query("up", Grid::instant(NOW), &asker);
        let answer = asked.await.map_err(|error| error.message)?;
        let parts = answer.data.iter().flat_map(|part| &part.series);
        Ok::<_, String>(
            parts
                .map(|series| series.data.get(0).unwrap())
                .collect::<Vec<_>>(),
        )
    };
    let hedges = |running: &Running| {
        let page = shared::metrics::Registry::new(vec![Arc::new(running.groups.clone())]);
        let page = String::from_utf8(page.page().unwrap()).unwrap();
        let lines = page
            .lines()
            .filter(|line| line.starts_with("promxy_hedged"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };

    // One that answers is enough: another is not asked.
    let (first, second) = (stub(value(1)), stub(value(2)));
    let running = start(&one_group(&[&first, &second], "    hedge_after: 10m\n"));
    assert_eq!(ask(&running).await, Ok(vec![1.0]));
    assert_eq!((first.take().len(), second.take().len()), (1, 0));
    assert!(hedges(&running).is_empty());
    // Without the option, both are.
    let running = start(&one_group(&[&first, &second], ""));
    assert_eq!(ask(&running).await, Ok(vec![1.0]));
    assert_eq!((first.take().len(), second.take().len()), (1, 1));

    // A slow one: the answer is the other's.
    let slow = stub(Reply::After(LATE, Box::new(value(1))));
    let running = start(&one_group(&[&slow, &second], "    hedge_after: 20ms\n"));
    assert_eq!(ask(&running).await, Ok(vec![2.0]));
    assert_eq!((slow.take().len(), second.take().len()), (1, 1));
    let counted = hedges(&running);
    assert_eq!(
        counted,
        [r#"promxy_hedged_requests_total{reason="slow"} 1"#]
    );

    // One that fails: the other is asked at once.
    let broken = stub(Reply::json(500, "no"));
    let running = start(&one_group(&[&broken, &second], "    hedge_after: 10m\n"));
    assert_eq!(ask(&running).await, Ok(vec![2.0]));
    let counted = hedges(&running);
    assert_eq!(
        counted,
        [r#"promxy_hedged_requests_total{reason="failed"} 1"#]
    );

    // All fail: the last error is told.
    let other = stub(Reply::json(503, "no"));
    let running = start(&one_group(&[&broken, &other], "    hedge_after: 10m\n"));
    let error = ask(&running).await.unwrap_err();
    assert!(error.contains(&other.address.to_string()), "{error}");

    // Targets with labels of their own are no replicas; each has to answer.
    let config = format!(
        "promxy:\n  server_groups:\n  - hedge_after: 10m\n    static_configs:\n    - {{targets: ['{}'], labels: {{dc: a}}}}\n    - {{targets: ['{}'], labels: {{dc: b}}}}\n",
        first.address, second.address
    );
    let running = start(&config);
    assert_eq!(ask(&running).await, Ok(vec![1.0, 2.0]));
    // So are groups.
    let config = format!(
        "promxy:\n  server_groups:\n{}{}",
        group(&[&first], "    hedge_after: 10m\n    labels: {g: a}\n"),
        group(&[&second], "    labels: {g: b}\n"),
    );
    assert_eq!(ask(&start(&config)).await, Ok(vec![1.0, 2.0]));
}

#[test]
fn hedge_after_that_makes_no_sense_is_refused() {
    let f = |keys: &str, expected: &str| {
        let config =
            format!("promxy:\n  server_groups:\n  - static_configs: [{{targets: [a]}}]\n{keys}");
        let error = promxy::config::parse(&config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    f("    hedge_after: -1s\n", "hedge_after must not be negative");
    f(
        "    hedge_after: 1s\n    coverage_aware: true\n",
        "at most one of hedge_after, coverage_aware must be configured",
    );
}
