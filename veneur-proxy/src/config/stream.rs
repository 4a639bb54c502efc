//! The keys of the rewritten proxy (`proxy/config.go`), and its defaults where zero made it useless or crash.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_saphyr::DuplicateKeyPolicy;

use super::{
    Config, ConfigError, Destinations, Generation, GrpcServer, HttpPool, Loaded, RingNames, Secret,
    SelfMetrics, Tls,
    document::{self, Dialect, Environment, Setting, count, duration, filled},
    inbound::{self, WrittenTls},
    outbound::{self, Defaults, ForwardProtocol},
    pages, ring_names,
};
use crate::route::{IgnoreTags, TagRule};

/// For intervals and waits that are not set; 0 made the original crash or fail.
pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// 0 made the original reset every connection.
pub(super) const DEFAULT_CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
pub(super) const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
pub(super) const DEFAULT_PING_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const DEFAULT_SEND_BUFFER: usize = 16_384;

/// The file, word for word.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    debug: Option<bool>,
    dial_timeout: Option<String>,
    discovery_interval: Option<String>,
    forward_addresses: Option<Vec<String>>,
    forward_service: Option<String>,
    grpc_address: Option<String>,
    grpc_server: RawGrpcServer,
    pub(super) grpc_tls_address: Option<String>,
    http: RawHttp,
    http_address: Option<String>,
    pub(super) ignore_tags: Option<Vec<RawRule>>,
    ring_names: Option<String>,
    runtime_metrics_interval: Option<String>,
    send_buffer_size: Option<i64>,
    sentry_dsn: Option<String>,
    shutdown_timeout: Option<String>,
    pub(super) statsd: RawStatsd,
    pub(super) tls: Option<RawTls>,
    forward_timeout: Option<String>,
    forward_tls: RawForwardTls,
    forward_protocol: Option<String>,
    on_full: Option<String>,
    stall_timeout: Option<String>,
    batch_delay: Option<String>,
    stream_max_age: Option<String>,
    stream_idle_close: Option<String>,
    consul_blocking_wait: Option<String>,
    kubernetes_service: Option<String>,
    kubernetes_namespace: Option<String>,
    kubernetes_watch: Option<String>,
    kubernetes_service_account: Option<String>,
    send_buffer_bytes: Option<i64>,
    overflow_bytes: Option<i64>,
    batch_max_metrics: Option<i64>,
    batch_max_bytes: Option<i64>,
    compression_level: Option<i64>,
    kubernetes_ready: Option<bool>,
    start_without_destinations: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawForwardTls {
    enabled: Option<bool>,
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    server_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawGrpcServer {
    connection_timeout: Option<String>,
    max_connection_idle: Option<String>,
    max_connection_age: Option<String>,
    max_connection_age_grace: Option<String>,
    ping_timeout: Option<String>,
    keepalive_timeout: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RawHttp {
    enable_config: Option<bool>,
    enable_profiling: Option<bool>,
    enable_import: Option<bool>,
    max_request_bytes: Option<i64>,
    max_inflated_bytes: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawStatsd {
    address: Option<String>,
    aggregation_interval: Option<String>,
    pub(super) channel_buffer_size: Option<i64>,
    pub(super) messages_per_payload: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawTls {
    pub(super) ca_file: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) server_name: Option<String>,
    client_auth: Option<String>,
}

/// One of `ignore_tags`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawRule {
    pub(super) kind: String,
    pub(super) value: String,
    /// Known, and without effect, as in the original.
    pub(super) unset: Option<bool>,
}

impl Dialect for Raw {
    // yaml.v3 refuses them.
    const DUPLICATES: DuplicateKeyPolicy = DuplicateKeyPolicy::Error;

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        use Setting::{Flag, List, Number, Text};
        let (grpc, statsd) = (&mut self.grpc_server, &mut self.statsd);
        // Read through the option, so that variables alone switch TLS on; `load` looks whether any is set.
        let tls = self.tls.get_or_insert_default();
        vec![
            ("debug", Flag(&mut self.debug)),
            ("dial_timeout", Text(&mut self.dial_timeout)),
            ("discovery_interval", Text(&mut self.discovery_interval)),
            ("forward_addresses", List(&mut self.forward_addresses)),
            ("forward_service", Text(&mut self.forward_service)),
            ("grpc_address", Text(&mut self.grpc_address)),
            (
                "grpc_server.connection_timeout",
                Text(&mut grpc.connection_timeout),
            ),
            (
                "grpc_server.max_connection_idle",
                Text(&mut grpc.max_connection_idle),
            ),
            (
                "grpc_server.max_connection_age",
                Text(&mut grpc.max_connection_age),
            ),
            (
                "grpc_server.max_connection_age_grace",
                Text(&mut grpc.max_connection_age_grace),
            ),
            ("grpc_server.ping_timeout", Text(&mut grpc.ping_timeout)),
            (
                "grpc_server.keepalive_timeout",
                Text(&mut grpc.keepalive_timeout),
            ),
            ("grpc_tls_address", Text(&mut self.grpc_tls_address)),
            ("http.enable_config", Flag(&mut self.http.enable_config)),
            (
                "http.enable_profiling",
                Flag(&mut self.http.enable_profiling),
            ),
            ("http.enable_import", Flag(&mut self.http.enable_import)),
            (
                "http.max_request_bytes",
                Number(&mut self.http.max_request_bytes),
            ),
            (
                "http.max_inflated_bytes",
                Number(&mut self.http.max_inflated_bytes),
            ),
            ("http_address", Text(&mut self.http_address)),
            ("ring_names", Text(&mut self.ring_names)),
            (
                "runtime_metrics_interval",
                Text(&mut self.runtime_metrics_interval),
            ),
            ("send_buffer_size", Number(&mut self.send_buffer_size)),
            ("sentry_dsn", Text(&mut self.sentry_dsn)),
            ("shutdown_timeout", Text(&mut self.shutdown_timeout)),
            ("statsd.address", Text(&mut statsd.address)),
            (
                "statsd.aggregation_interval",
                Text(&mut statsd.aggregation_interval),
            ),
            (
                "statsd.channel_buffer_size",
                Number(&mut statsd.channel_buffer_size),
            ),
            (
                "statsd.messages_per_payload",
                Number(&mut statsd.messages_per_payload),
            ),
            ("tls.ca_file", Text(&mut tls.ca_file)),
            ("tls.cert_file", Text(&mut tls.cert_file)),
            ("tls.key_file", Text(&mut tls.key_file)),
            ("tls.server_name", Text(&mut tls.server_name)),
            ("tls.client_auth", Text(&mut tls.client_auth)),
            ("forward_timeout", Text(&mut self.forward_timeout)),
            ("forward_protocol", Text(&mut self.forward_protocol)),
            ("on_full", Text(&mut self.on_full)),
            ("stall_timeout", Text(&mut self.stall_timeout)),
            ("batch_delay", Text(&mut self.batch_delay)),
            ("stream_max_age", Text(&mut self.stream_max_age)),
            ("stream_idle_close", Text(&mut self.stream_idle_close)),
            ("consul_blocking_wait", Text(&mut self.consul_blocking_wait)),
            ("kubernetes_service", Text(&mut self.kubernetes_service)),
            ("kubernetes_namespace", Text(&mut self.kubernetes_namespace)),
            ("kubernetes_watch", Text(&mut self.kubernetes_watch)),
            (
                "kubernetes_service_account",
                Text(&mut self.kubernetes_service_account),
            ),
            ("send_buffer_bytes", Number(&mut self.send_buffer_bytes)),
            ("overflow_bytes", Number(&mut self.overflow_bytes)),
            ("batch_max_metrics", Number(&mut self.batch_max_metrics)),
            ("batch_max_bytes", Number(&mut self.batch_max_bytes)),
            ("compression_level", Number(&mut self.compression_level)),
            ("kubernetes_ready", Flag(&mut self.kubernetes_ready)),
            (
                "start_without_destinations",
                Flag(&mut self.start_without_destinations),
            ),
            ("forward_tls.enabled", Flag(&mut self.forward_tls.enabled)),
            ("forward_tls.ca_file", Text(&mut self.forward_tls.ca_file)),
            (
                "forward_tls.cert_file",
                Text(&mut self.forward_tls.cert_file),
            ),
            ("forward_tls.key_file", Text(&mut self.forward_tls.key_file)),
            (
                "forward_tls.server_name",
                Text(&mut self.forward_tls.server_name),
            ),
        ]
    }
}

pub(super) fn load(
    file: &str,
    environment: &Environment<'_>,
    reason: String,
) -> Result<Loaded, ConfigError> {
    if file.trim().is_empty() {
        return Err(ConfigError::Empty);
    }
    let (raw, unknown_keys) = document::read::<Raw>(&expand(file)?)?;
    let mut raw = raw.unwrap_or_default();
    let warnings = environment.overlay(&mut raw)?;
    let written = raw.clone();
    let or_default = |key, text: Option<String>, default| {
        Ok::<_, ConfigError>(duration(key, text.as_deref())?.unwrap_or(default))
    };
    let limit = |key, text: Option<String>| duration(key, text.as_deref());
    let agent = || {
        let host = filled((environment.variable)("DD_AGENT_HOST"))?;
        Some(format!("{host}:8125"))
    };
    let aggregation_interval = or_default(
        "statsd.aggregation_interval",
        raw.statsd.aggregation_interval,
        DEFAULT_INTERVAL,
    )?;
    let lines_per_datagram = count(
        "statsd.messages_per_payload",
        raw.statsd.messages_per_payload,
    )?;
    count("statsd.channel_buffer_size", raw.statsd.channel_buffer_size)?;
    let mut config = Config {
        generation: Generation::Stream,
        reason,
        debug: raw.debug.unwrap_or(false),
        http_address: filled(raw.http_address),
        grpc_address: filled(raw.grpc_address),
        grpc_tls: tls(raw.grpc_tls_address, raw.tls.unwrap_or_default())?,
        grpc_server: GrpcServer {
            connection_timeout: or_default(
                "grpc_server.connection_timeout",
                raw.grpc_server.connection_timeout,
                DEFAULT_CONNECTION_TIMEOUT,
            )?,
            max_connection_idle: limit(
                "grpc_server.max_connection_idle",
                raw.grpc_server.max_connection_idle,
            )?,
            max_connection_age: limit(
                "grpc_server.max_connection_age",
                raw.grpc_server.max_connection_age,
            )?,
            max_connection_age_grace: limit(
                "grpc_server.max_connection_age_grace",
                raw.grpc_server.max_connection_age_grace,
            )?,
            // The original's names mislead: `ping_timeout` is how often, `keepalive_timeout` how long.
            ping_interval: or_default(
                "grpc_server.ping_timeout",
                raw.grpc_server.ping_timeout,
                DEFAULT_PING_INTERVAL,
            )?
            .max(Duration::from_secs(1)),
            ping_timeout: or_default(
                "grpc_server.keepalive_timeout",
                raw.grpc_server.keepalive_timeout,
                DEFAULT_PING_TIMEOUT,
            )?,
        },
        http_destinations: Destinations::default(),
        grpc_destinations: Destinations {
            addresses: raw.forward_addresses.unwrap_or_default(),
            service: filled(raw.forward_service),
        },
        ring_names: ring_names(raw.ring_names.as_deref(), RingNames::HostPort)?,
        discovery_interval: or_default(
            "discovery_interval",
            raw.discovery_interval,
            DEFAULT_INTERVAL,
        )?,
        ignore_tags: ignore_tags(raw.ignore_tags)?,
        forward_timeout: limit("forward_timeout", raw.forward_timeout)?,
        dial_timeout: or_default("dial_timeout", raw.dial_timeout, DEFAULT_INTERVAL)?,
        send_buffer: count("send_buffer_size", raw.send_buffer_size)?
            .unwrap_or(DEFAULT_SEND_BUFFER),
        http_pool: HttpPool {
            idle_timeout: None,
            max_idle: None,
            max_idle_per_host: 100,
        },
        outbound: outbound::read(
            outbound::Written {
                forward_protocol: raw.forward_protocol,
                on_full: raw.on_full,
                stall_timeout: raw.stall_timeout,
                batch_delay: raw.batch_delay,
                stream_max_age: raw.stream_max_age,
                stream_idle_close: raw.stream_idle_close,
                consul_blocking_wait: raw.consul_blocking_wait,
                kubernetes_service: raw.kubernetes_service,
                kubernetes_namespace: raw.kubernetes_namespace,
                kubernetes_watch: raw.kubernetes_watch,
                kubernetes_service_account: raw.kubernetes_service_account,
                send_buffer_bytes: raw.send_buffer_bytes,
                overflow_bytes: raw.overflow_bytes,
                batch_max_metrics: raw.batch_max_metrics,
                batch_max_bytes: raw.batch_max_bytes,
                compression_level: raw.compression_level,
                kubernetes_ready: raw.kubernetes_ready,
                start_without_destinations: raw.start_without_destinations,
                tls_enabled: raw.forward_tls.enabled,
                tls_ca_file: raw.forward_tls.ca_file,
                tls_cert_file: raw.forward_tls.cert_file,
                tls_key_file: raw.forward_tls.key_file,
                tls_server_name: raw.forward_tls.server_name,
            },
            &Defaults {
                protocol: ForwardProtocol::Stream,
                overflow_bytes: 0,
                stall_timeout: DEFAULT_INTERVAL,
            },
        )?,
        self_metrics: filled(raw.statsd.address).or_else(agent).map_or(
            SelfMetrics::Off,
            |address| SelfMetrics::DogStatsd {
                address,
                aggregation_interval,
                lines_per_datagram,
            },
        ),
        runtime_metrics_interval: or_default(
            "runtime_metrics_interval",
            raw.runtime_metrics_interval,
            DEFAULT_INTERVAL,
        )?,
        inbound: inbound::read(
            raw.http.enable_import.unwrap_or(false),
            raw.http.max_request_bytes,
            raw.http.max_inflated_bytes,
        )?,
        serve_config: raw.http.enable_config.unwrap_or(false),
        pages: None,
        serve_profiles: raw.http.enable_profiling.unwrap_or(false),
        shutdown_timeout: or_default("shutdown_timeout", raw.shutdown_timeout, DEFAULT_INTERVAL)?,
        sentry_dsn: filled(raw.sentry_dsn).map(Secret),
    };
    config.pages = Some(pages::pages(&written, &config));
    Ok(Loaded {
        config,
        unknown_keys,
        warnings,
    })
}

fn tls(address: Option<String>, raw: RawTls) -> Result<Option<Tls>, ConfigError> {
    inbound::tls(WrittenTls {
        address,
        ca_file: raw.ca_file,
        cert_file: raw.cert_file,
        key_file: raw.key_file,
        server_name: raw.server_name,
        client_auth: raw.client_auth,
    })
}

/// Reads `ignore_tags`.
pub(super) fn ignore_tags(rules: Option<Vec<RawRule>>) -> Result<IgnoreTags, ConfigError> {
    let rules = rules.unwrap_or_default();
    let rules: Result<_, _> = rules
        .iter()
        .map(|rule| TagRule::new(&rule.kind, &rule.value))
        .collect();
    rules
        .map(IgnoreTags::new)
        .map_err(|reason| ConfigError::rule(&reason))
}

/// Expands the file as a Go template without data: actions are text in quotes or backquotes, and comments.
pub(super) fn expand(file: &str) -> Result<Cow<'_, str>, ConfigError> {
    if !file.contains("{{") {
        return Ok(Cow::Borrowed(file));
    }
    let mut out = String::with_capacity(file.len());
    let mut rest = file;
    while let Some((text, after)) = rest.split_once("{{") {
        let wrong = |reason: &str| ConfigError::Template {
            line: file.len().checked_sub(after.len()).map_or(1, |end| {
                1 + file.bytes().take(end).filter(|byte| *byte == b'\n').count()
            }),
            reason: reason.to_owned(),
        };
        out.push_str(text);
        let body = after.trim_start();
        let (constant, tail) = if let Some(raw) = body.strip_prefix('`') {
            let (constant, tail) = raw
                .split_once('`')
                .ok_or_else(|| wrong("unterminated quote"))?;
            (Cow::Borrowed(constant), tail)
        } else if body.starts_with('"') {
            // Escapes are JSON's as far as a configuration needs them.
            let mut strings = serde_json::Deserializer::from_str(body).into_iter::<String>();
            let constant = strings
                .next()
                .and_then(Result::ok)
                .ok_or_else(|| wrong("malformed string"))?;
            (
                Cow::Owned(constant),
                body.get(strings.byte_offset()..).unwrap_or_default(),
            )
        } else if let Some(comment) = body.strip_prefix("/*") {
            let (_, tail) = comment
                .split_once("*/")
                .ok_or_else(|| wrong("unclosed comment"))?;
            (Cow::Borrowed(""), tail)
        } else {
            return Err(wrong(
                "only constants and comments can stand in {{ }}: there is no data",
            ));
        };
        out.push_str(&constant);
        rest = tail
            .trim_start()
            .strip_prefix("}}")
            .ok_or_else(|| wrong("unclosed action"))?;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}
