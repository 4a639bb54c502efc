//! Targets that DNS records name, as Prometheus' `dns_sd`.
//!
//! The system's resolver configuration is read for each refresh. A name that does not exist has no targets; one that no
//! server can be asked about keeps those that it had.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};
use tracing::warn;

use super::{ADDRESS, Ask, Group, Labels, Publisher, Source, join, poll, put};

/// What is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
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

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servers {
    /// Those of the system, `/etc/resolv.conf`.
    System,
    /// These.
    These {
        /// Where they listen, by UDP and TCP.
        addresses: Vec<SocketAddr>,
        /// The domains that names are looked for in.
        search: Vec<String>,
        /// A name with at least so many dots is looked for as it is first.
        ndots: usize,
    },
}

/// The names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// What is looked up: relative names are looked for in the search domains, as `resolv.conf` has it.
    pub names: Vec<String>,
    /// Which of their records.
    pub record: Record,
    /// The port, where records have none.
    pub port: u16,
    /// How often.
    pub refresh: Duration,
    /// Who is asked.
    pub servers: Servers,
}

impl Source for Dns {
    const KIND: &'static str = "dns";

    async fn follow(self, publisher: Publisher) {
        let refresh = self.refresh;
        let known = BTreeMap::new();
        poll(&publisher, refresh, Following { dns: self, known }).await;
    }
}

/// The names, with the last answer to each.
struct Following {
    dns: Dns,
    known: BTreeMap<String, Arc<Group>>,
}

impl Ask for Following {
    async fn ask(&mut self) -> Result<Vec<Arc<Group>>, String> {
        let asking = Asking::new(&self.dns.servers)?;
        let names = &self.dns.names;
        let answers = names.iter().map(|name| self.dns.group(&asking, name));
        let mut failures = Vec::new();
        for (name, answer) in names.iter().zip(join_all(answers).await) {
            match answer {
                Ok(group) => {
                    self.known.insert(name.clone(), Arc::new(group));
                }
                Err(reason) => failures.push(reason),
            }
        }
        // What is known of some names is better than nothing at all.
        if !failures.is_empty() {
            let reason = failures.join("; ");
            if self.known.is_empty() {
                return Err(reason);
            }
            warn!(
                discovery = "dns",
                err = reason,
                "Error refreshing DNS targets"
            );
        }
        let known = names.iter().filter_map(|name| self.known.get(name));
        Ok(known.cloned().collect())
    }
}

impl Dns {
    async fn group(&self, asking: &Asking, name: &str) -> Result<Group, String> {
        let kind = match self.record {
            Record::Srv => RecordType::SRV,
            Record::A => RecordType::A,
            Record::Aaaa => RecordType::AAAA,
            Record::Mx => RecordType::MX,
            Record::Ns => RecordType::NS,
        };
        let found = asking.look_up(name, kind).await?;
        let targets = found.iter().filter_map(|data| self.target(name, data));
        Ok(Group {
            source: name.to_owned(),
            labels: Labels::new(),
            targets: targets.collect(),
        })
    }

    fn target(&self, name: &str, data: &RData) -> Option<Labels> {
        let mut target = Labels::new();
        let host = |name: &Name| {
            let absolute = name.to_ascii();
            let bare = absolute.strip_suffix('.').unwrap_or(&absolute).to_owned();
            (absolute, bare)
        };
        let address = match data {
            RData::SRV(record) => {
                let (absolute, bare) = host(&record.target);
                put(&mut target, "__meta_dns_srv_record_target", absolute);
                put(
                    &mut target,
                    "__meta_dns_srv_record_port",
                    record.port.to_string(),
                );
                join(&bare, record.port)
            }
            RData::MX(record) => {
                let (absolute, bare) = host(&record.exchange);
                put(&mut target, "__meta_dns_mx_record_target", absolute);
                join(&bare, self.port)
            }
            RData::NS(record) => {
                let (absolute, bare) = host(&record.0);
                put(&mut target, "__meta_dns_ns_record_target", absolute);
                join(&bare, self.port)
            }
            RData::A(address) => join(&address.to_string(), self.port),
            RData::AAAA(address) => join(&address.to_string(), self.port),
            // The way of aliases to the records that were asked for.
            _ => return None,
        };
        put(&mut target, ADDRESS, address);
        put(&mut target, "__meta_dns_name", name);
        Some(target)
    }
}

