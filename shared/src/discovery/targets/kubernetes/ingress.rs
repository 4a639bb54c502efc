//! From an ingress to its paths.

use k8s_openapi::api::networking::v1::Ingress;

use super::{
    super::{ADDRESS, Group, Labels, put},
    meta::{add, add_object, add_some, namespaced},
};

/// Makes the group of an ingress.
pub(super) fn group(ingress: &Ingress) -> Group {
    let metadata = &ingress.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let mut labels = namespaced(metadata);
    let spec = ingress.spec.clone().unwrap_or_default();
    add_some(
        &mut labels,
        "ingress_class_name",
        spec.ingress_class_name.as_ref(),
    );
    add_object(&mut labels, metadata, "ingress");
    let secured = spec
        .tls
        .iter()
        .flatten()
        .flat_map(|tls| tls.hosts.iter().flatten());
    let secured: Vec<&String> = secured.collect();
    let mut targets = Vec::new();
    for rule in spec.rules.iter().flatten() {
        let host = rule.host.as_deref().unwrap_or_default();
        let is_secured = secured.iter().any(|pattern| matches(pattern, host));
        let paths = rule.http.iter().flat_map(|http| &http.paths);
        let mut paths: Vec<&str> = paths
            .map(|path| {
                path.path
                    .as_deref()
                    .filter(|path| !path.is_empty())
                    .unwrap_or("/")
            })
            .collect();
        if rule.http.is_none() {
            paths.push("/");
        }
        for path in paths {
            let mut target = Labels::new();
            put(&mut target, ADDRESS, host);
            add(
                &mut target,
                "ingress_scheme",
                if is_secured { "https" } else { "http" },
            );
            add(&mut target, "ingress_host", host);
            add(&mut target, "ingress_path", path);
            targets.push(target);
        }
    }
    Group {
        source: format!("ingress/{namespace}/{name}"),
        labels,
        targets,
    }
}

/// Whether a name of a certificate, whose first part may be `*`, is that of a host.
fn matches(pattern: &str, host: &str) -> bool {
    if pattern == host {
        return !host.is_empty();
    }
    let Some(domain) = pattern.strip_prefix("*.") else {
        return false;
    };
    host.split_once('.').is_some_and(|(_, rest)| rest == domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_part_of_a_name() {
        let f = |pattern: &str, host: &str, expected: bool| {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        };
        f("a.b", "a.b", true);
        f("*.b", "a.b", true);
        f("*.b", "a.a.b", false);
        f("*.b", "b", false);
        f("*", "a", false);
        f("", "", false);
    }
}
