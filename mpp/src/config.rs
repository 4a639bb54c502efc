//! What the flags mean: typed, complete and checked, in the order in which the original checks.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use shared::config::{
    args::parse_bool,
    duration::{format_nanos, parse_nanos},
    secret::Secret,
};
use thiserror::Error;

use crate::flags::Flags;

/// The shortest time between two rounds. The original takes zero and less, and then does nothing but select.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Everything the program needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where servers are found; at least one of the three.
    pub locators: Locators,
    /// How servers are chosen.
    pub strategy: Strategy,
    /// Time from the end of one round to the start of the next.
    pub selection_interval: Duration,
    /// How clients stick to servers.
    pub affinity: Affinity,
    /// Where clients are served.
    pub front: Front,
    /// How requests are tried.
    pub attempts: Attempts,
    /// Whether certificates of servers are taken unseen.
    pub insecure_certs: bool,
    /// How the end goes.
    pub drain: Drain,
}

/// Where servers are found.
#[derive(Debug, Clone)]
pub struct Locators {
    /// A file with one address per line.
    pub file: Option<PathBuf>,
    /// Kubernetes.
    pub kubernetes: Option<Kubernetes>,
    /// Marathon.
    pub marathon: Option<Marathon>,
}

/// What is asked of Kubernetes.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// A kubeconfig file; inside the cluster if there is none.
    pub kubeconfig: Option<PathBuf>,
    /// Where a pod finds its token.
    pub service_account: PathBuf,
    /// The namespace.
    pub namespace: String,
    /// The service, or else the pods.
    pub target: KubernetesTarget,
    /// Name or number of the port; the first if there is none.
    pub port: Option<String>,
}

/// What is looked up in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KubernetesTarget {
    /// The endpoints of this service.
    Service(String),
    /// The pods that this selector takes.
    Pods(String),
}

/// What is asked of Marathon.
#[derive(Debug, Clone)]
pub struct Marathon {
    /// Base URLs, separated by commas.
    pub urls: String,
    /// Application ids.
    pub apps: Vec<String>,
    /// The secret of a DC/OS principal, as JSON.
    pub principal_secret: Option<Secret>,
    /// Where to log in, over what the secret says.
    pub auth_endpoint: Option<String>,
    /// Whether certificates are taken unseen.
    pub insecure_certs: bool,
}

/// How servers are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The one that has ingested most.
    SingleMostData,
    /// All that answer, at random.
    Random,
    /// All that have data from this long ago (may be negative, in nanoseconds), at random.
    MinimumHistory(i64),
    /// The one with the oldest data.
    MostHistory,
    /// All that answer, in turn.
    RoundRobin,
    /// All that answer, the one with the fewest requests under way first.
    LeastRequests,
}

impl Strategy {
    /// Reads `NAME` or `NAME:ARGUMENT`; further parts are ignored, as the original ignores them.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        match name {
            "single-most-data" => Ok(Self::SingleMostData),
            "random" => Ok(Self::Random),
            "most-history" => Ok(Self::MostHistory),
            "round-robin" => Ok(Self::RoundRobin),
            "least-requests" => Ok(Self::LeastRequests),
            "minimum-history" => {
                let argument = parts.next().ok_or(ConfigError::HistoryWithoutDuration)?;
                parse_nanos(argument)
                    .map(Self::MinimumHistory)
                    .map_err(|reason| {
                        ConfigError::HistoryDuration(argument.to_owned(), reason.to_string())
                    })
            }
            _ => Err(ConfigError::UnknownStrategy(name.to_owned())),
        }
    }

    /// Returns the name that the status page shows.
    pub fn name(self) -> String {
        match self {
            Self::SingleMostData => "single-most-data".to_owned(),
            Self::Random => "random".to_owned(),
            Self::MinimumHistory(nanos) => format!("minimum-history:{}", format_nanos(nanos)),
            Self::MostHistory => "most-history".to_owned(),
            Self::RoundRobin => "round-robin".to_owned(),
            Self::LeastRequests => "least-requests".to_owned(),
        }
    }
}

/// How clients stick to servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affinity {
    /// By a cookie.
    pub cookies: bool,
    /// By the client's address.
    pub source_ip: bool,
    /// What the status page shows: the words as given.
    pub shown: String,
    /// How many addresses are remembered.
    pub remembered: usize,
}

/// Where clients are served.
#[derive(Debug, Clone)]
pub struct Front {
    /// The address; all if there is none.
    pub address: Option<IpAddr>,
    /// The port as given; 0 takes a free one.
    pub port: i64,
    /// TLS, basic auth and headers, in Prometheus' form.
    pub web_config: Option<PathBuf>,
    /// Connections at a time.
    pub max_connections: usize,
}

/// How requests are tried.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// The longest wait for a first byte.
    pub first_byte: Option<Duration>,
    /// The longest wait for a connection.
    pub connect: Duration,
    /// Tries after the first.
    pub retries: usize,
    /// Failures in a row that eject a server; never if there is no number.
    pub eject_after: Option<u32>,
    /// Bytes of a body that are kept for another try.
    pub replay_limit: usize,
    /// Longest body.
    pub max_body: Option<u64>,
}

