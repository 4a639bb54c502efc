//! The gateways of a configuration.

use std::{env, time::Duration};

use tracing::{info, warn};

use super::StartError;
use crate::{
    config::GatewayConfig,
    gateway::{
        Gateways, Parts,
        proxy_env::Proxies,
        url::{Target, split_list},
    },
    secrets,
};

/// Connections to a gateway are kept this long without `-cert`, as in the original; with it until the gateway closes them.
const IDLE_WITHOUT_CERTIFICATES: Duration = Duration::from_secs(90);

/// Reads addresses, key and certificates.
pub(super) fn make_gateways(
    config: &GatewayConfig,
    workers: usize,
) -> Result<Gateways, StartError> {
    let tls = secrets::tls(config, has_https(&config.addresses))?;
    let key = secrets::key(config)?;
    let mut targets = Vec::new();
    for text in split_list(&config.addresses) {
        match Target::parse(text, "/ping") {
            Ok(target) => targets.push((text.to_owned(), target)),
            Err(reason) => {
                info!("Pinging gateway {text}");
                return Err(reason.into());
            }
        }
    }
    // The original honours proxies only without -cert.
    let proxies = if config.certificates.is_some() {
        Proxies::default()
    } else {
        let (proxies, ignored) = Proxies::from_environment(|name| env::var(name).ok());
        for sentence in ignored {
            warn!("{sentence}");
        }
        proxies
    };
    Ok(Gateways::new(Parts {
        targets,
        key,
        tls,
        proxies,
        connections: workers,
        idle_limit: config
            .certificates
            .is_none()
            .then_some(IDLE_WITHOUT_CERTIFICATES),
        timeout: config.timeout,
    }))
}

/// Returns whether any of some addresses needs TLS.
pub(super) fn has_https(addresses: &str) -> bool {
    addresses.to_ascii_lowercase().contains("https://")
}
