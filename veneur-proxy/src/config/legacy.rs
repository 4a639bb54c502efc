//! The keys of v1 to v14.2 (`config_proxy.go`), for the generations `legacy` and `dual`.
//!
//! Durations are text, and text that is not used is not looked at; so an odd value in a forgotten key does no harm.

use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::DuplicateKeyPolicy;

use super::{
    Config, ConfigError, Destinations, Generation, GrpcServer, HttpPool, Loaded, RingNames, Secret,
    SelfMetrics, SsfAddress,
    document::{self, Dialect, Environment, Setting, count, duration, filled},
    inbound::{self, WrittenTls},
    outbound::{self, Defaults, ForwardProtocol},
    ring_names,
    stream::{self, RawRule},
};

/// The original has no bound: every batch that waits is a goroutine.
const DEFAULT_OVERFLOW: usize = 2 << 20;
/// Where the original sends its spans if nothing is set.
const DEFAULT_SSF: &str = "127.0.0.1:8128";

macro_rules! settings {
    ($($setting:ident { $($key:ident),+ $(,)? })+) => {
        /// The file, word for word.
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct Raw {
            $($($key: Option<settings!(@type $setting)>,)+)+
            ignore_tags: Option<Vec<RawRule>>,
        }

        impl Dialect for Raw {
            // yaml.v2 takes the last one.
            const DUPLICATES: DuplicateKeyPolicy = DuplicateKeyPolicy::LastWins;

            fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
                vec![$($((stringify!($key), Setting::$setting(&mut self.$key)),)+)+]
            }
        }
    };
    (@type Text) => { String };
    (@type Flag) => { bool };
    (@type Number) => { i64 };
}

settings! {
    Text {
        http_address, stats_address, ssf_destination_address, forward_address, consul_forward_service_name,
        grpc_address, grpc_forward_address, consul_forward_grpc_service_name, consul_refresh_interval,
        trace_address, consul_trace_service_name, trace_api_address, forward_timeout, runtime_metrics_interval,
        idle_connection_timeout, tracing_client_flush_interval, tracing_client_metrics_interval, sentry_dsn,
        ring_names, forward_protocol, on_full, stall_timeout, batch_delay, stream_max_age, stream_idle_close,
        forward_tls_ca_file, forward_tls_cert_file, forward_tls_key_file, forward_tls_server_name,
        consul_blocking_wait, kubernetes_service, kubernetes_namespace, kubernetes_watch, kubernetes_service_account,
        dial_timeout, shutdown_timeout,
        grpc_tls_address, tls_ca_file, tls_cert_file, tls_key_file, tls_client_auth,
    }
    Flag { debug, enable_profiling, forward_tls_enabled, kubernetes_ready, start_without_destinations }
    Number {
        max_idle_conns, max_idle_conns_per_host, tracing_client_capacity, send_buffer_size, send_buffer_bytes,
        overflow_bytes, batch_max_metrics, batch_max_bytes, compression_level,
        max_request_bytes, max_inflated_bytes,
    }
}

