//! A hash ring: in good health, with a dead node, and reloaded with other nodes.

use serde_json::{Value, json};

use super::{
    backend::Backend,
    stage::{Place, Stage, Way},
    traffic,
};
use crate::{
    patience,
    scenario::{Sink, Stand},
};

const LINES: usize = 100_000;
const LINES_AFTERWARDS: usize = 20_000;
/// The place of the backend that dies.
const VICTIM: usize = 2;

/// Goes through the ring's scenarios and leaves the proxy up.
pub(super) async fn exercise(report: Sink<'_>) -> anyhow::Result<Stand> {
    let backends: Vec<Backend> = (0..4).map(|_| Backend::checked()).collect();
    let mut stage = Stage::start(&document(&backends), backends, 1).await?;
    let placement = stage.placement();
    report(stage.relay(
        "hash over four backends",
        &traffic::lines(LINES),
        Way::Udp,
        &placement,
    )?);

    lose_a_node(&mut stage)?;
    let placement = stage.placement_without(stage.backends[VICTIM].label());
    report(stage.relay(
        "one backend killed, its health check failed",
        &traffic::lines(LINES_AFTERWARDS),
        Way::Udp,
        &placement,
    )?);

    replace_the_dead_node(&mut stage).await?;
    let placement = stage.placement();
    report(stage.relay(
        "reloaded: the dead backend replaced by two",
        &traffic::lines(LINES_AFTERWARDS),
        Way::Udp,
        &placement,
    )?);
    Ok(stage.stand("hash ring"))
}

fn lose_a_node(stage: &mut Stage) -> anyhow::Result<()> {
    // One that never answered a check would count as up, as it does for go-statsd-proxy.
    patience::until("a health check", || {
        Ok(stage.backends[VICTIM].was_asked().then_some(()))
    })?;
    stage.backends[VICTIM].kill();
    stage.wait_for_place(&stage.backends[VICTIM], Place::Down)
}

async fn replace_the_dead_node(stage: &mut Stage) -> anyhow::Result<()> {
    let dead = stage.backends.remove(VICTIM);
    stage
        .backends
        .extend([Backend::checked(), Backend::checked()]);
    let document = document(&stage.backends);
    stage.reload(&document).await?;
    stage.wait_for_place(&dead, Place::Unknown)?;
    for backend in &stage.backends {
        stage.wait_for_place(backend, Place::Up)?;
    }
    Ok(())
}

fn document(backends: &[Backend]) -> Value {
    let nodes: Vec<Value> = backends.iter().map(Backend::node).collect();
    json!({
        "host": "127.0.0.1", "port": 0, "managementport": 0, "metricsAddress": "127.0.0.1:0",
        "checkInterval": 100, "nodes": nodes,
    })
}
