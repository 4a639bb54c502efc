//! go-statsd-proxy's dialect: JSON, as `statsdproxy/config.go` declares it and Go's `encoding/json` reads it.
//!
//! Defaults that differ from the original are those its documentation promises (spec section 2.1): the port is 8125 and
//! the management port 8126 unless the file says otherwise.

use std::{net::IpAddr, time::Duration};

use super::{
    Bind, BindHost, Config, Dialect, Group, Listeners, NodeConfig, RingKind,
    document::{KeyCase, Problems, Section, Value},
    extras,
};
use crate::line::{Grammar, Types};

/// Reads the text; a failure says where.
pub(super) fn document(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|reason| reason.to_string())
}

/// Makes a configuration of a document; `None`, or problems, if it is not valid.
pub(super) fn read(
    document: &Value,
    ring_flag: Option<RingKind>,
    problems: &Problems,
) -> Option<Config> {
    let top = Section::top(document, KeyCase::Ignored, problems)?;
    let types = if top.boolean("strictTypes").unwrap_or(false) {
        Types::Known
    } else {
        Types::Any
    };
    let nodes = top.sections("nodes").unwrap_or_default();
    let main = Group {
        name: "nodes".to_owned(),
        spread: extras::spread(&top, ring_flag),
        nodes: nodes.iter().filter_map(node).collect(),
    };
    let further = extras::groups(&top, ring_flag, node);
    // A file that has only `groups` has no main group.
    let groups = (!nodes.is_empty() || further.is_empty())
        .then_some(main)
        .into_iter()
        .chain(further);
    let interval = check_interval(&top);
    let listeners = Listeners {
        udp: Some(Bind {
            written: host(&top),
            host: udp_host(&top),
            port: top.port("port").unwrap_or(8_125),
        }),
        udp_sockets: extras::sockets(&top),
        receive_buffer: extras::receive_buffer(&top),
        tcp: top.port("tcpPort").map(|port| Bind {
            written: host(&top),
            host: udp_host(&top),
            port,
        }),
        unix_stream: extras::unix_socket(&top, "unixStream"),
        unix_datagram: extras::unix_socket(&top, "unixDatagram"),
        management: management(&top),
        metrics: extras::metrics_address(&top),
    };
    let config = Config {
        dialect: Dialect::GoStatsdProxy,
        grammar: Grammar::GoStatsdProxy(types),
        listeners,
        groups: groups.collect(),
        packing: extras::packing(&top),
        queue_bytes: extras::queue_bytes(&top),
        checks: extras::checks(&top, interval),
        self_metrics: extras::self_metrics(&top),
        drain_limit: extras::drain_limit(&top),
        watch_file: false,
        entries: Vec::new(),
    };
    let js_only = [
        "cacheSize",
        "forkCount",
        "server",
        "udp_version",
        "mgmt_port",
        "mgmt_address",
        "address",
        "address_ipv6",
    ];
    top.ignore(
        &js_only,
        "a key of statsd's proxy.js, without effect in this dialect (see -dialect)",
    );
    top.finish();
    Some(config)
}

fn node(section: &Section<'_>) -> Option<NodeConfig> {
    let host = host(section);
    let port = section.port("port");
    if !section.has("port") {
        section.error("port", "is required");
    }
    let adminport = section.port("adminport");
    let management_port = section.port("managementport").or_else(|| {
        let alias = adminport?;
        section.warn(
            "adminport",
            "taken as managementport; go-statsd-proxy would skip checks of this node",
        );
        Some(alias)
    });
    let protocol = extras::protocol(section);
    section.finish();
    let port = port?;
    Some(NodeConfig {
        label: format!("{host}:{port}"),
        host: extras::resolvable(&host),
        port,
        protocol,
        // Port 0 is how the original says that there is none.
        management_port: management_port.filter(|port| *port != 0),
    })
}

