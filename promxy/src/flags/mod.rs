//! The command line.
//!
//! GNU style: `--name=value` or `--name value`, short names only for `-v` and `-h`, switches without a value. Errors are one line in
//! the words of the original's flag library, exit status 1; so is the help's status. Only `--proxy-headers` looks at the environment.

mod words;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use shared::regex::Regex;

use crate::config::go_url;
use words::{Reader, answer, command, table};

/// What was typed, with defaults, each value of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Whether the file is only judged.
    pub check_config: bool,
    /// Where the proxy listens.
    pub bind_addr: String,
    /// The configuration file.
    pub config: PathBuf,
    /// How much is logged.
    pub log_level: String,
    /// `json`, or anything else for text.
    pub log_format: String,
    /// How many bytes of form values the access log shows.
    pub log_max_form_prefix: usize,
    /// The file with TLS settings, users and headers of the listener.
    pub web_config_file: Option<PathBuf>,
    /// Origins that browsers may ask from: a pattern.
    pub cors_origin: String,
    /// How long reading a request may take, and a connection be idle.
    pub read_timeout: Option<Duration>,
    /// Where the proxy's own metrics are.
    pub metrics_path: String,
    /// Headers of clients that go on to servers.
    pub proxy_headers: Vec<String>,
    /// The URL under which users see the proxy.
    pub external_url: String,
    /// The path in front of all routes.
    pub route_prefix: String,
    /// Whether `/-/reload` and `/-/quit` are there.
    pub enable_lifecycle: bool,
    /// How long a query may take.
    pub query_timeout: Option<Duration>,
    /// How many samples a query may hold.
    pub max_samples: i64,
    /// How many bytes servers may send for a query, unpacked; negative for any number.
    pub max_bytes: i64,
    /// How far back a selector looks.
    pub lookback_delta: Duration,
    /// How many queries run at once; negative for any number.
    pub max_concurrency: i64,
    /// A directory for what outlives the process.
    pub storage_path: String,
    /// The same, as it was called before.
    pub storage_tsdb_path: String,
    /// How many remote reads run at once.
    pub remote_read_max_concurrency: i64,
    /// How many alerts wait to be sent.
    pub notification_queue_capacity: i64,
    /// Where requests are logged.
    pub access_log_destination: String,
    /// How long an outage may be for alerts to go on as if there had been none.
    pub for_outage_tolerance: Duration,
    /// Which alerts that holds for.
    pub for_grace_period: Duration,
    /// How often an alert is sent again.
    pub resend_delay: Duration,
    /// Whether the state of alerts is worked out from the past.
    pub alert_backfill: bool,
    /// How long requests are answered after the signal to stop.
    pub shutdown_delay: Duration,
    /// How long requests may then take; `None` for any time.
    pub shutdown_timeout: Option<Duration>,
}

/// An answer in place of flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The help, for standard output, exit status 1.
    Help(String),
    /// The version, for standard output, exit status 0.
    Version,
    /// What is wrong, for standard error, exit status 1.
    Wrong(String),
}

/// Where requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    None,
    /// On standard output.
    Stdout,
    /// On standard error.
    Stderr,
}

/// How much is logged, from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `panic` and `fatal`: only why the process ends.
    Fatal,
    /// `error`
    Error,
    /// `warn` or `warning`
    Warn,
    /// `info`
    Info,
    /// `debug`
    Debug,
    /// `trace`
    Trace,
}

/// What the flags mean together.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How much is logged.
    pub log_level: LogLevel,
    /// Where requests are logged.
    pub access_log: AccessLog,
    /// Origins that browsers may ask from.
    pub cors_origin: Regex,
    /// The URL under which users see the proxy, without a slash at its end.
    pub external_url: String,
    /// Its path: empty, or with a slash at its start and none at its end.
    pub external_path: String,
    /// The path in front of all routes: empty, or with a slash at its start and none at its end.
    pub route_prefix: String,
    /// A directory for what outlives the process.
    pub storage_path: Option<PathBuf>,
    /// How many queries run at once.
    pub max_concurrency: Option<usize>,
    /// What deserves a word in the log.
    pub warnings: Vec<String>,
}