pub(super) fn load(
    file: &str,
    environment: &Environment<'_>,
    generation: Generation,
    reason: String,
) -> Result<Loaded, ConfigError> {
    let (raw, unknown_keys) = document::read::<Raw>(file)?;
    let mut raw = raw.unwrap_or_default();
    let mut warnings = environment.overlay(&mut raw)?;
    let http_destinations = destinations(raw.forward_address, raw.consul_forward_service_name);
    let grpc_destinations = destinations(
        raw.grpc_forward_address,
        raw.consul_forward_grpc_service_name,
    );
    let traces = destinations(raw.trace_address, raw.consul_trace_service_name);
    if http_destinations.is_empty() && grpc_destinations.is_empty() && traces.is_empty() {
        return Err(ConfigError::NothingToForward);
    }
    if !traces.is_empty() {
        warnings.push("trace destinations are set, but traces were never proxied".to_owned());
    }
    let consul = [&http_destinations, &grpc_destinations, &traces]
        .iter()
        .any(|destinations| destinations.service.is_some());
    let discovery_interval = if consul {
        let text = raw.consul_refresh_interval.as_deref().unwrap_or_default();
        duration("consul_refresh_interval", Some(text))?
            .ok_or_else(|| ConfigError::value("consul_refresh_interval", "must be above 0"))?
    } else {
        stream::DEFAULT_INTERVAL
    };
    // Empty text means unset for these.
    let optional = |key, text: Option<String>| duration(key, filled(text).as_deref());
    let stats_address = filled(raw.stats_address);
    let self_metrics = match (filled(raw.ssf_destination_address), generation) {
        (None, Generation::Legacy) => {
            stats_address.map_or(SelfMetrics::Off, |address| SelfMetrics::DogStatsd {
                address,
                aggregation_interval: stream::DEFAULT_INTERVAL,
                lines_per_datagram: None,
            })
        }
        (None, _) => SelfMetrics::Ssf {
            address: SsfAddress::Udp(DEFAULT_SSF.to_owned()),
            capacity: 1024,
            flush_interval: Duration::from_millis(500),
            stats_address: None,
        },
        (Some(url), _) => {
            // Read only to be refused if it is wrong: we count as we send.
            optional(
                "tracing_client_metrics_interval",
                raw.tracing_client_metrics_interval,
            )?;
            SelfMetrics::Ssf {
                address: ssf_address(&url)?,
                capacity: count("tracing_client_capacity", raw.tracing_client_capacity)?
                    .unwrap_or(1024),
                flush_interval: optional(
                    "tracing_client_flush_interval",
                    raw.tracing_client_flush_interval,
                )?
                .unwrap_or(Duration::from_millis(500)),
                stats_address,
            }
        }
    };
    let default_names = match generation {
        Generation::Legacy => RingNames::Url,
        Generation::Dual | Generation::Stream => RingNames::HostPort,
    };
    let config = Config {
        generation,
        reason,
        debug: raw.debug.unwrap_or(false),
        http_address: filled(raw.http_address),
        grpc_address: filled(raw.grpc_address).filter(|_| generation != Generation::Legacy),
        grpc_tls: inbound::tls(WrittenTls {
            address: raw.grpc_tls_address,
            ca_file: raw.tls_ca_file,
            cert_file: raw.tls_cert_file,
            key_file: raw.tls_key_file,
            server_name: None,
            client_auth: raw.tls_client_auth,
        })?,
        grpc_server: GrpcServer {
            connection_timeout: stream::DEFAULT_CONNECTION_TIMEOUT,
            max_connection_idle: None,
            max_connection_age: None,
            max_connection_age_grace: None,
            ping_interval: stream::DEFAULT_PING_INTERVAL,
            ping_timeout: stream::DEFAULT_PING_TIMEOUT,
        },
        http_destinations,
        grpc_destinations,
        ring_names: ring_names(raw.ring_names.as_deref(), default_names)?,
        discovery_interval,
        ignore_tags: stream::ignore_tags(raw.ignore_tags)?,
        forward_timeout: optional("forward_timeout", raw.forward_timeout)?,
        dial_timeout: optional("dial_timeout", raw.dial_timeout)?
            .unwrap_or(stream::DEFAULT_INTERVAL),
        send_buffer: count("send_buffer_size", raw.send_buffer_size)?
            .unwrap_or(stream::DEFAULT_SEND_BUFFER),
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
                tls_enabled: raw.forward_tls_enabled,
                tls_ca_file: raw.forward_tls_ca_file,
                tls_cert_file: raw.forward_tls_cert_file,
                tls_key_file: raw.forward_tls_key_file,
                tls_server_name: raw.forward_tls_server_name,
            },
            &Defaults {
                protocol: ForwardProtocol::Unary,
                overflow_bytes: DEFAULT_OVERFLOW,
                stall_timeout: Duration::from_secs(2),
            },
        )?,
        http_pool: HttpPool {
            idle_timeout: optional("idle_connection_timeout", raw.idle_connection_timeout)?,
            max_idle: count("max_idle_conns", raw.max_idle_conns)?,
            max_idle_per_host: count("max_idle_conns_per_host", raw.max_idle_conns_per_host)?
                .unwrap_or(100),
        },
        self_metrics,
        runtime_metrics_interval: optional(
            "runtime_metrics_interval",
            raw.runtime_metrics_interval,
        )?
        .unwrap_or(stream::DEFAULT_INTERVAL),
        inbound: inbound::read(true, raw.max_request_bytes, raw.max_inflated_bytes)?,
        serve_config: false,
        pages: None,
        // Always, whatever enable_profiling says.
        serve_profiles: true,
        shutdown_timeout: optional("shutdown_timeout", raw.shutdown_timeout)?
            .unwrap_or(stream::DEFAULT_INTERVAL),
        sentry_dsn: filled(raw.sentry_dsn).map(Secret),
    };
    Ok(Loaded {
        config,
        unknown_keys,
        warnings,
    })
}

/// A service replaces the static address.
fn destinations(address: Option<String>, service: Option<String>) -> Destinations {
    match filled(service) {
        None => Destinations {
            addresses: filled(address).into_iter().collect(),
            service: None,
        },
        service => Destinations {
            addresses: Vec::new(),
            service,
        },
    }
}

fn ssf_address(url: &str) -> Result<SsfAddress, ConfigError> {
    match url.split_once("://") {
        Some(("udp", address)) if address.contains(':') => Ok(SsfAddress::Udp(address.to_owned())),
        Some(("unix", path)) if path.starts_with('/') => Ok(SsfAddress::Unix(path.to_owned())),
        _ => Err(ConfigError::value(
            "ssf_destination_address",
            format_args!("{url:?} is neither udp://host:port nor unix:///path"),
        )),
    }
}
