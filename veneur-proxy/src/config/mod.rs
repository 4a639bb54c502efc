//! The configuration: a file of any generation, and the environment, become one valid [`Config`].
//!
//! The dialects (`legacy` for both HTTP generations, `stream`) hold what the originals call things and what they take for
//! granted; `document` reads YAML and lays the environment over it. Which generation a file was written for is decided
//! here, in `Generation::decide`, and nowhere else.

mod document;
pub mod inbound;
mod legacy;
pub mod outbound;
mod pages;
mod stream;

use std::{fmt, time::Duration};

use thiserror::Error;

pub use self::pages::Pages;
use self::{
    document::Environment,
    inbound::{ClientAuth, Inbound},
    outbound::Outbound,
};
use crate::route::{IgnoreTags, TagRuleError};

/// Which of the originals is stood in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// v1 to v7: HTTP alone. No file tells it from `Dual`, so it has to be asked for.
    Legacy,
    /// v8 to v14.2: HTTP, and gRPC beside it.
    Dual,
    /// After v14.2: gRPC alone.
    Stream,
}

impl Generation {
    /// Returns the name that flags and logs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Dual => "dual",
            Self::Stream => "stream",
        }
    }

    /// Decides from the keys that a file and the environment set; says why.
    ///
    /// Where metrics are forwarded to counts most, because unknown keys were never an error: a file may carry leftovers.
    fn decide(keys: &[String]) -> Result<(Self, String), ConfigError> {
        let set = |known: &'static [&'static str]| {
            known
                .iter()
                .copied()
                .find(|known| keys.iter().any(|key| key == known))
        };
        match (set(&STREAM_DESTINATIONS), set(&DUAL_DESTINATIONS)) {
            (Some(stream), Some(dual)) => Err(ConfigError::Ambiguous { dual, stream }),
            (Some(key), None) => Ok((Self::Stream, format!("{key} is set"))),
            (None, Some(key)) => Ok((Self::Dual, format!("{key} is set"))),
            (None, None) => Ok(match (set(&STREAM_ONLY), set(&DUAL_ONLY)) {
                (Some(key), None) => (Self::Stream, format!("{key} is set")),
                (_, Some(key)) => (Self::Dual, format!("{key} is set")),
                (None, None) => (
                    Self::Dual,
                    "no key of the stream generation is set".to_owned(),
                ),
            }),
        }
    }
}

const STREAM_DESTINATIONS: [&str; 2] = ["forward_addresses", "forward_service"];
const DUAL_DESTINATIONS: [&str; 6] = [
    "forward_address",
    "grpc_forward_address",
    "consul_forward_service_name",
    "consul_forward_grpc_service_name",
    "trace_address",
    "consul_trace_service_name",
];
const STREAM_ONLY: [&str; 9] = [
    "discovery_interval",
    "dial_timeout",
    "grpc_server",
    "grpc_tls_address",
    "http",
    "send_buffer_size",
    "shutdown_timeout",
    "statsd",
    "tls",
];
const DUAL_ONLY: [&str; 4] = [
    "consul_refresh_interval",
    "forward_timeout",
    "stats_address",
    "ssf_destination_address",
];

/// How members that discovery finds are named in the ring. Their names place the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingNames {
    /// `10.0.0.1:8127`: v8 and later.
    HostPort,
    /// `http://10.0.0.1:8127`: v1 to v7.
    Url,
}

/// Where metrics of one protocol go. Static addresses are ring members as they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destinations {
    /// As configured.
    pub addresses: Vec<String>,
    /// The Consul service with more of them, or in a dual file instead of them.
    pub service: Option<String>,
}

impl Destinations {
    /// Returns whether there is nowhere to go.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.service.is_none()
    }
}

/// gRPC over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Where to listen.
    pub address: String,
    /// Certificates of those who sign clients.
    pub ca_file: String,
    /// The certificate.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
    /// The name of this server.
    pub server_name: Option<String>,
    /// What is wanted of clients.
    pub client_auth: ClientAuth,
}

