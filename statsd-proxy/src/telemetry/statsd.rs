//! The proxy's own numbers as StatsD lines, for those who have no Prometheus (`selfMetrics`).
//!
//! Counters are sent as what was added since the last time, so a lost datagram loses that much and no more.

use std::{collections::HashMap, fmt::Write as _, sync::atomic::Ordering::Relaxed};

use tokio::{
    net::UdpSocket,
    time::{MissedTickBehavior, interval},
};
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

async fn send(settings: &SelfMetrics, lines: &[String]) {
    let sent = async {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        socket.connect(&settings.address).await?;
        for line in lines {
            socket.send(line.as_bytes()).await?;
        }
        std::io::Result::Ok(())
    };
    if let Err(reason) = sent.await {
        warn!(address = settings.address, %reason, "cannot send self metrics");
    }
}

/// What counters stood at when they were last sent.
#[derive(Debug, Default)]
struct Deltas(HashMap<String, u64>);

impl Deltas {
    fn lines(&mut self, prefix: &str, sources: &Sources) -> Vec<String> {
        let totals = &sources.totals;
        let routing = sources.routing.load();
        let mut lines = Vec::new();
        self.counter(
            &mut lines,
            prefix,
            "lines_received",
            totals.lines.load(Relaxed),
        );
        self.counter(
            &mut lines,
            prefix,
            "receive_buffer_drops",
            totals.kernel_drops.load(Relaxed),
        );
        for reason in DropReason::ALL {
            self.counter(
                &mut lines,
                prefix,
                &format!("lines_dropped.{}", reason.name()),
                totals.drops.get(reason),
            );
        }
        for destination in &routing.destinations {
            let node = &destination.node;
            let name = sanitised(node.label());
            self.counter(
                &mut lines,
                prefix,
                &format!("node.{name}.lines_sent"),
                node.deliveries.lines.load(Relaxed),
            );
            self.counter(
                &mut lines,
                prefix,
                &format!("node.{name}.lines_dropped"),
                node.deliveries.drops.sum(),
            );
            lines.push(format!(
                "{prefix}node.{name}.up:{}|g",
                u8::from(node.is_up())
            ));
            lines.push(format!(
                "{prefix}node.{name}.queue_bytes:{}|g",
                node.queued_bytes()
            ));
        }
        lines
    }

    fn counter(&mut self, lines: &mut Vec<String>, prefix: &str, name: &str, value: u64) {
        let before = self.0.insert(name.to_owned(), value).unwrap_or(0);
        // A node that was configured anew starts at zero.
        let added = value.checked_sub(before).unwrap_or(value);
        if added > 0 {
            let mut line = format!("{prefix}{name}:");
            write!(line, "{added}|c").expect("writing to a string cannot fail");
            lines.push(line);
        }
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
            let mut lines = Vec::new();
            deltas.counter(&mut lines, "p.", "x", value);
            lines.pop()
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
