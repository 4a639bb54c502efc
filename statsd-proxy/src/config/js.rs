//! The dialect of statsd's `proxy.js`: the right side of a JavaScript assignment, read as JSON5.
//!
//! Comments, unquoted keys, single quotes and trailing commas are fine; expressions are not, and are refused with the place.

use std::time::Duration;

use super::{
    Bind, BindHost, Config, Dialect, Group, Listeners, NodeConfig, RingKind, UnixBind,
    document::{KeyCase, Problems, Section, Value},
    extras, shown,
};
use crate::line::Grammar;

/// Reads the text; a failure says where.
pub(super) fn document(text: &str) -> Result<Value, String> {
    // The file is one statement, so a semicolon may end it.
    let text = text.trim_start_matches('\u{feff}').trim_end();
    let text = text.strip_suffix(';').unwrap_or(text);
    json5::from_str(text).map_err(|reason| {
        format!("{reason} (the file is read as JSON5: JavaScript expressions are not supported)")
    })
}

/// Makes a configuration of a document; `None`, or problems, if it is not valid.
pub(super) fn read(
    document: &Value,
    ring_flag: Option<RingKind>,
    problems: &Problems,
) -> Option<Config> {
    let top = Section::top(document, KeyCase::Significant, problems)?;
    let nodes = top.sections("nodes").unwrap_or_default();
    let main = Group {
        name: "nodes".to_owned(),
        spread: extras::spread(&top, ring_flag),
        nodes: distinct(nodes.iter().filter_map(node)),
    };
    let mut further = extras::groups(&top, ring_flag, node);
    for group in &mut further {
        group.nodes = distinct(std::mem::take(&mut group.nodes));
    }
    if nodes.is_empty() && further.is_empty() {
        top.error("nodes", "at least one node is required");
    }
    let groups = (!nodes.is_empty())
        .then_some(main)
        .into_iter()
        .chain(further);
    let interval = top
        .integer_in("checkInterval", 1..=i64::from(u32::MAX))
        .map_or(Duration::from_secs(10), |millis| {
            Duration::from_millis(millis as u64)
        });
    let config = Config {
        dialect: Dialect::Statsd,
        grammar: Grammar::Statsd,
        listeners: listeners(&top),
        groups: groups.collect(),
        packing: extras::packing(&top),
        queue_bytes: extras::queue_bytes(&top),
        checks: extras::checks(&top, interval),
        self_metrics: extras::self_metrics(&top),
        drain_limit: extras::drain_limit(&top),
        watch_file: top.boolean("automaticConfigReload").unwrap_or(true),
        entries: entries(document),
    };
    top.ignore(&["cacheSize", "udp_version"], "without effect");
    log_settings(&top);
    top.finish();
    Some(config)
}

fn listeners(top: &Section<'_>) -> Listeners {
    let bind = Bind {
        written: written(top),
        host: bind_host(top),
        port: top.port("port").unwrap_or(8_125),
    };
    let unix = top.text("socket").map(|path| UnixBind {
        path: path.into(),
        mode: top
            .integer_in("socket_mod", 0..=0o777)
            .map(|mode| mode as u32),
    });
    let server = top.text("server").unwrap_or("./servers/udp");
    let (udp, tcp, unix) = match server
        .rsplit('/')
        .next()
        .map(|name| name.trim_end_matches(".js"))
    {
        Some("udp") => (Some(bind), None, None),
        Some("tcp") if unix.is_some() => (None, None, unix),
        Some("tcp") => (None, Some(bind), None),
        _ => {
            top.error(
                "server",
                format_args!("{server:?} is neither ./servers/udp nor ./servers/tcp"),
            );
            (None, None, None)
        }
    };
    let tcp = tcp.or_else(|| {
        top.port("tcpPort").map(|port| Bind {
            written: written(top),
            host: bind_host(top),
            port,
        })
    });
    Listeners {
        udp,
        udp_sockets: sockets(top),
        receive_buffer: extras::receive_buffer(top),
        tcp,
        unix_stream: unix.or_else(|| extras::unix_socket(top, "unixStream")),
        unix_datagram: extras::unix_socket(top, "unixDatagram"),
        management: Bind {
            written: top.text("mgmt_address").unwrap_or("*").to_owned(),
            host: top
                .text("mgmt_address")
                .map_or(BindHost::All, extras::bind_host),
            port: top.port("mgmt_port").unwrap_or(8_126),
        },
        metrics: extras::metrics_address(top),
    }
}

/// `forkCount` workers shared the port in the original; here sockets do.
fn sockets(top: &Section<'_>) -> usize {
    let forks = if top.text_or_other("forkCount") == Some("auto") {
        None
    } else {
        top.integer_in("forkCount", 0..=1_024)
            .filter(|forks| *forks > 1)
    };
    if top.has("sockets") {
        return extras::sockets(top);
    }
    forks.map_or_else(extras::default_sockets, |forks| forks.min(64) as usize)
}

/// `address` is what the original binds; `host` is what its example file calls it.
fn address<'a>(top: &Section<'a>) -> Option<&'a str> {
    let host = top.text("host");
    top.text("address").or(host)
}

fn written(top: &Section<'_>) -> String {
    address(top).unwrap_or("*").to_owned()
}