/// Limits of the gRPC server; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcServer {
    /// How long a handshake may take.
    pub connection_timeout: Duration,
    /// How long a connection may be without a call.
    pub max_connection_idle: Option<Duration>,
    /// How long a connection may live.
    pub max_connection_age: Option<Duration>,
    /// How long calls may go on after that.
    pub max_connection_age_grace: Option<Duration>,
    /// How often a silent peer is pinged.
    pub ping_interval: Duration,
    /// How long it has to answer.
    pub ping_timeout: Duration,
}

/// Outgoing HTTP connections that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPool {
    /// How long one may be idle; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How many may be idle; `None` is no limit.
    pub max_idle: Option<usize>,
    /// How many may be idle for one destination.
    pub max_idle_per_host: usize,
}

/// Where an SSF span goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SsfAddress {
    /// `host:port`, one span a datagram.
    Udp(String),
    /// The path of a stream socket, spans in frames.
    Unix(String),
}

/// How the proxy reports on itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelfMetrics {
    /// Not at all.
    Off,
    /// `DogStatsD` datagrams.
    DogStatsd {
        /// `host:port`.
        address: String,
        /// For how long counts are summed.
        aggregation_interval: Duration,
        /// How many lines share a datagram; `None` is as many as fit.
        lines_per_datagram: Option<usize>,
    },
    /// Samples in SSF spans.
    Ssf {
        /// Where to.
        address: SsfAddress,
        /// How many spans may wait.
        capacity: usize,
        /// How often they are sent.
        flush_interval: Duration,
        /// Where numbers about the spans themselves go, as `DogStatsD`.
        stats_address: Option<String>,
    },
}

/// Text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Everything a proxy needs to know. Valid as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whom it stands in for.
    pub generation: Generation,
    /// Why that one, for the log.
    pub reason: String,
    /// Whether debug lines are logged.
    pub debug: bool,
    /// Where HTTP is served, in the forms of the original; `None`: nowhere.
    pub http_address: Option<String>,
    /// Where gRPC is served; `None`: nowhere.
    pub grpc_address: Option<String>,
    /// Where gRPC is served over TLS; `None`: nowhere.
    pub grpc_tls: Option<Tls>,
    /// Limits of the gRPC server.
    pub grpc_server: GrpcServer,
    /// Where what comes by HTTP goes.
    pub http_destinations: Destinations,
    /// Where what comes by gRPC goes.
    pub grpc_destinations: Destinations,
    /// How discovered members are named.
    pub ring_names: RingNames,
    /// How often discovery asks.
    pub discovery_interval: Duration,
    /// Tags that take no part in routing.
    pub ignore_tags: IgnoreTags,
    /// How long forwarding a received batch may take; `None` is for ever.
    pub forward_timeout: Option<Duration>,
    /// How long connecting to a destination may take.
    pub dial_timeout: Duration,
    /// How many metrics may wait for one destination.
    pub send_buffer: usize,
    /// Outgoing HTTP connections.
    pub http_pool: HttpPool,
    /// How metrics are forwarded: keys of ours.
    pub outbound: Outbound,
    /// How metrics are received: keys of ours.
    pub inbound: Inbound,
    /// How it reports on itself.
    pub self_metrics: SelfMetrics,
    /// How often it reports on its memory.
    pub runtime_metrics_interval: Duration,
    /// Whether `/config/json` and `/config/yaml` are served.
    pub serve_config: bool,
    /// The pages that show the configuration; a stream file has them.
    pub pages: Option<Pages>,
    /// Whether `/debug/pprof` is served.
    pub serve_profiles: bool,
    /// How long the end may take.
    pub shutdown_timeout: Duration,
    /// Where errors are reported.
    pub sentry_dsn: Option<Secret>,
}

/// A configuration, and what the operator should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Keys of the file that mean nothing to the generation, as paths.
    pub unknown_keys: Vec<String>,
    /// Other remarks, each a line for the log.
    pub warnings: Vec<String>,
}

