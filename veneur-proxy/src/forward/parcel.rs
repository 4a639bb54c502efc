//! What a batch holds for one destination.
//!
//! A parcel is counted exactly once: it is settled as delivered, lost or moved, or else its end of life counts it as lost.
//! So `accepted = delivered + lost + moved + queued` holds by construction, also for tasks that are cancelled or panic.

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    Inbound, Protocol, TraceContext,
    batch::Group,
    pack::{Packer, unpack},
};
use crate::{
    json_metric::{JsonMetric, scan},
    observe::{Event, Failure, Loss, Observer, WasQueued},
    wire::{self, WireMetric},
};

/// Bytes that a gRPC message has before it: a flag and its length.
pub(crate) const GRPC_PREFIX: usize = 5;

/// On whose account parcels are counted.
pub(crate) struct Account {
    pub(crate) destination: Arc<str>,
    pub(crate) observer: Arc<dyn Observer>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.destination).finish()
    }
}

/// Metrics for one destination.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The metrics as [`Parcel::framing`] has them:
    ///
    /// * HTTP: the body of a request, packed ([`super::pack`])
    /// * unary: the place of a prefix ([`GRPC_PREFIX`]), then the fields of a `MetricList`
    /// * stream: messages, each with its prefix before it
    pub(crate) data: Bytes,
    pub(crate) metrics: usize,
    pub(crate) framing: Protocol,
    pub(crate) inbound: Inbound,
    pub(crate) trace: Option<TraceContext>,
    /// When its batch was received.
    pub(crate) since: Instant,
    /// Until when it may wait for a connection or for room.
    pub(crate) deadline: Option<Instant>,
    account: Arc<Account>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unqueued,
    Queued,
    Settled,
}

impl Parcel {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a field; there is one caller"
    )]
    pub(crate) fn new(
        data: Bytes,
        metrics: usize,
        framing: Protocol,
        inbound: Inbound,
        trace: Option<TraceContext>,
        since: Instant,
        deadline: Option<Instant>,
        account: Arc<Account>,
    ) -> Self {
        Self {
            data,
            metrics,
            framing,
            inbound,
            trace,
            since,
            deadline,
            account,
            stage: Stage::Unqueued,
        }
    }

    /// Returns whether it has waited for as long as it may.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Counts it as accepted. Called by the queue that takes it.
    pub(super) fn queued(&mut self) {
        self.stage = Stage::Queued;
        self.account.observer.event(&Event::Queued {
            destination: &self.account.destination,
            protocol: self.framing,
            inbound: self.inbound,
            metrics: self.metrics,
        });
    }

    /// Counts it as delivered; `started` is when its first byte was written.
    pub(crate) fn delivered(mut self, started: Instant) {
        self.settle();
        self.account.observer.event(&Event::Delivered {
            destination: &self.account.destination,
            protocol: self.framing,
            metrics: self.metrics,
            took: started.elapsed(),
            queued: started.saturating_duration_since(self.since),
        });
    }

    /// Counts it as lost.
    pub(crate) fn lost(mut self, reason: Loss, failure: Option<&Failure>) {
        self.give_up(reason, failure);
    }

    /// Takes the bytes out, to place the metrics anew.
    pub(crate) fn moved(mut self) -> Bytes {
        if self.stage == Stage::Queued {
            self.account.observer.event(&Event::Moved {
                destination: &self.account.destination,
                metrics: self.metrics,
            });
        }
        self.settle();
        std::mem::take(&mut self.data)
    }

    /// Takes in other parcels of the same framing; `data` is what all of them have.
    pub(crate) fn merge(&mut self, others: Vec<Self>, data: Bytes) {
        self.data = data;
        for mut other in others {
            self.metrics += other.metrics;
            self.since = self.since.min(other.since);
            self.deadline = self.deadline.min(other.deadline);
            other.settle();
        }
    }

    /// Forgets the bytes, of which only the count is still needed.
    pub(crate) fn strip(&mut self) {
        self.data = Bytes::new();
    }

    /// Splits off the first `metrics` metrics, which are the first `bytes` bytes. Only for what is framed for a stream.
    pub(crate) fn split_to(&mut self, metrics: usize, bytes: usize) -> Self {
        self.metrics -= metrics;
        Self {
            data: self.data.split_to(bytes),
            metrics,
            account: Arc::clone(&self.account),
            ..*self
        }
    }

    /// Replaces the framing; `lost` metrics could not be converted.
    pub(crate) fn reframe(&mut self, framing: Protocol, data: Bytes, lost: usize) {
        self.framing = framing;
        self.data = data;
        if lost > 0 {
            self.metrics -= lost;
            self.count_lost(lost, Loss::Convert, None);
        }
    }

    fn settle(&mut self) {
        self.stage = Stage::Settled;
    }

    fn give_up(&mut self, reason: Loss, failure: Option<&Failure>) {
        if self.stage != Stage::Settled && self.metrics > 0 {
            self.count_lost(self.metrics, reason, failure);
        }
        self.settle();
    }

    fn count_lost(&self, metrics: usize, reason: Loss, failure: Option<&Failure>) {
        self.account.observer.event(&Event::Lost {
            destination: Some(&self.account.destination),
            protocol: Some(self.framing),
            inbound: Some(self.inbound),
            metrics,
            reason,
            failure,
            queued: match self.stage {
                Stage::Unqueued => WasQueued::No,
                Stage::Queued | Stage::Settled => WasQueued::Yes,
            },
        });
    }
}

