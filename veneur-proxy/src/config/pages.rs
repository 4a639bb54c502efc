//! What `/config/json` and `/config/yaml` show of a stream file: the original's keys in its order, with what counts where
//! nothing is set, and without the secret.

use std::fmt::Write as _;

use serde_json::Value;
use shared::config::duration::format_nanos;

use super::{Config, SelfMetrics, stream::Raw};

/// Both pages, as they are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// Go's names, durations in nanoseconds.
    pub json: String,
    /// The file's names, durations as text.
    pub yaml: String,
}

/// In the place of a secret.
const HIDDEN: &str = "REDACTED";

/// A setting: the file's name of it, Go's, and its value.
struct Entry(&'static str, &'static str, Shown);

enum Shown {
    Flag(bool),
    Number(i64),
    Nanos(i64),
    Text(String),
    Texts(Vec<String>),
    Group(Vec<Entry>),
    /// One that YAML has a level deeper than JSON.
    Deeper(Vec<Entry>),
    Groups(Vec<Vec<Entry>>),
}

/// Makes the pages of what was read and what it came to.
pub(super) fn pages(raw: &Raw, config: &Config) -> Pages {
    let entries = entries(raw, config);
    let mut pages = Pages {
        json: String::new(),
        yaml: String::new(),
    };
    json(&entries, "", &mut pages.json);
    yaml(&entries, "", &mut pages.yaml);
    pages
}

fn entries(raw: &Raw, config: &Config) -> Vec<Entry> {
    use Shown::{Deeper, Flag, Group, Groups, Nanos, Number, Text, Texts};
    let nanos = |duration: std::time::Duration| Nanos(duration.as_nanos() as i64);
    let limit = |duration: Option<std::time::Duration>| nanos(duration.unwrap_or_default());
    let text = |text: &Option<String>| Text(text.clone().unwrap_or_default());
    let (statsd_address, aggregation_interval) = match &config.self_metrics {
        SelfMetrics::DogStatsd {
            address,
            aggregation_interval,
            ..
        } => (address.clone(), *aggregation_interval),
        _ => (String::new(), super::stream::DEFAULT_INTERVAL),
    };
    let grpc = &config.grpc_server;
    let tls = raw.tls.as_ref();
    let tls = |get: fn(&super::stream::RawTls) -> &Option<String>| match tls {
        Some(tls) => text(get(tls)),
        None => Text(String::new()),
    };
    let secret = match &config.sentry_dsn {
        Some(_) => HIDDEN.to_owned(),
        None => String::new(),
    };
    let rules = raw.ignore_tags.iter().flatten().map(|rule| {
        vec![
            Entry("kind", "Kind", Text(rule.kind.clone())),
            Entry("unset", "Unset", Flag(rule.unset.unwrap_or(false))),
            Entry("value", "Value", Text(rule.value.clone())),
        ]
    });
    vec![
        Entry("debug", "Debug", Flag(config.debug)),
        Entry("dial_timeout", "DialTimeout", nanos(config.dial_timeout)),
        Entry(
            "discovery_interval",
            "DiscoveryInterval",
            nanos(config.discovery_interval),
        ),
        Entry(
            "forward_addresses",
            "ForwardAddresses",
            Texts(config.grpc_destinations.addresses.clone()),
        ),
        Entry(
            "forward_service",
            "ForwardService",
            text(&config.grpc_destinations.service),
        ),
        Entry(
            "grpc_server",
            "GrpcServer",
            Group(vec![
                Entry(
                    "connection_timeout",
                    "ConnectionTimeout",
                    nanos(grpc.connection_timeout),
                ),
                Entry(
                    "max_connection_idle",
                    "MaxConnectionIdle",
                    limit(grpc.max_connection_idle),
                ),
                Entry(
                    "max_connection_age",
                    "MaxConnectionAge",
                    limit(grpc.max_connection_age),
                ),
                Entry(
                    "max_connection_age_grace",
                    "MaxConnectionAgeGrace",
                    limit(grpc.max_connection_age_grace),
                ),
                Entry("ping_timeout", "PingTimeout", nanos(grpc.ping_interval)),
                Entry(
                    "keepalive_timeout",
                    "KeepaliveTimeout",
                    nanos(grpc.ping_timeout),
                ),
            ]),
        ),
        Entry("grpc_address", "GrpcAddress", text(&config.grpc_address)),
        Entry(
            "grpc_tls_address",
            "GrpcTlsAddress",
            text(&raw.grpc_tls_address),
        ),
        Entry(
            "http",
            "Http",
            Group(vec![
                Entry("enable_config", "EnableConfig", Flag(config.serve_config)),
                Entry(
                    "enable_profiling",
                    "EnableProfiling",
                    Flag(config.serve_profiles),
                ),
            ]),
        ),
        Entry("http_address", "HttpAddress", text(&config.http_address)),
        Entry("ignore_tags", "IgnoreTags", Groups(rules.collect())),
        Entry(
            "runtime_metrics_interval",
            "RuntimeMetricsInterval",
            nanos(config.runtime_metrics_interval),
        ),
        Entry(
            "send_buffer_size",
            "SendBufferSize",
            Number(config.send_buffer as i64),
        ),
        Entry("sentry_dsn", "SentryDsn", Text(secret)),
        Entry(
            "shutdown_timeout",
            "ShutdownTimeout",
            nanos(config.shutdown_timeout),
        ),
        Entry(
            "statsd",
            "Statsd",
            Group(vec![
                Entry("address", "Address", Text(statsd_address)),
                Entry(
                    "aggregation_interval",
                    "AggregationInterval",
                    nanos(aggregation_interval),
                ),
                Entry(
                    "channel_buffer_size",
                    "ChannelBufferSize",
                    Number(raw.statsd.channel_buffer_size.unwrap_or(0)),
                ),
                Entry(
                    "messages_per_payload",
                    "MessagesPerPayload",
                    Number(raw.statsd.messages_per_payload.unwrap_or(0)),
                ),
            ]),
        ),
        Entry(
            "tls",
            "Tls",
            Deeper(vec![
                Entry("ca_file", "CaFile", tls(|tls| &tls.ca_file)),
                Entry("cert_file", "CertFile", tls(|tls| &tls.cert_file)),
                Entry("key_file", "KeyFile", tls(|tls| &tls.key_file)),
                Entry("server_name", "ServerName", tls(|tls| &tls.server_name)),
            ]),
        ),
    ]
}

