//! From a node to its kubelet.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeAddress};

use super::{
    super::{ADDRESS, Group, Labels, join, label_name, put},
    meta::{add, add_object, add_some},
};

/// The kinds of addresses, the preferred one first.
const PREFERENCE: [&str; 6] = [
    "InternalIP",
    "InternalDNS",
    "ExternalIP",
    "ExternalDNS",
    "LegacyHostIP",
    "Hostname",
];

/// Makes the group of a node; one without an address has no target.
pub(super) fn group(node: &Node) -> Group {
    let name = node.metadata.name.clone().unwrap_or_default();
    let mut labels = Labels::new();
    let spec = node.spec.as_ref();
    add_some(
        &mut labels,
        "node_provider_id",
        spec.and_then(|spec| spec.provider_id.as_ref()),
    );
    add_object(&mut labels, &node.metadata, "node");
    Group {
        source: format!("node/{name}"),
        labels,
        targets: target(node, &name).into_iter().collect(),
    }
}

fn target(node: &Node, name: &str) -> Option<Labels> {
    let status = node.status.as_ref()?;
    let addresses: &[NodeAddress] = status.addresses.as_deref().unwrap_or_default();
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for address in addresses {
        first.entry(&address.type_).or_insert(&address.address);
    }
    let host = PREFERENCE.iter().find_map(|kind| first.get(kind))?;
    let endpoints = status.daemon_endpoints.as_ref();
    let port = endpoints.and_then(|all| all.kubelet_endpoint.as_ref());
    let mut target = Labels::new();
    put(
        &mut target,
        ADDRESS,
        join(host, port.map_or(0, |port| port.port)),
    );
    put(&mut target, "instance", name);
    for (kind, address) in first {
        add(
            &mut target,
            &format!("node_address_{}", label_name(kind)),
            address,
        );
    }
    Some(target)
}
