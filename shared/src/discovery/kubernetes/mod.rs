//! Members from Kubernetes: the pods that a selector matches ([`Pods`]), or what stands behind a service ([`Service`]).
//!
//! Over crate `kube`. By default the API is polled, with the very requests that the originals make, so that the rights they
//! were given (`list pods`, `get endpoints`) are enough; [`Asking::Watching`] follows changes as they happen and needs the
//! right to `watch` too. Members bear the labels that Prometheus gives to what it finds there.
//!
//! What promxy's `kubernetes_sd_configs` need beyond this (roles node, service and ingress, and the labels of annotations)
//! belongs beside [`pods`](self::Pods) and [`endpoints`](self::Service), one pure function per role.

mod cluster;
mod endpoints;
mod kubeconfig;
mod labels;
mod pods;
mod port;
mod watch;

use std::{fmt, time::Duration};

use k8s_openapi::api::{
    core::v1::{Endpoints, Pod},
    discovery::v1::EndpointSlice,
};
use kube::Api;

use self::watch::Watch;
pub use self::{
    cluster::{Cluster, SERVICE_ACCOUNT, SetupError},
    endpoints::Readiness,
    kubeconfig::Fault,
    pods::Counting,
    port::{Place, Port, host_port, http_url},
};
use super::{Answer, Error, Lookup, escape};

/// How the API is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// For what is so now. Goes with [`Schedule::Every`](super::Schedule::Every).
    Polling,
    /// For what is so now, and then for each change. Goes with [`Schedule::LongPoll`](super::Schedule::LongPoll).
    Watching {
        /// After how long a look-up without news answers that nothing has changed.
        wait: Duration,
    },
}

/// What makes members of pods.
#[derive(Debug, Clone)]
pub struct PodQuery {
    /// The namespace; all if `None`.
    pub namespace: Option<String>,
    /// The label selector, which the server reads.
    pub selector: String,
    /// Which pods count.
    pub counting: Counting,
    /// Which of their ports it is.
    pub port: Port,
    /// What a member's address is made of.
    pub naming: fn(&Place<'_>) -> String,
}

/// The pods that a selector matches, as a source of members.
pub struct Pods {
    cluster: Cluster,
    query: PodQuery,
    asking: Asking,
    watch: Watch<Pod>,
}

impl Pods {
    /// Prepares to ask. Connects to nothing yet.
    pub fn new(cluster: Cluster, query: PodQuery, asking: Asking) -> Self {
        Self {
            cluster,
            query,
            asking,
            watch: Watch::new(),
        }
    }

    fn target(&self) -> String {
        let pods = match &self.query.namespace {
            Some(namespace) => format!("/api/v1/namespaces/{}/pods", escape(namespace, b"")),
            None => "/api/v1/pods".to_owned(),
        };
        format!("{pods}?labelSelector={}", escape(&self.query.selector, b""))
    }
}

impl Lookup for Pods {
    async fn look_up(&mut self) -> Result<Answer, Error> {
        let Asking::Watching { wait } = self.asking else {
            let found = self.cluster.list::<Pod>(&self.target()).await?;
            return Ok(pods::answer(found.iter(), &self.query));
        };
        let namespace = self.query.namespace.as_deref();
        let api = |client| match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let found = self
            .watch
            .next(&mut self.cluster, api, &self.query.selector, wait)
            .await?;
        Ok(pods::answer(found, &self.query))
    }

    fn forget(&mut self) {
        self.watch.forget();
    }

    fn waits(&self) -> Duration {
        waits(self.asking, self.watch.follows())
    }
}

/// What makes members of a service's endpoints.
#[derive(Debug, Clone)]
pub struct ServiceQuery {
    /// The namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// Where the API is asked for them.
    pub kind: Kind,
    /// Which endpoints count.
    pub readiness: Readiness,
    /// Which of their ports it is.
    pub port: Port,
    /// What a member's address is made of.
    pub naming: fn(&Place<'_>) -> String,
}

/// Where a service's endpoints stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In `EndpointSlice` objects (`discovery.k8s.io/v1`), which need the right to list these.
    Slices,
    /// In an `Endpoints` object (`v1`, deprecated since Kubernetes 1.33), or in slices where the server has none or does not
    /// let us see it. Only ever polled.
    EndpointsOrSlices,
}

/// What stands behind a service, as a source of members.
pub struct Service {
    cluster: Cluster,
    query: ServiceQuery,
    asking: Asking,
    watch: Watch<EndpointSlice>,
}

impl Service {
    /// Prepares to ask. Connects to nothing yet.
    pub fn new(cluster: Cluster, query: ServiceQuery, asking: Asking) -> Self {
        let asking = match query.kind {
            Kind::Slices => asking,
            Kind::EndpointsOrSlices => Asking::Polling,
        };
        Self {
            cluster,
            query,
            asking,
            watch: Watch::new(),
        }
    }

    fn selector(&self) -> String {
        format!("kubernetes.io/service-name={}", self.query.name)
    }

    async fn endpoints(&mut self) -> Result<Answer, Error> {
        let ServiceQuery {
            namespace, name, ..
        } = &self.query;
        let (namespace, name) = (escape(namespace, b""), escape(name, b""));
        let target = format!("/api/v1/namespaces/{namespace}/endpoints/{name}");
        let found: Endpoints = self.cluster.get(&target).await?;
        Ok(endpoints::answer(&found, &self.query))
    }

    async fn slices(&mut self) -> Result<Answer, Error> {
        let namespace = escape(&self.query.namespace, b"");
        let selector = escape(&self.selector(), b"");
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        let target = format!("{slices}?labelSelector={selector}");
        let found = self.cluster.list::<EndpointSlice>(&target).await?;
        Ok(endpoints::answer_of_slices(found.iter(), &self.query))
    }

    async fn changes(&mut self, wait: Duration) -> Result<Answer, Error> {
        let selector = self.selector();
        let namespace = &self.query.namespace;
        let api = |client| Api::namespaced(client, namespace);
        let found = self.watch.next(&mut self.cluster, api, &selector, wait);
        Ok(endpoints::answer_of_slices(found.await?, &self.query))
    }
}

impl Lookup for Service {
    async fn look_up(&mut self) -> Result<Answer, Error> {
        match (self.query.kind, self.asking) {
            (_, Asking::Watching { wait }) => self.changes(wait).await,
            (Kind::Slices, Asking::Polling) => self.slices().await,
            (Kind::EndpointsOrSlices, Asking::Polling) => match self.endpoints().await {
                Err(
                    refused @ Error::Status {
                        status: 403 | 404, ..
                    },
                ) => {
                    // What the first answer said is the news, unless the second says more.
                    match self.slices().await {
                        Ok(answer) if !answer.members.is_empty() => Ok(answer),
                        _ => Err(refused),
                    }
                }
                answer => answer,
            },
        }
    }

    fn forget(&mut self) {
        self.watch.forget();
    }

    fn waits(&self) -> Duration {
        waits(self.asking, self.watch.follows())
    }
}

/// Shows what is asked, and of whom.
macro_rules! debug_without_watch {
    ($source:ident) => {
        impl fmt::Debug for $source {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($source))
                    .field("cluster", &self.cluster)
                    .field("query", &self.query)
                    .field("asking", &self.asking)
                    .finish_non_exhaustive()
            }
        }
    };
}

debug_without_watch!(Pods);
debug_without_watch!(Service);

fn waits(asking: Asking, follows: bool) -> Duration {
    match asking {
        Asking::Watching { wait } if follows => wait,
        _ => Duration::ZERO,
    }
}
