//! The configuration: a file in one of two dialects becomes one valid [`Config`].
//!
//! The dialects (`go`, `js`) hold what the originals call things and what they take for granted; the keys that are new
//! (`extras`) are the same in both.

mod document;
mod extras;
mod go;
mod js;

use std::{
    fmt, io,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use self::document::{Problems, Value};
use crate::line::Grammar;

/// Which original the file was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// go-statsd-proxy: JSON.
    GoStatsdProxy,
    /// statsd's `proxy.js`: a JavaScript object, read as JSON5.
    Statsd,
}

/// How the nodes of a group share the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Each line to one node, chosen by a hash ring.
    Hash(RingKind),
    /// Each line to every node.
    Mirror,
}

/// Which original's ring places the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingKind {
    /// statsd 0.8.0 and later; the default.
    Statsd,
    /// statsd 0.7.0 to 0.7.2.
    Statsd07,
    /// go-statsd-proxy, which uses two nodes at most.
    GoStatsdProxy,
}

impl RingKind {
    /// Reads the value of `ring`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Statsd, Self::Statsd07, Self::GoStatsdProxy]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Returns the name that files and flags use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Statsd => "statsd",
            Self::Statsd07 => "statsd-0.7",
            Self::GoStatsdProxy => "go-statsd-proxy",
        }
    }
}

/// How lines travel to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// A stream, each line ended by a line feed.
    Tcp,
}

/// A backend as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Host and port as they are hashed: `HOST:PORT`, the host as written.
    pub label: String,
    /// A name or an address, without the brackets of an IPv6 address.
    pub host: String,
    /// The port that takes lines.
    pub port: u16,
    /// How lines travel.
    pub protocol: Protocol,
    /// The port that answers health checks; `None` for a node that is always up.
    pub management_port: Option<u16>,
}

/// A set of nodes. Every line goes to each group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// As logs and metrics name it.
    pub name: String,
    /// How its nodes share the lines.
    pub spread: Spread,
    /// Its nodes, in the file's order.
    pub nodes: Vec<NodeConfig>,
}

/// Which addresses a listener takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindHost {
    /// All addresses of both families.
    All,
    /// All IPv4 addresses.
    AllIpv4,
    /// One address.
    Address(IpAddr),
    /// A name; all addresses if it does not resolve.
    Name(String),
    /// Text that can be neither; binding it fails with this reason.
    Invalid(String),
}

/// A place to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The host as the file writes it, for the log.
    pub written: String,
    /// What it means.
    pub host: BindHost,
    /// 0 for any free port.
    pub port: u16,
}

/// A Unix socket to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixBind {
    /// Where the socket is made.
    pub path: PathBuf,
    /// Its permissions; `None` leaves them to the process's umask.
    pub mode: Option<u32>,
}

/// Where lines come in. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listeners {
    /// UDP.
    pub udp: Option<Bind>,
    /// UDP sockets that share the port.
    pub udp_sockets: usize,
    /// Bytes asked of the kernel for each datagram socket.
    pub receive_buffer: usize,
    /// TCP.
    pub tcp: Option<Bind>,
    /// Unix stream.
    pub unix_stream: Option<UnixBind>,
    /// Unix datagram.
    pub unix_datagram: Option<UnixBind>,
    /// The management console.
    pub management: Bind,
    /// `HOST:PORT` of the page for Prometheus.
    pub metrics: Option<String>,
}

/// How lines are put into packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// One datagram a line, as the originals do.
    Single,
    /// Lines that wait for the same node leave together, in up to this many bytes.
    Together(usize),
}

/// How nodes are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// How long one check may take.
    pub limit: Duration,
    /// How many failures in a row take a node down.
    pub failures: u32,
}

/// The proxy's own numbers, sent as StatsD lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfMetrics {
    /// `HOST:PORT` they are sent to by UDP.
    pub address: String,
    /// What their names start with.
    pub prefix: String,
    /// How often.
    pub interval: Duration,
}