/// Makes a limit of a number that stands for none if it is negative.
fn limit(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Flags {
    /// Returns how many samples a query may hold.
    pub fn most_samples(&self) -> u64 {
        limit(self.max_samples)
    }

    /// Returns how many bytes servers may send for a query.
    pub fn most_bytes(&self) -> u64 {
        limit(self.max_bytes)
    }

    /// Reads the words of a command line, the first of which is the program's name; `variable` looks up the environment.
    pub fn parse(
        words: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Answer> {
        let matches = command()
            .try_get_matches_from(words)
            .map_err(|error| answer(&error))?;
        if matches.get_flag("help") {
            return Err(Answer::Help(command().render_help().to_string()));
        }
        let reader = Reader { matches: &matches };
        let flags = reader.flags(variable("PROXY_HEADERS"))?;
        if matches.get_flag("version") {
            return Err(Answer::Version);
        }
        Ok(flags)
    }

    /// Works out what the flags mean together. The error is the message of a fatal log line.
    pub fn settle(&self, hostname: &str) -> Result<Settings, String> {
        let log_level = self.log_level()?;
        let mut warnings = Vec::new();
        let storage_path = match (self.storage_path.as_str(), self.storage_tsdb_path.as_str()) {
            ("", "") => None,
            (path, "") => Some(path),
            ("", path) => {
                warnings.push(
                    "--storage.tsdb.path is deprecated; use --storage.path instead".to_owned(),
                );
                Some(path)
            }
            _ => {
                return Err("--storage.tsdb.path and --storage.path are mutually exclusive; --storage.tsdb.path is deprecated, use --storage.path".to_owned());
            }
        };
        let max_concurrency = usize::try_from(self.max_concurrency)
            .ok()
            .filter(|most| *most > 0);
        if self.max_concurrency != -1 && storage_path.is_none() {
            return Err(
                "--storage.path must be set if you wish to enable max query concurrency limits"
                    .to_owned(),
            );
        }
        let cors_origin = Regex::anchored(&self.cors_origin)
            .map_err(|e| format!("Error parsing CORS regex: {e}"))?;
        let (external_url, path) = self.external_url(hostname)?;
        let prefix = if self.route_prefix.is_empty() {
            &path
        } else {
            &self.route_prefix
        };
        let prefix = prefix.trim_matches('/');
        let route_prefix = if prefix.is_empty() {
            String::new()
        } else {
            format!("/{prefix}")
        };
        if !self.metrics_path.starts_with('/') {
            return Err(format!(
                "--metrics-path must begin with a slash: {}",
                self.metrics_path
            ));
        }
        if self.metrics_path == format!("{route_prefix}/federate") {
            return Err(format!(
                "--metrics-path is the path of another page: {}",
                self.metrics_path
            ));
        }
        let access_log = match self.access_log_destination.to_ascii_lowercase().as_str() {
            "none" => AccessLog::None,
            "stdout" => AccessLog::Stdout,
            "stderr" => AccessLog::Stderr,
            _ => {
                return Err(format!(
                    "Invalid AccessLogDestination: {}",
                    self.access_log_destination
                ));
            }
        };
        Ok(Settings {
            log_level,
            access_log,
            cors_origin,
            external_url,
            external_path: path.clone(),
            route_prefix,
            storage_path: storage_path.map(PathBuf::from),
            max_concurrency,
            warnings,
        })
    }

    /// Returns how much is logged, which is worked out before anything else.
    pub fn log_level(&self) -> Result<LogLevel, String> {
        let word = &self.log_level;
        Ok(match word.to_lowercase().as_str() {
            "panic" | "fatal" => LogLevel::Fatal,
            "error" => LogLevel::Error,
            "warn" | "warning" => LogLevel::Warn,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => {
                let quoted = promql::format::quote(word.as_bytes());
                return Err(format!(
                    "Unknown log level {word}: not a valid logrus Level: {quoted}"
                ));
            }
        })
    }

    /// Returns the URL under which users see the proxy, and its path.
    fn external_url(&self, hostname: &str) -> Result<(String, String), String> {
        let wrong =
            |url: &str, reason: &str| format!("Unable to parse external URL {url}: {reason}");
        let url = if self.external_url.is_empty() {
            let port = self.bind_addr.rsplit_once(':').map(|(_, port)| port);
            let port = port.ok_or_else(|| wrong(&self.bind_addr, "--bind-addr has no port"))?;
            format!("http://{hostname}:{port}/")
        } else {
            // Some shells leave the quotes in.
            self.external_url.trim_matches(['"', '\'']).to_owned()
        };
        let parts = go_url::parse(&url).map_err(|reason| wrong(&url, &reason))?;
        let path = parts.path().trim_matches('/');
        let path = if path.is_empty() {
            String::new()
        } else {
            format!("/{path}")
        };
        Ok((format!("{}://{}{path}", parts.scheme, parts.host), path))
    }

    /// Returns names and values of all flags, for `/api/v1/status/flags`.
    pub fn listing(&self) -> Vec<(&'static str, String)> {
        let duration = |duration: Option<Duration>| {
            let nanos = duration.map_or(0, |duration| duration.as_nanos());
            shared::config::duration::format_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
        };
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|p| p.display().to_string())
                .unwrap_or_default()
        };
        let value = |name: &str| match name {
            "check-config" => self.check_config.to_string(),
            "bind-addr" => self.bind_addr.clone(),
            "config" => self.config.display().to_string(),
            "log-level" => self.log_level.clone(),
            "log-format" => self.log_format.clone(),
            "log-max-form-prefix" => self.log_max_form_prefix.to_string(),
            "web.config.file" => path(&self.web_config_file),
            "web.cors.origin" => self.cors_origin.clone(),
            "web.read-timeout" => duration(self.read_timeout),
            "metrics-path" => self.metrics_path.clone(),
            "proxy-headers" => self.proxy_headers.join(","),
            "web.external-url" => go_url::redacted(&self.external_url),
            "web.route-prefix" => self.route_prefix.clone(),
            "web.enable-lifecycle" => self.enable_lifecycle.to_string(),
            "query.timeout" => duration(self.query_timeout),
            "query.max-samples" => self.max_samples.to_string(),
            "query.max-bytes" => self.max_bytes.to_string(),
            "query.lookback-delta" => duration(Some(self.lookback_delta)),
            "query.max-concurrency" => self.max_concurrency.to_string(),
            "storage.path" => self.storage_path.clone(),
            "storage.tsdb.path" => self.storage_tsdb_path.clone(),
            "remote-read.max-concurrency" => self.remote_read_max_concurrency.to_string(),
            "alertmanager.notification-queue-capacity" => {
                self.notification_queue_capacity.to_string()
            }
            "access-log-destination" => self.access_log_destination.clone(),
            "rules.alert.for-outage-tolerance" => duration(Some(self.for_outage_tolerance)),
            "rules.alert.for-grace-period" => duration(Some(self.for_grace_period)),
            "rules.alert.resend-delay" => duration(Some(self.resend_delay)),
            "rules.alertbackfill" => self.alert_backfill.to_string(),
            "http.shutdown-delay" => duration(Some(self.shutdown_delay)),
            _ => duration(self.shutdown_timeout),
        };
        table().map(|(name, ..)| (name, value(name))).collect()
    }
}
