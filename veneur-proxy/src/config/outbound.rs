//! Keys of ours about forwarding. Both dialects have them, in the same words:
//!
//! | key | unset means | meaning |
//! |---|---|---|
//! | `forward_protocol` | `unary` in dual, `stream` in stream files | how gRPC destinations are spoken to: `http`, `unary`, `stream`, or `auto`: stream where they take it, else unary |
//! | `send_buffer_size` | 16384 | metrics that may wait for one destination |
//! | `send_buffer_bytes` | 1048576 | bytes that may wait for one destination, as they will travel (HTTP: compressed) |
//! | `overflow_bytes` | 2097152 in dual, 0 in stream files | bytes that may wait beyond that, for all destinations together |
//! | `on_full` | `block` | what happens when neither has room: `block` lets the sender wait, `drop` drops and counts |
//! | `stall_timeout` | 2s in dual, 10s in stream files | a destination that takes nothing for this long is in trouble: nobody waits for it any more |
//! | `forward_timeout` | none; known in stream files, too | how long a batch may wait for a connection or an answer |
//! | `batch_max_metrics`, `batch_max_bytes`, `batch_delay` | no merging | queued batches for one destination are merged up to these sizes, and wait this long for company |
//! | `compression_level` | 1 | of HTTP bodies: 0 (none) to 9 |
//! | `stream_max_age`, `stream_idle_close` | never; 1s with `auto` | when a stream is closed and opened anew: v14.2.0 counts metrics only when a stream is closed |
//! | `forward_tls.ca_file`, `.cert_file`, `.key_file`, `.server_name`, `.enabled` | plain text | TLS to gRPC destinations; `https://` members have TLS anyway, with these files |
//! | `consul_blocking_wait` | plain polling | Consul is asked to answer when something has changed, after this time at the latest |
//! | `kubernetes_service`, `kubernetes_namespace` | pods with the label `app=veneur-global`, in all namespaces | the endpoint slices of a service, by default in the proxy's own namespace |
//! | `kubernetes_ready` | false for pods, true for a service | whether members have to be ready |
//! | `kubernetes_watch` | plain polling | Kubernetes tells of changes as they happen; a watch without news is looked at after this time |
//! | `kubernetes_service_account` | where pods have it | the folder with `token` and `ca.crt`; if there is none, Consul is asked |
//! | `start_without_destinations` | false | whether to start when discovery finds nobody at first (dual) |
//!
//! In dual files the TLS and Kubernetes keys are flat: `forward_tls_ca_file`.

use std::{path::PathBuf, time::Duration};

use shared::discovery::kubernetes::SERVICE_ACCOUNT;

use super::{
    ConfigError,
    document::{count, duration, filled},
};

/// How destinations are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardProtocol {
    /// `POST /import`.
    Http,
    /// `SendMetrics`.
    Unary,
    /// `SendMetricsV2`.
    Stream,
    /// `SendMetricsV2` where it is taken, else `SendMetrics`.
    Auto,
}

/// What happens to metrics that a full queue has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// Their sender waits.
    Block,
    /// They are dropped and counted.
    Drop,
}

/// When queued batches for one destination are sent together. All unset: never; a received batch stays one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// How many metrics at most.
    pub max_metrics: Option<usize>,
    /// How many bytes at most.
    pub max_bytes: Option<usize>,
    /// How long a batch waits for company.
    pub delay: Option<Duration>,
}

impl Batching {
    /// Returns whether batches are merged at all.
    pub fn is_on(&self) -> bool {
        self.max_metrics.is_some() || self.max_bytes.is_some() || self.delay.is_some()
    }
}

/// TLS towards destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardTls {
    /// Whether gRPC destinations are spoken to over TLS.
    pub enabled: bool,
    /// Certificates of those who sign destinations; `None` is the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// The name that destinations' certificates have, instead of the address's.
    pub server_name: Option<String>,
}

impl ForwardTls {
    /// Returns whether the configuration says anything about it: then its files are read at the start, and with every
    /// reload. `https://` members alone are no reason to, for the system's authorities need no configuration.
    pub fn is_wanted(&self) -> bool {
        self.enabled || self.ca_file.is_some() || self.cert_file.is_some()
    }
}

/// How Kubernetes is asked, where the process runs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// Whether the configuration says anything about it. In a stream file it has to: that generation has no Kubernetes.
    pub wanted: bool,
    /// The folder of the service account; where there is none, the process does not run in Kubernetes.
    pub service_account: PathBuf,
    /// The service whose endpoint slices are followed, instead of pods by their label.
    pub service: Option<String>,
    /// The namespace; `None` is all of them for pods, and the process's own for a service.
    pub namespace: Option<String>,
    /// Whether members have to be ready.
    pub ready: bool,
    /// How long Kubernetes may wait for a change; `None` is polling.
    pub watch: Option<Duration>,
}

/// How metrics are forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// To gRPC destinations.
    pub protocol: ForwardProtocol,
    /// Bytes that may wait for one destination.
    pub send_buffer_bytes: usize,
    /// Bytes that may wait beyond that, for all of them.
    pub overflow_bytes: usize,
    /// When both are full.
    pub on_full: OnFull,
    /// How long a destination may take nothing before nobody waits for it.
    pub stall_timeout: Duration,
    /// Merging.
    pub batching: Batching,
    /// zlib's, 0 to 9.
    pub compression_level: u32,
    /// How old a stream may become.
    pub stream_max_age: Option<Duration>,
    /// How long a stream may be idle.
    pub stream_idle_close: Option<Duration>,
    /// TLS.
    pub tls: ForwardTls,
    /// How long Consul may wait for a change; `None` is polling.
    pub consul_blocking_wait: Option<Duration>,
    /// Kubernetes.
    pub kubernetes: Kubernetes,
    /// Whether to start without any destination.
    pub start_without_destinations: bool,
}

