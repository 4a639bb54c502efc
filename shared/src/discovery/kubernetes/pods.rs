//! From pods to members.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    super::{Answer, Member},
    PodQuery,
    labels::Labels,
    port::{Chosen, Declared, Place},
};

/// Which pods count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Those in phase Running, whether they are ready or not, and also while they terminate.
    Running,
    /// Those in phase Running that are ready and do not terminate.
    Ready,
}

/// Makes members of those `pods` that `query` counts. One without address or port is skipped.
pub(super) fn answer<'a>(pods: impl Iterator<Item = &'a Pod>, query: &PodQuery) -> Answer {
    let mut answer = Answer {
        members: Vec::new(),
        version: None,
        skipped: Vec::new(),
    };
    for pod in pods.filter(|pod| counts(pod, query.counting)) {
        match member(pod, query) {
            Ok(member) => answer.members.push(member),
            Err(reason) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                let text = format!("pod {namespace}/{name} {reason}");
                answer.skipped.push(text);
            }
        }
    }
    answer
}

fn counts(pod: &Pod, counting: Counting) -> bool {
    let running = phase(pod) == Some("Running");
    match counting {
        Counting::Running => running,
        Counting::Ready => {
            running && readiness(pod) == Some("True") && pod.metadata.deletion_timestamp.is_none()
        }
    }
}

fn member(pod: &Pod, query: &PodQuery) -> Result<Member, &'static str> {
    let ip = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_deref());
    let ip = ip.filter(|ip| !ip.is_empty()).ok_or("has no address")?;
    let containers: &[Container] = pod.spec.as_ref().map_or(&[], |spec| &spec.containers);
    let port = query
        .port
        .choose(containers.iter().map(declared))
        .ok_or("has no such port")?;
    let place = Place {
        ip,
        port: port.number,
        port_name: port.name,
    };
    Ok(Member {
        address: (query.naming)(&place),
        labels: labels(pod, containers, &port).take(),
    })
}

fn declared(container: &Container) -> impl Iterator<Item = Declared<'_>> {
    container.ports.iter().flatten().map(|port| Declared {
        number: port.container_port,
        name: port.name.as_deref(),
        protocol: port.protocol.as_deref(),
    })
}

fn labels(pod: &Pod, containers: &[Container], port: &Chosen<'_>) -> Labels {
    let (metadata, status, spec) = (&pod.metadata, pod.status.as_ref(), pod.spec.as_ref());
    let mut labels = Labels::default();
    labels
        .add("namespace", metadata.namespace.as_deref())
        .add("pod_name", metadata.name.as_deref())
        .add("pod_uid", metadata.uid.as_deref())
        .add("pod_ip", status.and_then(|status| status.pod_ip.as_deref()))
        .add(
            "pod_host_ip",
            status.and_then(|status| status.host_ip.as_deref()),
        )
        .add(
            "pod_node_name",
            spec.and_then(|spec| spec.node_name.as_deref()),
        )
        .add("pod_phase", phase(pod))
        .add(
            "pod_ready",
            readiness(pod).map(str::to_lowercase).as_deref(),
        )
        .add_all("pod", metadata.labels.as_ref())
        .add("pod_container_port_number", Some(&port.number.to_string()))
        .add("pod_container_port_name", port.name);
    if let Some(container) = port.container.and_then(|index| containers.get(index)) {
        labels
            .add("pod_container_name", Some(&container.name))
            .add("pod_container_image", container.image.as_deref())
            .add("pod_container_port_protocol", Some("TCP"));
    }
    labels
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// The status of the condition Ready: `True`, `False` or `Unknown`.
fn readiness(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    ready.map(|condition| condition.status.as_str())
}
