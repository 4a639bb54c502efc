//! The dual generation: globals from Consul, HTTP and gRPC beside each other; then one global leaves.

use super::{
    global::{Age, Global},
    stage::Stage,
    traffic::Way,
};
use crate::scenario::{Sink, Stand};

const FILE: &str = "
http_address: 127.0.0.1:0
grpc_address: 127.0.0.1:0
consul_forward_service_name: veneur-global
consul_forward_grpc_service_name: veneur-global-grpc
consul_refresh_interval: 100ms
forward_timeout: 10s
ssf_destination_address: udp://$SELF_METRICS
";
/// The place of the global that leaves.
const LEAVES: usize = 1;

/// Goes through the scenarios and leaves the proxy up.
pub(super) async fn exercise(report: Sink<'_>) -> anyhow::Result<Stand> {
    let globals = Global::several(4, Age::Older).await?;
    let mut stage = Stage::start(FILE, globals).await?;
    let ways = [Way::Import, Way::SendMetrics, Way::SendMetricsV2];
    let name = "dual generation, four globals in Consul";
    report(stage.relay(name, &ways, arrival).await?);

    stage.lose(LEAVES)?;
    let name = "one global has left Consul, the others keep their series";
    report(stage.relay(name, &ways, arrival).await?);
    Ok(stage.stand("dual generation"))
}

/// HTTP goes on by HTTP, and all gRPC by `SendMetrics`.
fn arrival(_: &Global, way: Way) -> Way {
    match way {
        Way::Import => Way::Import,
        Way::SendMetrics | Way::SendMetricsV2 => Way::SendMetrics,
    }
}
