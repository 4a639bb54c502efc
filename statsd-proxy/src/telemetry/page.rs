//! `/metrics` for Prometheus, and `/healthz`.
//!
//! The families are listed in the crate's README. For lines that go to one node:
//! `lines_received = node_lines_sent + lines_dropped + node_lines_dropped`, at any time when nothing is under way.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use shared::metrics::{self, Family, MetricFamily, Registry, Source};

use super::Sources;
use crate::counters::{Deliveries, DropReason};

/// The label of what was sent to nodes that have left the configuration.
const RETIRED: &str = "(removed)";

/// Builds the router of the metrics port.
pub(crate) fn router(sources: Sources) -> Router {
    let registry = Arc::new(Registry::new(vec![Arc::new(sources)]));
    Router::new()
        .route("/metrics", get(move || async move { print(&registry) }))
        .route("/healthz", get(|| async { "ok\n" }))
}

fn print(registry: &Registry) -> Response {
    match registry.page() {
        Ok(page) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(reason) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot print metrics: {reason}\n"),
        )
            .into_response(),
    }
}

impl Source for Sources {
    fn families(&self) -> Vec<MetricFamily> {
        let totals = &self.totals;
        let single = |name: &str, help: &str, value: u64| {
            Family::counter(name, help)
                .sample(&[], value as f64)
                .build()
        };
        let drops = DropReason::ALL.into_iter().fold(
            Family::counter(
                "statsd_proxy_lines_dropped_total",
                "Lines dropped before a node was chosen.",
            ),
            |family, reason| {
                family.sample(
                    &[("reason", reason.name())],
                    totals.drops.get(reason) as f64,
                )
            },
        );
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
        let mut families = vec![
            single(
                "statsd_proxy_packets_received_total",
                "Datagrams and stream blocks read.",
                totals.packets.load(Relaxed),
            ),
            single(
                "statsd_proxy_bytes_received_total",
                "Bytes of payload read.",
                totals.bytes.load(Relaxed),
            ),
            single(
                "statsd_proxy_lines_received_total",
                "Lines read that are not empty.",
                totals.lines.load(Relaxed),
            ),
            single(
                "statsd_proxy_receive_buffer_drops_total",
                "Datagrams that the kernel dropped because a receive buffer was full.",
                totals.kernel_drops.load(Relaxed),
            ),
            drops.build(),
            reloads.build(),
            build.build(),
        ];
        families.extend(self.nodes());
        families
    }
}

impl Sources {
    /// The families with one sample per node.
    fn nodes(&self) -> Vec<MetricFamily> {
        let routing = self.routing.load();
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
        let current = routing
            .destinations
            .iter()
            .map(|at| (at.node.label(), &**at.node.deliveries as &Deliveries));
        for (label, deliveries) in current.chain([(RETIRED, &self.totals.retired)]) {
            let node = [("node", label)];
            lines = lines.sample(&node, deliveries.lines.load(Relaxed) as f64);
            packets = packets.sample(&node, deliveries.packets.load(Relaxed) as f64);
            bytes = bytes.sample(&node, deliveries.bytes.load(Relaxed) as f64);
            for reason in DropReason::ALL
                .into_iter()
                .filter(|reason| deliveries.drops.get(*reason) > 0)
            {
                let labels = [("node", label), ("reason", reason.name())];
                drops = drops.sample(&labels, deliveries.drops.get(reason) as f64);
            }
        }
        for destination in &routing.destinations {
            let node = [("node", destination.node.label())];
            queued = queued.sample(&node, destination.node.queued_bytes() as f64);
            up = up.sample(&node, f64::from(u8::from(destination.node.is_up())));
            let known = destination.node.entrance.is_some() || destination.address.is_some();
            resolved = resolved.sample(&node, f64::from(u8::from(known)));
        }
        let mut share = Family::gauge(
            "statsd_proxy_ring_share",
            "The part of the names that goes to the node, 0 to 1.",
        );
        for route in &routing.groups {
            for (member, part) in route.shares() {
                let node = routing.destinations[member].node.label();
                share = share.sample(&[("group", &route.name), ("node", node)], part);
            }
        }
        [lines, packets, bytes, drops, queued, up, resolved, share]
            .map(Family::build)
            .into()
    }
}
