//! The keys that neither original knows. They read the same in both dialects.

use std::{path::PathBuf, thread, time::Duration};

use super::{
    BindHost, Group, NodeConfig, Packing, Protocol, RingKind, SelfMetrics, Spread, UnixBind,
    document::Section,
};

/// The largest payload of a UDP datagram over IPv4.
pub(super) const MAX_DATAGRAM: i64 = 65_507;
/// What fits an Ethernet frame together with IPv6 and UDP headers, with room to spare; the size StatsD clients use.
const DEFAULT_PACKET: usize = 1_432;
const DEFAULT_QUEUE: i64 = 8 << 20;
const DEFAULT_RECEIVE_BUFFER: i64 = 32 << 20;
const DEFAULT_DRAIN: Duration = Duration::from_secs(10);
const MAX_SOCKETS: i64 = 64;

pub(super) fn packing(top: &Section<'_>) -> Packing {
    let size = top
        .integer_in("maxPacketSize", 1..=MAX_DATAGRAM)
        .map_or(DEFAULT_PACKET, |size| size as usize);
    if top.boolean("packing").unwrap_or(true) {
        Packing::Together(size)
    } else {
        Packing::Single
    }
}

pub(super) fn queue_bytes(top: &Section<'_>) -> usize {
    top.integer_in("queueBytes", 1_024..=1 << 40)
        .unwrap_or(DEFAULT_QUEUE) as usize
}

pub(super) fn receive_buffer(top: &Section<'_>) -> usize {
    top.integer_in("receiveBuffer", 4_096..=1 << 30)
        .unwrap_or(DEFAULT_RECEIVE_BUFFER) as usize
}

/// How many UDP sockets share the port: one per core up to four, which is more than one network card feeds.
pub(super) fn sockets(top: &Section<'_>) -> usize {
    top.integer_in("sockets", 1..=MAX_SOCKETS)
        .map_or_else(default_sockets, |sockets| sockets as usize)
}

pub(super) fn default_sockets() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(4)
}

pub(super) fn drain_limit(top: &Section<'_>) -> Duration {
    top.duration("drainTimeout").unwrap_or(DEFAULT_DRAIN)
}

pub(super) fn check_failures(top: &Section<'_>) -> u32 {
    top.integer_in("checkFailures", 1..=1_000).unwrap_or(1) as u32
}

pub(super) fn metrics_address(top: &Section<'_>) -> Option<String> {
    host_and_port(top, "metricsAddress")
}

pub(super) fn self_metrics(top: &Section<'_>) -> Option<SelfMetrics> {
    let section = top.section("selfMetrics")?;
    let address = host_and_port(&section, "address");
    let prefix = section.text("prefix").unwrap_or("statsd_proxy.").to_owned();
    let interval = section
        .duration("interval")
        .unwrap_or(Duration::from_secs(10));
    if !section.has("address") {
        section.error("address", "is required");
    }
    if interval < Duration::from_millis(100) {
        section.error("interval", "must be 100ms or more");
    }
    if prefix
        .bytes()
        .any(|byte| matches!(byte, b':' | b'|' | b'@' | b'\n'))
    {
        section.error("prefix", "must not hold any of : | @ and line feed");
    }
    section.finish();
    Some(SelfMetrics {
        address: address?,
        prefix,
        interval,
    })
}

pub(super) fn unix_socket(top: &Section<'_>, key: &'static str) -> Option<UnixBind> {
    let path = PathBuf::from(top.text(key)?);
    let mode = top
        .integer_in("socketMode", 0..=0o777)
        .map(|mode| mode as u32);
    Some(UnixBind { path, mode })
}

/// `groups`: further sets of nodes beside `nodes`.
pub(super) fn groups<'a>(
    top: &Section<'a>,
    ring_flag: Option<RingKind>,
    node: impl Fn(&Section<'a>) -> Option<NodeConfig>,
) -> Vec<Group> {
    let sections = top.sections("groups").unwrap_or_default();
    let groups = sections.iter().enumerate().map(|(index, section)| {
        let name = section
            .text("name")
            .map_or_else(|| format!("group{}", index + 1), str::to_owned);
        let spread = spread(section, ring_flag);
        let nodes = section.sections("nodes").unwrap_or_default();
        if nodes.is_empty() {
            section.error("nodes", "a group needs at least one node");
        }
        section.finish();
        Group {
            name,
            spread,
            nodes: nodes.iter().filter_map(&node).collect(),
        }
    });
    groups.collect()
}

/// `mirror` and `ring` of the file or of a group; a flag beats the file's `ring`.
pub(super) fn spread(section: &Section<'_>, ring_flag: Option<RingKind>) -> Spread {
    let ring = section.text("ring").and_then(|name| {
        let kind = RingKind::parse(name);
        if kind.is_none() {
            section.error(
                "ring",
                format_args!("{name:?} is none of statsd, statsd-0.7, go-statsd-proxy"),
            );
        }
        kind
    });
    if section.boolean("mirror").unwrap_or(false) {
        Spread::Mirror
    } else {
        Spread::Hash(ring_flag.or(ring).unwrap_or(RingKind::Statsd))
    }
}

/// `protocol` of a node.
pub(super) fn protocol(node: &Section<'_>) -> Protocol {
    match node.text("protocol") {
        None | Some("udp") => Protocol::Udp,
        Some("tcp") => Protocol::Tcp,
        Some(other) => {
            node.error("protocol", format_args!("{other:?} is neither udp nor tcp"));
            Protocol::Udp
        }
    }
}

/// What a bind host that is text means, apart from words that a dialect treats in its own way.
pub(super) fn bind_host(written: &str) -> BindHost {
    let unbracketed = written
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(written);
    unbracketed
        .parse()
        .map_or_else(|_| BindHost::Name(written.to_owned()), BindHost::Address)
}

/// A host as it is resolved: without the brackets that an IPv6 address wears in `HOST:PORT`.
pub(super) fn resolvable(host: &str) -> String {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
        .to_owned()
}

fn host_and_port(section: &Section<'_>, key: &'static str) -> Option<String> {
    let text = section.text(key)?;
    let valid = text
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !valid {
        section.error(key, format_args!("{text:?} is not HOST:PORT"));
    }
    valid.then(|| text.to_owned())
}
