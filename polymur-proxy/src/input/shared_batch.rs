//! A batch that several senders fill: for datagrams, and for connections with `-merge-connections`.

use std::time::Duration;

use parking_lot::Mutex;

use tokio::time::{MissedTickBehavior, interval};

use super::Context;
use crate::batch::{Filling, Open};

/// The longest that lines wait in it.
const FLUSH: Duration = Duration::from_secs(1);

/// An open batch behind a lock that is held for a copy at most.
#[derive(Debug, Default)]
pub(crate) struct SharedBatch(Mutex<Filling>);

impl SharedBatch {
    /// Has `fill` add lines, and returns the batches that are full.
    pub(crate) fn fill<T>(&self, fill: impl FnOnce(&mut Filling) -> T) -> (T, Vec<Open>) {
        let mut filling = self.0.lock();
        let result = fill(&mut filling);
        (result, std::mem::take(&mut filling.full))
    }

    fn take(&self) -> Open {
        let mut filling = self.0.lock();
        std::mem::take(&mut filling.open)
    }
}

/// Sends what is in the shared batch every second, as a task.
pub(crate) fn keep_flushing(context: &Context) {
    let context = context.clone();
    let stop = context.tasks.stop_token();
    let tasks = context.tasks.clone();
    tasks.spawn("shared batch", async move {
        let mut ticks = interval(FLUSH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            context.intake.submit(context.shared_batch.take()).await;
        }
    });
}

/// Sends what is left when all inputs have ended.
pub(crate) async fn flush(context: &Context) {
    context.intake.submit(context.shared_batch.take()).await;
}
