//! Destinations as the program starts them, without the program.

use std::{collections::HashMap, sync::Arc, time::Duration};

use prost::Message as _;
use shared::{discovery, lifecycle::Tasks, testing::PATIENCE};
use tokio::time::sleep;
use veneur_proxy::{
    config::{self, Generation, UnknownKeys},
    destinations::{Destinations, StartError},
    forward::Inbound,
    observe::{Sums, Totals},
    proto::{
        forwardrpc::MetricList,
        metricpb::{CounterValue, Metric, Value},
    },
};

/// Running destinations with what they count.
pub(crate) struct Outbound {
    pub(crate) destinations: Destinations,
    pub(crate) totals: Totals,
    pub(crate) tasks: Tasks,
}

pub(crate) async fn try_start(
    file: &str,
    variables: &[(&str, String)],
    asked: Option<Generation>,
) -> Result<Outbound, StartError> {
    let variables: HashMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let loaded = config::load(file, &|_| None, asked, UnknownKeys::Refuse).unwrap();
    let (tasks, totals) = (Tasks::new(), Totals::default());
    let destinations = Destinations::start(
        &tasks,
        &loaded.config,
        &|name: &str| variables.get(name).cloned(),
        &discovery::Metrics::new("test"),
        Arc::new(totals.clone()),
    )
    .await?;
    Ok(Outbound {
        destinations,
        totals,
        tasks,
    })
}

impl Outbound {
    pub(crate) async fn start(file: &str) -> Self {
        try_start(file, &[], None).await.unwrap()
    }

    pub(crate) async fn list(&self, message: &[u8]) {
        let mut batch = self.destinations.batch(Inbound::Unary, None);
        batch.list(message).unwrap();
        self.destinations.accept(batch).await;
    }

    pub(crate) async fn stream<'a>(&self, messages: impl IntoIterator<Item = &'a [u8]>) {
        let mut batch = self.destinations.batch(Inbound::Stream, None);
        for message in messages {
            batch.metric(message).unwrap();
        }
        self.destinations.accept(batch).await;
    }

    /// Drains, and checks that the books are closed.
    pub(crate) async fn end(self) -> Sums {
        let _drained = self.destinations.drain(Duration::from_secs(10)).await;
        self.tasks.stop();
        let sums = self.totals.sums();
        assert_eq!(sums.queued(), 0, "{sums:#?}");
        let lost: u64 = sums.lost().values().sum();
        assert_eq!(sums.received, sums.delivered() + lost, "{sums:#?}");
        sums
    }
}

/// Waits for something.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let what = what.to_owned();
    async move {
        let started = std::time::Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A list of counters with names of their own.
pub(crate) fn list(from: usize, count: usize) -> Vec<u8> {
    let metrics = (from..from + count).map(|i| Metric {
        name: format!("some.counter.{i}").into(),
        tags: vec![format!("host:{}", i % 97).into(), "env:test".into()],
        value: Some(Value::Counter(CounterValue { value: i as i64 })),
        scope: 2,
        ..Metric::default()
    });
    MetricList {
        metrics: metrics.collect(),
    }
    .encode_to_vec()
}
