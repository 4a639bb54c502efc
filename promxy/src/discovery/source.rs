//! From the sources of the configuration to running ones.

use shared::{
    discovery::targets::{
        self, State,
        consul::Consul as ConsulSource,
        dns::{Dns as DnsSource, Record, Servers},
        file::File as FileSource,
        http::Http as HttpSource,
        kubernetes::{
            Access, AccessError, Kubernetes as KubernetesSource, Role, Selector, in_cluster,
            own_namespace,
        },
        marathon::Marathon as MarathonSource,
    },
    http::client::{Client, ClientError},
    lifecycle::Tasks,
};
use tokio::sync::watch;
use tracing::error;

use super::{
    ClientSettingsError, Environment, Found,
    client::{client_settings, credential},
};
use crate::config::{
    Consul, Discovery, Dns, DnsRecord, HttpClient, Kubernetes, Marathon, TargetGroup,
};

/// Why a source cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Its client's settings make no sense here.
    #[error(transparent)]
    Settings(#[from] ClientSettingsError),
    /// Its client cannot be made: a certificate is missing, a proxy's URL is none.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster that this process is in cannot be asked, because it is in none.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The namespace of this process is asked for, and it is in none.
    #[error("unable to determine the own namespace: {0} cannot be read")]
    OwnNamespace(String),
}

/// A source that is ready to start.
pub(super) enum Prepared {
    Static(Vec<TargetGroup>),
    File(FileSource),
    Dns(DnsSource),
    Http(HttpSource),
    Consul(ConsulSource),
    Kubernetes(KubernetesSource),
    Marathon(MarathonSource),
    /// It cannot work where this process runs, and why.
    OutOfPlace(String),
}

/// A source that has started.
pub(super) enum Started {
    Listed(Found),
    Followed(watch::Receiver<State>),
}

impl Started {
    /// Returns what is known at once.
    pub(super) fn found(&self) -> Found {
        match self {
            Self::Listed(found) => found.clone(),
            Self::Followed(_) => Found::default(),
        }
    }
}

impl Prepared {
    pub(super) fn start(self, tasks: &Tasks, owner: &str) -> Started {
        Started::Followed(match self {
            Self::Static(groups) => return Started::Listed(Found::listed(&groups)),
            Self::File(source) => targets::start(tasks, owner, source),
            Self::Dns(source) => targets::start(tasks, owner, source),
            Self::Http(source) => targets::start(tasks, owner, source),
            Self::Consul(source) => targets::start(tasks, owner, source),
            Self::Kubernetes(source) => targets::start(tasks, owner, source),
            Self::Marathon(source) => targets::start(tasks, owner, source),
            Self::OutOfPlace(reason) => {
                error!(
                    component = "servergroup-discovery",
                    config = owner,
                    err = reason,
                    "type" = "kubernetes",
                    "Cannot create service discovery"
                );
                return Started::Listed(Found::failed(&reason));
            }
        })
    }
}

