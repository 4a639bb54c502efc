//! From a pod to the ports of its containers, and the labels that it lends to endpoints.

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};

use super::{
    super::{ADDRESS, Group, Labels, join, put},
    meta::{add, add_object, add_some, namespaced},
};

/// Makes the group of a pod; one without an address has no targets.
pub(super) fn group(pod: &Pod) -> Group {
    let (namespace, name) = names(pod);
    let mut group = Group {
        source: format!("pod/{namespace}/{name}"),
        labels: Labels::new(),
        targets: Vec::new(),
    };
    let Some(ip) = ip(pod) else {
        return group;
    };
    group.labels = namespaced(&pod.metadata);
    add_labels(&mut group.labels, pod);
    for (container, is_init) in containers(pod) {
        let id = container_id(pod, &container.name, is_init);
        let mut common = Labels::new();
        add(&mut common, "pod_container_id", id);
        let ports = container.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            let mut target = common;
            put(&mut target, ADDRESS, ip);
            add_container(&mut target, container, is_init);
            group.targets.push(target);
            continue;
        }
        for port in ports {
            let mut target = common.clone();
            put(&mut target, ADDRESS, join(ip, port.container_port));
            add_container(&mut target, container, is_init);
            add_port(&mut target, port);
            group.targets.push(target);
        }
    }
    group
}

pub(super) fn names(pod: &Pod) -> (&str, &str) {
    let metadata = &pod.metadata;
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

pub(super) fn ip(pod: &Pod) -> Option<&str> {
    let ip = pod.status.as_ref()?.pod_ip.as_deref()?;
    Some(ip).filter(|ip| !ip.is_empty())
}

/// Returns the containers, and whether each runs before the others.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| {
        let main = spec.containers.iter().map(|one| (one, false));
        main.chain(spec.init_containers.iter().flatten().map(|one| (one, true)))
    })
}

fn container_id(pod: &Pod, name: &str, is_init: bool) -> String {
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| {
        if is_init {
            status.init_container_statuses.as_ref()
        } else {
            status.container_statuses.as_ref()
        }
    });
    let found = statuses.into_iter().flatten().find(|one| one.name == name);
    found
        .and_then(|one| one.container_id.clone())
        .unwrap_or_default()
}

pub(super) fn add_container(target: &mut Labels, container: &Container, is_init: bool) {
    add(target, "pod_container_name", &container.name);
    add_some(target, "pod_container_image", container.image.as_ref());
    add(target, "pod_container_init", is_init.to_string());
}

pub(super) fn add_port(target: &mut Labels, port: &ContainerPort) {
    add_some(target, "pod_container_port_name", port.name.as_ref());
    add(
        target,
        "pod_container_port_number",
        port.container_port.to_string(),
    );
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    add(target, "pod_container_port_protocol", protocol);
}

/// Adds what is known of a pod as such.
pub(super) fn add_labels(labels: &mut Labels, pod: &Pod) {
    let (status, spec) = (pod.status.as_ref(), pod.spec.as_ref());
    let of_status = [
        ("pod_ip", status.and_then(|status| status.pod_ip.as_ref())),
        ("pod_phase", status.and_then(|status| status.phase.as_ref())),
        (
            "pod_host_ip",
            status.and_then(|status| status.host_ip.as_ref()),
        ),
        (
            "pod_node_name",
            spec.and_then(|spec| spec.node_name.as_ref()),
        ),
        ("pod_uid", pod.metadata.uid.as_ref()),
    ];
    for (name, value) in of_status {
        add_some(labels, name, value);
    }
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|one| one.type_ == "Ready");
    let ready = ready.map_or("unknown".to_owned(), |ready| ready.status.to_lowercase());
    add(labels, "pod_ready", ready);
    add_object(labels, &pod.metadata, "pod");
    let owners = pod.metadata.owner_references.iter().flatten();
    if let Some(owner) = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
    {
        add(labels, "pod_controller_kind", &owner.kind);
        add(labels, "pod_controller_name", &owner.name);
    }
}
