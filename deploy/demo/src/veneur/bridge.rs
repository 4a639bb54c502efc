//! The bridge: what comes by one protocol goes out by another, and no value changes on the way.

use super::{
    global::{Age, Global},
    stage::Stage,
    traffic::Way,
};
use crate::scenario::{Sink, Stand};

/// Local veneurs that speak HTTP and gRPC, globals that speak gRPC alone, of which half are upgraded. Leaves the proxy up.
pub(super) async fn to_newer_globals(report: Sink<'_>) -> anyhow::Result<Stand> {
    let mut globals = Global::several(2, Age::Newer).await?;
    globals.extend(Global::several(2, Age::Older).await?);
    let labels: Vec<&str> = globals.iter().map(Global::label).collect();
    let file = format!(
        "
http_address: 127.0.0.1:0
grpc_address: 127.0.0.1:0
forward_addresses: {labels:?}
forward_protocol: auto
http: {{enable_import: true}}
statsd: {{address: $SELF_METRICS}}
"
    );
    let mut stage = Stage::start(&file, globals).await?;
    let ways = [Way::Import, Way::SendMetrics, Way::SendMetricsV2];
    let name = "bridge to gRPC, two of four globals know SendMetricsV2";
    report(stage.relay(name, &ways, by_age).await?);
    Ok(stage.stand("bridge to gRPC"))
}

fn by_age(global: &Global, _: Way) -> Way {
    match global.age() {
        Age::Newer => Way::SendMetricsV2,
        Age::Older => Way::SendMetrics,
    }
}

/// Local veneurs that speak gRPC, globals that take HTTP. Leaves the proxy up.
pub(super) async fn to_older_globals(report: Sink<'_>) -> anyhow::Result<Stand> {
    let globals = Global::several(4, Age::Older).await?;
    let file = "
http_address: 127.0.0.1:0
grpc_address: 127.0.0.1:0
consul_forward_service_name: veneur-global
consul_refresh_interval: 1s
ssf_destination_address: udp://$SELF_METRICS
";
    let mut stage = Stage::start(file, globals).await?;
    let ways = [Way::SendMetrics, Way::SendMetricsV2];
    let name = "bridge to HTTP, local veneurs speak gRPC";
    report(stage.relay(name, &ways, |_, _| Way::Import).await?);
    Ok(stage.stand("bridge to HTTP"))
}
