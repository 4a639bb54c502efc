//! What the flags mean: checked, typed, complete. Nothing here opens a file or a socket.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use shared::config::secret::Secret;
use thiserror::Error;

use crate::{
    flags::Flags,
    gateway::worker::{Log, Policy},
    lines::Check,
    spool,
};

/// What a proxy does.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where lines go.
    pub destination: Destination,
    /// Where lines come in.
    pub inputs: Inputs,
    /// Batches that may wait in memory.
    pub queue_batches: usize,
    /// Bytes that may wait in memory.
    pub queue_bytes: usize,
    /// Where batches wait when the gateway is away.
    pub spool: Option<spool::Settings>,
    /// What happens when everything is full.
    pub on_full: OnFull,
    /// Senders.
    pub workers: usize,
    /// Time between two sets of own metrics.
    pub metrics_flush: Option<Duration>,
    /// The runstats listener, in Go's form.
    pub stat_address: String,
    /// `/metrics` and `/healthz`, in Go's form.
    pub metrics_address: Option<String>,
    /// Limit of the delivery of what is queued at the end.
    pub drain_timeout: Duration,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// To standard output.
    Console,
    /// To a gateway.
    Gateway(Box<GatewayConfig>),
}

/// How a gateway is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayConfig {
    /// The flag's text: one address, or several with commas between them.
    pub addresses: String,
    /// The key, unless a file holds it.
    pub key: Secret,
    /// The file that holds the key.
    pub key_file: Option<PathBuf>,
    /// The file with the only trusted certificates.
    pub certificates: Option<PathBuf>,
    /// Certificate and key that are shown to the gateway.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Limit of a request.
    pub timeout: Duration,
    /// Retries and the log.
    pub policy: Policy,
    /// What a failed ping at the start means.
    pub first_ping: FirstPing,
}

/// What a failed ping at the start means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstPing {
    /// The end, as in the original.
    MustSucceed,
    /// A line in the log.
    MayFail,
}

/// Where lines come in.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Plaintext by TCP, in Go's form.
    pub tcp: String,
    /// Certificate and key for TLS on it.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Plaintext by UDP.
    pub udp: Option<String>,
    /// Pickle by TCP.
    pub pickle: Option<String>,
    /// What is looked at in lines.
    pub check: Check,
    /// Whose lines share a batch.
    pub sharing: Sharing,
}

/// Whose lines share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Those of one connection, as in the original.
    Connection,
    /// All.
    Everybody,
}

/// What happens to new batches when memory and spool are full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// They wait, and with them their senders.
    Block,
    /// The oldest make room for them.
    DropOldest,
}

/// Flags that make no sense. The process leaves with status 2.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid value {value:?} for flag -{flag}: {reason}")]
pub struct ConfigError {
    flag: &'static str,
    value: String,
    reason: &'static str,
}

impl Config {
    /// Checks what was typed.
    pub fn new(flags: &Flags) -> Result<Self, ConfigError> {
        let refuse = |flag, value: &dyn ToString, reason| ConfigError {
            flag,
            value: value.to_string(),
            reason,
        };
        let workers = usize::try_from(flags.workers)
            .ok()
            .filter(|workers| (1..=1_024).contains(workers))
            .ok_or_else(|| {
                refuse(
                    "workers",
                    &flags.workers,
                    "must be 1 to 1024: none would send nothing",
                )
            })?;
        let queue_batches = usize::try_from(flags.queue_cap)
            .map_err(|_| refuse("queue-cap", &flags.queue_cap, "must not be negative"))?;
        let queue_bytes = usize::try_from(flags.queue_bytes)
            .ok()
            .filter(|bytes| *bytes > 0)
            .ok_or_else(|| refuse("queue-bytes", &flags.queue_bytes, "must be positive"))?;
        let on_full = match flags.on_full.as_str() {
            "block" => OnFull::Block,
            "drop-oldest" => OnFull::DropOldest,
            other => {
                return Err(refuse("on-full", &other, "must be block or drop-oldest"));
            }
        };
        let spool_bytes = u64::try_from(flags.spool_max_bytes)
            .ok()
            .filter(|bytes| *bytes >= 1 << 20)
            .ok_or_else(|| {
                refuse(
                    "spool-max-bytes",
                    &flags.spool_max_bytes,
                    "must be 1048576 or more",
                )
            })?;
        let sync = duration("spool-sync", flags.spool_sync)?;
        let spool = path(&flags.spool_dir).map(|folder| spool::Settings {
            folder,
            max_bytes: spool_bytes,
            sync,
        });
        let destination = if flags.console_out {
            Destination::Console
        } else {
            Destination::Gateway(Box::new(gateway(flags)?))
        };
        Ok(Self {
            destination,
            inputs: Inputs {
                tcp: flags.listen_addr.clone(),
                tls: pair(
                    ("listen-cert", &flags.listen_cert),
                    ("listen-key", &flags.listen_key),
                )?,
                udp: text(&flags.udp_addr),
                pickle: text(&flags.pickle_addr),
                check: if flags.validate {
                    Check::Graphite
                } else {
                    Check::Nothing
                },
                sharing: if flags.merge_connections {
                    Sharing::Everybody
                } else {
                    Sharing::Connection
                },
            },
            queue_batches,
            queue_bytes,
            spool,
            on_full,
            workers,
            metrics_flush: u64::try_from(flags.metrics_flush)
                .ok()
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            stat_address: flags.stat_addr.clone(),
            metrics_address: text(&flags.metrics_addr),
            drain_timeout: duration("drain-timeout", flags.drain_timeout)?,
        })
    }
}

