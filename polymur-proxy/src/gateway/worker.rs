//! Workers: each takes a batch from the queue and keeps it until the gateway has it or no retry can help.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use shared::config::duration::format_nanos;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Gateway, Gateways,
    exchange::{Outcome, Reply},
    one_newline_less,
    verdict::{Verdict, judge, retry_after},
};
use crate::{
    batch::Batch,
    counters::{Counters, DropReason, RetryReason},
    queue::Queue,
    spool::Spool,
};

/// Waits between attempts grow from the first to the second.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long, and how loudly, batches are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For how long 401 is no reason to drop a batch.
    pub key_hold: Duration,
    /// For how long a batch is retried that is answered with 408, 425, 429 or 5xx; for ever if `None`.
    pub retry_for: Option<Duration>,
    /// Whether every batch is logged, or only what went wrong.
    pub log: Log,
}

/// What is logged of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Every attempt and every answer.
    Everything,
    /// Answers other than 200, and failures.
    Trouble,
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) queue: Arc<Queue>,
    pub(crate) spool: Option<Arc<Spool>>,
    pub(crate) gateways: Arc<Gateways>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) policy: Policy,
    /// Cancelled when the process is asked to end.
    pub(crate) ending: CancellationToken,
    /// Cancelled when the time for delivery is over.
    pub(crate) give_up: CancellationToken,
    /// What workers had in hand when they gave up.
    pub(crate) undelivered: Mutex<Vec<Batch>>,
}

impl Work {
    /// Works until the queue is closed and empty, or the time for delivery is over.
    pub(crate) async fn run(self: Arc<Self>, number: usize) {
        info!("HTTP writer #{number} started");
        loop {
            let batch = tokio::select! {
                biased;
                () = self.give_up.cancelled() => return,
                batch = self.queue.pop() => batch,
            };
            let Some(batch) = batch else {
                return;
            };
            self.deliver(number, batch).await;
        }
    }

