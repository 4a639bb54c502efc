//! What the proxy says of itself at intervals: the log line every five seconds, and own metrics (`-metrics-flush`).

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use shared::lifecycle::Tasks;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::info;

use crate::{
    batch::{Moment, Open},
    counters::Counters,
    gateway::Gateways,
    intake::Intake,
    memory,
};

/// Between two log lines.
const REPORT: Duration = Duration::from_secs(5);

/// Lines per second of the last interval, in hundredths.
#[derive(Debug, Default)]
pub(crate) struct Rate(AtomicU64);

impl Rate {
    fn set(&self, per_second: f64) {
        self.0.store(per_second.to_bits(), Relaxed);
    }

    /// Lines per second.
    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// Logs how many lines came in, every five seconds in which some did, as a task. Closes unused connections, too.
pub(crate) fn log_rate(
    tasks: &Tasks,
    counters: Arc<Counters>,
    gateways: Option<Arc<Gateways>>,
) -> Arc<Rate> {
    let rate = Arc::<Rate>::default();
    let (stop, shown) = (tasks.stop_token(), Arc::clone(&rate));
    tasks.spawn("rate", async move {
        let mut ticks = interval_at(Instant::now() + REPORT, REPORT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut since) = (0, Instant::now());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let (now, received) = (Instant::now(), counters.lines_received.load(Relaxed));
            let (lines, seconds) = (received - before, (now - since).as_secs_f64());
            (before, since) = (received, now);
            let per_second = lines as f64 / seconds.max(f64::MIN_POSITIVE);
            shown.set(per_second);
            if lines > 0 {
                info!(
                    "Last {seconds:.2}s: Received {lines} data points | Avg: {per_second:.2}/sec."
                );
            }
            if let Some(gateways) = &gateways {
                gateways.sweep();
            }
        }
    });
    rate
}

/// Sends a batch of own metrics at every interval, as a task.
pub(crate) fn send_metrics(tasks: &Tasks, every: Duration, intake: Arc<Intake>, rate: Arc<Rate>) {
    let stop = tasks.stop_token();
    tasks.spawn("own metrics", async move {
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let host = host_name();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let batch = own_metrics(&host, rate.get());
            let lines = batch.lines() as u64;
            intake.counters.lines_own.fetch_add(lines, Relaxed);
            intake.submit(batch).await;
        }
    });
}

fn own_metrics(host: &str, rate: f64) -> Open {
    let second = Moment::now().0 / 1_000;
    let mut batch = Open::default();
    for (name, value) in memory::numbers() {
        let line = format!("{host}.polymur.runtime.{name} {value} {second}");
        batch.push(line.as_bytes());
    }
    batch.push(format!("{host}.polymur.rate {rate:.2} {second}").as_bytes());
    batch
}

/// The system's name as it is, dots and all.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_metrics_are_25_numbers_and_the_rate() {
        let batch = own_metrics("vm.example", 12.3456);
        let text = String::from_utf8(batch.data().to_vec()).unwrap();
        assert_eq!((batch.lines(), text.lines().count()), (26, 26));
        assert!(text.starts_with("vm.example.polymur.runtime.Alloc "));
        assert!(
            text.lines()
                .last()
                .unwrap()
                .starts_with("vm.example.polymur.rate 12.35 ")
        );
    }
}
