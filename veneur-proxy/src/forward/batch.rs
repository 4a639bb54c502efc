//! The metrics of one request, placed as they are read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;

use super::{
    Inbound, Protocol, TraceContext,
    parcel::{self, Framed, GRPC_PREFIX, Parcel},
};
use crate::{
    convert,
    destinations::members::{Member, Members},
    json_metric::{ImportBody, ImportError, JsonMetric},
    observe::{Event, Loss, Observer, WasQueued},
    proto::metricpb::Metric,
    route::{IgnoreTags, Routed},
    wire::{self, Corrupt, WireMetric},
};

/// The metrics of one request, by destination.
///
/// Made by [`Destinations::batch`](crate::destinations::Destinations::batch), filled with what was received, and handed to
/// [`Destinations::accept`](crate::destinations::Destinations::accept). Metrics are placed, and copied into the buffer of
/// their destination, as they are read: once. A batch that is dropped instead was never accepted, and is not counted.
#[derive(Debug)]
pub struct Batch {
    pub(crate) inbound: Inbound,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) started: Instant,
    pub(crate) members: Arc<Members>,
    ignored: Arc<IgnoreTags>,
    /// One for each member, at its place.
    groups: Vec<Group>,
    homeless: usize,
    metrics: usize,
    key: Vec<u8>,
}

/// The metrics for one member.
#[derive(Debug)]
pub(super) struct Group {
    framing: Protocol,
    pub(super) data: Vec<u8>,
    metrics: usize,
    /// Metrics without a counterpart in the protocol of the destination.
    pub(super) unconverted: usize,
}

impl Batch {
    pub(crate) fn new(
        inbound: Inbound,
        trace: Option<TraceContext>,
        members: Arc<Members>,
        ignored: Arc<IgnoreTags>,
    ) -> Self {
        let groups = members
            .members
            .iter()
            .map(|member| Group::new(member.framing()));
        Self {
            inbound,
            trace,
            started: Instant::now(),
            groups: groups.collect(),
            members,
            ignored,
            homeless: 0,
            metrics: 0,
            key: Vec::with_capacity(256),
        }
    }

    /// Adds the metrics of an `/import` body; returns how many there are.
    ///
    /// Of a body that is refused nothing is added.
    pub fn import(&mut self, body: &ImportBody<'_>) -> Result<usize, ImportError> {
        let metrics = body.metrics()?;
        let size: usize = metrics.iter().map(|metric| metric.text.len() + 1).sum();
        let room = self.share_of(size);
        for metric in &metrics {
            if let Some(group) = self.group_of(metric, room) {
                group.add_json(metric);
            }
        }
        Ok(metrics.len())
    }

    /// Adds the metrics of a `forwardrpc.MetricList` message; returns how many there are.
    ///
    /// After an error the batch holds a part of them and is to be dropped.
    pub fn list(&mut self, message: &[u8]) -> Result<usize, Corrupt> {
        let before = self.metrics;
        let room = self.share_of(message.len());
        wire::visit_list(message, |metric| {
            if let Some(group) = self.group_of(&metric, room) {
                group.add_wire(&metric);
            }
        })?;
        Ok(self.metrics - before)
    }

    /// Adds the metric of a `metricpb.Metric` message.
    ///
    /// After an error the batch is as it was before.
    pub fn metric(&mut self, message: &[u8]) -> Result<(), Corrupt> {
        let metric = WireMetric::read(message)?;
        if let Some(group) = self.group_of(&metric, message.len() + GRPC_PREFIX) {
            group.add_wire(&metric);
        }
        Ok(())
    }

    /// Returns how many metrics are in it.
    pub fn len(&self) -> usize {
        self.metrics
    }

    /// Returns whether no metric is in it.
    pub fn is_empty(&self) -> bool {
        self.metrics == 0
    }

    /// Returns how many bytes wait in it for destinations.
    pub fn bytes(&self) -> usize {
        self.groups.iter().map(|group| group.data.len()).sum()
    }

    /// Makes a batch of a parcel, to place its metrics anew.
    pub(crate) fn of(parcel: Parcel, members: Arc<Members>, ignored: Arc<IgnoreTags>) -> Self {
        let mut batch = Self::new(parcel.inbound, parcel.trace, members, ignored);
        batch.started = parcel.since;
        let room = batch.share_of(parcel.data.len());
        let framing = parcel.framing;
        let data = parcel.moved();
        parcel::visit(framing, &data, |metric| match metric {
            Framed::Json(metric) => {
                if let Some(group) = batch.group_of(&metric, room) {
                    group.add_json(&metric);
                }
            }
            Framed::Wire(metric) => {
                if let Some(group) = batch.group_of(&metric, room) {
                    group.add_wire(&metric);
                }
            }
        });
        batch
    }

