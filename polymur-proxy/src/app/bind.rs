//! All listeners.

use std::sync::Arc;

use shared::{
    http::{self, Limits},
    lifecycle::Tasks,
    metrics,
    tls::server,
};
use tracing::info;

use super::StartError;
use crate::{
    config::{Addresses, Config},
    input::{self, Context},
    listen,
    page::Sources,
    runstats::{self, Started},
};

/// Binds all listeners, in the original's order, and serves them.
pub(super) async fn bind(
    config: &Config,
    context: &Context,
    listen_tls: Option<Arc<server::Server>>,
    admin: &Tasks,
    started: Started,
    sources: Sources,
) -> Result<Addresses, StartError> {
    let Config {
        inputs,
        stat_address,
        metrics_address,
        ..
    } = config;
    info!("Metrics listener started: {}", inputs.tcp);
    info!("Runstats started: {stat_address}");
    let (stat_listener, stat) = listen::tcp(stat_address)
        .await
        .map_err(StartError::Runstats)?;
    let (lines, tcp) = listen::tcp(&inputs.tcp)
        .await
        .map_err(StartError::Listener)?;
    let pickle = match &inputs.pickle {
        Some(address) => Some(listen::tcp(address).await.map_err(StartError::Listener)?),
        None => None,
    };
    let udp = match &inputs.udp {
        Some(address) => Some(listen::udp(address).await.map_err(StartError::Listener)?),
        None => None,
    };
    let metrics = match metrics_address {
        Some(address) => Some(listen::tcp(address).await.map_err(StartError::Metrics)?),
        None => None,
    };
    let addresses = Addresses {
        tcp,
        stat,
        udp: udp.as_ref().map(|(_, address)| *address),
        pickle: pickle.as_ref().map(|(_, address)| *address),
        metrics: metrics.as_ref().map(|(_, address)| *address),
    };
    runstats::serve(admin, stat_listener, started);
    input::stream::serve(context, lines, listen_tls);
    input::shared_batch::keep_flushing(context);
    if let Some((listener, _)) = pickle {
        input::pickle::serve(context, listener);
    }
    if let Some((socket, _)) = udp {
        input::udp::serve(context, socket);
    }
    if let Some((listener, _)) = metrics {
        let ending = sources.ending.clone();
        let router = metrics::router(Arc::new(sources), ending);
        http::serve(admin, listener, router, Limits::ADMIN);
    }
    Ok(addresses)
}