impl Drop for Parcel {
    /// Whoever let go of it without saying why was stopped.
    fn drop(&mut self) {
        match self.stage {
            Stage::Unqueued => self.give_up(Loss::Abandoned, None),
            Stage::Queued => self.give_up(Loss::Drain, None),
            Stage::Settled => {}
        }
    }
}

/// A metric in a parcel.
pub(crate) enum Framed<'a> {
    Json(JsonMetric<'a>),
    Wire(WireMetric<'a>),
}

/// Makes the data of a parcel readable for [`visit`].
pub(crate) fn open(framing: Protocol, data: Bytes) -> Bytes {
    match framing {
        Protocol::Http => unpack(&data).into(),
        Protocol::Unary | Protocol::Stream => data,
    }
}

/// Shows the metrics of a parcel's opened data, which is well formed because it was made here.
pub(crate) fn visit<'a>(framing: Protocol, data: &'a [u8], mut visit: impl FnMut(Framed<'a>)) {
    match framing {
        Protocol::Http => {
            let text = str::from_utf8(data).unwrap_or_default();
            for element in scan::elements(text) {
                if let Ok(metric) = scan::element(element) {
                    visit(Framed::Json(metric));
                }
            }
        }
        Protocol::Unary => {
            let list = data.get(GRPC_PREFIX..).unwrap_or_default();
            let read = wire::visit_list(list, |metric| visit(Framed::Wire(metric)));
            debug_assert!(read.is_ok(), "lists are checked before they are framed");
        }
        Protocol::Stream => {
            let mut rest = data;
            while let Some((message, after)) = split_message(rest) {
                if let Ok(metric) = WireMetric::read(message) {
                    visit(Framed::Wire(metric));
                }
                rest = after;
            }
        }
    }
}

/// Splits off the first message behind its prefix.
pub(crate) fn split_message(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = data.split_first_chunk::<GRPC_PREFIX>()?;
    let [_, length @ ..] = *prefix;
    rest.split_at_checked(u32::from_be_bytes(length) as usize)
}

/// Joins the data of parcels of one framing.
pub(crate) fn join(framing: Protocol, parts: Vec<Bytes>, packer: &Packer) -> Bytes {
    let length = parts.iter().map(Bytes::len).sum();
    let mut data = Vec::with_capacity(length);
    if framing == Protocol::Unary {
        data.extend_from_slice(&[0; GRPC_PREFIX]);
    }
    for part in parts {
        match framing {
            Protocol::Unary => data.extend_from_slice(part.get(GRPC_PREFIX..).unwrap_or_default()),
            Protocol::Stream => data.extend_from_slice(&part),
            Protocol::Http => data.extend_from_slice(&unpack(&part)),
        }
    }
    if framing == Protocol::Http {
        return packer.pack(&data);
    }
    seal(framing, &mut data);
    data.into()
}

/// Completes what a list of metrics begins with, now that its length is known.
pub(crate) fn seal(framing: Protocol, data: &mut [u8]) {
    if framing == Protocol::Unary
        && let Some((prefix, list)) = data.split_first_chunk_mut::<GRPC_PREFIX>()
    {
        let [_, length @ ..] = prefix;
        *length = (list.len() as u32).to_be_bytes();
    }
}

/// Frames the data of a parcel for another protocol; returns it and how many metrics could not be converted.
pub(crate) fn convert(
    from: Protocol,
    to: Protocol,
    data: &Bytes,
    packer: &Packer,
) -> (Bytes, usize) {
    let data = open(from, data.clone());
    let mut group = Group::new(to);
    group.begin(data.len() + data.len() / 8, packer);
    visit(from, &data, |metric| match metric {
        Framed::Json(metric) => group.add_json(&metric),
        Framed::Wire(metric) => group.add_wire(&metric),
    });
    let unconverted = group.unconverted;
    (group.seal(packer).0, unconverted)
}
