//! What a Kubernetes cluster holds, as Prometheus' `kubernetes_sd`: nodes, pods, services, endpoints, slices, ingresses.
//!
//! Each kind of object is listed and then watched, in each namespace by itself. One task owns what is known; it makes the groups
//! of changed objects anew, and publishes when all lists have been read once.

mod api;
mod endpoints;
mod ingress;
mod meta;
mod node;
mod pod;
mod service;
mod slices;
mod store;

use std::{path::PathBuf, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

pub use self::api::{Access, AccessError, in_cluster, own_namespace};
use self::{
    api::{Change, Watched},
    store::Store,
};
use super::{Publisher, Source, spawn};

/// How long changes are gathered before groups are made of them.
const BATCH: Duration = Duration::from_millis(50);

/// How many changes may wait; a watch is read on when there is room.
const WAITING_CHANGES: usize = 256;

/// What targets are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The cluster's nodes, by their kubelets.
    Node,
    /// The ports of pods.
    Pod,
    /// The ports of services, by name.
    Service,
    /// The endpoints of services, from `Endpoints` objects.
    Endpoints,
    /// The endpoints of services, from `EndpointSlice` objects.
    EndpointSlice,
    /// The paths of ingresses.
    Ingress,
}

/// A kind of object that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
    Namespace,
}

impl Kind {
    /// Returns the path in front of the kind and the kind's name in paths.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Node => ("/api/v1", "nodes"),
            Self::Pod => ("/api/v1", "pods"),
            Self::Service => ("/api/v1", "services"),
            Self::Endpoints => ("/api/v1", "endpoints"),
            Self::EndpointSlice => ("/apis/discovery.k8s.io/v1", "endpointslices"),
            Self::Ingress => ("/apis/networking.k8s.io/v1", "ingresses"),
            Self::Namespace => ("/api/v1", "namespaces"),
        }
    }

    /// Returns the role that selectors name it by.
    fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslice",
            Self::Ingress => "ingress",
            Self::Namespace => "namespace",
        }
    }
}

/// What of a kind of objects is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The kind, as a role's name in the configuration.
    pub role: String,
    /// A label selector; empty for all.
    pub label: String,
    /// A field selector; empty for all.
    pub field: String,
}

/// A cluster.
#[derive(Debug)]
pub struct Kubernetes {
    /// How its API is reached.
    pub access: Access,
    /// What targets are made of.
    pub role: Role,
    /// The namespaces; empty for all.
    pub namespaces: Vec<String>,
    /// What of each kind is looked at.
    pub selectors: Vec<Selector>,
    /// Whether the labels and annotations of a target's node are added.
    pub attach_node: bool,
    /// Whether those of its namespace are.
    pub attach_namespace: bool,
}

impl Kubernetes {
    /// Lists the kinds that are looked at, the one that targets are made of first.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = match self.role {
            Role::Node => vec![Kind::Node],
            Role::Pod => vec![Kind::Pod],
            Role::Service => vec![Kind::Service],
            Role::Endpoints => vec![Kind::Endpoints, Kind::Service, Kind::Pod],
            Role::EndpointSlice => vec![Kind::EndpointSlice, Kind::Service, Kind::Pod],
            Role::Ingress => vec![Kind::Ingress],
        };
        let has_nodes = matches!(self.role, Role::Pod | Role::Endpoints | Role::EndpointSlice);
        if self.attach_node && has_nodes {
            kinds.push(Kind::Node);
        }
        if self.attach_namespace && self.role != Role::Node {
            kinds.push(Kind::Namespace);
        }
        kinds
    }

    /// Lists what is watched.
    fn watched(&self) -> Vec<Watched> {
        let mut watched = Vec::new();
        for kind in self.kinds() {
            let selector = self.selectors.iter().find(|one| one.role == kind.word());
            let (label, field) = selector.map_or(("", ""), |one| (&one.label, &one.field));
            let one = |namespace: Option<&String>| Watched {
                kind,
                namespace: namespace.cloned(),
                label: label.to_owned(),
                field: field.to_owned(),
            };
            let is_global = matches!(kind, Kind::Node | Kind::Namespace);
            if is_global || self.namespaces.is_empty() {
                watched.push(one(None));
            } else {
                watched.extend(self.namespaces.iter().map(|name| one(Some(name))));
            }
        }
        watched
    }
}

impl Source for Kubernetes {
    const KIND: &'static str = "kubernetes";

    async fn follow(self, publisher: Publisher) {
        let (sender, mut changes) = mpsc::channel(WAITING_CHANGES);
        let watched = self.watched();
        for (index, one) in watched.iter().enumerate() {
            let watch = api::follow(self.access.clone(), one.clone(), index, sender.clone());
            spawn(&publisher.tasks, watch);
        }
        drop(sender);
        let mut store = Store::new(self.role, watched);
        while let Some(first) = changes.recv().await {
            let deadline = Instant::now() + BATCH;
            let mut next = Some(first);
            let mut failure = None;
            while let Some((index, change)) = next {
                match change {
                    Change::Failed(reason) => failure = Some(reason),
                    change => store.take(index, change),
                }
                let left = deadline.saturating_duration_since(Instant::now());
                next = timeout(left, changes.recv()).await.unwrap_or_default();
            }
            if store.is_complete() {
                publisher.publish(store.groups());
            }
            if let Some(reason) = failure {
                publisher.fail(&reason);
            }
        }
    }
}

/// Where a pod finds what it needs to ask its own cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// `KUBERNETES_SERVICE_HOST`.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: String,
    /// The folder with `token`, `ca.crt` and `namespace`.
    pub folder: PathBuf,
}
