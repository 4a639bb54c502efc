//! Where the members of a set come from besides the configuration: Kubernetes or Consul (spec section 10).

use std::{fs, sync::Arc, time::Duration};

use shared::{
    discovery::{
        self, Discovery, Empty, Error, Lookup, Plan, Refresh, Schedule,
        consul::{Asking, Consul, Service, Settings},
        kubernetes::{self, Cluster, Counting, Place, Port, Readiness, host_port, http_url},
    },
    lifecycle::Tasks,
};
use tracing::error;

use super::StartError;
use crate::{
    config::{Config, Generation, outbound::Kubernetes},
    forward::Protocol,
    observe::{Event, Observer},
};

/// How requests to Consul name their sender, as recorded from all generations.
const USER_AGENT: &str = "Go-http-client/1.1";

/// The pods that count. It cannot be configured in the originals.
const SELECTOR: &str = "app=veneur-global";

/// A shorter interval is no reason to give up on an answer.
const LEAST_DEADLINE: Duration = Duration::from_secs(1);

/// A running source.
pub(super) type Found = Discovery;

/// What the sources of a process have in common.
pub(super) struct Sources<'a> {
    pub(super) tasks: &'a Tasks,
    pub(super) config: &'a Config,
    /// Looks up `CONSUL_*` and `KUBERNETES_*`.
    pub(super) variable: &'a (dyn Fn(&str) -> Option<String> + Sync),
    pub(super) metrics: &'a discovery::Metrics,
    pub(super) observer: &'a Arc<dyn Observer>,
}

impl Sources<'_> {
    /// Starts to ask for the members of `service`, which are spoken to by `protocol`: Kubernetes where the process runs in
    /// it, else Consul.
    pub(super) fn start(&self, service: &str, protocol: Protocol) -> Result<Found, StartError> {
        if self.is_in_kubernetes() {
            return self.kubernetes(service, protocol);
        }
        let settings = Settings::from_variables(USER_AGENT, self.variable);
        let asked = Service {
            name: service.to_owned(),
            datacenter: None,
        };
        let (asking, schedule) = match self.config.outbound.consul_blocking_wait {
            None => (Asking::Polling, self.polling()),
            Some(wait) => (Asking::Blocking { wait }, self.waiting()),
        };
        let consul = Consul::new(&settings.map_err(broken)?, asked, asking).map_err(broken)?;
        Ok(self.follow(service, schedule, consul, "Consul"))
    }

    /// As the originals decide it: by whether there is a service account. The stream generation knows no Kubernetes, and
    /// its services are Consul's unless the configuration says otherwise.
    fn is_in_kubernetes(&self) -> bool {
        let Kubernetes {
            wanted,
            service_account,
            ..
        } = &self.config.outbound.kubernetes;
        let asked = *wanted || self.config.generation != Generation::Stream;
        asked && service_account.is_dir()
    }

    fn kubernetes(&self, service: &str, protocol: Protocol) -> Result<Found, StartError> {
        let Kubernetes {
            service_account: folder,
            service: endpoints,
            namespace,
            ready,
            watch,
            ..
        } = &self.config.outbound.kubernetes;
        let cluster = Cluster::in_cluster(self.variable, folder).map_err(broken)?;
        let (asking, schedule) = match *watch {
            None => (kubernetes::Asking::Polling, self.polling()),
            Some(wait) => (kubernetes::Asking::Watching { wait }, self.waiting()),
        };
        let (port, naming) = spelling(self.config.generation, protocol);
        let Some(endpoints) = endpoints else {
            let query = kubernetes::PodQuery {
                namespace: namespace.clone(),
                selector: SELECTOR.to_owned(),
                counting: if *ready {
                    Counting::Ready
                } else {
                    Counting::Running
                },
                port,
                naming,
            };
            let pods = kubernetes::Pods::new(cluster, query, asking);
            return Ok(self.follow(service, schedule, pods, "Kubernetes"));
        };
        let namespace = match namespace {
            Some(namespace) => namespace.clone(),
            None => fs::read_to_string(folder.join("namespace"))
                .map_err(|reason| {
                    broken(format_args!(
                        "kubernetes_namespace is not set, and {}: {reason}",
                        folder.join("namespace").display()
                    ))
                })?
                .trim()
                .to_owned(),
        };
        let query = kubernetes::ServiceQuery {
            namespace,
            name: endpoints.clone(),
            kind: kubernetes::Kind::Slices,
            readiness: if *ready {
                Readiness::Ready
            } else {
                Readiness::Any
            },
            port,
            naming,
        };
        let endpoints = kubernetes::Service::new(cluster, query, asking);
        Ok(self.follow(service, schedule, endpoints, "Kubernetes"))
    }

    fn polling(&self) -> Schedule {
        Schedule::Every(self.config.discovery_interval)
    }

    fn waiting(&self) -> Schedule {
        Schedule::LongPoll {
            retry: self.config.discovery_interval,
        }
    }

    fn follow(
        &self,
        service: &str,
        schedule: Schedule,
        source: impl Lookup,
        whom: &'static str,
    ) -> Found {
        let plan = Plan {
            schedule,
            // The original waits for ever, and so does its next refresh.
            deadline: self.config.discovery_interval.max(LEAST_DEADLINE),
            empty: Empty::Fails,
        };
        let report = report(
            service.to_owned(),
            whom,
            self.config.generation,
            Arc::clone(self.observer),
        );
        Discovery::start(self.tasks, self.metrics, service, plan, source, report)
    }
}

