//! The configuration file.
//!
//! In reading order:
//!
//! * [`Config`], [`parse`], [`load`]: what the file means, and reading it
//! * [`check`]: what `--check-config` says
//! * `model`: server groups as the proxy uses them
//! * `yaml`: text to a tree that knows its lines; `schema`: a tree to sections by tables; `page`: sections to text
//! * `prometheus`, `server_group`, `http_client`, `discovery`, `relabel`: the tables
//!
//! The language is the original's, down to what it lets pass: YAML 1.1, unknown keys ignored, the last of equal keys, Go's durations
//! in server groups and Prometheus' elsewhere. What passes without a word there is a warning here. Errors have the original's
//! words; those about the syntax of YAML are another library's.

mod check;
mod discovery;
pub(crate) mod go_url;
mod http_client;
mod model;
mod page;
mod prometheus;
mod relabel;
mod schema;
mod server_group;
mod time;
pub(crate) mod yaml;

use std::{io, path::Path};

pub use check::{Verdict, check};
pub use model::{
    Authorization, BasicAuth, ClientIdentity, Consul, Credential, Discovery, Dns, DnsRecord,
    ErrorPolicy, FileDiscovery, Groups, HttpClient, HttpDiscovery, Kubernetes, KubernetesSelector,
    LabelFilterKeys, Marathon, OAuth2, Pool, Proxy, RemoteRead, ServerGroup, SigV4, TargetGroup,
    Tls,
};

pub(crate) use page::word;
use schema::{Notes, Section, read_section};

/// What the file means.
#[derive(Clone, Debug)]
pub struct Config {
    /// How often rules are evaluated, which is also the step of subqueries that have none. Milliseconds.
    pub evaluation_interval_ms: i64,
    /// Labels that alerts and written series get, sorted by name.
    pub external_labels: Vec<(String, String)>,
    /// Where queries are logged, if they are.
    pub query_log_file: Option<String>,
    /// Patterns of files with rules, as written.
    pub rule_files: Vec<String>,
    /// The clients of Alertmanagers, in order.
    pub alertmanagers: Vec<HttpClient>,
    /// Whether there is somewhere to write series to.
    pub has_remote_write: bool,
    /// The groups, in order; a group's place is its ordinal in errors and metrics.
    pub server_groups: Vec<ServerGroup>,
    /// Whether groups may hold the same series.
    pub groups: Groups,
    /// The whole file, for the configuration page.
    section: Section,
}

/// A file that was read, and what deserves a look in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// Unknown keys, keys given twice, sections that have no effect: each names its key.
    pub warnings: Vec<String>,
}

/// Why a file is refused. The texts are the original's.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("error loading config: {operation} {path}: {reason}")]
    Unreadable {
        /// `open` or `read`.
        operation: &'static str,
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// It is not YAML.
    #[error("error unmarshaling config: {0}")]
    Syntax(String),
    /// Values have wrong types, each described with its line.
    #[error("error unmarshaling config: yaml: unmarshal errors:\n  {}", .0.join("\n  "))]
    WrongTypes(Vec<String>),
    /// A value or a combination of values makes no sense.
    #[error("error unmarshaling config: {0}")]
    Invalid(String),
}

impl ConfigError {
    fn unreadable(path: &Path, error: &io::Error) -> Self {
        let (operation, reason) = match error.kind() {
            io::ErrorKind::NotFound => ("open", "no such file or directory".to_owned()),
            io::ErrorKind::PermissionDenied => ("open", "permission denied".to_owned()),
            io::ErrorKind::IsADirectory => ("read", "is a directory".to_owned()),
            _ => ("read", error.to_string()),
        };
        let path = path.display().to_string();
        Self::Unreadable {
            operation,
            path,
            reason,
        }
    }
}

/// Reads a configuration file.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|e| ConfigError::unreadable(path, &e))?;
    parse(&text)
}