fn gateway(flags: &Flags) -> Result<GatewayConfig, ConfigError> {
    let timeout = duration("http-timeout", flags.http_timeout)?;
    if timeout.is_zero() {
        return Err(ConfigError {
            flag: "http-timeout",
            value: "0s".to_owned(),
            reason: "must be positive",
        });
    }
    let retry_for = duration("retry-for", flags.retry_for)?;
    Ok(GatewayConfig {
        addresses: flags.gateway.clone(),
        key: Secret::new(flags.api_key.as_str()),
        key_file: path(&flags.api_key_file),
        certificates: path(&flags.cert),
        identity: pair(
            ("client-cert", &flags.client_cert),
            ("client-key", &flags.client_key),
        )?,
        timeout,
        policy: Policy {
            key_hold: duration("key-hold", flags.key_hold)?,
            retry_for: (!retry_for.is_zero()).then_some(retry_for),
            log: if flags.verbose {
                Log::Everything
            } else {
                Log::Trouble
            },
        },
        first_ping: if flags.start_anyway {
            FirstPing::MayFail
        } else {
            FirstPing::MustSucceed
        },
    })
}

/// Where a running proxy listens, with real ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Plaintext by TCP.
    pub tcp: SocketAddr,
    /// The runstats listener.
    pub stat: SocketAddr,
    /// Plaintext by UDP.
    pub udp: Option<SocketAddr>,
    /// Pickle by TCP.
    pub pickle: Option<SocketAddr>,
    /// `/metrics` and `/healthz`.
    pub metrics: Option<SocketAddr>,
}

fn duration(flag: &'static str, nanos: i64) -> Result<Duration, ConfigError> {
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| ConfigError {
            flag,
            value: shared::config::duration::format_nanos(nanos),
            reason: "must not be negative",
        })
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn path(value: &str) -> Option<PathBuf> {
    text(value).map(PathBuf::from)
}

/// Certificate and key, which make sense only together.
fn pair(
    certificate: (&'static str, &str),
    key: (&'static str, &str),
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (path(certificate.1), path(key.1)) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, Some(_)) => Err(ConfigError {
            flag: certificate.0,
            value: String::new(),
            reason: "must be given with its key",
        }),
        (Some(_), None) => Err(ConfigError {
            flag: key.0,
            value: String::new(),
            reason: "must be given with its certificate",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_make_no_sense_are_refused_by_name() {
        let f = |change: fn(&mut Flags), text: &str| {
            let mut flags = Flags::defaults();
            change(&mut flags);
            assert_eq!(Config::new(&flags).unwrap_err().to_string(), text);
        };
        f(
            |flags| flags.workers = 0,
            "invalid value \"0\" for flag -workers: must be 1 to 1024: none would send nothing",
        );
        f(
            |flags| flags.queue_cap = -1,
            "invalid value \"-1\" for flag -queue-cap: must not be negative",
        );
        f(
            |flags| flags.on_full = "drop".to_owned(),
            "invalid value \"drop\" for flag -on-full: must be block or drop-oldest",
        );
        f(
            |flags| flags.http_timeout = -1,
            "invalid value \"-1ns\" for flag -http-timeout: must not be negative",
        );
        f(
            |flags| flags.listen_cert = "c.pem".to_owned(),
            "invalid value \"\" for flag -listen-key: must be given with its certificate",
        );
    }

    #[test]
    fn metrics_flush_below_one_is_off() {
        for (seconds, flush) in [(-1, None), (0, None), (2, Some(Duration::from_secs(2)))] {
            let mut flags = Flags::defaults();
            flags.metrics_flush = seconds;
            assert_eq!(Config::new(&flags).unwrap().metrics_flush, flush);
        }
    }
}
