//! Sources of targets as the proxy starts them.

use std::time::Duration;

use shared::config::secret::Secret;

use super::{BasicAuth, Credential, HttpClient, client::credential, positive, word};
use crate::{config::schema::Section, labels::Labels};

/// A source of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Listed in the file.
    Static(Vec<TargetGroup>),
    /// Files that list them.
    File(FileDiscovery),
    /// DNS records.
    Dns(Dns),
    /// A list behind a URL.
    Http(Box<HttpDiscovery>),
    /// A Consul catalogue.
    Consul(Box<Consul>),
    /// A Kubernetes API.
    Kubernetes(Box<Kubernetes>),
    /// A Marathon API.
    Marathon(Box<Marathon>),
}

/// Addresses that share labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetGroup {
    /// The addresses.
    pub targets: Vec<String>,
    /// The labels.
    pub labels: Labels,
}

/// Files that list targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiscovery {
    /// The files, with at most one `*` in the last element of each.
    pub files: Vec<String>,
    /// How often they are read though nothing says that they changed.
    pub refresh_interval: Duration,
}

/// Kinds of DNS records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsRecord {
    /// Hosts and ports.
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Mail hosts.
    Mx,
    /// Name servers.
    Ns,
}

/// DNS records that name targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The names that are looked up.
    pub names: Vec<String>,
    /// What is looked up.
    pub record: DnsRecord,
    /// The port, unless the record says it.
    pub port: u16,
    /// How often.
    pub refresh_interval: Duration,
}

/// A list of targets behind a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpDiscovery {
    /// The URL.
    pub url: String,
    /// How often it is read.
    pub refresh_interval: Duration,
    /// How it is read.
    pub client: HttpClient,
}

/// A Consul catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consul {
    /// Host and port.
    pub server: String,
    /// The path in front of the API.
    pub path_prefix: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The datacenter; empty for the server's.
    pub datacenter: String,
    /// The namespace.
    pub namespace: String,
    /// The partition.
    pub partition: String,
    /// The token.
    pub token: Option<Secret>,
    /// What stands between and around tags.
    pub tag_separator: String,
    /// Whether any server may answer.
    pub allow_stale: bool,
    /// How often the services are listed.
    pub refresh_interval: Duration,
    /// The services; empty for all.
    pub services: Vec<String>,
    /// Tags that a service must have.
    pub tags: Vec<String>,
    /// What a node must say of itself.
    pub node_meta: Vec<(String, String)>,
    /// A filter expression for the catalogue.
    pub filter: String,
    /// How it is asked.
    pub client: HttpClient,
}

/// A Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// `pod`, `service`, `endpoints`, `endpointslice`, `node` or `ingress`.
    pub role: String,
    /// The API's URL; `None` for the cluster that the proxy runs in, or what the file says.
    pub api_server: Option<String>,
    /// A file with clusters and users.
    pub kubeconfig_file: Option<String>,
    /// The namespaces; empty for all.
    pub namespaces: Vec<String>,
    /// Whether the proxy's own namespace is one of them.
    pub own_namespace: bool,
    /// Selectors by role.
    pub selectors: Vec<KubernetesSelector>,
    /// Whether labels of the pod's node are added.
    pub attach_node: bool,
    /// Whether labels of the namespace are added.
    pub attach_namespace: bool,
    /// How the API is asked.
    pub client: HttpClient,
}

/// What of a kind of objects is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSelector {
    /// The kind.
    pub role: String,
    /// A label selector.
    pub label: String,
    /// A field selector.
    pub field: String,
}

/// A Marathon API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marathon {
    /// The servers' URLs.
    pub servers: Vec<String>,
    /// How often they are asked.
    pub refresh_interval: Duration,
    /// The token of DC/OS.
    pub auth_token: Option<Credential>,
    /// How they are asked.
    pub client: HttpClient,
}