/// How the end goes.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// From the signal to the closed listener.
    pub delay: Duration,
    /// From the closed listener to the end.
    pub timeout: Duration,
}

/// Why flags make no configuration. The texts are the original's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No source of addresses.
    #[error(
        "At least one locator mechanism must be configured; specify at least one of: --marathon-url, --kubeconfig/--kube-namespace/--kube-service-name/--kube-pod-label-selector, --endpoints-file"
    )]
    NoLocator,
    /// A duration flag.
    #[error("Invalid duration for '{0}': '{1}': {2}")]
    Duration(&'static str, String, String),
    /// A duration flag that says less than nothing.
    #[error("Invalid duration for '{0}': '{1}': it is negative")]
    NegativeDuration(&'static str, String),
    /// A number flag.
    #[error("Invalid value for {0} '{1}'")]
    Number(&'static str, String),
    /// An address flag.
    #[error("Invalid value for listen-address '{0}': not an IP address")]
    ListenAddress(String),
    /// A word of the affinity list.
    #[error("Invalid value for affinity-options '{0}'")]
    Affinity(String),
    /// Marathon without applications.
    #[error("'marathon-apps' is required when 'marathon-url' is specified")]
    MarathonWithoutApps,
    /// Kubernetes without a namespace.
    #[error("--kube-namespace is required when using the kubernetes locator")]
    KubernetesWithoutNamespace,
    /// Not a strategy.
    #[error("No selector strategy named '{0}' found")]
    UnknownStrategy(String),
    /// `minimum-history` alone.
    #[error("Strategy minimum-history requires a {{minimum-duration}} argument")]
    HistoryWithoutDuration,
    /// `minimum-history` with something else than a duration.
    #[error("Invalid minimum duration value '{0}' for minimum-history: {1}")]
    HistoryDuration(String, String),
}

impl ConfigError {
    /// Says whether the original prints its help with the message; else it logs at level fatal.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::UnknownStrategy(_) | Self::HistoryWithoutDuration | Self::HistoryDuration(..)
        )
    }
}

impl Config {
    /// Makes sense of the flags.
    pub fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        let interval = interval(flags)?;
        let insecure_certs = parse_bool(flags.text("insecure-certs")).unwrap_or(false);
        let locators = Locators {
            file: path(flags, "endpoints-file"),
            kubernetes: kubernetes(flags)?,
            marathon: marathon(flags, insecure_certs)?,
        };
        if locators.file.is_none() && locators.kubernetes.is_none() && locators.marathon.is_none() {
            return Err(ConfigError::NoLocator);
        }
        let affinity = affinity(flags)?;
        let address = match flags.text("listen-address") {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|_| ConfigError::ListenAddress(text.to_owned()))?,
            ),
        };
        let front = Front {
            address,
            port: flags.integer("port"),
            web_config: path(flags, "web-config-file"),
            max_connections: number::<usize>(flags, "max-connections")?.max(1),
        };
        let attempts = Attempts {
            first_byte: Some(duration(flags, "request-timeout")?).filter(|limit| !limit.is_zero()),
            connect: duration(flags, "connect-timeout")?.max(Duration::from_millis(1)),
            retries: number(flags, "retry-budget")?,
            eject_after: Some(number(flags, "eject-after")?).filter(|count| *count > 0),
            replay_limit: number(flags, "replay-limit")?,
            max_body: Some(number(flags, "max-request-bytes")?).filter(|limit| *limit > 0),
        };
        let drain = Drain {
            delay: duration(flags, "drain-delay")?,
            timeout: duration(flags, "drain-timeout")?,
        };
        Ok(Self {
            locators,
            strategy: Strategy::parse(flags.text("routing-strategy"))?,
            selection_interval: interval,
            affinity,
            front,
            attempts,
            insecure_certs,
            drain,
        })
    }
}

fn path(flags: &Flags, name: &str) -> Option<PathBuf> {
    Some(flags.text(name))
        .filter(|text| !text.is_empty())
        .map(PathBuf::from)
}

fn number<N: std::str::FromStr>(flags: &Flags, name: &'static str) -> Result<N, ConfigError> {
    let text = flags.text(name);
    text.parse()
        .map_err(|_| ConfigError::Number(name, text.to_owned()))
}

fn nanos(flags: &Flags, name: &'static str) -> Result<i64, ConfigError> {
    let text = flags.text(name);
    parse_nanos(text)
        .map_err(|reason| ConfigError::Duration(name, text.to_owned(), reason.to_string()))
}

fn duration(flags: &Flags, name: &'static str) -> Result<Duration, ConfigError> {
    u64::try_from(nanos(flags, name)?)
        .map(Duration::from_nanos)
        .map_err(|_| ConfigError::NegativeDuration(name, flags.text(name).to_owned()))
}

/// Zero and less mean the shortest interval, so that what ran before still runs, without the busy loop.
fn interval(flags: &Flags) -> Result<Duration, ConfigError> {
    let nanos = nanos(flags, "selection-interval")?.max(0);
    Ok(Duration::from_nanos(nanos.unsigned_abs()).max(SHORTEST_INTERVAL))
}

