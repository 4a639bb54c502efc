//! All recorded queries, compared with what one Prometheus answers that holds everything: over groups in memory, over the recorded
//! answers of servers, over real servers.
//!
//! `PROMETHEUS3_BIN` says where Prometheus 3.5 is (`.ci/servers` brings it). Without it the last test says that it skips;
//! `REQUIRE_REAL_SERVERS=1` turns that into a failure.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it compared"
)]

mod groups_support;
mod in_memory;
mod receiver;
mod support;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use groups_support::{Reply, Seen, Stub, start};
use in_memory::{Servers, comparison::prepared, oracle, queries};
use promql::{
    CancelToken, Engine, EngineOptions, QueryError,
    parser::ParserOptions,
    testing::{Load, MemoryStorage, WrittenSample, block_on},
};
use promxy::{
    api::write_json,
    config::Groups,
    remote::messages::{Label, Sample, TimeSeries},
    servergroup::decode::Annotations,
};
use receiver::{Counts, Receiver, message};
use support::required;
use tokio::runtime::Runtime;

const PARSER: ParserOptions = ParserOptions::v3_5();

/// D3: functions of native histograms are refused where the configuration does not allow that the API's form loses something.
const REFUSED: [&str; 3] = ["instant-264", "instant-265", "instant-268"];

/// The targets of the recorded configuration.
const TARGETS: [&str; 4] = ["a", "b", "c1", "c2"];

#[test]
fn groups_in_memory_answer_as_one_prometheus_would() {
    let runtime = Runtime::new().unwrap();
    let servers = Servers::new(oracle::groups(), PARSER);
    let queries = queries(Arc::new(servers), Groups::Overlapping, PARSER);
    oracle::check("in memory", &runtime, &queries, &[]);
}

/// Returns the recorded configuration with other addresses.
fn config(addresses: &[String]) -> String {
    let mut config = fs::read_to_string(oracle::file("config-main.yaml")).unwrap();
    for (number, address) in addresses.iter().enumerate() {
        config = config.replace(&format!("127.0.0.1:{}", 26020 + number), address);
    }
    config
}

/// Recorded answers by target, path and parameters.
type Answers = HashMap<(String, String, BTreeMap<String, String>), (u16, String)>;

fn recorded() -> Answers {
    let bodies = oracle::bodies();
    let mut answers = Answers::new();
    for case in oracle::cases() {
        for request in case.requests() {
            let params: BTreeMap<String, String> = request.body_params.iter().cloned().collect();
            for target in request.target.split('+') {
                let key = (target.to_owned(), request.path.clone(), params.clone());
                answers.insert(key, (request.status, bodies[&request.body].clone()));
            }
        }
    }
    answers
}

/// Answers a query as a server with these series would.
fn evaluated(storage: &MemoryStorage, request: &Seen) -> Reply {
    let engine = Engine::new(EngineOptions::new(PARSER));
    let text = request.param("query").unwrap();
    let grid = oracle::grid(|name| request.param(name));
    let query = prepared(&engine, text, grid);
    let outcome = query.map(|query| block_on(query.run(storage, &CancelToken::default())));
    let value = outcome.and_then(|outcome| outcome.value);
    let none = Annotations::default();
    match value {
        Ok(value) => Reply::json(200, write_json::success(&write_json::value(&value), &none)),
        Err(error) => {
            let (status, kind) = QueryError::http(&error);
            Reply::json(status, write_json::error(kind, &error.to_string(), &none))
        }
    }
}

#[test]
fn recorded_answers_of_servers_become_the_answer_of_one_prometheus() {
    let runtime = Runtime::new().unwrap();
    let answers = Arc::new(recorded());
    let (replayed, computed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let storages = oracle::loads().into_iter().map(|(name, load)| {
        let mut storage = MemoryStorage::new();
        storage.load(&load);
        (name, storage)
    });
    let storages: Arc<HashMap<String, MemoryStorage>> = Arc::new(storages.collect());
    let stubs = TARGETS.map(|target| {
        let (answers, storages) = (Arc::clone(&answers), Arc::clone(&storages));
        let (replayed, computed) = (Arc::clone(&replayed), Arc::clone(&computed));
        Stub::new(move |request| {
            let params = request.body_params.iter().cloned().collect();
            let key = (target.to_owned(), request.path.clone(), params);
            if let Some((status, body)) = answers.get(&key) {
                replayed.fetch_add(1, Relaxed);
                return Reply::json(*status, body.clone());
            }
            computed.fetch_add(1, Relaxed);
            evaluated(&storages[&target.replace(['1', '2'], "")], request)
        })
    });
    let addresses: Vec<String> = stubs.iter().map(|stub| stub.address.to_string()).collect();
    let running = runtime.block_on(async { start(&config(&addresses)) });
    let groups = Arc::new(running.groups.clone());
    let queries = queries(groups, Groups::Overlapping, PARSER);
    oracle::check("recorded answers", &runtime, &queries, &REFUSED);
    println!(
        "{} requests had a recorded answer, {} were evaluated on the dataset",
        replayed.load(Relaxed),
        computed.load(Relaxed)
    );
}

/// Starts a real server with the series of a group, written in the order of time.
fn holding(binary: &Path, load: &Load) -> Receiver {
    let server = Receiver::start(binary, "global: {}\n");
    let mut by_time: BTreeMap<i64, Vec<TimeSeries>> = BTreeMap::new();
    for series in &load.series {
        let labels = series.labels.iter().map(|(name, value)| Label {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        let labels: Vec<Label> = labels.collect();
        for sample in &series.samples {
            let at_time = by_time.entry(sample.timestamp).or_default();
            at_time.push(time_series(labels.clone(), sample));
        }
    }
    for timeseries in by_time.into_values() {
        server.write(timeseries);
    }
    server
}

fn time_series(labels: Vec<Label>, sample: &WrittenSample) -> TimeSeries {
    let timestamp = sample.timestamp;
    let Some(histogram) = &sample.histogram else {
        let value = sample.value;
        return TimeSeries {
            labels,
            samples: vec![Sample { value, timestamp }],
            histograms: Vec::new(),
        };
    };
    TimeSeries {
        labels,
        samples: Vec::new(),
        histograms: vec![message(histogram, timestamp, Counts::Integers)],
    }
}

#[test]
fn real_servers_answer_as_one_prometheus_would() {
    let Some(binary) = required("PROMETHEUS3_BIN") else {
        return;
    };
    let loads: HashMap<String, Load> = oracle::loads().into_iter().collect();
    let servers = TARGETS.map(|target| holding(&binary, &loads[&target.replace(['1', '2'], "")]));
    let addresses: Vec<String> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port))
        .collect();
    let runtime = Runtime::new().unwrap();
    let plain = config(&addresses);
    let by_remote_read = plain.replace("      labels:", "      remote_read: true\n      labels:");
    assert_ne!(plain, by_remote_read);
    let both: [(&str, String, &[&str]); 2] = [
        ("real servers", plain, &REFUSED),
        ("real servers, remote read", by_remote_read, &[]),
    ];
    for (name, config, refused) in both {
        let running = runtime.block_on(async { start(&config) });
        let groups = Arc::new(running.groups.clone());
        let queries = queries(groups, Groups::Overlapping, PARSER);
        oracle::check(name, &runtime, &queries, refused);
    }
}
