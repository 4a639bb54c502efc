//! `/metrics` for Prometheus, and `/healthz`.
//!
//! The families are listed in the crate's README. Where every line goes to one node,
//! `lines_received = lines_sent + lines_dropped` whenever nothing is under way; the families of nodes say where.

use std::sync::atomic::Ordering::Relaxed;

use shared::metrics::{Family, MetricFamily, Source};

use super::Sources;
use crate::{counters::DropReason, routing::Routing};

impl Source for Sources {
    fn families(&self) -> Vec<MetricFamily> {
        let routing = self.routing.load();
        let mut families = self.of_the_process(&routing);
        families.extend(of_nodes(&routing));
        families.push(ring_shares(&routing));
        families
    }
}

impl Sources {
    fn of_the_process(&self, routing: &Routing) -> Vec<MetricFamily> {
        let totals = &self.totals;
        let counter = |name: &str, help: &str, value: u64| {
            Family::counter(name, help)
                .sample(&[], value as f64)
                .build()
        };
        let drops = Family::counter(
            "statsd_proxy_lines_dropped_total",
            "Lines that reached no node, by reason.",
        );
        let drops = DropReason::ALL.into_iter().fold(drops, |family, reason| {
            family.sample(
                &[("reason", reason.name())],
                self.lines_dropped(routing, reason) as f64,
            )
        });
        let reloads = Family::counter(
            "statsd_proxy_config_reloads_total",
            "Reloads of the configuration file.",
        )
        .sample(
            &[("result", "success")],
            self.reloads.succeeded.load(Relaxed) as f64,
        )
        .sample(
            &[("result", "failure")],
            self.reloads.failed.load(Relaxed) as f64,
        );
        let build = Family::gauge("statsd_proxy_build_info", "1, with the version.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        vec![
            counter(
                "statsd_proxy_packets_received_total",
                "Datagrams and stream blocks read.",
                totals.packets.load(Relaxed),
            ),
            counter(
                "statsd_proxy_bytes_received_total",
                "Bytes of payload read.",
                totals.bytes.load(Relaxed),
            ),
            counter(
                "statsd_proxy_lines_received_total",
                "Lines read that are not empty.",
                totals.lines.load(Relaxed),
            ),
            counter(
                "statsd_proxy_lines_sent_total",
                "Lines sent to nodes and not refused.",
                self.lines_sent(routing),
            ),
            counter(
                "statsd_proxy_receive_buffer_drops_total",
                "Datagrams that the kernel dropped because a receive buffer was full.",
                totals.kernel_drops.load(Relaxed),
            ),
            drops.build(),
            reloads.build(),
            build.build(),
        ]
    }
}

/// The families with one sample per node of the present configuration.
fn of_nodes(routing: &Routing) -> [MetricFamily; 7] {
    let mut lines = Family::counter(
        "statsd_proxy_node_lines_sent_total",
        "Lines sent and not refused.",
    );
    let mut packets = Family::counter(
        "statsd_proxy_node_packets_sent_total",
        "Datagrams, or writes to a connection.",
    );
    let mut bytes = Family::counter(
        "statsd_proxy_node_bytes_sent_total",
        "Bytes of payload sent.",
    );
    let mut drops = Family::counter(
        "statsd_proxy_node_lines_dropped_total",
        "Lines lost on the way to the node.",
    );
    let mut queued = Family::gauge(
        "statsd_proxy_node_queue_bytes",
        "Bytes that wait for the node's connection.",
    );
    let mut up = Family::gauge(
        "statsd_proxy_node_up",
        "Whether the last checks found the node up.",
    );
    let mut resolved = Family::gauge(
        "statsd_proxy_node_resolved",
        "Whether the node's address is known.",
    );
    for destination in &routing.destinations {
        let node = &destination.node;
        let labels = [("node", node.name())];
        let known = node.entrance.is_some() || destination.address.is_some();
        lines = lines.sample(&labels, node.deliveries.lines.load(Relaxed) as f64);
        packets = packets.sample(&labels, node.deliveries.packets.load(Relaxed) as f64);
        bytes = bytes.sample(&labels, node.deliveries.bytes.load(Relaxed) as f64);
        queued = queued.sample(&labels, node.queued_bytes() as f64);
        up = up.sample(&labels, f64::from(u8::from(node.is_up())));
        resolved = resolved.sample(&labels, f64::from(u8::from(known)));
        for reason in DropReason::ON_THE_WAY {
            let labels = [("node", node.name()), ("reason", reason.name())];
            drops = drops.sample(&labels, node.deliveries.drops.get(reason) as f64);
        }
    }
    [lines, packets, bytes, drops, queued, up, resolved].map(Family::build)
}

fn ring_shares(routing: &Routing) -> MetricFamily {
    let mut family = Family::gauge(
        "statsd_proxy_ring_share",
        "The part of the names that goes to the node, 0 to 1.",
    );
    for route in &routing.groups {
        for (member, share) in route.shares() {
            let node = routing.destinations[member].node.name();
            family = family.sample(&[("group", &route.name), ("node", node)], share);
        }
    }
    family.build()
}
