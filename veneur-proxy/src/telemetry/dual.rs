//! The metrics of v3 to v14.2 (spec section 12.2): SSF samples with the prefix `veneur_proxy.`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Arrival, Sink, legacy, runtime::Memory, ssf::Spans};
use crate::{
    forward::{Inbound, Protocol},
    observe::{Connection, Event, Loss},
    proto::ssf::{SsfMetric, SsfSample},
};

/// The share of samples that is sent of what happens with every request.
const OFTEN: f32 = 0.1;
/// Tags that veneur takes as an instruction: aggregate globally.
const GLOBAL: (&str, &str) = ("veneurglobalonly", "");

/// Turns events into samples.
#[derive(Debug)]
pub(super) struct DualSink(pub(super) Arc<Spans>);

impl DualSink {
    fn count(&self, name: &str, tags: &[(&str, &str)], value: f64, rate: f32) {
        self.send(SsfMetric::Counter, name, tags, value, rate, "");
    }

    fn gauge(&self, name: &str, tags: &[(&str, &str)], value: f64) {
        self.send(SsfMetric::Gauge, name, tags, value, 1.0, "");
    }

    fn nanos(&self, name: &str, tags: &[(&str, &str)], value: Duration, rate: f32) {
        let value = value.as_nanos() as f64;
        self.send(SsfMetric::Histogram, name, tags, value, rate, "ns");
    }

    fn send(
        &self,
        metric: SsfMetric,
        name: &str,
        tags: &[(&str, &str)],
        value: f64,
        rate: f32,
        unit: &str,
    ) {
        if rate < 1.0 && fastrand::f32() >= rate {
            return;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let tags: BTreeMap<String, String> = tags
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.0.push(SsfSample {
            metric: metric.into(),
            name: format!("veneur_proxy.{name}"),
            value: value as f32,
            timestamp: now.map_or(0, |now| now.as_nanos() as i64),
            sample_rate: rate,
            tags,
            unit: unit.to_owned(),
            ..SsfSample::default()
        });
    }
}

impl Sink for DualSink {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Batch {
                inbound,
                metrics,
                took,
            } => {
                let tags: &[_] = match inbound {
                    Inbound::Http => &[],
                    Inbound::Unary | Inbound::Stream => &[("protocol", "grpc")],
                };
                self.nanos("proxy.duration_ns", tags, took, OFTEN);
                self.count("proxy.proxied_metrics_total", tags, metrics as f64, OFTEN);
            }
            Event::Queued {
                destination,
                protocol,
                metrics,
                ..
            } => {
                let url = match protocol {
                    Protocol::Http if !destination.starts_with("http") => {
                        format!("http://{destination}")
                    }
                    _ => destination.to_owned(),
                };
                let tags = [("destination", &*url), ("protocol", protocol.family())];
                self.count("metrics_by_destination", &tags, metrics as f64, OFTEN);
            }
            Event::Encoded { took, bytes, .. } => {
                self.nanos("forward.duration_ns", &[("part", "json")], took, 1.0);
                self.count("forward.content_length_bytes", &[], bytes as f64, 1.0);
            }
            Event::ConnectionUsed { connection, .. } => {
                let state = match connection {
                    Connection::New => "new",
                    Connection::Reused => "reused",
                };
                self.count(
                    "forward.connections_used_total",
                    &[("state", state)],
                    1.0,
                    1.0,
                );
            }
            Event::Delivered {
                protocol: Protocol::Http,
                ..
            } => self.count("forward.error_total", &[], 0.0, 1.0),
            Event::Failed {
                protocol: Protocol::Http,
                failure,
                ..
            } => {
                let tag = legacy::cause(failure);
                let cause = tag.strip_prefix("cause:").unwrap_or(&tag);
                self.count("forward.error_total", &[("cause", cause)], 1.0, 1.0);
            }
            Event::Failed { .. } => {
                let tags = [("cause", "forward"), ("protocol", "grpc")];
                self.count("proxy.forward_errors", &tags, 1.0, 1.0);
            }
            Event::Lost {
                protocol: Some(Protocol::Http),
                ..
            } => self.count("forward.error_total", &[("cause", "post")], 1.0, 1.0),
            Event::Lost {
                inbound: Some(Inbound::Http),
                ..
            } => self.count("forward.error_total", &[("cause", "io")], 1.0, 1.0),
            Event::Lost {
                metrics, reason, ..
            } => {
                let cause = match reason {
                    Loss::NoDestination => "no-destination",
                    _ => "forward",
                };
                let tags = [("cause", cause), ("protocol", "grpc")];
                self.count("proxy.proxied_metrics_failed", &tags, metrics as f64, 1.0);
                if reason == Loss::NoDestination {
                    self.count("proxy.forward_errors", &tags, 1.0, 1.0);
                }
            }
            Event::Discovered {
                service,
                took,
                result,
            } => {
                let tags = [("service", service)];
                self.nanos("discoverer.update_duration_ns", &tags, took, 1.0);
                match result {
                    Ok(found) => {
                        self.gauge("discoverer.destination_number", &tags, found.len() as f64);
                    }
                    Err(_) => self.count("discoverer.errors", &tags, 1.0, 1.0),
                }
            }
            _ => {}
        }
    }

    fn arrival(&self, arrival: &Arrival<'_>) {
        match *arrival {
            Arrival::ImportBytes(bytes) => self.count("import.bytes", &[], bytes as f64, 1.0),
            Arrival::ImportRefused(cause) => {
                self.count("import.request_error_total", &[("cause", cause)], 1.0, 1.0);
            }
            Arrival::Import {
                metrics,
                encoding,
                took,
                client,
            } => {
                let tags = [("part", "request"), ("encoding", encoding)];
                self.nanos("import.response_duration_ns", &tags, took, OFTEN);
                let client = client.map_or_else(String::new, |client| client.to_string());
                let tags = [("remote_addr", &*client), GLOBAL];
                self.count("import.metrics_total", &tags, metrics as f64, OFTEN);
            }
            Arrival::Metrics { metrics, .. } => {
                let tags = [("protocol", "grpc"), GLOBAL];
                self.count("proxy.metrics_total", &tags, metrics as f64, 1.0);
            }
            _ => {}
        }
    }

    fn runtime(&self, memory: &Memory, _: Duration) {
        self.gauge("mem.heap_alloc_bytes", &[], memory.anonymous as f64);
        self.gauge("gc.alloc_heap_bytes", &[], memory.anonymous as f64);
        // There is no garbage to collect.
        self.gauge("gc.number", &[], 0.0);
        self.gauge("gc.pause_total_ns", &[], 0.0);
    }

    fn activity(&self, tasks: usize) {
        let tags = [("protocol", "grpc"), GLOBAL];
        self.gauge("proxy.active_goroutines", &tags, tasks as f64);
    }
}
