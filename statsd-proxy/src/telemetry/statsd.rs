//! The proxy's own numbers as StatsD lines, for those who have no Prometheus (`selfMetrics`).
//!
//! Counters are sent as what was added since the last time, so a lost datagram loses that much and no more.

use std::{collections::HashMap, io, sync::atomic::Ordering::Relaxed, time::Duration};

use shared::{datagram, logging::Throttle};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Sources;
use crate::{config::SelfMetrics, counters::DropReason};

/// Sends the numbers every interval until `stop`, and then once more.
pub(crate) async fn emit(settings: SelfMetrics, sources: Sources, stop: CancellationToken) {
    let mut deltas = Deltas::default();
    let mut ticks = interval(settings.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        send(&settings, &deltas.lines(&settings.prefix, &sources)).await;
    }
    send(&settings, &deltas.lines(&settings.prefix, &sources)).await;
}

static SEND_FAILURES: Throttle = Throttle::new(Duration::from_secs(60));

async fn send(settings: &SelfMetrics, lines: &[String]) {
    let sent = async {
        let socket = datagram::connect(&settings.address).await?;
        for line in lines {
            socket.send(line.as_bytes()).await?;
        }
        io::Result::Ok(())
    };
    let sent = timeout(settings.interval, sent)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    if let Err(reason) = sent
        && let Some(suppressed) = SEND_FAILURES.admit()
    {
        warn!(address = settings.address, %reason, suppressed, "cannot send self metrics");
    }
}

/// What counters stood at when they were last sent. Those of nodes that have left are forgotten.
#[derive(Debug, Default)]
struct Deltas {
    before: HashMap<String, u64>,
    now: HashMap<String, u64>,
}

impl Deltas {
    fn lines(&mut self, prefix: &str, sources: &Sources) -> Vec<String> {
        let totals = &sources.totals;
        let routing = sources.routing.load();
        let mut lines = Vec::new();
        let mut count = |name: String, value: u64| lines.extend(self.counter(prefix, name, value));
        count("lines_received".to_owned(), totals.lines.load(Relaxed));
        count("lines_sent".to_owned(), sources.lines_sent(&routing));
        count(
            "receive_buffer_drops".to_owned(),
            totals.kernel_drops.load(Relaxed),
        );
        for reason in DropReason::ALL {
            let dropped = sources.lines_dropped(&routing, reason);
            count(format!("lines_dropped.{}", reason.name()), dropped);
        }
        for destination in &routing.destinations {
            let deliveries = &destination.node.deliveries;
            let name = sanitised(destination.node.name());
            count(
                format!("node.{name}.lines_sent"),
                deliveries.lines.load(Relaxed),
            );
            count(format!("node.{name}.lines_dropped"), deliveries.drops.sum());
        }
        for destination in &routing.destinations {
            let node = &destination.node;
            let name = sanitised(node.name());
            lines.push(format!(
                "{prefix}node.{name}.up:{}|g",
                u8::from(node.is_up())
            ));
            lines.push(format!(
                "{prefix}node.{name}.queue_bytes:{}|g",
                node.queued_bytes()
            ));
        }
        self.sent();
        lines
    }

    /// The line of a counter that has grown.
    fn counter(&mut self, prefix: &str, name: String, value: u64) -> Option<String> {
        let before = self.before.get(&name).copied().unwrap_or(0);
        // A node that was configured anew starts at zero.
        let added = value.checked_sub(before).unwrap_or(value);
        let line = (added > 0).then(|| format!("{prefix}{name}:{added}|c"));
        self.now.insert(name, value);
        line
    }

    fn sent(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

/// A label as part of a name: what separates elsewhere becomes an underscore.
fn sanitised(label: &str) -> String {
    label
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_sent_as_what_was_added() {
        let mut deltas = Deltas::default();
        let mut step = |value| {
            let line = deltas.counter("p.", "x".to_owned(), value);
            deltas.sent();
            line
        };
        assert_eq!(step(0), None);
        assert_eq!(step(5).as_deref(), Some("p.x:5|c"));
        assert_eq!(step(5), None);
        assert_eq!(step(7).as_deref(), Some("p.x:2|c"));
        assert_eq!(step(3).as_deref(), Some("p.x:3|c"));
    }

    #[test]
    fn labels_are_safe_as_parts_of_names() {
        assert_eq!(sanitised("[::1]:8125"), "___1__8125");
    }
}
