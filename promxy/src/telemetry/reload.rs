//! When the configuration was read, and whether that went well.

use jiff::Timestamp;
use parking_lot::Mutex;
use shared::metrics::{Family, MetricFamily, Source};

/// The last reload.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    /// Whether it went well.
    pub is_successful: bool,
    /// When one last went well.
    pub succeeded_at: Timestamp,
}

/// Reloads.
#[derive(Debug)]
pub struct Reload(Mutex<Last>);

impl Default for Reload {
    fn default() -> Self {
        Self(Mutex::new(Last {
            is_successful: false,
            succeeded_at: Timestamp::UNIX_EPOCH,
        }))
    }
}

impl Reload {
    /// Notes that one went well.
    pub fn succeeded(&self) {
        *self.0.lock() = Last {
            is_successful: true,
            succeeded_at: Timestamp::now(),
        };
    }

    /// Notes that one did not.
    pub fn failed(&self) {
        let mut last = self.0.lock();
        last.is_successful = false;
    }

    /// Returns the last.
    pub fn last(&self) -> Last {
        *self.0.lock()
    }
}

impl Source for Reload {
    fn families(&self) -> Vec<MetricFamily> {
        let Last {
            is_successful,
            succeeded_at,
        } = self.last();
        let seconds = succeeded_at.as_microsecond() as f64 / 1e6;
        let gauge = |name: &str, help: &str, value: f64| {
            Family::gauge(name, help).sample(&[], value).build()
        };
        vec![
            gauge(
                "prometheus_config_last_reload_successful",
                "Whether the last configuration reload attempt was successful.",
                f64::from(u8::from(is_successful)),
            ),
            gauge(
                "prometheus_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
                seconds,
            ),
            gauge(
                "process_reload_time_seconds",
                "Last reload (SIGHUP) time of the process since unix epoch in seconds.",
                seconds.floor(),
            ),
        ]
    }
}