/// What is done about unknown keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKeys {
    /// They are reported.
    Report,
    /// They are an error (`-strict`).
    Refuse,
}

/// Why there is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Not YAML, or a value of another type than its key has.
    #[error("{0}")]
    Yaml(String),
    /// A file without anything in it.
    #[error("EOF")]
    Empty,
    /// A template action that has no meaning without data.
    #[error("template: line {line}: {reason}")]
    Template {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Unknown keys where they are refused.
    #[error("unknown keys: {}", .0.join(", "))]
    UnknownKeys(Vec<String>),
    /// A value that its key cannot have.
    #[error("{key}: {reason}")]
    Value {
        /// As the file has it, parts joined by dots.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The same from the environment.
    #[error("envconfig.Process: assigning {name} to {key}: {reason}")]
    Environment {
        /// The variable.
        name: String,
        /// The key that it stands for.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Destinations of two generations.
    #[error(
        "{dual} belongs to the dual proxy and {stream} to the stream proxy; name the generation"
    )]
    Ambiguous {
        /// A key of the one.
        dual: &'static str,
        /// A key of the other.
        stream: &'static str,
    },
    /// Nothing to do.
    #[error("refusing to start with no Consul service names or static addresses in config")]
    NothingToForward,
}

impl ConfigError {
    fn value(key: &'static str, reason: impl fmt::Display) -> Self {
        Self::Value {
            key,
            reason: reason.to_string(),
        }
    }

    fn rule(reason: &TagRuleError) -> Self {
        Self::value("ignore_tags", reason)
    }
}

/// Reads a configuration.
///
/// `variable` looks up the environment, which wins over the file. `asked` is the generation that the operator named, if any.
pub fn load(
    file: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    asked: Option<Generation>,
    unknown: UnknownKeys,
) -> Result<Loaded, ConfigError> {
    let environment = Environment { variable, asked };
    let (generation, reason) = match asked {
        Some(generation) => (generation, "it was asked for".to_owned()),
        None => decide(file, &environment)?,
    };
    let mut loaded = match generation {
        Generation::Stream => stream::load(file, &environment, reason)?,
        Generation::Legacy | Generation::Dual => {
            legacy::load(file, &environment, generation, reason)?
        }
    };
    if loaded.config.sentry_dsn.is_some() {
        let warning = "sentry_dsn has no effect: nothing is sent to Sentry";
        loaded.warnings.push(warning.to_owned());
    }
    match unknown {
        UnknownKeys::Refuse if !loaded.unknown_keys.is_empty() => {
            Err(ConfigError::UnknownKeys(loaded.unknown_keys))
        }
        _ => Ok(loaded),
    }
}

/// Returns whose configuration this seems to be, whether or not it is valid; `None` if that cannot be said.
pub fn generation_of(file: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<Generation> {
    let environment = Environment {
        variable,
        asked: None,
    };
    decide(file, &environment)
        .ok()
        .map(|(generation, _)| generation)
}

fn decide(file: &str, environment: &Environment<'_>) -> Result<(Generation, String), ConfigError> {
    // A template's actions, if any, have to be gone before YAML sees them; only the stream proxy has templates.
    let text = stream::expand(file).unwrap_or(file.into());
    let mut keys = document::keys(&text)?;
    keys.extend(environment.keys::<stream::Raw>());
    keys.extend(environment.keys::<legacy::Raw>());
    Generation::decide(&keys)
}

/// Reads `ring_names`.
fn ring_names(value: Option<&str>, default: RingNames) -> Result<RingNames, ConfigError> {
    match value {
        None => Ok(default),
        Some("host_port") => Ok(RingNames::HostPort),
        Some("url") => Ok(RingNames::Url),
        Some(other) => Err(ConfigError::value(
            "ring_names",
            format_args!("{other:?} is neither host_port nor url"),
        )),
    }
}

#[cfg(test)]
mod tests;
