//! From the `Endpoints` of a service to its addresses, with what is known of the pods behind them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerPort, Endpoints, ObjectReference, Pod};

use super::{
    super::{ADDRESS, Group, Labels, join, put},
    meta::{add, add_object, add_some, namespaced},
    pod,
    store::Store,
};

/// Makes the group of an object.
pub(super) fn group(endpoints: &Endpoints, store: &Store) -> Group {
    let metadata = &endpoints.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let mut labels = namespaced(metadata);
    store.add_service(&mut labels, namespace, name);
    add_object(&mut labels, metadata, "endpoints");
    let mut made = Made::new(store);
    for subset in endpoints.subsets.iter().flatten() {
        for port in subset.ports.iter().flatten() {
            let ready = subset.addresses.iter().flatten().map(|one| (one, "true"));
            let other = subset.not_ready_addresses.iter().flatten();
            for (address, ready) in ready.chain(other.map(|one| (one, "false"))) {
                let mut target = Labels::new();
                put(&mut target, ADDRESS, join(&address.ip, port.port));
                add_some(&mut target, "endpoint_port_name", port.name.as_ref());
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                add(&mut target, "endpoint_port_protocol", protocol);
                add(&mut target, "endpoint_ready", ready);
                add_some(
                    &mut target,
                    "endpoint_node_name",
                    address.node_name.as_ref(),
                );
                add_some(&mut target, "endpoint_hostname", address.hostname.as_ref());
                let behind = address.target_ref.as_ref();
                add_reference(&mut target, behind, "endpoint");
                let node = node_of(address.node_name.as_deref(), behind);
                made.add(target, behind, node, Some(port.port));
            }
        }
    }
    Group {
        source: format!("endpoints/{namespace}/{name}"),
        labels,
        targets: made.finish(),
    }
}

/// Returns the node of an endpoint: its own or, if it is none's, the one that it is.
pub(super) fn node_of<'a>(
    name: Option<&'a str>,
    behind: Option<&'a ObjectReference>,
) -> Option<&'a str> {
    let behind = behind.filter(|behind| behind.kind.as_deref() == Some("Node"));
    name.or_else(|| behind.and_then(|behind| behind.name.as_deref()))
}

/// Adds what an endpoint stands for.
pub(super) fn add_reference(target: &mut Labels, behind: Option<&ObjectReference>, role: &str) {
    if let Some(behind) = behind {
        let part = |name: &str| format!("{role}_address_target_{name}");
        add_some(target, &part("kind"), behind.kind.as_ref());
        add_some(target, &part("name"), behind.name.as_ref());
    }
}

/// The targets of an object, and which ports of which pods they cover.
pub(super) struct Made<'a> {
    store: &'a Store,
    targets: Vec<Labels>,
    pods: BTreeMap<(&'a str, &'a str), (&'a Pod, Vec<i32>)>,
}

impl<'a> Made<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self {
            store,
            targets: Vec::new(),
            pods: BTreeMap::new(),
        }
    }

    /// Adds a target with what is known of its node, its pod and the pod's port.
    pub(super) fn add(
        &mut self,
        mut target: Labels,
        behind: Option<&ObjectReference>,
        node: Option<&str>,
        port: Option<i32>,
    ) {
        if let Some(node) = node {
            self.store.add_node(&mut target, node);
        }
        if let Some(pod) = behind.and_then(|behind| self.store.pod_behind(behind)) {
            let known = self
                .pods
                .entry(pod::names(pod))
                .or_insert((pod, Vec::new()));
            known.1.extend(port);
            pod::add_labels(&mut target, pod);
            for (container, is_init) in pod::containers(pod) {
                let ports = container.ports.iter().flatten();
                let found = ports
                    .into_iter()
                    .find(|one| Some(one.container_port) == port);
                if let Some(found) = found {
                    pod::add_container(&mut target, container, is_init);
                    pod::add_port(&mut target, found);
                }
            }
        }
        self.targets.push(target);
    }

    /// Adds the ports of the pods that the service does not know of, and returns all.
    pub(super) fn finish(self) -> Vec<Labels> {
        let mut targets = self.targets;
        for (pod, covered) in self.pods.into_values() {
            let Some(ip) = pod::ip(pod) else {
                continue;
            };
            for (container, is_init) in pod::containers(pod) {
                let is_new = |port: &&ContainerPort| !covered.contains(&port.container_port);
                for port in container.ports.iter().flatten().filter(is_new) {
                    let mut target = Labels::new();
                    put(&mut target, ADDRESS, join(ip, port.container_port));
                    pod::add_container(&mut target, container, is_init);
                    pod::add_port(&mut target, port);
                    pod::add_labels(&mut target, pod);
                    targets.push(target);
                }
            }
        }
        targets
    }
}
