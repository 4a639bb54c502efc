//! What is between the inputs and the gateway: queue, spool and workers, and how they end.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use shared::lifecycle::{Drained, Tasks};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::StartError;
use crate::{
    config::{Config, Destination},
    counters::{Counters, DropReason},
    gateway::{Gateways, worker::Work},
    queue::Queue,
    spool::{Refused, Spool, SpoolError},
};

/// What workers, and writing down what they give up, may take beyond the limit of delivery.
const WORKER_MARGIN: Duration = Duration::from_secs(5);

/// What is between the inputs and the gateway.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) gateways: Arc<Gateways>,
    pub(super) queue: Arc<Queue>,
    pub(super) spool: Option<Arc<Spool>>,
    work: Arc<Work>,
    spooling: Tasks,
}

impl Delivery {
    /// Opens the spool and starts the workers.
    pub(super) fn start(
        config: &Config,
        gateways: Arc<Gateways>,
        counters: &Arc<Counters>,
        outputs: &Tasks,
        ending: &CancellationToken,
    ) -> Result<Self, StartError> {
        let Destination::Gateway(gateway) = &config.destination else {
            unreachable!("there are gateways only for this destination");
        };
        let queue = Arc::new(Queue::new(config.queue_batches, config.queue_bytes));
        let spooling = Tasks::new();
        let spool = match &config.spool {
            None => None,
            Some(settings) => {
                let spool = Spool::open(settings, Arc::clone(counters))
                    .map_err(|reason| SpoolError::new(&settings.folder, reason))?;
                let spool = Arc::new(spool);
                Arc::clone(&spool).keep(&spooling);
                Some(spool)
            }
        };
        let work = Arc::new(Work {
            queue: Arc::clone(&queue),
            spool: spool.clone(),
            gateways: Arc::clone(&gateways),
            counters: Arc::clone(counters),
            policy: gateway.policy,
            ending: ending.clone(),
            give_up: outputs.stop_token(),
            undelivered: Mutex::default(),
        });
        for number in 0..config.workers {
            outputs.spawn("worker", Arc::clone(&work).run(number));
        }
        if let Some(spool) = spool.clone() {
            let (queue, ending) = (Arc::clone(&queue), ending.clone());
            outputs.spawn("replay", async move {
                // A batch taken from the spool is not lost with this task: it is not done.
                let replay = async {
                    loop {
                        queue.wants_more().await;
                        let batch = spool.next().await;
                        queue.push(batch).await;
                    }
                };
                let _ended = ending.run_until_cancelled(replay).await;
            });
        }
        Ok(Self {
            gateways,
            queue,
            spool,
            work,
            spooling,
        })
    }

    /// Delivers what waits, within `limit`; what is left goes to the spool or is counted.
    pub(super) async fn drain(self, outputs: &Tasks, limit: Duration, counters: &Counters) {
        let Self {
            gateways,
            queue,
            spool,
            work,
            spooling,
        } = self;
        queue.close();
        if spool.is_some() && gateways.is_away() {
            // Nobody takes it now, and on disk it is safe.
            outputs.stop();
        }
        if outputs.drain(limit).await == Drained::DeadlineReached {
            outputs.stop();
            if outputs.drain(WORKER_MARGIN).await == Drained::DeadlineReached {
                error!("workers did not give up in time; some lines are not accounted for");
            }
        }
        let mut left = std::mem::take(&mut *work.undelivered.lock());
        left.extend(queue.take_all());
        // What came from the spool is still there.
        left.retain(|batch| batch.ticket.is_none());
        left.sort_by_key(|batch| batch.closed);
        let mut lost = 0;
        for batch in left {
            let lines = u64::from(batch.lines);
            match &spool {
                None => lost += lines,
                Some(spool) => {
                    if let Err(Refused(_)) = spool.append(batch).await {
                        lost += lines;
                    }
                }
            }
        }
        if lost > 0 {
            counters.drop_lines(DropReason::DrainDeadline, lost);
            warn!(lines = lost, "gave up delivering");
        }
        spooling.stop();
        if spooling.drain(WORKER_MARGIN).await == Drained::DeadlineReached {
            warn!("the spool was still busy when its deadline came");
        }
    }
}
