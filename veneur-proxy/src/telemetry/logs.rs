//! Log lines about forwarding, in the originals' words where they have some.

use std::time::Duration;

use shared::logging::Throttle;
use tracing::{debug, error, info, warn};

use crate::{
    config::Generation,
    forward::Protocol,
    observe::{Change, Event, Failure},
};

/// Writes the lines.
#[derive(Debug)]
pub(super) struct Logs {
    generation: Generation,
    failed: Throttle,
    lost: Throttle,
    dial: Throttle,
    disconnected: Throttle,
}

impl Logs {
    pub(super) fn new(generation: Generation) -> Self {
        let throttle = || Throttle::new(Duration::from_secs(1));
        Self {
            generation,
            failed: throttle(),
            lost: throttle(),
            dial: throttle(),
            disconnected: throttle(),
        }
    }

    pub(super) fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Failed {
                destination,
                protocol,
                failure,
                ..
            } => self.failed(destination, protocol, failure),
            Event::Lost { .. } => self.lost(event),
            Event::DialFailed {
                destination,
                failure,
            }
            | Event::OpenFailed {
                destination,
                failure,
            } => {
                if let Some(suppressed) = self.dial.admit() {
                    error!(destination, error = %failure, suppressed, "failed to dial destination");
                }
            }
            Event::Connected { destination } => {
                debug!(destination, "connected to destination");
            }
            Event::Disconnected {
                destination,
                failure: Some(failure),
            } => {
                if let Some(suppressed) = self.disconnected.admit() {
                    error!(destination, error = %failure, suppressed, "disconnected from destination");
                }
            }
            Event::Disconnected { destination, .. } => {
                debug!(destination, "disconnected from destination");
            }
            Event::Learned {
                destination,
                protocol,
            } => info!(destination, %protocol, "learned what a destination speaks"),
            Event::Membership {
                destination,
                change,
            } => match change {
                Change::Joined => info!(destination, "destination joined"),
                Change::Left => info!(destination, "destination left"),
            },
            Event::Discovered {
                service, result, ..
            } => self.discovered(service, result),
            _ => {}
        }
    }

    fn failed(&self, destination: &str, protocol: Protocol, failure: &Failure) {
        let Some(suppressed) = self.failed.admit() else {
            return;
        };
        match failure {
            Failure::Io(reason) if protocol == Protocol::Http => {
                let host = destination
                    .strip_prefix("http://")
                    .unwrap_or(destination)
                    .trim_end_matches('/');
                warn!(
                    action = "forward",
                    error = reason,
                    host,
                    path = "/import",
                    suppressed,
                    "Could not execute request"
                );
            }
            Failure::Status {
                status,
                headers,
                body,
                request_length,
            } => warn!(
                action = "forward",
                endpoint = destination,
                status,
                response_headers = headers,
                response = body,
                request_length,
                suppressed,
                "Could not POST"
            ),
            other => {
                debug!(destination, %protocol, error = %other, suppressed, "forwarding failed");
            }
        }
    }

    fn lost(&self, event: &Event<'_>) {
        let Event::Lost {
            destination,
            protocol,
            metrics,
            reason,
            failure,
            ..
        } = *event
        else {
            return;
        };
        let Some(suppressed) = self.lost.admit() else {
            return;
        };
        let cause = failure.map_or_else(|| reason.to_string(), ToString::to_string);
        if let (Some(Protocol::Http), Some(endpoint)) = (protocol, destination) {
            warn!(
                endpoint,
                batchSize = metrics,
                %reason,
                error = cause,
                suppressed,
                "Failed to POST metrics to destination"
            );
            return;
        }
        let kind = if destination.is_some() {
            "forward"
        } else {
            "no-destination"
        };
        let text = format!("(cause={kind}, metrics={metrics}): {cause}");
        error!(
            protocol = "grpc",
            destination = destination.unwrap_or_default(),
            %reason,
            error = text,
            suppressed,
            "Proxying failed"
        );
    }

    fn discovered(&self, service: &str, result: Result<&[&str], &str>) {
        let stream = self.generation == Generation::Stream;
        if stream {
            debug!(service, "discovering service");
        } else {
            let destinations = format!("[{}]", result.unwrap_or_default().join(" "));
            debug!(destinations, service, "Got destinations");
        }
        match result {
            Ok(_) => {}
            Err(reason) if stream => error!(error = reason, "failed discover destinations"),
            Err(reason) => error!(
                error = reason,
                errorType = "*errors.errorString",
                numDestinations = 0,
                service,
                "Discoverer found zero destinations and/or returned an error. Destinations may be stale!"
            ),
        }
    }
}
