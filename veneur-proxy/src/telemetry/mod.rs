//! What the proxy tells about itself: each generation's own metrics and log lines, and a page for Prometheus.
//!
//! * `legacy`: `DogStatsD` lines as v1 sends them
//! * `dual`: samples in SSF spans, as v3 to v14.2 send them (`ssf` is the transport)
//! * `stream`: `DogStatsD` lines, summed for an interval, as the rewritten proxy sends them
//! * `dogstatsd`: the transport of lines
//! * `runtime`: memory, where the originals report on Go's runtime
//! * `logs`: log lines in the originals' words
//! * `page`: families for Prometheus
//!
//! Events come from both halves: [`Event`](crate::observe::Event)s from the one that forwards, [`Arrival`]s from the one that receives.

mod dogstatsd;
mod dual;
mod legacy;
mod logs;
mod page;
mod runtime;
mod ssf;
mod stream;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use shared::{lifecycle::Tasks, logging::Throttle};
use tokio::time::{MissedTickBehavior, interval};

use self::logs::Logs;
pub(crate) use self::page::Page;
use crate::{
    config::{Config, Generation, SelfMetrics},
    destinations::Destinations,
    forward::Inbound,
    observe::{Event, Observer, Totals},
};

/// How often the originals report how busy they are.
const ACTIVITY_INTERVAL: Duration = Duration::from_secs(10);

/// Something that the receiving half tells. Counts are metrics unless said otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arrival<'a> {
    /// The body of an `/import` request was received: its length in bytes.
    ImportBytes(usize),
    /// An `/import` request was refused; why, as the originals' tag `cause` has it.
    ImportRefused(&'static str),
    /// An `/import` request was accepted.
    Import {
        /// How many it held.
        metrics: usize,
        /// `identity` or `deflate`.
        encoding: &'static str,
        /// From its head to its acceptance.
        took: Duration,
        /// Who sent it; nobody knows on a Unix socket.
        client: Option<IpAddr>,
    },
    /// Metrics came by gRPC.
    Metrics {
        /// Which way.
        inbound: Inbound,
        /// How many.
        metrics: usize,
    },
    /// A gRPC call has ended.
    Call {
        /// Which.
        inbound: Inbound,
        /// From its head to its answer.
        took: Duration,
        /// Whether it ended with a status other than OK.
        failed: bool,
    },
    /// A client's gRPC connection began.
    ConnectionBegan,
    /// It ended.
    ConnectionEnded,
    /// The process ends; whether in trouble.
    Exit(&'a bool),
}

/// Where one generation's own metrics go.
trait Sink: Send + Sync {
    fn event(&self, event: &Event<'_>);
    fn arrival(&self, arrival: &Arrival<'_>);
    /// Reports on the memory of the process, `since` the last time.
    fn runtime(&self, memory: &runtime::Memory, since: Duration);
    /// Reports how many tasks are at work.
    fn activity(&self, _tasks: usize) {}
}

/// Takes note of everything. Shared by both halves.
pub(crate) struct Telemetry {
    totals: Totals,
    counters: Counters,
    logs: Logs,
    sink: Option<Arc<dyn Sink>>,
    transport: Transport,
    runtime_interval: Duration,
}

/// What sends, while the process runs.
enum Transport {
    None,
    Lines(Arc<dogstatsd::Lines>),
    Sums(Arc<dogstatsd::Sums>),
    Spans(Arc<ssf::Spans>),
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Prepares what the configuration asks for. Nothing is sent before [`Telemetry::start`].
    pub(crate) fn new(config: &Config) -> Self {
        let mut transport = Transport::None;
        let mut sink: Option<Arc<dyn Sink>> = None;
        match &config.self_metrics {
            SelfMetrics::Off => {}
            SelfMetrics::DogStatsd {
                address,
                aggregation_interval,
                lines_per_datagram,
            } if config.generation == Generation::Stream => {
                let sums = dogstatsd::Sums::new(
                    address.clone(),
                    *aggregation_interval,
                    *lines_per_datagram,
                );
                let sums = Arc::new(sums);
                sink = Some(Arc::new(stream::StreamSink(Arc::clone(&sums))));
                transport = Transport::Sums(sums);
            }
            SelfMetrics::DogStatsd { address, .. } => {
                let lines = Arc::new(dogstatsd::Lines::new(address.clone()));
                sink = Some(Arc::new(legacy::LegacySink(Arc::clone(&lines))));
                transport = Transport::Lines(lines);
            }
            SelfMetrics::Ssf {
                address,
                capacity,
                flush_interval,
                stats_address,
            } => {
                let spans = ssf::Spans::new(
                    address.clone(),
                    *capacity,
                    *flush_interval,
                    stats_address.clone(),
                );
                let spans = Arc::new(spans);
                sink = Some(Arc::new(dual::DualSink(Arc::clone(&spans))));
                transport = Transport::Spans(spans);
            }
        }
        Self {
            totals: Totals::default(),
            counters: Counters::default(),
            logs: Logs::new(config.generation),
            sink,
            transport,
            runtime_interval: config.runtime_metrics_interval,
        }
    }

    /// Starts sending, as tasks of `tasks`; what waits is sent when that group is stopped. `busy` is whose tasks count as
    /// activity.
    pub(crate) fn start(
        self: &Arc<Self>,
        tasks: &Tasks,
        destinations: &Destinations,
        busy: &Tasks,
    ) {
        let stop = tasks.stop_token();
        match &self.transport {
            Transport::None => return,
            Transport::Lines(lines) => {
                tasks.spawn("self metrics", Arc::clone(lines).run(stop));
            }
            Transport::Spans(spans) => {
                tasks.spawn("self metrics", Arc::clone(spans).run(stop));
            }
            Transport::Sums(sums) => {
                let destinations = destinations.clone();
                let observe = move |sums: &dogstatsd::Sums| {
                    stream::gauges(sums, &destinations.status());
                };
                tasks.spawn("self metrics", Arc::clone(sums).run(observe, stop));
            }
        }
        let (this, stop, busy) = (Arc::clone(self), tasks.stop_token(), busy.clone());
        tasks.spawn("runtime metrics", async move {
            let ticker = |every| {
                let mut ticks = interval(every);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            };
            let mut memory = ticker(this.runtime_interval);
            let mut activity = ticker(ACTIVITY_INTERVAL);
            // The first tick is at once.
            memory.tick().await;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = memory.tick() => {
                        if let Some(sink) = &this.sink {
                            sink.runtime(&runtime::Memory::now(), this.runtime_interval);
                        }
                    }
                    _ = activity.tick() => {
                        if let Some(sink) = &this.sink {
                            sink.activity(busy.running());
                        }
                    }
                }
            }
        });
    }

    /// Takes note of what the receiving half tells.
    pub(crate) fn arrival(&self, arrival: &Arrival<'_>) {
        self.counters.arrival(arrival);
        if let Some(sink) = &self.sink {
            sink.arrival(arrival);
        }
    }

    /// Returns what was forwarded, and what was lost, so far.
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }
}

