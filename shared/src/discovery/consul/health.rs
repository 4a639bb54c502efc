//! Reading Consul's answer about the health of a service.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::{Error, Member};

/// What an answer holds.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) members: Vec<Member>,
    pub(super) skipped: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "Node", default)]
    name: String,
    #[serde(default)]
    address: String,
    datacenter: Option<String>,
    tagged_addresses: Option<BTreeMap<String, String>>,
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Service", default)]
    name: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: i64,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
    namespace: Option<String>,
}

/// Reads the members from an answer's body.
pub(super) fn members(body: &[u8]) -> Result<Found, Error> {
    // Go writes a list that was never made as null.
    let entries: Option<Vec<Entry>> =
        serde_json::from_slice(body).map_err(|reason| Error::Decode(reason.to_string()))?;
    let mut found = Found {
        members: Vec::new(),
        skipped: Vec::new(),
    };
    for entry in entries.unwrap_or_default() {
        if entry.node.address.is_empty() {
            let id = &entry.service.id;
            found
                .skipped
                .push(format!("service {id:?}: its node has no address"));
        } else {
            found.members.push(member(entry));
        }
    }
    Ok(found)
}

/// veneur's `ConsulDiscoverer` joins the *node's* address and the port by a colon: an address of the service's own is
/// ignored, IPv6 is not bracketed. The text is hashed, so it is kept (recorded in the step "registered with its own Address").
fn member(Entry { node, service }: Entry) -> Member {
    let address = format!("{}:{}", node.address, service.port);
    let mut labels = BTreeMap::new();
    let mut label = |name: &str, value: String| {
        labels.insert(format!("__meta_consul_{name}"), value);
    };
    for (name, value) in node.tagged_addresses.unwrap_or_default() {
        label(&format!("tagged_address_{}", label_name(&name)), value);
    }
    for (name, value) in node.meta.unwrap_or_default() {
        label(&format!("metadata_{}", label_name(&name)), value);
    }
    for (name, value) in service.meta.unwrap_or_default() {
        label(&format!("service_metadata_{}", label_name(&name)), value);
    }
    // Separators also around the list, so that a pattern need not care where in it a tag stands.
    let tags = service.tags.unwrap_or_default();
    label("tags", format!(",{},", tags.join(",")));
    label("address", node.address);
    label("dc", node.datacenter.unwrap_or_default());
    label("health", "passing".to_owned());
    label("namespace", service.namespace.unwrap_or_default());
    label("node", node.name);
    label("service", service.name);
    label("service_address", service.address);
    label("service_id", service.id);
    label("service_port", service.port.to_string());
    Member { address, labels }
}

/// Makes text fit into the name of a label, as Prometheus does.
fn label_name(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_members_with_labels() {
        let body = br#"[{"Node": {"Node": "n1", "Address": "fd00::1", "Datacenter": "dc1", "Meta": {"rack-no": "4"}},
            "Service": {"ID": "g-1", "Service": "g", "Address": "10.0.0.9", "Port": 8128, "Tags": ["a", "b"], "Meta": null},
            "Checks": []}]"#;
        let found = members(body).unwrap();
        assert_eq!(found.members[0].address, "fd00::1:8128");
        let label = |name: &str| found.members[0].labels.get(name).map(String::as_str);
        assert_eq!(label("__meta_consul_tags"), Some(",a,b,"));
        assert_eq!(label("__meta_consul_service_address"), Some("10.0.0.9"));
        assert_eq!(label("__meta_consul_metadata_rack_no"), Some("4"));
        assert_eq!(label("__meta_consul_dc"), Some("dc1"));
    }

    #[test]
    fn null_is_an_empty_list_and_an_entry_without_address_is_reported() {
        assert!(members(b"null").unwrap().members.is_empty());
        let found = members(br#"[{"Node": {"Address": ""}, "Service": {"ID": "g-1"}}]"#).unwrap();
        assert!(found.members.is_empty());
        assert_eq!(found.skipped, ["service \"g-1\": its node has no address"]);
    }

    #[test]
    fn what_is_not_a_list_of_entries_is_an_error() {
        for body in [&b""[..], b"[{\"No", b"{}", b"[1]", b"[{}]", b"\xff"] {
            assert!(matches!(members(body), Err(Error::Decode(_))), "{body:?}");
        }
    }
}
