//! Which destination a metric goes to. Pure.
//!
//! The key of a metric is its name, its type and its tags without anything between them; its CRC-32 is looked up in
//! veneur's ring ([`shared::hashing::consistent`]). All generations agree on that; they differ in what takes part:
//!
//! | came by | type | tags |
//! |---|---|---|
//! | HTTP, all generations | as received | `tagstring` as received, whatever `tags` says |
//! | gRPC, dual | lower-case name, or the number | in the order received, joined with `,` |
//! | gRPC, stream and dual 14.2 | the same | the same, without those that [`IgnoreTags`] matches |
//!
//! So a series has one key both ways, if its sender is a veneur.

mod ignore_tags;

use shared::hashing::{Ring, consistent::ConsistentRing};

pub use self::ignore_tags::{IgnoreTags, TagRule, TagRuleError};
use crate::{json_metric::JsonMetric, wire::WireMetric};

/// Something that has a place in the ring.
pub trait Routed {
    /// Appends the bytes that are hashed.
    fn write_key(&self, ignored: &IgnoreTags, key: &mut Vec<u8>);
}

impl Routed for JsonMetric<'_> {
    /// No generation ignores tags of what comes by HTTP.
    fn write_key(&self, _: &IgnoreTags, key: &mut Vec<u8>) {
        for part in [&self.name, &self.kind, &self.tagstring] {
            key.extend_from_slice(part.as_bytes());
        }
    }
}

impl Routed for WireMetric<'_> {
    fn write_key(&self, ignored: &IgnoreTags, key: &mut Vec<u8>) {
        key.extend_from_slice(self.name());
        key.extend_from_slice(self.kind_name().as_bytes());
        let mut first = true;
        for tag in self.tags().filter(|tag| !ignored.matches(tag)) {
            if !first {
                key.push(b',');
            }
            first = false;
            key.extend_from_slice(tag);
        }
    }
}

/// Metrics by destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<M> {
    /// One group for each of [`ConsistentRing::members`], which may be empty; each in the order received.
    pub groups: Vec<Vec<M>>,
    /// All metrics, if the ring has no members.
    pub homeless: Vec<M>,
}

/// Places metrics.
pub fn place<M: Routed>(
    ring: &ConsistentRing,
    ignored: &IgnoreTags,
    metrics: impl IntoIterator<Item = M>,
) -> Placed<M> {
    let mut placed = Placed {
        groups: ring.members().iter().map(|_| Vec::new()).collect(),
        homeless: Vec::new(),
    };
    let mut key = Vec::with_capacity(256);
    for metric in metrics {
        key.clear();
        metric.write_key(ignored, &mut key);
        match ring.pick(&key) {
            Some(member) => placed.groups[member].push(metric),
            None => placed.homeless.push(metric),
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_metric::ImportBody;

    #[test]
    fn a_series_has_one_key_whichever_way_it_came() {
        let body = ImportBody::open(
            b"",
            br#"[{"name":"lat","type":"timer","tagstring":"a:1,b:2","tags":["x:9"]}]"#,
            1000,
        )
        .unwrap();
        let json = &body.metrics().unwrap()[0];
        let wire = WireMetric::read(b"\x0a\x03lat\x12\x03a:1\x12\x03b:2\x18\x04").unwrap();
        let keys = [json as &dyn Routed, &wire].map(|metric| {
            let mut key = Vec::new();
            metric.write_key(&IgnoreTags::default(), &mut key);
            String::from_utf8(key).unwrap()
        });
        assert_eq!(keys, ["lattimera:1,b:2", "lattimera:1,b:2"]);
    }

    #[test]
    fn without_members_everything_is_homeless() {
        let metric = WireMetric::read(b"\x0a\x01x").unwrap();
        let placed = place(&ConsistentRing::default(), &IgnoreTags::default(), [metric]);
        assert!(placed.groups.is_empty());
        assert_eq!(placed.homeless, [metric]);
    }
}
