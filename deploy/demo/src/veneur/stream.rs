//! The stream generation: static globals, and all that comes goes out by never-ending streams.

use super::{
    global::{Age, Global},
    stage::Stage,
    traffic::Way,
};
use crate::scenario::{Sink, Stand};

/// Goes through the scenario and leaves the proxy up.
pub(super) async fn exercise(report: Sink<'_>) -> anyhow::Result<Stand> {
    let globals = Global::several(4, Age::Newer).await?;
    let labels: Vec<&str> = globals.iter().map(Global::label).collect();
    let file = format!(
        "
http_address: 127.0.0.1:0
grpc_address: 127.0.0.1:0
forward_addresses: {labels:?}
statsd: {{address: $SELF_METRICS}}
"
    );
    let mut stage = Stage::start(&file, globals).await?;
    let ways = [Way::SendMetrics, Way::SendMetricsV2];
    let name = "stream generation, four static globals";
    report(stage.relay(name, &ways, |_, _| Way::SendMetricsV2).await?);
    Ok(stage.stand("stream generation"))
}