/// `host` as written, or this machine's name, which is what the original takes.
fn host(section: &Section<'_>) -> String {
    let own = || {
        nix::unistd::gethostname().map_or_else(
            |_| "localhost".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    };
    section.text("host").map_or_else(own, str::to_owned)
}

/// Where UDP is taken: an address on that alone, but the unspecified ones and whatever is no address on everything.
fn udp_host(top: &Section<'_>) -> BindHost {
    match top.text("host") {
        None | Some("") => BindHost::All,
        Some(host) => unspecified_means_all(extras::bind_host(host)),
    }
}

fn management(top: &Section<'_>) -> Bind {
    let written = top.text("managementhost").unwrap_or("127.0.0.1");
    let port = top.port("managementport").unwrap_or(8_126);
    let host = if written.contains(':') && !written.starts_with('[') {
        BindHost::Invalid(format!(
            "address {written}:{port}: too many colons in address"
        ))
    } else if written.is_empty() {
        BindHost::All
    } else {
        unspecified_means_all(extras::bind_host(written))
    };
    Bind {
        written: written.to_owned(),
        host,
        port,
    }
}

fn unspecified_means_all(host: BindHost) -> BindHost {
    match host {
        BindHost::Address(IpAddr::V4(address)) if address.is_unspecified() => BindHost::All,
        BindHost::Address(IpAddr::V6(address)) if address.is_unspecified() => BindHost::All,
        other => other,
    }
}

/// The original takes seconds, but every example is written as if it took milliseconds; nobody means 17 minutes.
fn check_interval(top: &Section<'_>) -> Duration {
    match top.integer("checkInterval").unwrap_or(0) {
        ..0 => {
            top.warn("checkInterval", "is negative, taken as 1 second");
            Duration::from_secs(1)
        }
        0 => Duration::from_secs(1),
        seconds @ 1..100 => Duration::from_secs(seconds as u64),
        millis => Duration::from_millis(millis as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, Loaded, Packing, Protocol, Spread, parse};
    use super::*;

    fn load(text: &str) -> Result<Loaded, ConfigError> {
        parse(text, Dialect::GoStatsdProxy, None)
    }

    #[test]
    fn the_shipped_example_reads_as_documented() {
        let text = r#"{
            "nodes": [{"host": "127.0.0.1", "port": 8130, "managementport": 8131}, {"host": "[::1]", "port": 8132}],
            "host": "0.0.0.0", "port": 8125, "managementport": 8126, "checkInterval": 1000, "cacheSize": 10000
        }"#;
        let loaded = load(text).unwrap();
        let config = loaded.config;
        assert_eq!(config.groups.len(), 1);
        let [first, second] = config.groups[0].nodes.as_slice() else {
            panic!("{config:?}")
        };
        assert_eq!(
            (first.label.as_str(), first.management_port),
            ("127.0.0.1:8130", Some(8131))
        );
        assert_eq!(
            (second.label.as_str(), second.host.as_str(), second.protocol),
            ("[::1]:8132", "::1", Protocol::Udp)
        );
        assert_eq!(config.groups[0].spread, Spread::Hash(RingKind::Statsd));
        assert_eq!(config.listeners.udp.unwrap().host, BindHost::All);
        assert_eq!(
            config.listeners.management.host,
            BindHost::Address("127.0.0.1".parse().unwrap())
        );
        assert_eq!(config.checks.interval, Duration::from_secs(1));
        assert_eq!(config.packing, Packing::Together(1_432));
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    }

    #[test]
    fn check_interval_is_milliseconds_from_100_up() {
        let f = |value: i64, expected: Duration| {
            let config = load(&format!(r#"{{"checkInterval": {value}}}"#))
                .unwrap()
                .config;
            assert_eq!(config.checks.interval, expected, "{value}");
        };
        f(0, Duration::from_secs(1));
        f(-5, Duration::from_secs(1));
        f(10, Duration::from_secs(10));
        f(99, Duration::from_secs(99));
        f(100, Duration::from_millis(100));
        f(10_000, Duration::from_secs(10));
    }

    #[test]
    fn groups_stand_beside_or_instead_of_nodes() {
        let both = r#"{"nodes": [{"host": "a", "port": 1}], "mirror": true,
            "groups": [{"name": "new", "ring": "statsd-0.7", "nodes": [{"host": "b", "port": 2, "protocol": "tcp"}]}]}"#;
        let config = load(both).unwrap().config;
        assert_eq!(config.groups[0].spread, Spread::Mirror);
        assert_eq!(config.groups[1].name, "new");
        assert_eq!(config.groups[1].spread, Spread::Hash(RingKind::Statsd07));
        assert_eq!(config.groups[1].nodes[0].protocol, Protocol::Tcp);
        let only = r#"{"groups": [{"mirror": true, "nodes": [{"host": "b", "port": 2}]}]}"#;
        assert_eq!(load(only).unwrap().config.groups.len(), 1);
    }

    #[test]
    fn every_invalid_value_is_reported_with_its_key() {
        let text = r#"{"port": 70000, "mirror": "yes", "ring": "ketama", "maxPacketSize": 0, "metricsAddress": "9102",
            "nodes": [{"host": "a", "port": "1"}, {"host": "b"}], "groups": [{"nodes": []}], "selfMetrics": {}}"#;
        let ConfigError {
            reasons: errors, ..
        } = load(text).unwrap_err();
        let keys: Vec<&str> = errors
            .iter()
            .map(|error| error.split(": ").next().unwrap())
            .collect();
        let expected = [
            "nodes[0].port",
            "nodes[1].port",
            "ring",
            "mirror",
            "groups[0].nodes",
            "port",
            "metricsAddress",
            "maxPacketSize",
            "selfMetrics.address",
        ];
        let sorted = |mut keys: Vec<&str>| {
            keys.sort_unstable();
            keys.join(" ")
        };
        assert_eq!(sorted(keys), sorted(expected.to_vec()), "{errors:#?}");
    }

    #[test]
    fn a_name_has_one_meaning() {
        let f = |text: &str, expected: &str| {
            let ConfigError {
                reasons: errors, ..
            } = load(text).unwrap_err();
            assert_eq!(errors, [expected], "{text}");
        };
        let node = r#"{"host": "a", "port": 1}"#;
        f(
            &format!(
                r#"{{"nodes": [{node}], "groups": [{{"name": "nodes", "nodes": [{node}]}}]}}"#
            ),
            "groups: two groups are named \"nodes\"",
        );
        f(
            &format!(r#"{{"nodes": [{node}, {{"host": "a", "port": 1, "managementport": 2}}]}}"#),
            "nodes: a:1 is listed twice with different settings",
        );
        // The same host and port by UDP and by TCP are two nodes.
        load(&format!(
            r#"{{"nodes": [{node}, {{"host": "a", "port": 1, "protocol": "tcp"}}]}}"#
        ))
        .unwrap();
    }

    #[test]
    fn adminport_stands_in_for_a_missing_managementport() {
        let text = r#"{"nodes": [{"host": "a", "port": 1, "adminport": 2}, {"host": "a", "port": 3, "adminport": 2, "managementport": 0}]}"#;
        let loaded = load(text).unwrap();
        let ports: Vec<_> = loaded.config.groups[0]
            .nodes
            .iter()
            .map(|node| node.management_port)
            .collect();
        assert_eq!(ports, [Some(2), None]);
        assert_eq!(loaded.warnings.len(), 1);
    }
}
