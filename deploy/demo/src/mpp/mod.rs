//! mpp's part of the demo: three embedded servers that look like Prometheus, one of them killed in the middle of a stream of
//! queries, and not one query that fails.

mod clients;
mod server;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use ::mpp::{
    app::{App, Running},
    config::Config,
    flags::Flags,
};
use anyhow::Context as _;

use self::{clients::Clients, server::Server};
use crate::{
    patience,
    scenario::{Outcome, Row, Sink, Stand},
};

/// Queries before one server is killed, and after.
const PHASE: u64 = 1_000;

/// Goes through the scenario. The proxy that comes back is still up, before two servers.
pub(crate) async fn exercise(report: Sink<'_>) -> anyhow::Result<Vec<Stand>> {
    // The second has ingested most, so that it serves.
    let mut servers = Vec::new();
    for samples in [1_000, 3_000, 2_000] {
        servers.push(Server::start(samples)?);
    }
    let folder = tempfile::tempdir()?;
    let running = start(folder.path(), &servers).await?;
    let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, running.address().port()));
    let began = Instant::now();
    let clients = Clients::start(proxy);
    clients.wait_for(PHASE)?;
    let best = servers[1].queries();
    servers[1].kill();
    clients.wait_for(2 * PHASE)?;
    let stand_in = servers[2].queries();
    let told = clients.finish();
    let answered: u64 = servers.iter().map(Server::queries).sum();
    report(Outcome {
        name: "mpp: the server that has most is killed under load".to_owned(),
        sent: format!("{} queries by {} clients", told.sent, clients::CLIENTS),
        took: began.elapsed(),
        rows: vec![
            Row::count("answered to clients", told.sent, told.answered),
            Row::count("failed for clients", 0, told.failed),
            Row::count("answered by the servers", told.answered, answered),
            Row::count("  the best one, until it died", best.max(1), best),
            Row::count("  another one, since then", stand_in.max(1), stand_in),
        ],
    });
    let port = proxy.port();
    let addresses = vec![
        ("queries".to_owned(), format!("http://127.0.0.1:{port}")),
        (
            "status page".to_owned(),
            format!("http://127.0.0.1:{port}/mpp/status"),
        ),
    ];
    Ok(vec![Stand {
        name: "mpp, before three servers of which one is dead".to_owned(),
        addresses,
        drain: Box::pin(async move {
            let began = Instant::now();
            running.drain().await;
            // Held until here: the servers stay up with their folder.
            let _kept = (servers, folder);
            let refused = std::net::TcpStream::connect(proxy).is_err();
            Ok(Outcome {
                name: "mpp: drain".to_owned(),
                sent: "SIGTERM".to_owned(),
                took: began.elapsed(),
                rows: vec![Row::count("listener closed", 1, u64::from(refused))],
            })
        }),
    }])
}

async fn start(folder: &Path, servers: &[Server]) -> anyhow::Result<Running> {
    let endpoints: Vec<String> = servers
        .iter()
        .map(|server| format!("http://{}", server.address()))
        .collect();
    let file = folder.join("endpoints");
    std::fs::write(&file, endpoints.join("\n"))?;
    let words = [
        "--endpoints-file",
        file.to_str().context("the temporary folder has a name")?,
        "--listen-address",
        "127.0.0.1",
        "--port",
        "0",
        "--selection-interval",
        "1s",
    ];
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let flags = Flags::parse(&words, |_| None)
        .map_err(|answer| anyhow::anyhow!("{}{}", answer.stdout, answer.stderr))?;
    let config = Config::from_flags(&flags)?;
    let app = App::build(config, Instant::now(), |_| None).await?;
    let running = app.start()?;
    let probed = Arc::clone(&servers[1].probes);
    patience::until("the first round of selection", || {
        Ok((probed.load(Relaxed) >= 2).then_some(()))
    })?;
    Ok(running)
}
