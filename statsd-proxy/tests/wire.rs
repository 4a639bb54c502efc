//! Recorded traffic through the real binary on real sockets: 115 datagrams in three set-ups and 15 TCP streams.
//!
//! Every difference from the original is one of the specification's fixes and stands in [`DEVIATIONS`]; what is sent
//! instead is compared with a model of a few lines. A case ends with one sentinel line per node: what a node has received
//! before its sentinel is what the case sent there, since the lines of one sender stay in order.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    thread,
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use shared::testing::{
    eventually, exclusive, golden,
    wire::{self, UdpPeer},
};
use statsd_proxy::{
    config::{self, RingKind},
    placement::Placement,
};
use support::{Dialect, Proxy};

/// Fixes of the specification, by the numbers of its section 9, and the cases of the captures in which they show.
const DEVIATIONS: &[(&str, &[Capture], &[&str])] = &[
    (
        "3: no crash on a colon without a pipe behind it: well-formed lines pass, others are dropped",
        GO,
        &[
            "dsd_multivalue",
            "dsd_multivalue_c",
            "two_colons",
            "ipv6ish",
            "multi_dsd",
            "multi_nopipe_middle",
        ],
    ),
    (
        "4: percent signs pass unchanged",
        GO,
        &[
            "percent_value",
            "percent_verb",
            "percent_tag",
            "percent_pct",
            "percent_end",
        ],
    ),
    (
        "5: whole datagrams, not their first 512 bytes",
        GO,
        &[
            "size_512_cut_exact",
            "size_513_single",
            "size_514_single",
            "size_600_single",
            "size_1k_multi_32",
            "size_1432_multi_64",
            "size_2k_single",
            "size_4k_multi_100",
            "size_8932_multi_100",
            "size_9k_single",
            "size_32k_multi_1000",
            "size_64k_multi_1000",
            "size_65507_single",
            "cut_leaves_name",
            "cut_leaves_no_pipe",
            "cut_leaves_short_value",
            "cut_leaves_m",
        ],
    ),
    (
        "6: no empty datagrams for empty and malformed lines",
        GO,
        &[
            "empty",
            "no_colon",
            "pipe_only",
            "only_newline",
            "only_newlines",
            "only_crlf",
            "leading_newline",
            "double_newline",
            "single_trailing",
            "multi_trailing",
            "multi_bad_middle",
        ],
    ),
    (
        "7: all types pass, and events and service checks",
        GO,
        &[
            "distribution",
            "keyvalue",
            "meter",
            "type_ct",
            "type_empty",
            "type_unknown",
            "type_uppercase",
            "trailing_space",
            "nul_trailing",
            "multi_unknown_middle",
            "binary",
            "dsd_event",
            "dsd_event_esc",
            "dsd_event_short",
            "dsd_sc",
            "dsd_sc_tags",
        ],
    ),
    ("8: one carriage return is cut", GO, &["crlf"]),
    (
        "26: bytes that are not UTF-8 pass unchanged in datagrams of several lines",
        &[Capture::JsUdp],
        &["binary", "invalid_utf8_multi"],
    ),
    (
        "26: the high bit of bytes over TCP is kept",
        &[Capture::JsTcp],
        &["utf8", "latin1", "high_bytes"],
    ),
    (
        "DogStatsD service checks are placed by their name",
        &[Capture::JsUdp],
        &["dsd_sc"],
    ),
];

const GO: &[Capture] = &[Capture::GoHash, Capture::GoMirror];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Capture {
    GoHash,
    GoMirror,
    JsUdp,
    JsTcp,
}

#[derive(Deserialize)]
struct Recording {
    nodes: Vec<String>,
    config: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    #[serde(rename = "in")]
    input: Input,
    out: BTreeMap<usize, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Datagram(String),
    Segments(Vec<String>),
}

/// What each node received: datagrams, in order.
type Received = Vec<Vec<Vec<u8>>>;

#[test]
fn go_statsd_proxy_hashing() {
    replay(Capture::GoHash, "wire_go_hash.json");
}

#[test]
fn packing_changes_datagrams_and_no_line() {
    for (capture, file) in [
        (Capture::GoHash, "wire_go_hash.json"),
        (Capture::GoMirror, "wire_go_mirror.json"),
        (Capture::JsUdp, "wire_proxyjs_udp.json"),
    ] {
        let recording: Recording = golden::json(support::golden(file));
        let _ports = exclusive("statsd-golden-ports");
        let mut bench = Bench::new(capture, &recording, bind(&recording), json!(true));
        for case in &recording.cases {
            let (received, model) = (bench.run(&case.input), bench.model(&case.input));
            assert_eq!(
                lines_of(&received),
                lines_of(&model),
                "{capture:?} {}",
                case.id
            );
        }
        println!(
            "{capture:?}: {} cases with the same lines in packed datagrams",
            recording.cases.len()
        );
    }
}

