//! Addresses from Kubernetes: the endpoints of a service, or pods. The API is asked anew in every round, with the original's
//! paths, so that existing roles (`get endpoints`, `list pods`) are enough; `get`/`list endpointslices` helps where a server has
//! no Endpoints any more.
//!
//! Pinned by `tests/golden/mpp/locators/kubernetes.json`.

use std::fmt;

use shared::discovery::{
    self, Lookup as _,
    kubernetes::{
        Asking, Cluster, Counting, Kind, PodQuery, Pods, Port, Readiness, Service, ServiceQuery,
        SetupError, http_url,
    },
};
use tracing::info;

use super::{Found, LocateError};
use crate::{
    config::{self, KubernetesTarget},
    endpoint::Endpoint,
};

/// A service or pods.
pub struct KubernetesLocator {
    source: Source,
    shown: String,
}

enum Source {
    Service(Service),
    Pods(Pods),
}

impl KubernetesLocator {
    /// Reads the kubeconfig file, or what a pod finds in its surroundings. Asks nobody anything yet.
    pub async fn new(
        config: &config::Kubernetes,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SetupError> {
        let cluster = if let Some(path) = &config.kubeconfig {
            info!("Using kubeconfig {}", path.display());
            Cluster::from_kubeconfig(path).await?
        } else {
            info!("Using in-cluster kubeconfig");
            Cluster::in_cluster(environment, &config.service_account)?
        };
        let port = config.port.clone().map_or(Port::First, Port::Wanted);
        let (source, what) = match &config.target {
            KubernetesTarget::Service(name) => (
                Source::Service(Service::new(
                    cluster,
                    ServiceQuery {
                        namespace: config.namespace.clone(),
                        name: name.clone(),
                        kind: Kind::EndpointsOrSlices,
                        readiness: Readiness::Ready,
                        port,
                        naming: http_url,
                    },
                    Asking::Polling,
                )),
                format!("service {name}"),
            ),
            KubernetesTarget::Pods(selector) => (
                Source::Pods(Pods::new(
                    cluster,
                    PodQuery {
                        namespace: Some(config.namespace.clone()),
                        selector: selector.clone(),
                        counting: Counting::Ready,
                        port,
                        naming: http_url,
                    },
                    Asking::Polling,
                )),
                format!("pods {selector}"),
            ),
        };
        Ok(Self {
            source,
            shown: format!("&{{kubernetes {} {what}}}", config.namespace),
        })
    }

    pub(super) async fn locate(&mut self) -> Result<Found, LocateError> {
        let answer = match &mut self.source {
            Source::Service(service) => service.look_up().await,
            Source::Pods(pods) => pods.look_up().await,
        };
        let discovery::Answer {
            members, skipped, ..
        } = answer.map_err(|reason| LocateError::Kubernetes(reason.to_string()))?;
        let mut found = Found {
            endpoints: Vec::new(),
            skipped,
        };
        for member in members {
            match Endpoint::parse(&member.address) {
                Ok(endpoint) => found.endpoints.push(endpoint),
                Err(reason) => found.skipped.push(format!("{}: {reason}", member.address)),
            }
        }
        if found.endpoints.is_empty() && found.skipped.is_empty() {
            return Err(LocateError::Empty);
        }
        Ok(found)
    }
}

impl fmt::Debug for KubernetesLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for KubernetesLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}