    async fn deliver(&self, number: usize, batch: Batch) {
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(SHORTEST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times()
            .build();
        // Since when the gateway has been answering that it cannot take this batch.
        let mut refused: Option<Instant> = None;
        loop {
            let gateway = self.gateways.choose();
            let step = tokio::select! {
                biased;
                () = self.give_up.cancelled() => return self.put_aside(batch),
                step = self.attempt(number, gateway, &batch) => step,
            };
            let wait = match step {
                Step::Done => return self.delivered(gateway, batch).await,
                Step::Drop(reason) => return self.dropped(batch, reason).await,
                Step::Hold => {
                    if self.gateways.key_refused() >= self.policy.key_hold {
                        return self.dropped(batch, DropReason::KeyRefused).await;
                    }
                    self.counters.retry(RetryReason::Unauthorized);
                    Wait::UntilRecovered(waits.next())
                }
                Step::Refused(reason, after) => {
                    self.counters.retry(reason);
                    let since = refused.get_or_insert_with(Instant::now);
                    let over = self.policy.retry_for;
                    if over.is_some_and(|limit| since.elapsed() >= limit) {
                        warn!(
                            lines = batch.lines,
                            "[worker #{number}] dropped a batch that the gateway has refused for too long"
                        );
                        return self.dropped(batch, DropReason::RetriesExhausted).await;
                    }
                    self.after_failure(
                        gateway,
                        after.map_or(Wait::UntilRecovered(waits.next()), Wait::Exactly),
                    )
                }
                Step::Failed(reason) => {
                    self.counters.retry(reason);
                    self.after_failure(gateway, Wait::UntilRecovered(waits.next()))
                }
            };
            // With a spool there is no need to insist when the process ends.
            if self.spool.is_some() && self.ending.is_cancelled() {
                return self.put_aside(batch);
            }
            tokio::select! {
                biased;
                () = self.give_up.cancelled() => return self.put_aside(batch),
                () = self.wait(wait) => {}
            }
        }
    }

    /// One request.
    async fn attempt(&self, number: usize, gateway: &Gateway, batch: &Batch) -> Step {
        let verbose = self.policy.log == Log::Everything;
        if verbose {
            info!(
                "[worker #{number}] sending batch ({} data points)",
                batch.lines
            );
        }
        let began = Instant::now();
        match self.gateways.post(gateway, "/ingest", &batch.body).await {
            Outcome::Replied(reply) => {
                if verbose || reply.status != 200 {
                    info!(
                        "[worker #{number}] {} [gateway] {}",
                        format_nanos(began.elapsed().as_nanos() as i64),
                        one_newline_less(&reply.text)
                    );
                }
                step_for(&reply)
            }
            Outcome::SentAway(location) => {
                info!(
                    "[worker #{number}] gateway]: Post {:?}: redirect to another host is not followed: {location}",
                    gateway.target.shown("/ingest")
                );
                Step::Drop(DropReason::Redirect)
            }
            Outcome::Failed(failure) => {
                // The first bracket is missing in the original, and alerts look for its lines.
                info!("[worker #{number}] gateway]: {}", failure.text);
                Step::Failed(failure.reason)
            }
        }
    }

    fn after_failure(&self, gateway: &Gateway, wait: Wait) -> Wait {
        if self.gateways.failed(gateway) {
            Wait::Not
        } else {
            wait
        }
    }

    async fn wait(&self, wait: Wait) {
        match wait {
            Wait::Not => {}
            Wait::Exactly(length) => tokio::time::sleep(length).await,
            Wait::UntilRecovered(length) => {
                tokio::select! {
                    () = self.gateways.recovered.notified() => {}
                    () = self.ending_with_spool() => {}
                    () = tokio::time::sleep(length.unwrap_or(LONGEST_WAIT)) => {}
                }
            }
        }
    }

    async fn ending_with_spool(&self) {
        if self.spool.is_none() || self.ending.is_cancelled() {
            std::future::pending::<()>().await;
        }
        self.ending.cancelled().await;
    }

    async fn delivered(&self, gateway: &Gateway, batch: Batch) {
        let counters = &self.counters;
        counters.batches_sent.fetch_add(1, Relaxed);
        counters
            .lines_sent
            .fetch_add(u64::from(batch.lines), Relaxed);
        counters
            .raw_bytes_sent
            .fetch_add(u64::from(batch.raw_bytes), Relaxed);
        counters
            .gzip_bytes_sent
            .fetch_add(batch.body.len() as u64, Relaxed);
        self.gateways.succeeded(gateway);
        self.done(&batch).await;
    }

    async fn dropped(&self, batch: Batch, reason: DropReason) {
        self.counters.drop_lines(reason, u64::from(batch.lines));
        self.done(&batch).await;
    }

    /// A batch of the spool is done with.
    async fn done(&self, batch: &Batch) {
        if let (Some(spool), Some(ticket)) = (&self.spool, batch.ticket) {
            spool.done(ticket).await;
        }
    }

    fn put_aside(&self, batch: Batch) {
        self.undelivered.lock().push(batch);
    }
}

/// What follows from one attempt.
enum Step {
    Done,
    Drop(DropReason),
    Hold,
    /// The gateway answered that it cannot take it now, and perhaps when to come again.
    Refused(RetryReason, Option<Duration>),
    /// There was no answer.
    Failed(RetryReason),
}

/// What is waited for before the next attempt.
enum Wait {
    Not,
    Exactly(Duration),
    /// This long, or until some worker got through.
    UntilRecovered(Option<Duration>),
}

fn step_for(reply: &Reply) -> Step {
    match judge(reply.status) {
        Verdict::Delivered => Step::Done,
        Verdict::Drop(reason) => Step::Drop(reason),
        Verdict::Hold => Step::Hold,
        Verdict::Retry(reason) => {
            let after = reply.retry_after.as_deref();
            let after = after.and_then(|value| retry_after(value, Timestamp::now()));
            Step::Refused(reason, after)
        }
    }
}