#[test]
fn go_statsd_proxy_mirroring() {
    replay(Capture::GoMirror, "wire_go_mirror.json");
}

#[test]
fn statsd_proxy_js_over_udp() {
    replay(Capture::JsUdp, "wire_proxyjs_udp.json");
}

#[test]
fn statsd_proxy_js_over_tcp() {
    replay(Capture::JsTcp, "wire_proxyjs_tcp.json");
}

fn replay(capture: Capture, file: &str) {
    let recording: Recording = golden::json(support::golden(file));
    // Placement depends on the ports, so the nodes listen where they did when this was recorded.
    let _ports = exclusive("statsd-golden-ports");
    let mut bench = Bench::new(capture, &recording, bind(&recording), json!(false));
    let (mut equal, mut deviating) = (0, Vec::new());
    let mut unexpected = Vec::new();
    for case in &recording.cases {
        let received = bench.run(&case.input);
        let recorded: Received = (0..recording.nodes.len())
            .map(|node| {
                case.out
                    .get(&node)
                    .into_iter()
                    .flatten()
                    .map(|datagram| golden::bytes(datagram))
                    .collect()
            })
            .collect();
        if received == recorded {
            equal += 1;
            continue;
        }
        let model = bench.model(&case.input);
        if received != model {
            unexpected.push(format!(
                "{}: got {:?}, model {:?}, recorded {:?}",
                case.id,
                shown(&received),
                shown(&model),
                shown(&recorded)
            ));
        }
        deviating.push(case.id.as_str());
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    let rows = DEVIATIONS.iter().filter(|(_, of, _)| of.contains(&capture));
    let mut listed: Vec<&str> = rows
        .flat_map(|(_, _, cases)| cases.iter().copied())
        .collect();
    listed.sort_unstable();
    listed.dedup();
    deviating.sort_unstable();
    assert_eq!(
        deviating, listed,
        "the deviations of {capture:?} are not those of the table"
    );
    println!(
        "{capture:?}: {equal} cases as recorded, {} by fixes of the specification",
        deviating.len()
    );
}

/// Binds the recorded nodes.
fn bind(recording: &Recording) -> Vec<UdpPeer> {
    recording
        .nodes
        .iter()
        .map(|node| UdpPeer::bind_to(node.parse::<SocketAddr>().unwrap()))
        .collect()
}

/// The lines that each node received, however they were packed.
fn lines_of(received: &Received) -> Vec<Vec<&[u8]>> {
    received
        .iter()
        .map(|datagrams| {
            datagrams
                .iter()
                .flat_map(|datagram| wire::lines(datagram))
                .collect()
        })
        .collect()
}

/// A proxy between a sender and its nodes.
struct Bench {
    capture: Capture,
    proxy: Proxy,
    peers: Vec<UdpPeer>,
    placement: Placement,
    labels: Vec<String>,
    /// For each node that lines can reach, a name that does.
    sentinels: Vec<(usize, String)>,
    runs: usize,
}

impl Bench {
    fn new(capture: Capture, recording: &Recording, peers: Vec<UdpPeer>, packing: Value) -> Self {
        let go = matches!(capture, Capture::GoHash | Capture::GoMirror);
        let mut config = recording.config.clone();
        for port in ["port", "managementport", "mgmt_port"] {
            config.as_object_mut().unwrap().remove(port);
        }
        // The recorded management ports are not served here.
        for node in config["nodes"].as_array_mut().unwrap() {
            node.as_object_mut().unwrap().remove("adminport");
            node.as_object_mut().unwrap().remove("managementport");
        }
        config["ring"] = json!(if go { "go-statsd-proxy" } else { "statsd" });
        config["packing"] = packing;
        let dialect = if go { Dialect::Go } else { Dialect::Js };
        let reading = if go {
            config::Dialect::GoStatsdProxy
        } else {
            config::Dialect::Statsd
        };
        let parsed = config::parse(&config.to_string(), reading, None::<RingKind>).unwrap();
        let placement = Placement::new(&parsed.config);
        let sentinels = sentinels(&placement, &recording.nodes);
        let proxy = Proxy::start(dialect, config);
        Self {
            capture,
            proxy,
            peers,
            placement,
            labels: recording.nodes.clone(),
            sentinels,
            runs: 0,
        }
    }

    /// Sends a case and then the sentinels, and returns what came before these.
    fn run(&mut self, input: &Input) -> Received {
        self.runs += 1;
        let sentinel = |name: &str| format!("{name}:{}|c", self.runs).into_bytes();
        let tail: Vec<Vec<u8>> = self
            .sentinels
            .iter()
            .map(|(_, name)| sentinel(name))
            .collect();
        match input {
            Input::Datagram(datagram) => {
                self.proxy.send(&golden::bytes(datagram));
                tail.iter().for_each(|line| self.proxy.send(line));
            }
            Input::Segments(segments) => {
                let mut stream = self.proxy.connect("tcp");
                stream.set_nodelay(true).unwrap();
                for segment in segments {
                    stream.write_all(&golden::bytes(segment)).unwrap();
                    // Segments were recorded apart; together they would test less.
                    thread::sleep(Duration::from_millis(10));
                }
                // The proxy closes its side when it has taken everything; only then may another connection speak.
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
                let mut stream = self.proxy.connect("tcp");
                stream
                    .write_all(&[tail.join(&b'\n'), b"\n".to_vec()].concat())
                    .unwrap();
            }
        }
        let mut received: Received = vec![Vec::new(); self.peers.len()];
        for ((node, name), line) in self.sentinels.iter().zip(&tail) {
            let datagrams = eventually(&format!("the sentinel {name} at node {node}"), || {
                let datagrams = self.peers[*node].datagrams();
                let arrived = datagrams
                    .iter()
                    .flat_map(|datagram| wire::lines(datagram))
                    .any(|other| other == line);
                arrived.then_some(datagrams)
            });
            // A mirrored node gets everyone's sentinels, and packing puts them behind the case's lines.
            let without_sentinels = |datagram: Vec<u8>| {
                let mut cut = datagram.as_slice();
                while let Some(rest) = tail
                    .iter()
                    .find_map(|line| cut.strip_suffix(line.as_slice()))
                {
                    if rest.is_empty() {
                        return None;
                    }
                    cut = rest.strip_suffix(b"\n")?;
                }
                Some(cut.to_vec())
            };
            let datagrams = datagrams
                .into_iter()
                .filter_map(without_sentinels)
                .collect();
            received[*node] = datagrams;
        }
        self.peers.iter().for_each(|peer| drop(peer.take()));
        received
    }

    /// What a case sends by the specification with all its fixes.
    fn model(&self, input: &Input) -> Received {
        let bytes = match input {
            Input::Datagram(datagram) => golden::bytes(datagram),
            Input::Segments(segments) => {
                let mut bytes: Vec<u8> = segments
                    .iter()
                    .flat_map(|segment| golden::bytes(segment))
                    .collect();
                bytes.truncate(
                    bytes
                        .iter()
                        .rposition(|byte| *byte == b'\n')
                        .map_or(0, |last| last + 1),
                );
                bytes
            }
        };
        let mut received: Received = vec![Vec::new(); self.labels.len()];
        for line in bytes.split(|byte| *byte == b'\n') {
            let go = matches!(self.capture, Capture::GoHash | Capture::GoMirror);
            let line = if go {
                line.strip_suffix(b"\r").unwrap_or(line)
            } else {
                line
            };
            let special = line.starts_with(b"_e{") || line.starts_with(b"_sc|");
            let colon = line.iter().position(|byte| *byte == b':');
            let well_formed = special || colon.is_some_and(|colon| line[colon..].contains(&b'|'));
            if line.is_empty() || (go && !well_formed) {
                continue;
            }
            let key = match (line.starts_with(b"_sc|"), line.starts_with(b"_e{")) {
                (true, _) => line[4..].split(|byte| *byte == b'|').next().unwrap(),
                (_, true) => line[colon.unwrap() + 1..]
                    .split(|byte| *byte == b'|')
                    .next()
                    .unwrap(),
                _ => &line[..colon.unwrap_or(line.len())],
            };
            for label in self.placement.nodes(key) {
                received[self.labels.iter().position(|other| other == label).unwrap()]
                    .push(line.to_vec());
            }
        }
        received
    }
}

/// Names that reach each node that can be reached.
fn sentinels(placement: &Placement, labels: &[String]) -> Vec<(usize, String)> {
    let mut found = BTreeMap::new();
    for number in 0..10_000 {
        let name = format!("sentinel.{number}");
        for label in placement.nodes(name.as_bytes()) {
            found
                .entry(labels.iter().position(|other| other == label).unwrap())
                .or_insert_with(|| name.clone());
        }
    }
    found.into_iter().collect()
}

fn shown(received: &Received) -> Vec<Vec<String>> {
    let text = |datagram: &Vec<u8>| {
        datagram
            .escape_ascii()
            .to_string()
            .chars()
            .take(60)
            .collect()
    };
    received
        .iter()
        .map(|datagrams| datagrams.iter().map(text).collect())
        .collect()
}
