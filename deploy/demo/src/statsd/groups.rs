//! Groups: every line mirrored to the nodes of one, and hashed over those of another, one of which takes TCP.

use serde_json::{Value, json};

use super::{
    backend::Backend,
    stage::{Stage, Way},
    traffic,
};
use crate::scenario::{Sink, Stand};

const LINES: usize = 10_000;
/// The first backends are mirrored to; the others share the lines.
const MIRRORED: usize = 2;

/// Goes through the groups' scenario and leaves the proxy up.
pub(super) async fn exercise(report: Sink<'_>) -> anyhow::Result<Stand> {
    let backends = vec![
        Backend::udp(),
        Backend::udp(),
        Backend::udp(),
        Backend::tcp(),
        Backend::udp(),
    ];
    let copies = MIRRORED as u64 + 1;
    let mut stage = Stage::start(&document(&backends), backends, copies).await?;
    let placement = stage.placement();
    report(stage.relay(
        "groups: mirrored to two backends, hashed over three",
        &traffic::lines(LINES),
        Way::Tcp,
        &placement,
    )?);
    Ok(stage.stand("groups"))
}

fn document(backends: &[Backend]) -> Value {
    let nodes: Vec<Value> = backends.iter().map(Backend::node).collect();
    let (mirrored, hashed) = nodes.split_at(MIRRORED);
    json!({
        "host": "127.0.0.1", "port": 0, "tcpPort": 0, "managementport": 0, "metricsAddress": "127.0.0.1:0",
        "mirror": true, "nodes": mirrored,
        "groups": [{"name": "hashed", "nodes": hashed}],
    })
}