    /// Seals the groups; counts what has no destination or no counterpart.
    pub(crate) fn into_parcels(
        self,
        observer: &dyn Observer,
        timeout: Option<Duration>,
    ) -> impl Iterator<Item = (Arc<Member>, Parcel)> {
        let deadline = timeout.map(|timeout| self.started + timeout);
        self.into_parcels_until(observer, deadline)
    }

    /// The same with a deadline that stands already.
    pub(crate) fn into_parcels_until(
        self,
        observer: &dyn Observer,
        deadline: Option<Instant>,
    ) -> impl Iterator<Item = (Arc<Member>, Parcel)> {
        let lost = |metrics, reason, member: Option<&Member>| {
            if metrics > 0 {
                observer.event(&Event::Lost {
                    destination: member.map(|member| &*member.account.destination),
                    protocol: member.map(Member::framing),
                    inbound: Some(self.inbound),
                    metrics,
                    reason,
                    failure: None,
                    queued: WasQueued::No,
                });
            }
        };
        lost(self.homeless, Loss::NoDestination, None);
        for (member, group) in self.members.members.iter().zip(&self.groups) {
            lost(group.unconverted, Loss::Convert, Some(member));
        }
        let (members, inbound) = (self.members, self.inbound);
        let (trace, started) = (self.trace, self.started);
        let filled = self.groups.into_iter().enumerate();
        filled
            .filter(|(_, group)| group.metrics > 0)
            .map(move |(place, mut group)| {
                group.seal();
                let member = Arc::clone(&members.members[place]);
                let parcel = Parcel::new(
                    group.data,
                    group.metrics,
                    group.framing,
                    inbound,
                    trace,
                    started,
                    deadline,
                    Arc::clone(&member.account),
                );
                (member, parcel)
            })
    }

    /// A bit more than an even share of `size` bytes: growing costs more than asking for too much.
    fn share_of(&self, size: usize) -> usize {
        let even = size / self.groups.len().max(1);
        even + even / 4 + 256
    }

    fn group_of(&mut self, metric: &impl Routed, room: usize) -> Option<&mut Group> {
        self.metrics += 1;
        self.key.clear();
        metric.write_key(&self.ignored, &mut self.key);
        let Some(place) = self.members.owner(&self.key) else {
            self.homeless += 1;
            return None;
        };
        let group = &mut self.groups[place];
        if group.data.is_empty() {
            group.begin(room);
        }
        Some(group)
    }
}

impl Group {
    pub(super) fn new(framing: Protocol) -> Self {
        Self {
            framing,
            data: Vec::new(),
            metrics: 0,
            unconverted: 0,
        }
    }

    /// Makes room for what will come.
    pub(super) fn begin(&mut self, room: usize) {
        self.data.reserve(room);
        if self.framing == Protocol::Unary {
            self.data.extend_from_slice(&[0; GRPC_PREFIX]);
        }
    }

    /// Completes it.
    pub(super) fn seal(&mut self) {
        parcel::seal(self.framing, &mut self.data);
    }

    pub(super) fn add_json(&mut self, metric: &JsonMetric<'_>) {
        if self.framing == Protocol::Http {
            self.data.push(b',');
            self.data.extend_from_slice(metric.text.as_bytes());
            self.metrics += 1;
            return;
        }
        let Ok(metric) = convert::to_protobuf(metric) else {
            self.unconverted += 1;
            return;
        };
        let length = metric.encoded_len();
        if self.framing == Protocol::Unary {
            self.data.push(0x0a);
            prost::encoding::encode_varint(length as u64, &mut self.data);
        } else {
            write_prefix(length, &mut self.data);
        }
        metric.encode_raw(&mut self.data);
        self.metrics += 1;
    }

    pub(super) fn add_wire(&mut self, metric: &WireMetric<'_>) {
        match self.framing {
            Protocol::Unary => metric.write_framed(&mut self.data),
            Protocol::Stream => {
                write_prefix(metric.message().len(), &mut self.data);
                self.data.extend_from_slice(metric.message());
            }
            Protocol::Http => {
                let decoded = Metric::decode(metric.message()).ok();
                let Some(text) = decoded.and_then(|metric| convert::to_json(&metric).ok()) else {
                    self.unconverted += 1;
                    return;
                };
                self.data.push(b',');
                self.data.extend_from_slice(text.as_bytes());
            }
        }
        self.metrics += 1;
    }
}

/// Writes what stands before an uncompressed message.
pub(crate) fn write_prefix(length: usize, data: &mut Vec<u8>) {
    data.push(0);
    data.extend_from_slice(&(length as u32).to_be_bytes());
}