fn bind_host(top: &Section<'_>) -> BindHost {
    match (address(top), top.boolean("address_ipv6").unwrap_or(false)) {
        (Some(address), _) => extras::bind_host(address),
        (None, true) => BindHost::All,
        (None, false) => BindHost::AllIpv4,
    }
}

fn node(section: &Section<'_>) -> Option<NodeConfig> {
    let host = section.text("host");
    let port = section.port("port");
    for key in ["host", "port"] {
        if !section.has(key) {
            section.error(key, "is required");
        }
    }
    let management_port = section.port("adminport").filter(|port| *port != 0);
    if management_port.is_none() {
        section.warn(
            "adminport",
            "is missing: the node is not checked and counts as up",
        );
    }
    let protocol = extras::protocol(section);
    section.finish();
    let (host, port) = (host?, port?);
    Some(NodeConfig {
        label: format!("{host}:{port}"),
        host: extras::resolvable(host),
        port,
        protocol,
        management_port,
    })
}

/// Nodes listed twice are one node in the original's ring, under their first place.
fn distinct(nodes: impl IntoIterator<Item = NodeConfig>) -> Vec<NodeConfig> {
    let mut kept: Vec<NodeConfig> = Vec::new();
    for node in nodes {
        if kept.iter().all(|other| other.label != node.label) {
            kept.push(node);
        }
    }
    kept
}

fn log_settings(top: &Section<'_>) {
    let Some(log) = top.section("log") else {
        return;
    };
    log.ignore(&["application", "level"], "without effect");
    if !matches!(log.text("backend"), None | Some("stdout")) {
        log.warn("backend", "only stdout is supported; the log goes there");
    }
    log.finish();
}

/// The console's `config` answer: `key: value`, and `key > subkey: value` for the members of an object or array.
fn entries(document: &Value) -> Vec<String> {
    let Value::Object(entries) = document else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (key, value) in entries {
        match value {
            Value::Object(members) => {
                lines.extend(
                    members
                        .iter()
                        .map(|(member, value)| format!("{key} > {member}: {}", shown(value))),
                );
            }
            Value::Array(items) => {
                lines.extend(
                    items
                        .iter()
                        .enumerate()
                        .map(|(index, value)| format!("{key} > {index}: {}", shown(value))),
                );
            }
            plain => lines.push(format!("{key}: {}", shown(plain))),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, Loaded, parse};
    use super::*;

    fn load(text: &str) -> Result<Loaded, ConfigError> {
        parse(text, Dialect::Statsd, None)
    }

    #[test]
    fn javascript_that_is_json5_reads_as_the_original_reads_it() {
        let text = "/* nodes */ {
            nodes: [
                {host: '127.0.0.1', port: 8127, adminport: 8128}, // first
                {host: '127.0.0.1', port: 8127, adminport: 8128},
                {host: 'b', port: 8129, adminport: 8130},
            ],
            server: './servers/udp', host: '0.0.0.0', port: 8125, forkCount: 2, checkInterval: 1000,
        };";
        let config = load(text).unwrap().config;
        let labels: Vec<&str> = config.groups[0]
            .nodes
            .iter()
            .map(|node| node.label.as_str())
            .collect();
        assert_eq!(labels, ["127.0.0.1:8127", "b:8129"]);
        assert_eq!(config.listeners.udp_sockets, 2);
        assert_eq!(
            config.listeners.udp.unwrap().host,
            BindHost::Address("0.0.0.0".parse().unwrap())
        );
        assert_eq!(config.checks.interval, Duration::from_secs(1));
        assert!(config.watch_file);
    }

    #[test]
    fn the_server_key_chooses_the_listener() {
        let listeners = |extra: &str| {
            load(&format!(
                "{{nodes: [{{host: 'a', port: 1, adminport: 2}}], {extra}}}"
            ))
            .unwrap()
            .config
            .listeners
        };
        let tcp = listeners("server: './servers/tcp', port: 9");
        assert_eq!((tcp.udp, tcp.tcp.map(|bind| bind.port)), (None, Some(9)));
        let unix =
            listeners("server: './servers/tcp', socket: '/run/statsd.sock', socket_mod: 0x1ff");
        assert_eq!(
            unix.unix_stream,
            Some(UnixBind {
                path: "/run/statsd.sock".into(),
                mode: Some(0o777)
            })
        );
        assert_eq!(unix.tcp, None);
    }

    #[test]
    fn expressions_are_refused_with_their_place() {
        let ConfigError {
            reasons: errors, ..
        } = load("{\n  port: process.env.PORT,\n}").unwrap_err();
        assert!(
            errors[0].contains("expressions are not supported") && errors[0].contains("line 2"),
            "{errors:?}"
        );
    }

    #[test]
    fn a_file_without_nodes_is_refused() {
        let ConfigError {
            reasons: errors, ..
        } = load("{port: 8125}").unwrap_err();
        assert_eq!(errors, ["nodes: at least one node is required"]);
    }

    #[test]
    fn the_console_shows_the_file_in_its_order() {
        let text = "{nodes: [{host: 'a', port: 1, adminport: 2}], port: 8125, log: {backend: 'stdout'}, address_ipv6: false}";
        let expected = [
            "nodes > 0: [object Object]",
            "port: 8125",
            "log > backend: stdout",
            "address_ipv6: false",
        ];
        assert_eq!(load(text).unwrap().config.entries, expected);
    }
}