/// The keys, word for word.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) forward_protocol: Option<String>,
    pub(super) send_buffer_bytes: Option<i64>,
    pub(super) overflow_bytes: Option<i64>,
    pub(super) on_full: Option<String>,
    pub(super) stall_timeout: Option<String>,
    pub(super) batch_max_metrics: Option<i64>,
    pub(super) batch_max_bytes: Option<i64>,
    pub(super) batch_delay: Option<String>,
    pub(super) compression_level: Option<i64>,
    pub(super) stream_max_age: Option<String>,
    pub(super) stream_idle_close: Option<String>,
    pub(super) tls_enabled: Option<bool>,
    pub(super) tls_ca_file: Option<String>,
    pub(super) tls_cert_file: Option<String>,
    pub(super) tls_key_file: Option<String>,
    pub(super) tls_server_name: Option<String>,
    pub(super) consul_blocking_wait: Option<String>,
    pub(super) kubernetes_service: Option<String>,
    pub(super) kubernetes_namespace: Option<String>,
    pub(super) kubernetes_ready: Option<bool>,
    pub(super) kubernetes_watch: Option<String>,
    pub(super) kubernetes_service_account: Option<String>,
    pub(super) start_without_destinations: Option<bool>,
}

/// What a dialect takes for granted.
pub(super) struct Defaults {
    pub(super) protocol: ForwardProtocol,
    pub(super) overflow_bytes: usize,
    pub(super) stall_timeout: Duration,
}

const DEFAULT_SEND_BUFFER_BYTES: usize = 1 << 20;
const AUTO_IDLE_CLOSE: Duration = Duration::from_secs(1);

pub(super) fn read(written: Written, defaults: &Defaults) -> Result<Outbound, ConfigError> {
    let protocol = match filled(written.forward_protocol).as_deref() {
        None => defaults.protocol,
        Some("http") => ForwardProtocol::Http,
        Some("unary") => ForwardProtocol::Unary,
        Some("stream") => ForwardProtocol::Stream,
        Some("auto") => ForwardProtocol::Auto,
        Some(other) => {
            return Err(ConfigError::value(
                "forward_protocol",
                format_args!("{other:?} is none of http, unary, stream, auto"),
            ));
        }
    };
    let on_full = match filled(written.on_full).as_deref() {
        None | Some("block") => OnFull::Block,
        Some("drop") => OnFull::Drop,
        Some(other) => {
            return Err(ConfigError::value(
                "on_full",
                format_args!("{other:?} is neither block nor drop"),
            ));
        }
    };
    let compression_level = match written.compression_level {
        None => 1,
        Some(level @ 0..=9) => level as u32,
        Some(other) => {
            return Err(ConfigError::value(
                "compression_level",
                format_args!("{other} is not between 0 and 9"),
            ));
        }
    };
    let time = |key, text: Option<String>| duration(key, filled(text).as_deref());
    let file = |file| filled(file).map(PathBuf::from);
    let auto = (protocol == ForwardProtocol::Auto).then_some(AUTO_IDLE_CLOSE);
    let tls = ForwardTls {
        enabled: written.tls_enabled.unwrap_or(false),
        ca_file: file(written.tls_ca_file),
        cert_file: file(written.tls_cert_file),
        key_file: file(written.tls_key_file),
        server_name: filled(written.tls_server_name),
    };
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        return Err(ConfigError::value(
            "forward_tls",
            "cert_file and key_file go together",
        ));
    }
    Ok(Outbound {
        protocol,
        send_buffer_bytes: count("send_buffer_bytes", written.send_buffer_bytes)?
            .unwrap_or(DEFAULT_SEND_BUFFER_BYTES),
        overflow_bytes: match written.overflow_bytes {
            None => defaults.overflow_bytes,
            set => count("overflow_bytes", set)?.unwrap_or(0),
        },
        on_full,
        stall_timeout: time("stall_timeout", written.stall_timeout)?
            .unwrap_or(defaults.stall_timeout),
        batching: Batching {
            max_metrics: count("batch_max_metrics", written.batch_max_metrics)?,
            max_bytes: count("batch_max_bytes", written.batch_max_bytes)?,
            delay: time("batch_delay", written.batch_delay)?,
        },
        compression_level,
        stream_max_age: time("stream_max_age", written.stream_max_age)?,
        stream_idle_close: match written.stream_idle_close {
            None => auto,
            set => time("stream_idle_close", set)?,
        },
        tls,
        consul_blocking_wait: time("consul_blocking_wait", written.consul_blocking_wait)?,
        kubernetes: kubernetes(
            written.kubernetes_service,
            written.kubernetes_namespace,
            written.kubernetes_ready,
            time("kubernetes_watch", written.kubernetes_watch)?,
            written.kubernetes_service_account,
        ),
        start_without_destinations: written.start_without_destinations.unwrap_or(false),
    })
}

fn kubernetes(
    service: Option<String>,
    namespace: Option<String>,
    ready: Option<bool>,
    watch: Option<Duration>,
    service_account: Option<String>,
) -> Kubernetes {
    let (service, namespace) = (filled(service), filled(namespace));
    let service_account = filled(service_account);
    Kubernetes {
        wanted: service.is_some()
            || namespace.is_some()
            || ready.is_some()
            || watch.is_some()
            || service_account.is_some(),
        service_account: service_account.map_or_else(|| SERVICE_ACCOUNT.into(), PathBuf::from),
        ready: ready.unwrap_or(service.is_some()),
        service,
        namespace,
        watch,
    }
}
