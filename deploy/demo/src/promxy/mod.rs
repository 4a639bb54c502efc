//! promxy's part of the demo: two shards of two replicas each, one replica killed in the middle. Every answer is compared with that of
//! one server that has everything.

mod client;
mod data;
mod server;

use std::{
    collections::HashMap,
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use ::promxy::{
    api::write_json,
    app::{App, Running, Start},
    config,
    discovery::Environment,
    flags::Flags,
};
use anyhow::Context as _;
use jiff::Timestamp;

use self::server::{Server, Store};
use crate::scenario::{Outcome, Row, Sink, Stand};

/// What is asked: what servers can work out alone, what needs the shards' parts put together, what has to be worked out here.
const QUERIES: [&str; 14] = [
    "memory_bytes",
    r#"memory_bytes{region="west"}"#,
    "http_requests_total offset 10m",
    "count(http_requests_total)",
    "sum(rate(http_requests_total[5m]))",
    "sum by (code) (rate(http_requests_total[5m]))",
    r#"sum(rate(http_requests_total{code="500"}[5m])) / sum(rate(http_requests_total[5m]))"#,
    "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[5m])))",
    "topk(2, memory_bytes)",
    "avg by (region) (memory_bytes)",
    "max(memory_bytes) - min(memory_bytes)",
    "stddev(memory_bytes)",
    "quantile(0.5, memory_bytes) > bool 1e6",
    "max_over_time(sum(rate(http_requests_total[1m]))[10m:1m])",
];

/// Goes through the scenario. The proxy that comes back is still up, before three servers.
pub(crate) async fn exercise(report: Sink<'_>) -> anyhow::Result<Vec<Stand>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let end = now - now % 1000;
    let whole = Store::new(data::whole(end));
    let mut servers = Vec::new();
    for number in 0..data::REGIONS.len() {
        for _replica in 0..2 {
            servers.push(Server::start(Store::new(data::region(number, end))).await?);
        }
    }
    let folder = tempfile::tempdir()?;
    let running = start(folder.path(), &servers).await?;
    let proxy = running.address();
    let began = Instant::now();
    let before = ask_all(proxy, &whole, end).await?;
    let killed = servers[1].answered();
    servers[1].kill().await;
    let after = ask_all(proxy, &whole, end).await?;
    let asked = 2 * QUERIES.len() as u64;
    report(Outcome {
        name: "promxy: two shards of two replicas answer like one server".to_owned(),
        sent: format!("{} queries, half of them over an hour", 2 * asked),
        took: began.elapsed(),
        rows: vec![
            Row::count("equal answers, all servers up", asked, before),
            Row::count("equal answers, one replica killed", asked, after),
            Row::count("  answered by that replica before", killed.max(1), killed),
        ],
    });
    Ok(vec![Stand {
        name: "promxy, before two shards of which one has lost a replica".to_owned(),
        addresses: vec![("queries".to_owned(), format!("http://{proxy}"))],
        drain: Box::pin(async move {
            let began = Instant::now();
            running.drain().await;
            for server in &mut servers {
                server.kill().await;
            }
            drop(folder);
            Ok(Outcome {
                name: "promxy: drained".to_owned(),
                sent: "nothing".to_owned(),
                took: began.elapsed(),
                rows: Vec::new(),
            })
        }),
    }])
}

/// Asks everything, at one time and over an hour. Returns how many answers equal those of the server that has everything.
async fn ask_all(proxy: SocketAddr, whole: &Store, end: i64) -> anyhow::Result<u64> {
    let seconds = |millis: i64| (millis as f64 / 1000.0).to_string();
    let mut equal = 0;
    for query in QUERIES {
        for endpoint in ["query", "query_range"] {
            let parameters: HashMap<String, String> = [
                ("query", query.to_owned()),
                ("time", seconds(end)),
                ("start", seconds(end - 3_600_000)),
                ("end", seconds(end)),
                ("step", "60".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
            let expected = write_json::value(&whole.answer(endpoint, &parameters).await?);
            let answer = client::post(proxy, endpoint, &parameters).await?;
            equal += u64::from(client::is_equal(&expected, &answer)?);
        }
    }
    Ok(equal)
}

/// Starts the proxy on a free port.
async fn start(folder: &Path, servers: &[Server]) -> anyhow::Result<Running> {
    let mut file = "promxy:\n  server_groups:\n".to_owned();
    for (region, replicas) in data::REGIONS.iter().zip(servers.chunks(2)) {
        let targets: Vec<String> = replicas
            .iter()
            .map(|server| server.address().to_string())
            .collect();
        writeln!(
            file,
            "    - labels: {{region: {region}}}\n      static_configs: [{{targets: [{}]}}]",
            targets.join(", ")
        )?;
    }
    let path = folder.join("config.yaml");
    std::fs::write(&path, file)?;
    let path = path.to_str().context("the temporary folder has a name")?;
    let words = [
        "promxy",
        "--config",
        path,
        "--bind-addr=127.0.0.1:0",
        "--access-log-destination=none",
        "--http.shutdown-delay=0s",
    ];
    let flags = Flags::parse(words.map(Into::into), |_| None)
        .map_err(|answer| anyhow::anyhow!("{answer:?}"))?;
    let settings = flags.settle("demo").map_err(anyhow::Error::msg)?;
    let config = config::load(&flags.config)?.config;
    let app = App::build(Start {
        flags,
        settings,
        config,
        hostname: "demo".to_owned(),
        started: Timestamp::now(),
        environment: Environment::read(|_| None),
    });
    Ok(app.await?.start())
}
