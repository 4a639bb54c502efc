//! Where metrics go, from start to drain.
//!
//! There are at most two sets of destinations: those for what comes by HTTP, and those for what comes by gRPC. If one of
//! them is not configured, the other takes its metrics, converted ([`crate::convert`]). A set has a ring; each of its
//! members has a bounded queue and a sender. One task owns the ring (`set`); everybody else reads an immutable snapshot.
//!
//! ```text
//! Batch (placed while it is read) ─ accept ─> queue of each member ─> its sender ─> destination
//!                                     ^ snapshot
//! discovery ─> set (owns ring and members) <─ connected, disconnected ─ senders
//! ```

pub(crate) mod members;
pub(crate) mod owner;
mod placing;
mod set;
mod sources;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use shared::{
    discovery,
    lifecycle::{Drained, Tasks},
    tls,
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::{
    owner::Joining,
    set::{Context, Set},
    sources::Sources,
};
use crate::{
    config::{self, Config, Generation, outbound::ForwardProtocol},
    forward::{Batch, Inbound, Protocol, TraceContext, pack::Packer, sender::Settings},
    observe::{Event, Loss, Observer},
    route::IgnoreTags,
};

/// Why forwarding cannot start. The texts are what the log says.
#[derive(Debug, Error)]
pub enum StartError {
    /// Discovery found nobody, and the original refuses to start then.
    #[error("Refusing to start with zero destinations for {purpose}.")]
    ZeroDestinations {
        /// `forwarding` or `forwarding over gRPC`.
        purpose: &'static str,
        /// The service, for the field `serviceName`.
        service: String,
    },
    /// Discovery cannot be set up.
    #[error("cannot set up discovery: {0}")]
    Discovery(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS to destinations: {0}")]
    Tls(#[from] tls::Error),
}

/// One destination as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The name of the ring member.
    pub name: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Whether there is a connection; for HTTP, whether the last request went well.
    pub connected: bool,
    /// Its share of all keys; 0 for one that is not in the ring.
    pub share: f64,
    /// How many metrics are queued.
    pub queued_metrics: usize,
    /// How many bytes.
    pub queued_bytes: usize,
    /// How long what was sent last had been queued: `forward.buffer_latency_ns`.
    pub buffer_latency: Duration,
    /// How long sending it took: `forward.send_latency_ns`.
    pub send_latency: Duration,
}

/// All destinations. Cloning gives another handle on the same.
#[derive(Debug, Clone)]
pub struct Destinations {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Option<Set>,
    grpc: Option<Set>,
    /// For a configuration without destinations.
    nowhere: Set,
    ignored: Arc<IgnoreTags>,
    packer: Arc<Packer>,
    /// What senders work with; `None` if the configuration has no TLS files.
    reloadable: Option<Arc<Settings>>,
    /// Senders: they end when their queues are closed and empty.
    senders: Tasks,
    /// What senders do until they end by themselves is given up when this is cancelled.
    abort: CancellationToken,
}

impl Destinations {
    /// Starts discovery and senders, and waits for their first answers: of discovery in legacy and dual, of the dials of
    /// static addresses in stream.
    ///
    /// `variable` looks up `CONSUL_*` and `KUBERNETES_*`. Discovery runs in `tasks`; senders do not, they end with
    /// [`Destinations::drain`].
    pub async fn start(
        tasks: &Tasks,
        config: &Config,
        variable: &(dyn Fn(&str) -> Option<String> + Sync),
        metrics: &discovery::Metrics,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        let (senders, abort) = (Tasks::new(), CancellationToken::new());
        let context = Context::new(config, observer, senders.clone(), abort.clone())?;
        let nowhere = Set::nowhere(&context);
        let has_files = config.outbound.tls.is_wanted();
        let reloadable = has_files.then(|| Arc::clone(&context.settings));
        let mut sets = [None, None];
        let grpc = match config.outbound.protocol {
            ForwardProtocol::Http => Protocol::Http,
            ForwardProtocol::Unary => Protocol::Unary,
            ForwardProtocol::Stream | ForwardProtocol::Auto => Protocol::Stream,
        };
        let sources = Sources {
            tasks,
            config,
            variable,
            metrics,
            observer: &context.observer,
        };
        let kinds = [
            (&config.http_destinations, Protocol::Http, "forwarding"),
            (&config.grpc_destinations, grpc, "forwarding over gRPC"),
        ];
        for (set, (destinations, protocol, purpose)) in sets.iter_mut().zip(kinds) {
            if !destinations.is_empty() {
                let started =
                    Self::start_set(&sources, &context, destinations, protocol, purpose).await;
                *set = Some(started?);
            }
        }
        let [http, grpc] = sets;
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                grpc,
                nowhere,
                ignored: Arc::clone(&context.ignored),
                packer: Arc::clone(&context.settings.packer),
                reloadable,
                senders,
                abort,
            }),
        })
    }

    async fn start_set(
        sources: &Sources<'_>,
        context: &Context,
        destinations: &config::Destinations,
        protocol: Protocol,
        purpose: &'static str,
    ) -> Result<Set, StartError> {
        let config = sources.config;
        let dual = config.generation != Generation::Stream;
        let discovered = match &destinations.service {
            None => None,
            Some(service) => {
                let found = sources.start(service, protocol)?;
                if dual {
                    // An outcome that never comes means that the process ends.
                    let first = matches!(found.first().await, Ok(Ok(())));
                    if !first && !config.outbound.start_without_destinations {
                        return Err(StartError::ZeroDestinations {
                            purpose,
                            service: service.clone(),
                        });
                    }
                }
                Some(found)
            }
        };
        let joining = if dual || protocol == Protocol::Http {
            Joining::AtOnce
        } else {
            Joining::WhenConnected
        };
        let addresses = destinations.addresses.clone();
        let (tasks, set) = (sources.tasks, (addresses, discovered));
        Ok(Set::start(tasks, context, set, protocol, joining).await)
    }

    /// Begins a batch for metrics that came this way.
    pub fn batch(&self, inbound: Inbound, trace: Option<TraceContext>) -> Batch {
        let members = self.set(inbound).members();
        let (ignored, packer) = (&self.inner.ignored, &self.inner.packer);
        Batch::new(
            inbound,
            trace,
            members,
            Arc::clone(ignored),
            Arc::clone(packer),
        )
    }

    /// Returns what packs the bodies of HTTP destinations.
    pub(crate) fn packer(&self) -> &Arc<Packer> {
        &self.inner.packer
    }

    /// Takes responsibility for a batch: afterwards each of its metrics is queued, delivered, or counted as lost.
    ///
    /// Queues with room are filled first and at once. For the others it waits: in legacy and dual, only after the overflow
    /// is used up, so that the answer to the sender normally comes first; never for a destination that is in trouble, and
    /// never with `on_full: drop`. What is still waiting when the future is dropped counts as abandoned.
    pub async fn accept(&self, batch: Batch) {
        let set = self.set(batch.inbound);
        let (inbound, metrics, started) = (batch.inbound, batch.len(), batch.started);
        set.accept(batch).await;
        set.observer().event(&Event::Batch {
            inbound,
            metrics,
            took: started.elapsed(),
        });
    }

    /// Returns the destinations for what comes this way, in the order of the ring.
    pub fn members(&self, inbound: Inbound) -> Vec<String> {
        let members = self.set(inbound).members();
        let names = members
            .members
            .iter()
            .map(|member| member.name().to_owned());
        names.collect()
    }

    /// Returns how many destinations are connected; where they are dialled only when there is something to send (HTTP, and
    /// gRPC in dual), how many are in the ring.
    pub fn connected(&self) -> usize {
        self.sets().map(Set::connected).sum()
    }

    /// Returns all destinations as they stand, also those that are not in their ring.
    pub fn status(&self) -> Vec<Status> {
        self.sets().flat_map(Set::status).collect()
    }

    /// Returns whether there are files of TLS that [`Destinations::reload_tls`] reads again.
    pub fn can_reload_tls(&self) -> bool {
        self.inner.reloadable.is_some()
    }

    /// Reads the files of TLS to destinations again, for the connections to come. When there is something wrong with them,
    /// what was read before stays in use.
    pub fn reload_tls(&self) -> Result<(), tls::Error> {
        match &self.inner.reloadable {
            Some(settings) => settings.connector.reload(),
            None => Ok(()),
        }
    }

    /// Delivers what is queued, for `limit` at most; what is left then is counted as lost.
    ///
    /// Nothing more is accepted meanwhile. Call it when the inputs have ended.
    pub async fn drain(&self, limit: Duration) -> Drained {
        let deadline = Instant::now() + limit;
        for set in self.sets() {
            set.close();
        }
        let drained = self.inner.senders.drain(limit).await;
        if drained == Drained::DeadlineReached {
            self.inner.abort.cancel();
            // Senders give up at their next wait; a moment is enough.
            let rest = deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(1);
            let _ended = self.inner.senders.drain(rest).await;
        }
        for set in self.sets() {
            set.lose_rest(Loss::Drain);
        }
        drained
    }

    fn sets(&self) -> impl Iterator<Item = &Set> {
        let Inner { http, grpc, .. } = &*self.inner;
        http.iter().chain(grpc)
    }

    fn set(&self, inbound: Inbound) -> &Set {
        let Inner {
            http,
            grpc,
            nowhere,
            ..
        } = &*self.inner;
        let (own, other) = match inbound {
            Inbound::Http => (http, grpc),
            Inbound::Unary | Inbound::Stream => (grpc, http),
        };
        own.as_ref().or(other.as_ref()).unwrap_or(nowhere)
    }
}

/// Finishes several things that wait for the same.
async fn all(waits: impl IntoIterator<Item = impl Future<Output = ()>>) {
    join_all(waits).await;
}
