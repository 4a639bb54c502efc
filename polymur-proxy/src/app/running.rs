//! A proxy at work: reload, drain, and what became of all lines.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use shared::{
    lifecycle::{Drained, Tasks},
    tls::server,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{delivery::Delivery, gateways::has_https};
use crate::{
    config::{Addresses, Config, Destination},
    counters::Counters,
    input::{self, Context},
    page::Reloads,
    secrets,
};

/// How long inputs may take to end. They end by themselves, well before this.
const INPUT_DRAIN: Duration = Duration::from_secs(5);
/// How long operators' pages may take to end.
const ADMIN_DRAIN: Duration = Duration::from_secs(3);

/// A proxy at work.
#[derive(Debug)]
pub struct Running {
    pub(super) config: Config,
    pub(super) addresses: Addresses,
    pub(super) counters: Arc<Counters>,
    pub(super) context: Context,
    pub(super) listen_tls: Option<Arc<server::Server>>,
    pub(super) delivery: Option<Delivery>,
    pub(super) reloads: Arc<Reloads>,
    pub(super) ending: CancellationToken,
    pub(super) inputs: Tasks,
    pub(super) emitters: Tasks,
    pub(super) outputs: Tasks,
    pub(super) admin: Tasks,
}

/// What became of all lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Lines that came in by sockets, from the spool, or were made here.
    pub taken: u64,
    /// Lines that a gateway took.
    pub sent: u64,
    /// Lines dropped, each counted with its reason.
    pub dropped: u64,
    /// Lines in the spool, for the next process.
    pub spooled: u64,
}

impl Running {
    /// Returns where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the counters.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Waits until a thread of it has panicked.
    pub async fn broken(&self) {
        self.outputs.broken().await;
    }

    /// Reads key and certificates again. What cannot be read stays as it was, and the log says why.
    pub fn reload(&self) {
        let mut failed = false;
        if let Some(server) = &self.listen_tls
            && let Err(reason) = server.reload()
        {
            error!("reload: listen-cert: {reason}");
            failed = true;
        }
        if let (Some(delivery), Destination::Gateway(gateway)) =
            (&self.delivery, &self.config.destination)
        {
            let https = has_https(&gateway.addresses);
            let read = secrets::key(gateway)
                .and_then(|key| secrets::tls(gateway, https).map(|tls| (key, tls)));
            match read {
                Ok((key, tls)) => delivery.gateways.renew(key, tls),
                Err(reason) => {
                    error!("reload: {reason}");
                    failed = true;
                }
            }
        }
        let count = if failed {
            &self.reloads.failed
        } else {
            info!("key and certificates read again");
            &self.reloads.succeeded
        };
        count.fetch_add(1, Relaxed);
    }

    /// Stops taking lines, delivers what was taken, and ends; all within bounded time.
    pub async fn drain(self) -> Summary {
        self.ending.cancel();
        if let Some(delivery) = &self.delivery {
            delivery.queue.lift_limits();
        }
        self.emitters.stop();
        self.inputs.stop();
        if self.inputs.drain(INPUT_DRAIN).await == Drained::DeadlineReached {
            warn!(
                running = self.inputs.running(),
                "inputs were still busy when their deadline came"
            );
        }
        let emitted = self.emitters.drain(ADMIN_DRAIN).await;
        if emitted == Drained::DeadlineReached {
            warn!("own metrics were still under way when their deadline came");
        }
        input::shared_batch::flush(&self.context).await;
        // The console's printer ends when nobody can send to it.
        drop(self.context);
        let spool = self
            .delivery
            .as_ref()
            .and_then(|delivery| delivery.spool.clone());
        match self.delivery {
            Some(delivery) => {
                delivery
                    .drain(&self.outputs, self.config.drain_timeout, &self.counters)
                    .await;
            }
            None => {
                if self.outputs.drain(self.config.drain_timeout).await == Drained::DeadlineReached {
                    warn!("the console did not take all lines in time");
                }
            }
        }
        self.admin.stop();
        if self.admin.drain(ADMIN_DRAIN).await == Drained::DeadlineReached {
            warn!("operators' connections were still open when their deadline came");
        }
        let Counters {
            lines_received,
            lines_own,
            lines_recovered,
            lines_sent,
            ..
        } = &*self.counters;
        Summary {
            taken: [lines_received, lines_own, lines_recovered]
                .map(|lines| lines.load(Relaxed))
                .iter()
                .sum(),
            sent: lines_sent.load(Relaxed),
            dropped: self.counters.dropped_in_all(),
            spooled: spool.map_or(0, |spool| spool.waiting_lines()),
        }
    }
}
