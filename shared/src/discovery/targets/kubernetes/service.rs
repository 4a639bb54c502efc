//! From a service to its ports, and the labels that it lends to endpoints.

use k8s_openapi::api::core::v1::Service;

use super::{
    super::{ADDRESS, Group, Labels, join, put},
    meta::{add, add_object, add_some, namespaced},
};

/// Makes the group of a service.
pub(super) fn group(service: &Service) -> Group {
    let metadata = &service.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let spec = service.spec.clone().unwrap_or_default();
    let kind = spec.type_.as_deref().unwrap_or_default();
    let host = format!("{name}.{namespace}.svc");
    let targets = spec.ports.iter().flatten().map(|port| {
        let mut target = Labels::new();
        put(&mut target, ADDRESS, join(&host, port.port));
        add_some(&mut target, "service_port_name", port.name.as_ref());
        add(&mut target, "service_port_number", port.port.to_string());
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        add(&mut target, "service_port_protocol", protocol);
        add(&mut target, "service_type", kind);
        if kind == "ExternalName" {
            add_some(
                &mut target,
                "service_external_name",
                spec.external_name.as_ref(),
            );
        } else {
            add_some(&mut target, "service_cluster_ip", spec.cluster_ip.as_ref());
        }
        if kind == "LoadBalancer" {
            add_some(
                &mut target,
                "service_loadbalancer_ip",
                spec.load_balancer_ip.as_ref(),
            );
        }
        target
    });
    Group {
        source: format!("svc/{namespace}/{name}"),
        targets: targets.collect(),
        labels: labels(service),
    }
}

/// Returns what is known of a service as such.
pub(super) fn labels(service: &Service) -> Labels {
    let mut labels = namespaced(&service.metadata);
    add_object(&mut labels, &service.metadata, "service");
    labels
}
