//! From the endpoints of a service to members.

use k8s_openapi::api::{
    core::v1::{EndpointAddress, Endpoints, ObjectReference},
    discovery::v1::EndpointSlice,
};

use super::{
    super::{Answer, Member},
    ServiceQuery,
    labels::Labels,
    port::{Declared, Place},
};

/// Which endpoints count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Those that are ready.
    Ready,
    /// Those that are not, too.
    Any,
}

impl Readiness {
    fn counts(self, ready: bool) -> bool {
        ready || self == Self::Any
    }
}

/// Makes members of all subsets of `endpoints`.
pub(super) fn answer(endpoints: &Endpoints, query: &ServiceQuery) -> Answer {
    let mut members = Vec::new();
    let mut skipped = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let declared = subset.ports.iter().flatten().map(|port| Declared {
            number: port.port,
            name: port.name.as_deref(),
            protocol: port.protocol.as_deref(),
        });
        let Some(port) = query.port.choose([declared]) else {
            skipped.push(format!("endpoints {} have no such port", query.name));
            continue;
        };
        let ready = subset.addresses.iter().flatten().map(|one| (one, true));
        let other = subset.not_ready_addresses.iter().flatten();
        let all = ready.chain(other.map(|one| (one, false)));
        for (address, ready) in all.filter(|(_, ready)| query.readiness.counts(*ready)) {
            let place = Place {
                ip: &address.ip,
                port: port.number,
                port_name: port.name,
            };
            members.push(Member {
                address: (query.naming)(&place),
                labels: labels(address, ready, &place, query).take(),
            });
        }
    }
    Answer {
        members,
        version: None,
        skipped,
    }
}

fn labels(
    address: &EndpointAddress,
    ready: bool,
    place: &Place<'_>,
    query: &ServiceQuery,
) -> Labels {
    let mut labels = Labels::default();
    labels
        .add("namespace", Some(&query.namespace))
        .add("service_name", Some(&query.name))
        .add("endpoints_name", Some(&query.name))
        .add("endpoint_ready", Some(truth(ready)))
        .add("endpoint_hostname", address.hostname.as_deref())
        .add("endpoint_node_name", address.node_name.as_deref())
        .add("endpoint_port_name", place.port_name)
        .add("endpoint_port_protocol", Some("TCP"));
    let target = address.target_ref.as_ref();
    add_target(&mut labels, "endpoint", target);
    labels
}

/// Makes members of `slices`.
pub(super) fn answer_of_slices<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    query: &ServiceQuery,
) -> Answer {
    let mut members = Vec::new();
    let mut skipped = Vec::new();
    for slice in slices {
        let declared = slice.ports.iter().flatten().filter_map(|port| {
            Some(Declared {
                number: port.port?,
                name: port.name.as_deref(),
                protocol: port.protocol.as_deref(),
            })
        });
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let Some(port) = query.port.choose([declared]) else {
            skipped.push(format!("endpoint slice {name} has no such port"));
            continue;
        };
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            // "A nil value should be interpreted as true", says the API of this field.
            let ready = conditions.and_then(|all| all.ready).unwrap_or(true);
            if !query.readiness.counts(ready) {
                continue;
            }
            let mut labels = Labels::default();
            labels
                .add("namespace", Some(&query.namespace))
                .add("service_name", Some(&query.name))
                .add("endpointslice_name", Some(name))
                .add("endpointslice_address_type", Some(&slice.address_type))
                .add(
                    "endpointslice_endpoint_conditions_ready",
                    Some(truth(ready)),
                )
                .add(
                    "endpointslice_endpoint_hostname",
                    endpoint.hostname.as_deref(),
                )
                .add(
                    "endpointslice_endpoint_node_name",
                    endpoint.node_name.as_deref(),
                )
                .add("endpointslice_endpoint_zone", endpoint.zone.as_deref())
                .add("endpointslice_port", Some(&port.number.to_string()))
                .add("endpointslice_port_name", port.name)
                .add("endpointslice_port_protocol", Some("TCP"));
            add_target(&mut labels, "endpointslice", endpoint.target_ref.as_ref());
            let labels = labels.take();
            members.extend(endpoint.addresses.iter().map(|ip| Member {
                address: (query.naming)(&Place {
                    ip,
                    port: port.number,
                    port_name: port.name,
                }),
                labels: labels.clone(),
            }));
        }
    }
    Answer {
        members,
        version: None,
        skipped,
    }
}

fn add_target(labels: &mut Labels, role: &str, target: Option<&ObjectReference>) {
    let part = |name| format!("{role}_address_target_{name}");
    labels
        .add(
            &part("kind"),
            target.and_then(|target| target.kind.as_deref()),
        )
        .add(
            &part("name"),
            target.and_then(|target| target.name.as_deref()),
        );
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
