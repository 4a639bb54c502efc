//! From a slice of a service's endpoints to its addresses, with what is known of the pods behind them.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::{
    super::{ADDRESS, Group, Labels, join, label_name, put},
    endpoints::{Made, add_reference, node_of},
    meta::{add, add_object, add_some, namespaced},
    store::Store,
};

/// The label of a slice that names its service.
const SERVICE: &str = "kubernetes.io/service-name";

/// Makes the group of a slice.
pub(super) fn group(slice: &EndpointSlice, store: &Store) -> Group {
    let metadata = &slice.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let mut labels = namespaced(metadata);
    add(
        &mut labels,
        "endpointslice_address_type",
        &slice.address_type,
    );
    add_object(&mut labels, metadata, "endpointslice");
    let service = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SERVICE));
    if let Some(service) = service {
        store.add_service(&mut labels, namespace, service);
    }
    let mut made = Made::new(store);
    for endpoint in &slice.endpoints {
        for port in slice.ports.iter().flatten() {
            for address in &endpoint.addresses {
                let behind = endpoint.target_ref.as_ref();
                let node = node_of(endpoint.node_name.as_deref(), behind);
                made.add(target(address, endpoint, port), behind, node, port.port);
            }
        }
    }
    Group {
        source: format!("endpointslice/{namespace}/{name}"),
        labels,
        targets: made.finish(),
    }
}

fn target(address: &str, endpoint: &Endpoint, port: &EndpointPort) -> Labels {
    let mut target = Labels::new();
    match port.port {
        Some(number) => {
            put(&mut target, ADDRESS, join(address, number));
            add(&mut target, "endpointslice_port", number.to_string());
        }
        None => put(&mut target, ADDRESS, address),
    }
    let texts = [
        ("port_name", port.name.as_ref()),
        ("port_protocol", port.protocol.as_ref()),
        ("port_app_protocol", port.app_protocol.as_ref()),
        ("endpoint_hostname", endpoint.hostname.as_ref()),
        ("endpoint_node_name", endpoint.node_name.as_ref()),
        ("endpoint_zone", endpoint.zone.as_ref()),
    ];
    for (name, value) in texts {
        add_some(&mut target, &format!("endpointslice_{name}"), value);
    }
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let conditions = [
        ("ready", conditions.ready),
        ("serving", conditions.serving),
        ("terminating", conditions.terminating),
    ];
    for (name, value) in conditions {
        let name = format!("endpointslice_endpoint_conditions_{name}");
        add_some(
            &mut target,
            &name,
            value.map(|value| value.to_string()).as_ref(),
        );
    }
    add_reference(&mut target, endpoint.target_ref.as_ref(), "endpointslice");
    for (name, value) in endpoint.deprecated_topology.iter().flatten() {
        let (name, part) = (label_name(name), "endpointslice_endpoint_topology");
        add(&mut target, &format!("{part}_{name}"), value);
        add(&mut target, &format!("{part}_present_{name}"), "true");
    }
    target
}
