//! The rewritten proxy's own metrics (spec section 12.3): `DogStatsD`, summed, without a prefix.

use std::{sync::Arc, time::Duration};

use super::{Arrival, Sink, dogstatsd::Sums, runtime::Memory};
use crate::{
    destinations::Status,
    forward::{Inbound, Protocol},
    observe::{Event, Loss, WasQueued},
};

/// Turns events into sums.
#[derive(Debug)]
pub(super) struct StreamSink(pub(super) Arc<Sums>);

impl StreamSink {
    fn count(&self, name: &str, tags: &str, value: usize) {
        self.0
            .count(&format!("veneur_proxy.{name}"), tags, value as i64);
    }
}

/// Adds what is looked at once per interval.
pub(super) fn gauges(sums: &Sums, destinations: &[Status]) {
    for destination in destinations {
        let tags = format!("destination:{}", destination.name);
        let gauge = |name, value| sums.gauge(name, &tags, value);
        gauge(
            "veneur_proxy.forward.buffer_size",
            destination.queued_metrics as f64,
        );
        gauge(
            "veneur_proxy.forward.buffer_latency_ns",
            destination.buffer_latency.as_nanos() as f64,
        );
        gauge(
            "veneur_proxy.forward.send_latency_ns",
            destination.send_latency.as_nanos() as f64,
        );
    }
}

impl Sink for StreamSink {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Queued { metrics, .. } => {
                self.count("handle.metrics_count", "error:false", metrics);
            }
            Event::Full { destination, .. } => {
                self.count("handle.enqueue", &format!("destination:{destination}"), 1);
            }
            Event::Delivered { metrics, .. } => {
                self.count("forward.metrics_count", "error:false", metrics);
            }
            Event::Lost {
                metrics,
                reason,
                queued: WasQueued::No,
                ..
            } => {
                let tags = match reason {
                    Loss::NoDestination => "error:destination",
                    _ => "error:dropped",
                };
                self.count("handle.metrics_count", tags, metrics);
            }
            Event::Lost {
                metrics, reason, ..
            } => {
                let tags = match reason {
                    Loss::Unconfirmed => "error:eof",
                    Loss::Refused | Loss::Convert => "error:forward",
                    _ => "error:dropped",
                };
                self.count("forward.metrics_count", tags, metrics);
            }
            Event::ConnectionBegan { protocol, .. } if protocol != Protocol::Http => {
                self.count("grpc.conn_begin", "client:true", 1);
            }
            Event::ConnectionEnded { protocol, .. } if protocol != Protocol::Http => {
                self.count("grpc.conn_end", "client:true", 1);
            }
            Event::DialFailed { .. } => self.count("forward.connect", "status:failed_dial", 1),
            Event::OpenFailed { .. } => self.count("forward.connect", "status:failed_connect", 1),
            Event::Connected { .. } => self.count("forward.connect", "status:success", 1),
            Event::Disconnected { failure, .. } => {
                let tags = format!("error:{}", failure.is_some());
                self.count("forward.disconnect", &tags, 1);
            }
            Event::Discovered { took, result, .. } => {
                let millis = took.as_millis() as usize;
                self.count("discovery.duration_total_ms", "", millis);
                match result {
                    Ok(found) => {
                        self.count("discovery.count", "status:success", 1);
                        self.0.gauge(
                            "veneur_proxy.discovery.destinations",
                            "",
                            found.len() as f64,
                        );
                    }
                    Err(_) => self.count("discovery.count", "status:fail", 1),
                }
            }
            _ => {}
        }
    }

    fn arrival(&self, arrival: &Arrival<'_>) {
        match *arrival {
            Arrival::Metrics { inbound, metrics } => {
                self.count("ingest.metrics_count", protocol(inbound), metrics);
            }
            Arrival::Call {
                inbound,
                took,
                failed,
            } => {
                let tags = protocol(inbound);
                self.count("ingest.request_count", tags, 1);
                if failed {
                    self.count("ingest.request_error_count", tags, 1);
                }
                self.0
                    .timing("veneur_proxy.ingest.request_latency_ms", tags, took);
            }
            Arrival::Import { metrics, took, .. } => {
                let tags = protocol(Inbound::Http);
                self.count("ingest.request_count", tags, 1);
                self.count("ingest.metrics_count", tags, metrics);
                self.0
                    .timing("veneur_proxy.ingest.request_latency_ms", tags, took);
            }
            Arrival::ImportRefused(_) => {
                self.count("ingest.request_error_count", protocol(Inbound::Http), 1);
            }
            Arrival::ConnectionBegan => self.count("grpc.conn_begin", "client:false", 1),
            Arrival::ConnectionEnded => self.count("grpc.conn_end", "client:false", 1),
            Arrival::Exit(trouble) => self.0.count("exit", &format!("error:{trouble}"), 1),
            Arrival::ImportBytes(_) => {}
        }
    }

    fn runtime(&self, memory: &Memory, since: Duration) {
        let tags = format!("git_sha:{},service:veneur-proxy", crate::VERSION);
        self.0.count("uptime_ms", &tags, since.as_millis() as i64);
        let &Memory {
            anonymous,
            data,
            stack,
            resident,
        } = memory;
        let gauges = [
            ("heap_alloc_bytes", anonymous),
            ("heap_inuse_bytes", anonymous),
            ("heap_idle_bytes", data.saturating_sub(anonymous)),
            ("heap_sys_bytes", data),
            ("stack_inuse_bytes", stack),
            ("stack_sys_bytes", stack),
            ("sys_bytes", resident),
            // What only Go's runtime has.
            ("buck_hash_sys_bytes", 0),
            ("gc_sys_bytes", 0),
            ("heap_objects_count", 0),
            ("heap_released_bytes", 0),
            ("mallocs_count", 0),
            ("mcache_inuse_bytes", 0),
            ("mcache_sys_bytes", 0),
            ("mspan_inuse_bytes", 0),
            ("mspan_sys_bytes", 0),
            ("next_gc_bytes", 0),
            ("other_sys_bytes", 0),
            ("pointer_lookups", 0),
        ];
        for (name, value) in gauges {
            self.0.gauge(&format!("mem.{name}"), &tags, value as f64);
        }
        for name in ["frees_total", "heap_alloc_bytes_total", "mallocs_total"] {
            self.0.count(&format!("mem.{name}"), &tags, 0);
        }
    }
}

fn protocol(inbound: Inbound) -> &'static str {
    match inbound {
        Inbound::Http => "protocol:http",
        Inbound::Unary => "protocol:grpc-single",
        Inbound::Stream => "protocol:grpc-stream",
    }
}