/// Makes a source, without connecting to anything.
pub(super) fn prepare(
    discovery: &Discovery,
    environment: &Environment,
) -> Result<Prepared, DiscoveryError> {
    Ok(match discovery {
        Discovery::Static(groups) => Prepared::Static(groups.clone()),
        Discovery::File(file) => Prepared::File(FileSource {
            patterns: file.files.clone(),
            refresh: file.refresh_interval,
        }),
        Discovery::Dns(dns) => Prepared::Dns(dns_source(dns)),
        Discovery::Http(http) => Prepared::Http(HttpSource {
            url: http.url.clone(),
            refresh: http.refresh_interval,
            client: client(&http.client, environment)?,
        }),
        Discovery::Consul(consul) => Prepared::Consul(consul_source(consul, environment)?),
        Discovery::Kubernetes(kubernetes) => {
            match kubernetes_source(kubernetes, environment) {
                Ok(source) => Prepared::Kubernetes(source),
                // Another start elsewhere may well work, and other groups do here: the original starts, too.
                Err(
                    error @ (DiscoveryError::Access(AccessError::NotInCluster)
                    | DiscoveryError::OwnNamespace(_)),
                ) => Prepared::OutOfPlace(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Discovery::Marathon(marathon) => {
            Prepared::Marathon(marathon_source(marathon, environment)?)
        }
    })
}

fn client(settings: &HttpClient, environment: &Environment) -> Result<Client, DiscoveryError> {
    Ok(Client::new(client_settings(settings, environment)?)?)
}

fn dns_source(dns: &Dns) -> DnsSource {
    DnsSource {
        names: dns.names.clone(),
        record: match dns.record {
            DnsRecord::Srv => Record::Srv,
            DnsRecord::A => Record::A,
            DnsRecord::Aaaa => Record::Aaaa,
            DnsRecord::Mx => Record::Mx,
            DnsRecord::Ns => Record::Ns,
        },
        port: dns.port,
        refresh: dns.refresh_interval,
        servers: Servers::System,
    }
}

fn consul_source(
    consul: &Consul,
    environment: &Environment,
) -> Result<ConsulSource, DiscoveryError> {
    let (server, prefix) = (consul.server.trim(), consul.path_prefix.trim_matches('/'));
    let slash = if prefix.is_empty() { "" } else { "/" };
    Ok(ConsulSource {
        // The scheme may stand in front of the server, too.
        url: if server.contains("://") {
            format!("{server}{slash}{prefix}")
        } else {
            format!("{}://{server}{slash}{prefix}", consul.scheme)
        },
        datacenter: consul.datacenter.clone(),
        namespace: consul.namespace.clone(),
        partition: consul.partition.clone(),
        token: consul.token.clone(),
        tag_separator: consul.tag_separator.clone(),
        allow_stale: consul.allow_stale,
        services: consul.services.clone(),
        tags: consul.tags.clone(),
        node_meta: consul.node_meta.clone(),
        filter: consul.filter.clone(),
        client: client(&consul.client, environment)?,
    })
}

fn kubernetes_source(
    kubernetes: &Kubernetes,
    environment: &Environment,
) -> Result<KubernetesSource, DiscoveryError> {
    let account = environment.service_account.as_ref();
    let access = match (&kubernetes.api_server, &kubernetes.kubeconfig_file) {
        (Some(url), _) => Access::Direct {
            url: url.trim_end_matches('/').to_owned(),
            client: client(&kubernetes.client, environment)?,
        },
        (None, Some(path)) => Access::Kubeconfig(path.into()),
        (None, None) => in_cluster(account, client_settings(&kubernetes.client, environment)?)?,
    };
    let mut namespaces = kubernetes.namespaces.clone();
    if kubernetes.own_namespace {
        let own = own_namespace(account).ok_or_else(|| {
            let folder = account.map(|account| account.folder.join("namespace"));
            let place = folder.map_or("its file".to_owned(), |path| path.display().to_string());
            DiscoveryError::OwnNamespace(place)
        })?;
        if !namespaces.contains(&own) {
            namespaces.push(own);
        }
    }
    let selectors = kubernetes.selectors.iter().map(|selector| Selector {
        role: selector.role.clone(),
        label: selector.label.clone(),
        field: selector.field.clone(),
    });
    Ok(KubernetesSource {
        access,
        role: match kubernetes.role.as_str() {
            "node" => Role::Node,
            "service" => Role::Service,
            "endpoints" => Role::Endpoints,
            "endpointslice" => Role::EndpointSlice,
            "ingress" => Role::Ingress,
            // The configuration was checked for other words.
            _ => Role::Pod,
        },
        namespaces,
        selectors: selectors.collect(),
        attach_node: kubernetes.attach_node,
        attach_namespace: kubernetes.attach_namespace,
    })
}

fn marathon_source(
    marathon: &Marathon,
    environment: &Environment,
) -> Result<MarathonSource, DiscoveryError> {
    Ok(MarathonSource {
        servers: marathon.servers.clone(),
        refresh: marathon.refresh_interval,
        auth_token: marathon.auth_token.as_ref().map(credential),
        client: client(&marathon.client, environment)?,
    })
}
