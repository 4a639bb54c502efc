//! Where closed batches go: to the console, or compressed into the queue or the spool.

use std::{sync::Arc, time::Duration};

use shared::logging::Throttle;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::{
    batch::{Batch, Open},
    budget::Budget,
    config::OnFull,
    counters::{Counters, DropReason},
    gateway::Gateways,
    gzip::Press,
    queue::Queue,
    spool::{Refused, Spool},
};

/// The one way in for all inputs.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) outlet: Outlet,
    pub(crate) counters: Arc<Counters>,
    pub(crate) budget: Arc<Budget>,
    oversize: Throttle,
    full: Throttle,
}

/// What is behind the way in.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// A thread that prints.
    Console(mpsc::Sender<Open>),
    /// Workers that send.
    Gateway(Waiting),
}

/// Where batches wait for a worker.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) press: Press,
    pub(crate) queue: Arc<Queue>,
    pub(crate) spool: Option<Arc<Spool>>,
    pub(crate) gateways: Arc<Gateways>,
    pub(crate) on_full: OnFull,
}

impl Intake {
    pub(crate) fn new(outlet: Outlet, counters: Arc<Counters>, budget: Arc<Budget>) -> Self {
        Self {
            outlet,
            counters,
            budget,
            oversize: Throttle::new(Duration::from_secs(60)),
            full: Throttle::new(Duration::from_secs(1)),
        }
    }

    /// Takes batches, and waits while there is no room for them. An empty one is nothing.
    pub(crate) async fn submit_all(&self, batches: Vec<Open>) {
        let bytes = batches.iter().map(Open::memory).sum();
        let _leaving = self.budget.leave(bytes);
        for open in batches {
            self.close(open).await;
        }
    }

    /// Takes a batch, and waits while there is no room for it. An empty one is nothing.
    pub(crate) async fn submit(&self, open: Open) {
        self.submit_all(vec![open]).await;
    }

    async fn close(&self, open: Open) {
        if open.is_empty() {
            return;
        }
        match &self.outlet {
            Outlet::Console(printer) => {
                if let Err(refused) = printer.send(open).await {
                    let lines = refused.0.lines() as u64;
                    self.counters.drop_lines(DropReason::DrainDeadline, lines);
                }
            }
            Outlet::Gateway(waiting) => {
                let batch = waiting.press.close(open).await;
                waiting.accept(batch, self).await;
            }
        }
    }

    /// Logs, when lines come in or a batch has to wait, and no batch would be taken at once, that it is so. The original does for every line.
    pub(crate) fn tell_if_full(&self) {
        if let Outlet::Gateway(waiting) = &self.outlet
            && waiting.queue.is_full()
            && self.full.admit().is_some()
        {
            info!(
                "Incoming queue capacity {} reached",
                waiting.queue.capacity()
            );
        }
    }

    /// Counts lines that are too long, and logs that there are some.
    pub(crate) fn too_long(&self, lines: u64, who: &dyn std::fmt::Display) {
        if lines == 0 {
            return;
        }
        self.counters.drop_lines(DropReason::Oversize, lines);
        if let Some(held_back) = self.oversize.admit() {
            warn!(%who, lines, held_back, "skipped a line of more than 65536 bytes");
        }
    }
}

impl Waiting {
    async fn accept(&self, batch: Batch, intake: &Intake) {
        let batch = match &self.spool {
            None => match self.queue.try_push(batch) {
                Ok(()) => return,
                Err(batch) => batch,
            },
            Some(spool) => {
                // Behind what waits on disk already, or there because memory is lost with the process.
                let to_disk = spool.has_unread() || self.gateways.is_away() || self.queue.is_full();
                let batch = if to_disk {
                    batch
                } else {
                    match self.queue.try_push(batch) {
                        Ok(()) => return,
                        Err(batch) => batch,
                    }
                };
                let taken = match self.on_full {
                    OnFull::Block => spool.append(batch).await,
                    OnFull::DropOldest => spool.append_dropping_oldest(batch).await,
                };
                match taken {
                    Ok(()) => return,
                    Err(Refused(batch)) => batch,
                }
            }
        };
        intake.tell_if_full();
        match self.on_full {
            OnFull::Block => self.queue.push(batch).await,
            OnFull::DropOldest => {
                for dropped in self.queue.push_out(batch) {
                    intake
                        .counters
                        .drop_lines(DropReason::QueueFull, u64::from(dropped.lines));
                    if let (Some(spool), Some(ticket)) = (&self.spool, dropped.ticket) {
                        spool.done(ticket).await;
                    }
                }
            }
        }
    }
}
