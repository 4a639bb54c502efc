//! A set of destinations, as those see it who bring metrics.

use std::sync::Arc;

use shared::lifecycle::Tasks;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    StartError, Status, all,
    members::Members,
    owner::{self, Joining},
    placing::Shared,
    sources::Found,
};
use crate::{
    config::{Config, Generation, RingNames, outbound::OnFull},
    forward::{
        Batch, Protocol,
        queue::{Limits, Overflow},
        sender::Settings,
    },
    observe::{Loss, Observer},
    route::IgnoreTags,
};

/// What all sets of a process share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) observer: Arc<dyn Observer>,
    pub(super) overflow: Arc<Overflow>,
    pub(super) limits: Limits,
    pub(super) on_full: OnFull,
    pub(super) ring_names: RingNames,
    pub(super) ignored: Arc<IgnoreTags>,
    pub(super) settings: Arc<Settings>,
    pub(super) senders: Tasks,
    pub(super) abort: CancellationToken,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(super) fn new(
        config: &Config,
        observer: Arc<dyn Observer>,
        senders: Tasks,
        abort: CancellationToken,
    ) -> Result<Self, StartError> {
        Ok(Self {
            observer,
            overflow: Arc::new(Overflow::new(config.outbound.overflow_bytes)),
            limits: Limits {
                metrics: config.send_buffer,
                bytes: config.outbound.send_buffer_bytes,
            },
            on_full: config.outbound.on_full,
            ring_names: config.ring_names,
            ignored: Arc::new(config.ignore_tags.clone()),
            settings: Arc::new(Settings::new(config)?),
            senders,
            abort,
        })
    }
}

/// A set of destinations.
#[derive(Debug)]
pub(super) struct Set {
    shared: Arc<Shared>,
}

impl Set {
    /// A set without anybody, for a configuration without destinations.
    pub(super) fn nowhere(context: &Context) -> Self {
        Self {
            shared: Shared::new(context),
        }
    }

    /// Starts with static members and what discovery finds, if anything; waits for the first answer of every static member where that matters.
    pub(super) async fn start(
        tasks: &Tasks,
        context: &Context,
        (addresses, found): (Vec<String>, Option<Found>),
        protocol: Protocol,
        joining: Joining,
    ) -> Self {
        let shared = Shared::new(context);
        let first = owner::start(
            tasks,
            &shared,
            addresses,
            found.map(|found| found.watch()),
            protocol,
            joining,
        );
        if joining == Joining::WhenConnected {
            let limit = context.settings.dial_timeout + owner::LOOK;
            all(first.into_iter().map(|attempt| async move {
                // Whether it went well shows in the ring.
                let _tried = timeout(limit, attempt).await;
            }))
            .await;
        }
        Self { shared }
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        &*self.shared.context.observer
    }

    pub(super) fn members(&self) -> Arc<Members> {
        self.shared.current.load_full()
    }

    pub(super) async fn accept(&self, mut batch: Batch) {
        let Context {
            observer, settings, ..
        } = &self.shared.context;
        let text = batch.unpacked();
        let pack = move || {
            batch.pack();
            batch
        };
        // The process ends if there is none.
        let Some(batch) = settings.packer.work(text, pack).await else {
            return;
        };
        let parcels = batch.into_parcels(&**observer, settings.forward_timeout);
        let closed = self.shared.enqueue(parcels).await;
        self.shared.place_anew(closed).await;
    }

    /// Counts the members that metrics can be sent to, as far as is known: those that dial only when they have something to
    /// send all count. Otherwise a proxy that gets nothing because it is not ready would never become ready.
    pub(super) fn connected(&self) -> usize {
        let dials_when_asked = self.shared.context.settings.generation != Generation::Stream;
        let current = self.shared.current.load();
        let connected = current.members.iter().filter(|member| {
            dials_when_asked || member.framing() == Protocol::Http || member.is_connected()
        });
        connected.count()
    }

    pub(super) fn status(&self) -> Vec<Status> {
        let current = self.members();
        let shares = current.shares();
        let everyone = self.shared.everyone();
        let status = everyone.iter().map(|member| {
            let place = current
                .members
                .iter()
                .position(|other| Arc::ptr_eq(other, member));
            let (queued_metrics, queued_bytes) = member.queue.level();
            let (buffer_latency, send_latency) = member.latencies();
            Status {
                name: member.name().to_owned(),
                protocol: member.framing(),
                connected: member.is_connected(),
                share: place.map_or(0.0, |place| shares[place]),
                queued_metrics,
                queued_bytes,
                buffer_latency,
                send_latency,
            }
        });
        status.collect()
    }

    /// Takes nothing any more; senders end when their queues are empty.
    pub(super) fn close(&self) {
        for member in self.shared.everyone() {
            member.queue.close();
        }
    }

    /// Gives up what is queued.
    pub(super) fn lose_rest(&self, reason: Loss) {
        for member in self.shared.everyone() {
            for parcel in member.queue.take_all() {
                parcel.lost(reason, None);
            }
        }
    }
}
