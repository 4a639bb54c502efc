//! `/metrics` for Prometheus, and `/healthz` (`-metrics-addr`). The families are listed in the crate's README.
//!
//! `lines_received + lines_own + lines_recovered = lines_sent + lines_dropped + what waits` whenever nothing is under way.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use shared::metrics::{Family, MetricFamily, Source};
use tokio_util::sync::CancellationToken;

use crate::{
    batch::Moment,
    budget::Budget,
    counters::{Counters, DropReason, RetryReason},
    gateway::Gateways,
    queue::Queue,
    spool::{Contents, Spool},
};

/// Where the numbers are read from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) counters: Arc<Counters>,
    pub(crate) queue: Option<Arc<Queue>>,
    pub(crate) spool: Option<Arc<Spool>>,
    pub(crate) gateways: Option<Arc<Gateways>>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) reloads: Arc<Reloads>,
    /// Cancelled when the process is asked to end.
    pub(crate) ending: CancellationToken,
}

/// How reloads went.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Source for Sources {
    fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.traffic();
        families.extend(self.trouble());
        families.extend(self.waiting());
        families
    }
}

impl Sources {
    fn traffic(&self) -> Vec<MetricFamily> {
        let Counters {
            lines_received,
            lines_own,
            lines_recovered,
            bytes_received,
            connections,
            connections_open,
            datagrams,
            batches_sent,
            lines_sent,
            raw_bytes_sent,
            gzip_bytes_sent,
            ..
        } = &*self.counters;
        let counter = |name: &str, help: &str, value: &AtomicU64| {
            Family::counter(&format!("polymur_proxy_{name}_total"), help)
                .sample(&[], value.load(Relaxed) as f64)
                .build()
        };
        vec![
            counter(
                "lines_received",
                "Lines read, whatever became of them.",
                lines_received,
            ),
            counter("lines_own", "Lines about the proxy itself.", lines_own),
            counter(
                "lines_recovered",
                "Lines found in the spool at the start.",
                lines_recovered,
            ),
            counter("bytes_received", "Bytes read.", bytes_received),
            counter("connections", "Connections accepted.", connections),
            counter("datagrams_received", "Datagrams read.", datagrams),
            counter("batches_sent", "Batches that a gateway took.", batches_sent),
            counter("lines_sent", "Lines that a gateway took.", lines_sent),
            counter(
                "raw_bytes_sent",
                "Bytes of the batches that a gateway took, before compression.",
                raw_bytes_sent,
            ),
            counter(
                "gzip_bytes_sent",
                "The same after compression.",
                gzip_bytes_sent,
            ),
            gauge(
                "connections_open",
                "Connections that are open.",
                connections_open.load(Relaxed) as f64,
            ),
            Family::gauge("polymur_proxy_build_info", "1, with the version.")
                .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)
                .build(),
        ]
    }

    fn trouble(&self) -> Vec<MetricFamily> {
        let counters = &self.counters;
        let drops = Family::counter(
            "polymur_proxy_lines_dropped_total",
            "Lines that are not delivered, by reason.",
        );
        let drops = DropReason::ALL.into_iter().fold(drops, |family, reason| {
            let labels = [("reason", reason.name())];
            family.sample(&labels, counters.dropped(reason) as f64)
        });
        let retries = Family::counter(
            "polymur_proxy_batch_retries_total",
            "Attempts that failed and are made again, by reason.",
        );
        let retries = RetryReason::ALL
            .into_iter()
            .fold(retries, |family, reason| {
                let labels = [("reason", reason.name())];
                family.sample(&labels, counters.retries(reason) as f64)
            });
        let reloads = Family::counter(
            "polymur_proxy_reloads_total",
            "Times that key and certificates were read again.",
        )
        .sample(
            &[("result", "success")],
            self.reloads.succeeded.load(Relaxed) as f64,
        )
        .sample(
            &[("result", "failure")],
            self.reloads.failed.load(Relaxed) as f64,
        );
        let pickle = Family::counter(
            "polymur_proxy_pickle_frames_refused_total",
            "Pickle frames that could not be read.",
        )
        .sample(&[], counters.pickle_frames_refused.load(Relaxed) as f64);
        vec![
            drops.build(),
            retries.build(),
            reloads.build(),
            pickle.build(),
        ]
    }

    fn waiting(&self) -> Vec<MetricFamily> {
        let (batches, bytes) = self.queue.as_ref().map_or((0, 0), |queue| queue.depth());
        let (open, leaving) = self.budget.used();
        let spool = self.spool.as_ref();
        let contents = spool.map_or(Contents::default(), |spool| spool.contents());
        let oldest = [
            self.queue.as_ref().and_then(|queue| queue.oldest()),
            contents.oldest,
        ];
        let oldest = oldest.into_iter().flatten().min();
        let age = oldest.map_or(0.0, |moment: Moment| moment.age().as_secs_f64());
        let mut families = vec![
            gauge(
                "queue_batches",
                "Batches that wait in memory.",
                batches as f64,
            ),
            gauge("queue_bytes", "Bytes of them.", bytes as f64),
            gauge(
                "open_batch_bytes",
                "Memory of batches that lines are still added to.",
                open as f64,
            ),
            gauge(
                "leaving_batch_bytes",
                "Memory of batches on their way to the queue or the spool.",
                leaving as f64,
            ),
            gauge(
                "spool_batches",
                "Batches on disk that no worker has taken.",
                contents.batches as f64,
            ),
            gauge("spool_lines", "Lines in them.", contents.lines as f64),
            gauge(
                "spool_bytes",
                "Bytes of the spool's files.",
                contents.bytes as f64,
            ),
            gauge(
                "spool_segments",
                "The spool's files.",
                contents.segments as f64,
            ),
            gauge(
                "oldest_waiting_seconds",
                "How long ago the oldest waiting batch was closed.",
                age,
            ),
        ];
        let synced = spool.map_or(0, |spool| spool.synced_lines());
        let skipped = self.counters.spool_bytes_skipped.load(Relaxed);
        families.push(
            Family::counter(
                "polymur_proxy_spool_synced_lines_total",
                "Lines written to the spool and fsynced.",
            )
            .sample(&[], synced as f64)
            .build(),
        );
        families.push(
            Family::counter(
                "polymur_proxy_spool_skipped_bytes_total",
                "Bytes of the spool that were damaged or torn.",
            )
            .sample(&[], skipped as f64)
            .build(),
        );
        if let Some(gateways) = &self.gateways {
            let mut family = Family::gauge(
                "polymur_proxy_gateway_up",
                "Whether the last request to the address went well.",
            );
            for (address, up) in gateways.states() {
                family = family.sample(&[("gateway", &address)], f64::from(u8::from(up)));
            }
            families.push(family.build());
        }
        families
    }
}

fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    Family::gauge(&format!("polymur_proxy_{name}"), help)
        .sample(&[], value)
        .build()
}
