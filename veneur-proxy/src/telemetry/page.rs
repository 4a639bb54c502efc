//! Families for Prometheus. Whenever nothing is under way,
//!
//! ```text
//! received = delivered + lost (by reason)
//! ```
//!
//! and for each destination `accepted = delivered + lost + moved + queued`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use shared::metrics::{Family, MetricFamily, Source};

use super::{Counters, IMPORT_CAUSES, Telemetry, Transport};
use crate::{
    destinations::{Destinations, Status},
    observe::{Loss, Sums},
};

/// What the page is made of.
pub(crate) struct Page {
    telemetry: Arc<Telemetry>,
    destinations: Destinations,
    generation: &'static str,
}

impl Page {
    pub(crate) fn new(
        telemetry: Arc<Telemetry>,
        destinations: Destinations,
        generation: &'static str,
    ) -> Self {
        Self {
            telemetry,
            destinations,
            generation,
        }
    }
}

impl Source for Page {
    fn families(&self) -> Vec<MetricFamily> {
        let mut families = received(&self.telemetry.counters);
        let sums = self.telemetry.totals.sums();
        families.extend(forwarded(&sums));
        families.extend(present(&self.destinations.status()));
        let labels = [("version", crate::VERSION), ("generation", self.generation)];
        families.push(
            Family::gauge("veneur_proxy_build_info", "1, with version and generation.")
                .sample(&labels, 1.0)
                .build(),
        );
        let dropped = match &self.telemetry.transport {
            Transport::None => 0,
            Transport::Lines(lines) => lines.dropped(),
            Transport::Sums(sums) => sums.dropped(),
            Transport::Spans(spans) => spans.dropped(),
        };
        families.push(
            Family::counter(
                "veneur_proxy_self_metrics_dropped_total",
                "Self metrics for which there was no room, or which could not be sent.",
            )
            .sample(&[], dropped as f64)
            .build(),
        );
        families
    }
}

fn get(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}

fn received(counters: &Counters) -> Vec<MetricFamily> {
    let Counters {
        import_requests,
        import_metrics,
        import_bytes,
        import_refused,
        unary,
        stream,
        connections_began,
        connections_ended,
    } = counters;
    let refused: f64 = import_refused.iter().map(get).sum();
    let by = [
        ("http", "inbound"),
        ("unary", "inbound"),
        ("stream", "inbound"),
    ]
    .map(|(inbound, name)| [(name, inbound)]);
    let family = |name, help, values: [f64; 3]| {
        by.iter()
            .zip(values)
            .fold(Family::counter(name, help), |family, (labels, value)| {
                family.sample(labels, value)
            })
            .build()
    };
    let causes = IMPORT_CAUSES.iter().zip(import_refused).fold(
        Family::counter(
            "veneur_proxy_import_refused_total",
            "Refused /import requests, by cause.",
        ),
        |family, (cause, count)| family.sample(&[("cause", cause)], get(count)),
    );
    let open = get(connections_began) - get(connections_ended);
    vec![
        family(
            "veneur_proxy_received_metrics_total",
            "Metrics that were accepted.",
            [
                get(import_metrics),
                get(&unary.metrics),
                get(&stream.metrics),
            ],
        ),
        family(
            "veneur_proxy_requests_total",
            "Requests and calls that have ended.",
            [
                get(import_requests) + refused,
                get(&unary.ended),
                get(&stream.ended),
            ],
        ),
        family(
            "veneur_proxy_requests_failed_total",
            "Requests and calls that were refused or broke off.",
            [refused, get(&unary.failed), get(&stream.failed)],
        ),
        causes.build(),
        Family::counter(
            "veneur_proxy_import_bytes_total",
            "Bytes of /import bodies as received.",
        )
        .sample(&[], get(import_bytes))
        .build(),
        Family::gauge(
            "veneur_proxy_grpc_connections",
            "Open gRPC connections of clients.",
        )
        .sample(&[], open)
        .build(),
    ]
}

/// What became of metrics, also of destinations that have left.
fn forwarded(sums: &Sums) -> Vec<MetricFamily> {
    let mut accepted = Family::counter(
        "veneur_proxy_destination_accepted_metrics_total",
        "Metrics queued for the destination.",
    );
    let mut delivered = Family::counter(
        "veneur_proxy_destination_delivered_metrics_total",
        "Metrics that have arrived at the destination.",
    );
    let mut moved = Family::counter(
        "veneur_proxy_destination_moved_metrics_total",
        "Queued metrics that were placed elsewhere when the destination left.",
    );
    let mut lost = Family::counter(
        "veneur_proxy_destination_lost_metrics_total",
        "Queued metrics that were given up, by reason.",
    );
    for (name, sums) in &sums.destinations {
        let labels = [("destination", name.as_str())];
        accepted = accepted.sample(&labels, sums.accepted as f64);
        delivered = delivered.sample(&labels, sums.delivered as f64);
        moved = moved.sample(&labels, sums.moved as f64);
        for (reason, count) in &sums.lost {
            let labels = [("destination", name.as_str()), ("reason", reason.name())];
            lost = lost.sample(&labels, *count as f64);
        }
    }
    let all = sums.lost();
    let total = Loss::ALL.into_iter().fold(
        Family::counter(
            "veneur_proxy_lost_metrics_total",
            "Metrics that were given up, queued or not, by reason.",
        ),
        |family, reason| {
            let count = all.get(&reason).copied().unwrap_or(0);
            family.sample(&[("reason", reason.name())], count as f64)
        },
    );
    [accepted, delivered, moved, lost, total]
        .map(Family::build)
        .into()
}

/// The destinations of the moment.
fn present(destinations: &[Status]) -> Vec<MetricFamily> {
    let mut connected = Family::gauge(
        "veneur_proxy_destination_connected",
        "Whether there is a connection; for HTTP, whether the last request went well.",
    );
    let mut share = Family::gauge(
        "veneur_proxy_destination_ring_share",
        "The part of all keys that goes to the destination, 0 to 1.",
    );
    let mut metrics = Family::gauge(
        "veneur_proxy_destination_queued_metrics",
        "Metrics that wait for the destination.",
    );
    let mut bytes = Family::gauge(
        "veneur_proxy_destination_queued_bytes",
        "Bytes that wait for the destination.",
    );
    for destination in destinations {
        let labels = [
            ("destination", destination.name.as_str()),
            ("protocol", destination.protocol.name()),
        ];
        connected = connected.sample(&labels, f64::from(u8::from(destination.connected)));
        share = share.sample(&labels, destination.share);
        metrics = metrics.sample(&labels, destination.queued_metrics as f64);
        bytes = bytes.sample(&labels, destination.queued_bytes as f64);
    }
    [connected, share, metrics, bytes].map(Family::build).into()
}