/// A resolver with the rules for relative names.
struct Asking {
    resolver: TokioResolver,
    search: Vec<String>,
    ndots: usize,
}

impl Asking {
    fn new(servers: &Servers) -> Result<Self, String> {
        let (config, mut options, search, ndots) = match servers {
            Servers::System => {
                let read = read_system_conf();
                let (config, options) =
                    read.map_err(|error| format!("could not load resolv.conf: {error}"))?;
                let domains = config
                    .domain()
                    .into_iter()
                    .filter(|_| config.search().is_empty());
                let domains = domains.chain(config.search());
                let search = domains.map(Name::to_ascii).collect();
                let ndots = options.ndots;
                (config, options, search, ndots)
            }
            Servers::These {
                addresses,
                search,
                ndots,
            } => {
                let servers = addresses.iter().map(|address| {
                    let mut server = NameServerConfig::udp_and_tcp(address.ip());
                    for connection in &mut server.connections {
                        connection.port = address.port();
                    }
                    server
                });
                let config = ResolverConfig::from_name_servers(servers.collect());
                (config, ResolverOpts::default(), search.clone(), *ndots)
            }
        };
        // Each refresh is to see what is so now, and the order of the servers counts.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self {
            resolver,
            search,
            ndots,
        })
    }

    /// Looks a name up, in all domains that it may be in. Empty if it is in none.
    async fn look_up(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, String> {
        let mut failure = None;
        for candidate in candidates(name, &self.search, self.ndots) {
            let parsed = Name::from_ascii(&candidate);
            let parsed = parsed.map_err(|error| format!("{name:?}: {error}"))?;
            match self.resolver.lookup(parsed, kind).await {
                Ok(found) => {
                    let answers = found.answers().iter();
                    return Ok(answers.map(|record| record.data.clone()).collect());
                }
                Err(error) => match code(&error) {
                    Some(ResponseCode::NoError) => return Ok(Vec::new()),
                    Some(ResponseCode::NXDomain) => {}
                    _ => failure = Some(error),
                },
            }
        }
        match failure {
            None => Ok(Vec::new()),
            Some(error) => Err(format!(
                "could not resolve {name:?}: all servers responded with errors to at least one search domain: {error}"
            )),
        }
    }
}

/// Returns what a server has answered instead of records.
fn code(error: &NetError) -> Option<ResponseCode> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => Some(none.response_code),
        NetError::Dns(DnsError::ResponseCode(code)) => Some(*code),
        _ => None,
    }
}

/// Lists the absolute names that a name may stand for.
fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let absolute = format!("{name}.");
    let inside = search
        .iter()
        .filter(|domain| !matches!(domain.as_str(), "" | "."));
    let inside = inside.map(|domain| {
        let dot = if domain.ends_with('.') { "" } else { "." };
        format!("{name}.{domain}{dot}")
    });
    let dots = name.matches('.').count();
    if dots >= ndots {
        [absolute].into_iter().chain(inside).collect()
    } else {
        inside.chain([absolute]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_names_are_looked_for_in_the_search_domains() {
        let search = ["a.example".to_owned(), "b.example.".to_owned()];
        let f = |name: &str, ndots: usize, expected: &[&str]| {
            assert_eq!(candidates(name, &search, ndots), expected);
        };
        f("x.", 1, &["x."]);
        f("x", 1, &["x.a.example.", "x.b.example.", "x."]);
        f("x.y", 1, &["x.y.", "x.y.a.example.", "x.y.b.example."]);
        f("x.y", 5, &["x.y.a.example.", "x.y.b.example.", "x.y."]);
    }
}
