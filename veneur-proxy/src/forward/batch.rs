//! The metrics of one request, placed as they are read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;

use super::{
    Inbound, Protocol, TraceContext,
    pack::Packer,
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

/// How many single metrics, and bytes of them, one batch has, and how many bytes for one destination.
const MANY: usize = 4096;
const LARGE: usize = 1 << 20;
const LARGE_GROUP: usize = 32 * 1024;
/// Groups that are expected to stay below this, in bytes, have buffers of their size.
const SMALL_GROUP: usize = 2 * 1024;

/// The metrics of one request, by destination.
///
/// Made by [`Destinations::batch`](crate::destinations::Destinations::batch), filled with what was received, and handed to
/// [`Destinations::accept`](crate::destinations::Destinations::accept). Metrics are placed, and copied into the buffer of
/// their destination, as they are read: once. For HTTP destinations that buffer is packed before it is queued. A batch that is
/// dropped instead was never accepted, and is not counted.
#[derive(Debug)]
pub struct Batch {
    pub(crate) inbound: Inbound,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) started: Instant,
    pub(crate) members: Arc<Members>,
    ignored: Arc<IgnoreTags>,
    packer: Arc<Packer>,
    /// One for each member, at its place.
    groups: Vec<Group>,
    homeless: usize,
    metrics: usize,
    /// Bytes in all groups, and in the largest.
    bytes: usize,
    largest: usize,
    /// How much room a group is given with its first metric, at least.
    room: usize,
    key: Vec<u8>,
}

/// The metrics for one member.
#[derive(Debug)]
pub(super) struct Group {
    framing: Protocol,
    data: Vec<u8>,
    /// What has become of `data`, for HTTP.
    packed: Option<Packed>,
    metrics: usize,
    /// Metrics without a counterpart in the protocol of the destination.
    pub(super) unconverted: usize,
}

/// A body for HTTP.
#[derive(Debug)]
struct Packed {
    body: Bytes,
    took: Duration,
}

impl Batch {
    pub(crate) fn new(
        inbound: Inbound,
        trace: Option<TraceContext>,
        members: Arc<Members>,
        ignored: Arc<IgnoreTags>,
        packer: Arc<Packer>,
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
            packer,
            homeless: 0,
            metrics: 0,
            bytes: 0,
            largest: 0,
            room: 0,
            key: Vec::with_capacity(256),
        }
    }

    /// Adds the metrics of an `/import` body; returns how many there are.
    ///
    /// After an error the batch holds a part of them and is to be dropped.
    pub fn import(&mut self, body: &ImportBody<'_>) -> Result<usize, ImportError> {
        let before = self.metrics;
        let room = self.share_of(body.len());
        body.visit(|metric| {
            if let Some(group) = self.group_of(&metric, room) {
                group.add_json(&metric);
            }
        })?;
        Ok(self.metrics - before)
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
        let room = self.room.max(message.len() + GRPC_PREFIX);
        if let Some(group) = self.group_of(&metric, room) {
            let before = group.data.len();
            group.add_wire(&metric);
            let after = group.data.len();
            self.bytes += after - before;
            self.largest = self.largest.max(after);
        }
        Ok(())
    }

    /// Expects about as many bytes of single metrics as that.
    ///
    /// Groups that would grow out of the allocator's common sizes begin with a buffer of the one size that is kept.
    pub(crate) fn expect(&mut self, bytes: usize) {
        let share = self.share_of(bytes);
        self.room = if share < SMALL_GROUP {
            share
        } else {
            LARGE_GROUP
        };
    }

    /// Returns whether it has as many single metrics as a batch should.
    ///
    /// Groups that stay below a size come out of the allocator's common pages, and are of use again at once.
    pub(crate) fn is_full(&self) -> bool {
        self.metrics >= MANY || self.bytes >= LARGE || self.largest >= LARGE_GROUP * 7 / 8
    }

    /// Returns how many metrics are in it.
    pub fn len(&self) -> usize {
        self.metrics
    }

    /// Returns whether no metric is in it.
    pub fn is_empty(&self) -> bool {
        self.metrics == 0
    }

    /// Returns how many bytes of single metrics are in it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packs what is for HTTP destinations. Whatever is not packed here is when it is queued.
    pub(crate) fn pack(&mut self) {
        for group in &mut self.groups {
            group.pack(&self.packer);
        }
    }

    /// Returns how many bytes of text are still to be packed.
    pub(crate) fn unpacked(&self) -> usize {
        let http = self
            .groups
            .iter()
            .filter(|group| group.framing == Protocol::Http);
        http.map(|group| group.data.len()).sum()
    }

    /// Makes a batch of a parcel, to place its metrics anew.
    pub(crate) fn of(
        parcel: Parcel,
        members: Arc<Members>,
        ignored: Arc<IgnoreTags>,
        packer: Arc<Packer>,
    ) -> Self {
        let mut batch = Self::new(parcel.inbound, parcel.trace, members, ignored, packer);
        batch.started = parcel.since;
        let framing = parcel.framing;
        let data = parcel::open(framing, parcel.moved());
        let room = batch.share_of(data.len());
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
        let (trace, started, packer) = (self.trace, self.started, self.packer);
        let filled = self.groups.into_iter().enumerate();
        filled
            .filter(|(_, group)| group.metrics > 0)
            .map(move |(place, group)| {
                let member = Arc::clone(&members.members[place]);
                let (metrics, framing) = (group.metrics, group.framing);
                let (data, packed) = group.seal(&packer);
                if let Some(took) = packed {
                    observer.event(&Event::Encoded {
                        destination: member.name(),
                        took,
                        bytes: data.len(),
                    });
                }
                let parcel = Parcel::new(
                    data,
                    metrics,
                    framing,
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
            group.begin(room, &self.packer);
        }
        Some(group)
    }
}

impl Group {
    pub(super) fn new(framing: Protocol) -> Self {
        Self {
            framing,
            data: Vec::new(),
            packed: None,
            metrics: 0,
            unconverted: 0,
        }
    }

    /// Makes room for what will come.
    pub(super) fn begin(&mut self, room: usize, packer: &Packer) {
        self.data = packer.groups.take(room);
        if self.framing == Protocol::Unary {
            self.data.extend_from_slice(&[0; GRPC_PREFIX]);
        }
    }

    /// Packs what is for HTTP.
    fn pack(&mut self, packer: &Packer) {
        if self.framing == Protocol::Http && !self.data.is_empty() {
            debug_assert!(self.packed.is_none(), "nothing is added to what is packed");
            let started = Instant::now();
            let text = std::mem::take(&mut self.data);
            self.packed = Some(Packed {
                body: packer.pack(&text),
                took: started.elapsed(),
            });
            packer.groups.give(text);
        }
    }

    /// Completes it: what goes to the destination, and how long packing took if it was packed.
    pub(super) fn seal(mut self, packer: &Packer) -> (Bytes, Option<Duration>) {
        self.pack(packer);
        if let Some(Packed { body, took }) = self.packed {
            return (body, Some(took));
        }
        parcel::seal(self.framing, &mut self.data);
        (packer.groups.share(self.data), None)
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