impl Observer for Telemetry {
    fn event(&self, event: &Event<'_>) {
        self.totals.event(event);
        self.logs.event(event);
        if let Some(sink) = &self.sink {
            sink.event(event);
        }
    }
}

/// What was received, for the page.
#[derive(Debug, Default)]
struct Counters {
    import_requests: AtomicU64,
    import_metrics: AtomicU64,
    import_bytes: AtomicU64,
    import_refused: [AtomicU64; IMPORT_CAUSES.len()],
    unary: Calls,
    stream: Calls,
    connections_began: AtomicU64,
    connections_ended: AtomicU64,
}

/// Why requests are refused.
const IMPORT_CAUSES: [&str; 4] = ["unknown_content_encoding", "deflate", "json", "size"];

#[derive(Debug, Default)]
struct Calls {
    ended: AtomicU64,
    failed: AtomicU64,
    metrics: AtomicU64,
}

impl Counters {
    fn calls(&self, inbound: Inbound) -> Option<&Calls> {
        match inbound {
            Inbound::Http => None,
            Inbound::Unary => Some(&self.unary),
            Inbound::Stream => Some(&self.stream),
        }
    }

    fn arrival(&self, arrival: &Arrival<'_>) {
        let add = |counter: &AtomicU64, count: usize| {
            counter.fetch_add(count as u64, Relaxed);
        };
        match *arrival {
            Arrival::ImportBytes(bytes) => add(&self.import_bytes, bytes),
            Arrival::ImportRefused(cause) => {
                if let Some(place) = IMPORT_CAUSES.iter().position(|known| *known == cause) {
                    add(&self.import_refused[place], 1);
                }
            }
            Arrival::Import { metrics, .. } => {
                add(&self.import_requests, 1);
                add(&self.import_metrics, metrics);
            }
            Arrival::Metrics { inbound, metrics } => {
                if let Some(calls) = self.calls(inbound) {
                    add(&calls.metrics, metrics);
                }
            }
            Arrival::Call {
                inbound, failed, ..
            } => {
                if let Some(calls) = self.calls(inbound) {
                    add(&calls.ended, 1);
                    add(&calls.failed, usize::from(failed));
                }
            }
            Arrival::ConnectionBegan => add(&self.connections_began, 1),
            Arrival::ConnectionEnded => add(&self.connections_ended, 1),
            Arrival::Exit(_) => {}
        }
    }
}

/// Holds back log lines that a sender can cause at any rate.
#[derive(Debug)]
pub(crate) struct Throttles {
    /// Of refused `/import` requests.
    pub(crate) import: Throttle,
}

impl Default for Throttles {
    fn default() -> Self {
        Self {
            import: Throttle::new(Duration::from_secs(1)),
        }
    }
}