fn broken(reason: impl std::fmt::Display) -> StartError {
    StartError::Discovery(reason.to_string())
}

/// Which port of a pod or service it is, and the name of a ring member made of it, which places metrics.
///
/// For HTTP as v3 to v14.1 have it, because they are what runs in clusters. For gRPC as v14.2.0 has it, the first that could
/// dial its members: a port named `grpc` gives a bare address, any other an `http://`, which is not dialled. That version
/// takes whichever of `grpc` and `http` comes first; here `grpc` is taken wherever it stands, for nothing else is spoken there.
fn spelling(generation: Generation, protocol: Protocol) -> (Port, fn(&Place<'_>) -> String) {
    let last_or_http = Port::LastOrNamed(vec!["http".to_owned()]);
    let (port, names_in_dual): (_, fn(&Place<'_>) -> String) = match protocol {
        Protocol::Http => (last_or_http, http_url),
        Protocol::Unary | Protocol::Stream => (
            Port::Named("grpc".to_owned(), Box::new(last_or_http)),
            |place| match place.port_name {
                Some("grpc") => host_port(place),
                _ => http_url(place),
            },
        ),
    };
    match generation {
        Generation::Stream => (port, host_port),
        Generation::Legacy | Generation::Dual => (port, names_in_dual),
    }
}

/// Makes an event of every finished look-up.
fn report(
    service: String,
    whom: &'static str,
    generation: Generation,
    observer: Arc<dyn Observer>,
) -> impl FnMut(Refresh<'_>) + Send + 'static {
    move |refresh| {
        for skipped in refresh.skipped {
            error!(reason = %skipped, "Could not find valid address for forwarding");
        }
        let found: Result<Vec<&str>, String> = match refresh.result {
            Ok(snapshot) => Ok(snapshot.addresses().collect()),
            // In the originals' words.
            Err(Error::Empty) if generation == Generation::Stream => {
                Err(format!("received no hosts from {whom}"))
            }
            Err(Error::Empty) => Err(format!("Received no hosts from {whom}")),
            Err(error) => Err(error.to_string()),
        };
        observer.event(&Event::Discovered {
            service: &service,
            took: refresh.took,
            result: found.as_deref().map_err(String::as_str),
        });
    }
}