fn kubernetes(flags: &Flags) -> Result<Option<Kubernetes>, ConfigError> {
    let target = match (
        flags.text("kube-service-name"),
        flags.text("kube-pod-label-selector"),
    ) {
        ("", "") => return Ok(None),
        ("", selector) => KubernetesTarget::Pods(selector.trim().to_owned()),
        (service, _) => KubernetesTarget::Service(service.to_owned()),
    };
    let namespace = flags.text("kube-namespace").to_owned();
    if namespace.is_empty() {
        return Err(ConfigError::KubernetesWithoutNamespace);
    }
    Ok(Some(Kubernetes {
        kubeconfig: path(flags, "kubeconfig"),
        service_account: flags.text("kube-service-account-folder").into(),
        namespace,
        target,
        port: Some(flags.text("kube-port").to_owned()).filter(|text| !text.is_empty()),
    }))
}

fn marathon(flags: &Flags, insecure_certs: bool) -> Result<Option<Marathon>, ConfigError> {
    let urls = flags.text("marathon-url");
    if urls.is_empty() {
        return Ok(None);
    }
    let apps = flags.text("marathon-apps");
    if apps.is_empty() {
        return Err(ConfigError::MarathonWithoutApps);
    }
    let filled = |name| Some(flags.text(name)).filter(|text| !text.is_empty());
    Ok(Some(Marathon {
        urls: urls.to_owned(),
        apps: apps
            .split(',')
            .map(|app| app.trim().to_owned())
            .filter(|app| !app.is_empty())
            .collect(),
        principal_secret: filled("marathon-principal-secret").map(Secret::new),
        auth_endpoint: filled("marathon-auth-endpoint").map(str::to_owned),
        insecure_certs,
    }))
}

fn affinity(flags: &Flags) -> Result<Affinity, ConfigError> {
    let text = flags.text("affinity-options");
    let mut affinity = Affinity {
        cookies: false,
        source_ip: false,
        shown: String::new(),
        remembered: number::<usize>(flags, "affinity-cache-size")?.max(1),
    };
    let words = text.trim_matches([' ', '\n']);
    if words == "none" {
        return Ok(affinity);
    }
    for word in words.split(',') {
        match word {
            "cookies" => affinity.cookies = true,
            "sourceip" => affinity.source_ip = true,
            _ => return Err(ConfigError::Affinity(word.to_owned())),
        }
    }
    affinity.shown = words.replace(',', " ");
    Ok(affinity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(words: &[&str]) -> Result<Config, ConfigError> {
        let words: Vec<String> = ["--endpoints-file", "f"]
            .iter()
            .chain(words)
            .map(|word| (*word).to_owned())
            .collect();
        Config::from_flags(&Flags::parse(&words, |_| None).unwrap())
    }

    #[test]
    fn strategies_are_read_as_the_original_reads_them() {
        let f = |text: &str, expected: Result<Strategy, &str>| {
            let got = Strategy::parse(text).map_err(|error| error.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{text}");
        };
        f("random:foo", Ok(Strategy::Random));
        f(
            "minimum-history:1h:junk",
            Ok(Strategy::MinimumHistory(3_600_000_000_000)),
        );
        f(
            "minimum-history:-1h",
            Ok(Strategy::MinimumHistory(-3_600_000_000_000)),
        );
        f("Random", Err("No selector strategy named 'Random' found"));
        f(
            "minimum-history",
            Err("Strategy minimum-history requires a {minimum-duration} argument"),
        );
        assert_eq!(
            Strategy::parse("minimum-history:90m").unwrap().name(),
            "minimum-history:1h30m0s"
        );
    }

    #[test]
    fn an_interval_of_nothing_is_a_short_one() {
        for text in ["0", "0s", "-5s", "1ns"] {
            assert_eq!(
                config(&["--selection-interval", text])
                    .unwrap()
                    .selection_interval,
                SHORTEST_INTERVAL
            );
        }
    }

    #[test]
    fn affinity_words_are_exact() {
        let f = |text: &str, expected: Option<(bool, bool)>| {
            let got = config(&["--affinity-options", text]).ok();
            assert_eq!(
                got.map(|config| (config.affinity.cookies, config.affinity.source_ip)),
                expected,
                "{text:?}"
            );
        };
        f("cookies", Some((true, false)));
        f(" sourceip,cookies\n", Some((true, true)));
        f("cookies,cookies", Some((true, false)));
        f("none", Some((false, false)));
        f("", None);
        f("cookies, sourceip", None);
        f("cookies,none", None);
    }

    #[test]
    fn numbers_and_durations_name_their_flag() {
        let f = |words: &[&str], part: &str| {
            let error = config(words).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        f(&["--retry-budget", "x"], "retry-budget 'x'");
        f(&["--request-timeout", "1"], "'request-timeout': '1'");
        f(&["--drain-delay", "-1s"], "drain-delay");
        f(&["--listen-address", "here"], "listen-address 'here'");
    }
}