fn json(entries: &[Entry], indent: &str, out: &mut String) {
    let deeper = format!("{indent}  ");
    out.push('{');
    for (place, Entry(_, name, value)) in entries.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(out, "{comma}\n{deeper}\"{name}\": ").expect("a string takes all");
        match value {
            Shown::Flag(flag) => out.push_str(&flag.to_string()),
            Shown::Number(number) | Shown::Nanos(number) => out.push_str(&number.to_string()),
            Shown::Text(text) => out.push_str(&Value::from(text.as_str()).to_string()),
            Shown::Texts(texts) => list(texts, &deeper, out, |text, _, out| {
                out.push_str(&Value::from(text.as_str()).to_string());
            }),
            Shown::Group(entries) | Shown::Deeper(entries) => json(entries, &deeper, out),
            Shown::Groups(groups) => list(groups, &deeper, out, |entries, indent, out| {
                json(entries, indent, out);
            }),
        }
    }
    write!(out, "\n{indent}}}").expect("a string takes all");
}

fn list<T>(
    items: &[T],
    indent: &str,
    out: &mut String,
    write_item: impl Fn(&T, &str, &mut String),
) {
    let deeper = format!("{indent}  ");
    out.push('[');
    for (place, item) in items.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(out, "{comma}\n{deeper}").expect("a string takes all");
        write_item(item, &deeper, out);
    }
    if !items.is_empty() {
        write!(out, "\n{indent}").expect("a string takes all");
    }
    out.push(']');
}

fn yaml(entries: &[Entry], indent: &str, out: &mut String) {
    let deeper = format!("{indent}  ");
    for Entry(name, _, value) in entries {
        let text = match value {
            Shown::Flag(flag) => flag.to_string(),
            Shown::Number(number) => number.to_string(),
            Shown::Nanos(nanos) => format_nanos(*nanos),
            Shown::Text(text) => scalar(text),
            Shown::Texts(texts) if texts.is_empty() => "[]".to_owned(),
            Shown::Groups(groups) if groups.is_empty() => "[]".to_owned(),
            Shown::Texts(texts) => {
                writeln!(out, "{indent}{name}:").expect("a string takes all");
                for text in texts {
                    writeln!(out, "{deeper}- {}", scalar(text)).expect("a string takes all");
                }
                continue;
            }
            Shown::Group(entries) => {
                writeln!(out, "{indent}{name}:").expect("a string takes all");
                yaml(entries, &deeper, out);
                continue;
            }
            Shown::Deeper(entries) => {
                writeln!(out, "{indent}{name}:\n{deeper}config:").expect("a string takes all");
                yaml(entries, &format!("{deeper}  "), out);
                continue;
            }
            Shown::Groups(groups) => {
                writeln!(out, "{indent}{name}:").expect("a string takes all");
                for entries in groups {
                    let mut group = String::new();
                    yaml(entries, &format!("{deeper}  "), &mut group);
                    // The first line of a group begins with the dash of the list.
                    out.push_str(&deeper);
                    out.push_str("- ");
                    out.push_str(group.trim_start());
                }
                continue;
            }
        };
        writeln!(out, "{indent}{name}: {text}").expect("a string takes all");
    }
}

/// Writes text so that it is read as text.
fn scalar(text: &str) -> String {
    let plain_start = |c: char| c.is_ascii_alphanumeric() || "/._".contains(c);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._:@+-=?,$ ".contains(c);
    let looks_like_another = text.parse::<f64>().is_ok()
        || [
            "true", "false", "null", "yes", "no", "on", "off", "y", "n", "~",
        ]
        .contains(&text.to_lowercase().as_str());
    if text.starts_with(plain_start)
        && text.chars().all(plain)
        && !text.ends_with([':', ' '])
        && !text.contains(": ")
        && !looks_like_another
    {
        text.to_owned()
    } else if text.is_empty() || looks_like_another || text.chars().any(char::is_control) {
        // JSON's strings are YAML's, too.
        Value::from(text).to_string()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
