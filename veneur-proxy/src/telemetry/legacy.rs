//! v1's own metrics (spec section 12.1): one `DogStatsD` line per event, with the prefix `veneur_proxy.`.

use std::{sync::Arc, time::Duration};

use super::{
    Arrival, Sink,
    dogstatsd::{Lines, line},
    runtime::Memory,
};
use crate::{
    forward::Protocol,
    observe::{Event, Failure},
};

/// Turns events into lines.
#[derive(Debug)]
pub(super) struct LegacySink(pub(super) Arc<Lines>);

impl LegacySink {
    fn count(&self, name: &str, tags: &str, value: usize) {
        self.send(name, &value.to_string(), "c", tags);
    }

    fn float(&self, name: &str, kind: &str, tags: &str, value: f64) {
        self.send(name, &format!("{value:.6}"), kind, tags);
    }

    /// Go's client calls it milliseconds; the value is nanoseconds.
    fn nanos(&self, name: &str, tags: &str, value: Duration) {
        self.float(name, "ms", tags, value.as_nanos() as f64);
    }

    fn send(&self, name: &str, value: &str, kind: &str, tags: &str) {
        let name = format!("veneur_proxy.{name}");
        self.0.push(line(&name, value, kind, tags));
    }
}

impl Sink for LegacySink {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Batch { took, .. } => self.nanos("proxy.duration_ns", "", *took),
            Event::Queued {
                destination,
                metrics,
                ..
            } => {
                let tags = format!("destination:{destination}");
                self.float("metrics_by_destination", "g", &tags, *metrics as f64);
            }
            Event::Encoded { took, bytes, .. } => {
                self.nanos("forward.duration_ns", "part:json", *took);
                self.float("forward.content_length_bytes", "h", "", *bytes as f64);
            }
            Event::Delivered {
                protocol: Protocol::Http,
                took,
                ..
            } => {
                self.nanos("forward.duration_ns", "part:post", *took);
                self.count("forward.error_total", "", 0);
            }
            Event::Failed { failure, .. } => {
                self.count("forward.error_total", &cause(failure), 1);
            }
            Event::Lost { .. } => self.count("forward.error_total", "cause:post", 1),
            Event::Discovered {
                service,
                took,
                result,
            } => {
                let tags = format!("service:{service}");
                self.nanos("discoverer.update_duration_ns", &tags, *took);
                match result {
                    Ok(found) => {
                        self.float(
                            "discoverer.destination_number",
                            "g",
                            &tags,
                            found.len() as f64,
                        );
                    }
                    Err(_) => self.count("discoverer.errors", &tags, 1),
                }
            }
            _ => {}
        }
    }

    fn arrival(&self, arrival: &Arrival<'_>) {
        match *arrival {
            Arrival::ImportRefused(cause) => {
                self.count("import.request_error_total", &format!("cause:{cause}"), 1);
            }
            Arrival::Import { encoding, took, .. } => {
                let tags = format!("part:request,encoding:{encoding}");
                self.nanos("import.response_duration_ns", &tags, took);
            }
            _ => {}
        }
    }

    /// v1 reports nothing of this.
    fn runtime(&self, _: &Memory, _: Duration) {}
}

/// Returns the tag of `forward.error_total`.
pub(super) fn cause(failure: &Failure) -> String {
    match failure {
        Failure::Io(_) | Failure::Grpc { .. } => "cause:io".to_owned(),
        Failure::Status { status, .. } => format!("cause:{status}"),
    }
}
