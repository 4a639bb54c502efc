//! The labels of Kubernetes' objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::{Labels, label_name, put};

/// Adds `__meta_kubernetes_<name>`.
pub(super) fn add(labels: &mut Labels, name: &str, value: impl Into<String>) {
    put(labels, format!("__meta_kubernetes_{name}"), value);
}

/// Adds `__meta_kubernetes_<name>` if there is a value.
pub(super) fn add_some(labels: &mut Labels, name: &str, value: Option<&String>) {
    if let Some(value) = value {
        add(labels, name, value);
    }
}

/// Adds name, labels and annotations of an object of kind `role`.
pub(super) fn add_object(labels: &mut Labels, metadata: &ObjectMeta, role: &str) {
    add_some(labels, &format!("{role}_name"), metadata.name.as_ref());
    add_own(labels, metadata, role);
}

/// Adds labels and annotations of an object of kind `role`.
pub(super) fn add_own(labels: &mut Labels, metadata: &ObjectMeta, role: &str) {
    let both = [
        ("label", metadata.labels.as_ref()),
        ("annotation", metadata.annotations.as_ref()),
    ];
    for (what, all) in both {
        for (name, value) in all.into_iter().flatten() {
            let name = label_name(name);
            add(labels, &format!("{role}_{what}_{name}"), value);
            add(labels, &format!("{role}_{what}present_{name}"), "true");
        }
    }
}

/// Starts the labels of a group with the namespace of its object.
pub(super) fn namespaced(metadata: &ObjectMeta) -> Labels {
    let mut labels = Labels::new();
    add_some(&mut labels, "namespace", metadata.namespace.as_ref());
    labels
}