/// Everything a proxy needs to know. Valid as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which original this stands in for.
    pub dialect: Dialect,
    /// Which lines are taken.
    pub grammar: Grammar,
    /// Where lines come in.
    pub listeners: Listeners,
    /// Where they go.
    pub groups: Vec<Group>,
    /// How they are put into packets.
    pub packing: Packing,
    /// Bytes that may wait for one TCP node; more are dropped.
    pub queue_bytes: usize,
    /// How nodes are checked.
    pub checks: Checks,
    /// The proxy's own numbers as StatsD lines.
    pub self_metrics: Option<SelfMetrics>,
    /// How long shutdown may take to deliver what was accepted.
    pub drain_limit: Duration,
    /// Whether a change of the file is taken up without a signal.
    pub watch_file: bool,
    /// The file's keys and values as `proxy.js` prints them on its console.
    pub entries: Vec<String>,
}

/// A file that was read, and what deserves a look in it.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Unknown keys, keys without effect, and the like; each with the key's path.
    pub warnings: Vec<String>,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub struct ConfigError {
    /// At least one reason; each names its key or place.
    pub reasons: Vec<String>,
    /// What else deserves a look, such as a key that is misspelt.
    pub warnings: Vec<String>,
}

impl ConfigError {
    fn new(reason: String) -> Self {
        Self {
            reasons: vec![reason],
            warnings: Vec::new(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))
    }
}

impl std::error::Error for ConfigError {}

/// What the command line says about the configuration.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// How it is to be read.
    pub dialect: Dialect,
    /// The ring that the command line asks for, over the file's.
    pub ring: Option<RingKind>,
}

/// What tells two versions of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl FileVersion {
    /// Looks at the file, not into it.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = std::fs::metadata(path)?;
        Ok(Self {
            inode: file.ino(),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

/// Where a running configuration came from, and what a reload reads again.
#[derive(Debug, Clone)]
pub struct Origin {
    /// What the command line says.
    pub source: Source,
    /// The version of the file that was read, or an earlier one; `None` if it could not be looked at.
    pub version: Option<FileVersion>,
}

/// Reads and checks a file.
pub fn load(source: &Source) -> Result<Loaded, ConfigError> {
    let text = std::fs::read(&source.path).map_err(|reason| unreadable(source, &reason))?;
    let text = String::from_utf8(text)
        .map_err(|_| ConfigError::new("the file is not UTF-8 text".to_owned()))?;
    parse(&text, source.dialect, source.ring)
}

/// Checks the text of a file.
pub fn parse(text: &str, dialect: Dialect, ring: Option<RingKind>) -> Result<Loaded, ConfigError> {
    let document = match dialect {
        Dialect::GoStatsdProxy => go::document(text),
        Dialect::Statsd => js::document(text),
    };
    let document = document.map_err(ConfigError::new)?;
    let problems = Problems::default();
    let config = match dialect {
        Dialect::GoStatsdProxy => go::read(&document, ring, &problems),
        Dialect::Statsd => js::read(&document, ring, &problems),
    };
    if let Some(config) = &config {
        check_unique(&config.groups, &problems);
    }
    let (reasons, warnings) = (problems.errors.into_inner(), problems.warnings.into_inner());
    match config {
        Some(config) if reasons.is_empty() => Ok(Loaded { config, warnings }),
        _ => Err(ConfigError { reasons, warnings }),
    }
}

/// What has a name has one meaning: groups among groups, and a node that several groups list.
fn check_unique(groups: &[Group], problems: &Problems) {
    for (index, group) in groups.iter().enumerate() {
        if groups[..index].iter().any(|other| other.name == group.name) {
            problems.error(format!("groups: two groups are named {:?}", group.name));
        }
    }
    let nodes: Vec<&NodeConfig> = groups.iter().flat_map(|group| &group.nodes).collect();
    for (index, node) in nodes.iter().enumerate() {
        let same =
            |other: &&&NodeConfig| other.label == node.label && other.protocol == node.protocol;
        if nodes[..index]
            .iter()
            .find(same)
            .is_some_and(|first| first != node)
        {
            problems.error(format!(
                "nodes: {} is listed twice with different settings",
                node.label
            ));
        }
    }
}

fn unreadable(source: &Source, reason: &io::Error) -> ConfigError {
    ConfigError::new(format!("cannot read {}: {reason}", source.path.display()))
}

/// What a line of the `proxy.js` console's `config` answer shows for a plain value.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        Value::Object(_) => "[object Object]".to_owned(),
    }
}
