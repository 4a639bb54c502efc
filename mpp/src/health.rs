//! The watch over servers while they serve: who hangs is noticed, who was ejected is let back in.
//!
//! A server hangs if requests wait for it, none of them has got a first byte for a while, and it does not answer a query that is
//! as cheap as can be either. A long query alone is no hang: such a server still answers the cheap one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use shared::lifecycle::Tasks;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::{
    backend::{Backend, Backends, Failure},
    probe::Prober,
    select::Selector,
};

/// How often servers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Silence while requests wait that makes a server suspect.
const SUSPICIOUS: Duration = Duration::from_secs(1);
/// What a suspect may take to answer.
const SUSPECT_ANSWER: Duration = Duration::from_secs(2);
/// What an ejected server may take to answer.
const EJECTED_ANSWER: Duration = Duration::from_secs(1);
/// How often idle connections are looked at.
const PRUNE: Duration = Duration::from_secs(10);

/// Starts the watch.
pub fn start(tasks: &Tasks, backends: Arc<Backends>, prober: Prober, selector: Selector) {
    let stop = tasks.stop_token();
    let group = tasks.clone();
    tasks.spawn("health", async move {
        let watch = Watch {
            tasks: group,
            backends,
            prober,
            selector,
            asked: Vec::new(),
            pruned: Instant::now(),
        };
        let _stopped = stop.run_until_cancelled(watch.run()).await;
    });
}

struct Watch {
    tasks: Tasks,
    backends: Arc<Backends>,
    prober: Prober,
    selector: Selector,
    /// Suspects, and when they were asked.
    asked: Vec<(Arc<Backend>, Instant)>,
    pruned: Instant,
}

impl Watch {
    async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.asked
                .retain(|(_, asked)| now.duration_since(*asked) < SUSPECT_ANSWER);
            for backend in self.backends.all() {
                if backend.probe_due(now) {
                    self.ask_ejected(&backend);
                } else if !backend.is_ejected()
                    && backend
                        .silence()
                        .is_some_and(|silence| silence >= SUSPICIOUS)
                {
                    self.ask_suspect(backend, now);
                }
            }
            if now.duration_since(self.pruned) >= PRUNE {
                self.pruned = now;
                for backend in self.backends.all() {
                    backend
                        .pools
                        .iter()
                        .for_each(crate::proxy::pool::Pool::prune);
                }
            }
        }
    }

    fn ask_ejected(&self, backend: &Arc<Backend>) {
        let (prober, selector) = (self.prober.clone(), self.selector.clone());
        let backend = Arc::clone(backend);
        self.tasks.spawn("probe of an ejected server", async move {
            let answer = prober.viable(&backend.endpoint, EJECTED_ANSWER).await;
            if answer.is_ok() && backend.is_ejected() {
                backend.readmit();
                info!(
                    "Endpoint {} answers again and is let back in",
                    backend.endpoint
                );
                selector.nudge();
            }
        });
    }

    fn ask_suspect(&mut self, backend: Arc<Backend>, now: Instant) {
        if self
            .asked
            .iter()
            .any(|(other, _)| Arc::ptr_eq(other, &backend))
            || !self.has_others(&backend)
        {
            return;
        }
        self.asked.push((Arc::clone(&backend), now));
        let (prober, selector) = (self.prober.clone(), self.selector.clone());
        self.tasks.spawn("probe of a silent server", async move {
            let answer = prober.viable(&backend.endpoint, SUSPECT_ANSWER).await;
            let still_silent = backend
                .silence()
                .is_some_and(|silence| silence >= SUSPICIOUS);
            if let Err(reason) = answer
                && still_silent
                && backend.eject(Failure::Hang)
            {
                warn!(
                    "Endpoint {} is ejected: it hangs ({reason}); what waits for it is tried elsewhere",
                    backend.endpoint
                );
                for pool in &backend.pools {
                    pool.clear();
                }
                selector.nudge();
            }
        });
    }

    /// Says whether anybody else could serve: the last one is never ejected for being slow.
    fn has_others(&self, backend: &Arc<Backend>) -> bool {
        let selection = self.selector.current();
        selection
            .targets
            .iter()
            .chain(&selection.spares)
            .any(|other| !Arc::ptr_eq(other, backend) && !other.is_ejected())
    }
}