/// Reads a configuration.
///
/// ```
/// let loaded = promxy::config::parse("
/// promxy:
///   server_groups:
///   - static_configs: [{targets: [localhost:9090]}]
///     anti_afinity: 5s
/// ")?;
/// assert_eq!(loaded.warnings, ["promxy.server_groups[0].anti_afinity: unknown key, ignored"]);
/// assert_eq!(loaded.config.server_groups[0].anti_affinity_ms, 10_000);
/// # Ok::<(), promxy::config::ConfigError>(())
/// ```
pub fn parse(text: &str) -> Result<Loaded, ConfigError> {
    let node = yaml::read(text).map_err(ConfigError::Syntax)?;
    let mut notes = Notes::default();
    let mut section =
        read_section(&node, &prometheus::FILE, "", &mut notes).map_err(ConfigError::Invalid)?;
    if !notes.wrong_types.is_empty() {
        return Err(ConfigError::WrongTypes(notes.wrong_types));
    }
    if let Some(global) = section.section_mut("global") {
        prometheus::fill_global(global);
    }
    let mut warnings = notes.warnings;
    if let yaml::Value::Map(entries) = &node.value {
        let keys = entries.iter().map(|(key, _)| key.as_str());
        let without_effect = keys.filter(|key| prometheus::WITHOUT_EFFECT.contains(key));
        warnings.extend(without_effect.map(|key| format!("{key}: has no effect here")));
    }
    let config = Config::new(section).map_err(ConfigError::Invalid)?;
    warnings.extend(config.remarks());
    Ok(Loaded { config, warnings })
}

impl Config {
    fn new(section: Section) -> Result<Self, String> {
        let empty = Section::of_defaults(&prometheus::FILE);
        let part = |key| section.section(key).or(empty.section(key));
        let (Some(global), Some(promxy)) = (part("global"), part("promxy")) else {
            return Err("the file has no sections".to_owned());
        };
        let groups = promxy.sections("server_groups").map(ServerGroup::new);
        let alerting = section.section("alerting");
        let alertmanagers = alerting.map(|alerting| alerting.sections("alertmanagers"));
        let alertmanagers = alertmanagers.into_iter().flatten().map(HttpClient::new);
        let alertmanagers = alertmanagers.collect();
        let has_remote_write = section.sections("remote_write").next().is_some();
        let log_file = global.text("query_log_file");
        Ok(Self {
            evaluation_interval_ms: global.nanos("evaluation_interval") / 1_000_000,
            external_labels: global.pairs("external_labels"),
            query_log_file: (!log_file.is_empty()).then(|| log_file.to_owned()),
            rule_files: section.words("rule_files").map(str::to_owned).collect(),
            alertmanagers,
            has_remote_write,
            server_groups: groups.collect::<Result<_, _>>()?,
            groups: Groups::from_word(promxy.text("groups")),
            section,
        })
    }

    /// Returns the text of `/api/v1/status/config`: the whole file with defaults, without secrets.
    pub fn page(&self) -> String {
        page::page(&self.section)
    }

    /// Returns what deserves a look in a file that makes sense.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let promxy = self.section.section("promxy");
        let says_groups = promxy.is_some_and(|promxy| !promxy.text("groups").is_empty());
        for (ordinal, group) in self.server_groups.iter().enumerate() {
            if group.discovery.is_empty() {
                remarks.push(format!(
                    "promxy.server_groups[{ordinal}]: no discovery, so no targets"
                ));
            }
            let is_equal = |other: &&ServerGroup| other.labels == group.labels;
            let twin = self
                .server_groups
                .iter()
                .take(ordinal)
                .position(|other| is_equal(&other));
            if let (Some(twin), false) = (twin, says_groups) {
                remarks.push(format!(
                    "promxy.server_groups[{ordinal}]: same labels as promxy.server_groups[{twin}]; aggregates take equal series of both for copies, \
                     set promxy.groups to overlapping if they are, to disjoint if not"
                ));
            }
        }
        remarks
    }
}
