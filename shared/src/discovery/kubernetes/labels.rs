//! The labels of members, in Prometheus' names (`discovery/kubernetes` of Prometheus 3).

use std::collections::BTreeMap;

/// Labels under construction. What is unknown gets no label.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Adds `__meta_kubernetes_<name>`.
    pub(super) fn add(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let name = format!("__meta_kubernetes_{name}");
            self.0.insert(name, value.to_owned());
        }
        self
    }

    /// Adds `__meta_kubernetes_<name>_<label>` for each label of an object, and `..._labelpresent_...`, as the part of the
    /// name that label names are made of allows.
    pub(super) fn add_all(
        &mut self,
        object: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> &mut Self {
        for (name, value) in labels.into_iter().flatten() {
            let name: String = name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect();
            let full = format!("__meta_kubernetes_{object}_label_{name}");
            self.0.insert(full, value.clone());
            let present = format!("__meta_kubernetes_{object}_labelpresent_{name}");
            self.0.insert(present, "true".to_owned());
        }
        self
    }

    pub(super) fn take(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.0)
    }
}