/// Lists the sources of a section that holds some.
pub(super) fn discovery(section: &Section) -> Vec<Discovery> {
    let mut all = Vec::new();
    let refresh = |kind: &Section| {
        positive(kind.nanos("refresh_interval")).unwrap_or(Duration::from_secs(30))
    };
    let owned =
        |kind: &Section, key: &str| -> Vec<String> { kind.words(key).map(str::to_owned).collect() };
    all.extend(section.sections("consul_sd_configs").map(|kind| {
        let text = |key: &str| kind.text(key).to_owned();
        let mut client = HttpClient::new(kind);
        if let Some(username) = word(kind, "username") {
            client.basic_auth = Some(BasicAuth {
                username: Credential::Inline(Secret::new(username)),
                password: word(kind, "password")
                    .map(|password| Credential::Inline(Secret::new(password))),
            });
        }
        Discovery::Consul(Box::new(Consul {
            server: text("server"),
            path_prefix: text("path_prefix"),
            scheme: text("scheme"),
            datacenter: text("datacenter"),
            namespace: text("namespace"),
            partition: text("partition"),
            token: word(kind, "token").map(Secret::new),
            tag_separator: text("tag_separator"),
            allow_stale: kind.flag("allow_stale"),
            refresh_interval: refresh(kind),
            services: owned(kind, "services"),
            tags: owned(kind, "tags"),
            node_meta: kind.pairs("node_meta"),
            filter: text("filter"),
            client,
        }))
    }));
    all.extend(section.sections("dns_sd_configs").map(|kind| {
        Discovery::Dns(Dns {
            names: owned(kind, "names"),
            record: match kind.text("type").to_ascii_uppercase().as_str() {
                "A" => DnsRecord::A,
                "AAAA" => DnsRecord::Aaaa,
                "MX" => DnsRecord::Mx,
                "NS" => DnsRecord::Ns,
                _ => DnsRecord::Srv,
            },
            port: u16::try_from(kind.int("port")).unwrap_or(0),
            refresh_interval: refresh(kind),
        })
    }));
    all.extend(section.sections("file_sd_configs").map(|kind| {
        Discovery::File(FileDiscovery {
            files: owned(kind, "files"),
            refresh_interval: refresh(kind),
        })
    }));
    all.extend(section.sections("http_sd_configs").map(|kind| {
        Discovery::Http(Box::new(HttpDiscovery {
            url: kind.text("url").to_owned(),
            refresh_interval: refresh(kind),
            client: HttpClient::new(kind),
        }))
    }));
    all.extend(section.sections("kubernetes_sd_configs").map(|kind| {
        let part = |key: &str, field: &str| kind.section(key).is_some_and(|part| part.flag(field));
        let selectors = kind
            .sections("selectors")
            .map(|selector| KubernetesSelector {
                role: selector.text("role").to_owned(),
                label: selector.text("label").to_owned(),
                field: selector.text("field").to_owned(),
            });
        Discovery::Kubernetes(Box::new(Kubernetes {
            role: kind.text("role").to_owned(),
            api_server: word(kind, "api_server"),
            kubeconfig_file: word(kind, "kubeconfig_file"),
            namespaces: kind
                .section("namespaces")
                .map(|part| owned(part, "names"))
                .unwrap_or_default(),
            own_namespace: part("namespaces", "own_namespace"),
            selectors: selectors.collect(),
            attach_node: part("attach_metadata", "node"),
            attach_namespace: part("attach_metadata", "namespace"),
            client: HttpClient::new(kind),
        }))
    }));
    all.extend(section.sections("marathon_sd_configs").map(|kind| {
        Discovery::Marathon(Box::new(Marathon {
            servers: owned(kind, "servers"),
            refresh_interval: refresh(kind),
            auth_token: credential(kind, "auth_token", "auth_token_file"),
            client: HttpClient::new(kind),
        }))
    }));
    let groups = section.sections("static_configs").map(|group| TargetGroup {
        targets: owned(group, "targets"),
        labels: group.pairs("labels").into_iter().collect(),
    });
    let groups: Vec<TargetGroup> = groups.collect();
    if !groups.is_empty() {
        all.push(Discovery::Static(groups));
    }
    all
}
