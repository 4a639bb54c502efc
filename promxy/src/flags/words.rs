//! The table of flags, and the words of a command line as values.

use std::time::Duration;

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};
use shared::config::duration::parse_nanos;

use super::{Answer, Flags};

/// What a flag takes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Takes {
    Switch,
    Text,
    Duration,
    Int,
    /// Text, once for each time that the flag is there.
    Texts,
}

/// A flag: name, what it takes, default, help.
pub(super) type Row = (&'static str, Takes, &'static str, &'static str);

const TABLE: [Row; 29] = [
    (
        "check-config",
        Takes::Switch,
        "",
        "Check the configuration file and exit",
    ),
    ("bind-addr", Takes::Text, ":8082", "Address to listen on"),
    (
        "config",
        Takes::Text,
        "config.yaml",
        "Path to the configuration file",
    ),
    (
        "log-level",
        Takes::Text,
        "info",
        "How much is logged: panic, fatal, error, warn, info, debug, trace",
    ),
    ("log-format", Takes::Text, "text", "text or json"),
    (
        "log-max-form-prefix",
        Takes::Int,
        "256",
        "How many bytes of form values the access log shows",
    ),
    (
        "web.config.file",
        Takes::Text,
        "",
        "File with TLS settings, users and headers, in Prometheus' form",
    ),
    (
        "web.cors.origin",
        Takes::Text,
        ".*",
        "Pattern for origins that browsers may ask from; has to match all of one",
    ),
    (
        "web.read-timeout",
        Takes::Duration,
        "5m",
        "How long reading a request may take, and a connection be idle",
    ),
    (
        "metrics-path",
        Takes::Text,
        "/metrics",
        "Path of the proxy's own metrics",
    ),
    (
        "proxy-headers",
        Takes::Texts,
        "",
        "Header of clients that goes on to servers; may be given several times, or hold several with commas",
    ),
    (
        "web.external-url",
        Takes::Text,
        "",
        "URL under which users see the proxy; its path is the default prefix of all routes",
    ),
    ("web.route-prefix", Takes::Text, "", "Prefix of all routes"),
    (
        "web.enable-lifecycle",
        Takes::Switch,
        "",
        "Reload and quit by HTTP request",
    ),
    (
        "query.timeout",
        Takes::Duration,
        "2m",
        "How long a query may take",
    ),
    (
        "query.max-samples",
        Takes::Int,
        "50000000",
        "How many samples a query may hold in memory",
    ),
    (
        "query.max-bytes",
        Takes::Int,
        "4294967296",
        "How many bytes servers may send for a query, unpacked; every series counts for some more",
    ),
    (
        "query.lookback-delta",
        Takes::Duration,
        "5m",
        "How far back a selector looks for a sample",
    ),
    (
        "query.max-concurrency",
        Takes::Int,
        "-1",
        "How many queries run at once; -1 for any number",
    ),
    (
        "storage.path",
        Takes::Text,
        "",
        "Directory for what outlives the process",
    ),
    (
        "storage.tsdb.path",
        Takes::Text,
        "",
        "Deprecated: storage.path",
    ),
    (
        "remote-read.max-concurrency",
        Takes::Int,
        "10",
        "How many remote reads run at once",
    ),
    (
        "alertmanager.notification-queue-capacity",
        Takes::Int,
        "10000",
        "How many alerts wait to be sent",
    ),
    (
        "access-log-destination",
        Takes::Text,
        "stdout",
        "Where requests are logged: none, stdout or stderr",
    ),
    (
        "rules.alert.for-outage-tolerance",
        Takes::Duration,
        "1h",
        "How long an outage may be for alerts to keep their state",
    ),
    (
        "rules.alert.for-grace-period",
        Takes::Duration,
        "10m",
        "Least time that an alert is pending for its state to be kept",
    ),
    (
        "rules.alert.resend-delay",
        Takes::Duration,
        "1m",
        "Least time before an alert is sent again",
    ),
    (
        "rules.alertbackfill",
        Takes::Switch,
        "",
        "Work out the state of alerts from the past",
    ),
    (
        "http.shutdown-delay",
        Takes::Duration,
        "10s",
        "How long requests are answered after the signal to stop",
    ),
];

const SHUTDOWN_TIMEOUT: Row = (
    "http.shutdown-timeout",
    Takes::Duration,
    "60s",
    "How long requests may take after that; 0 for any time",
);

pub(super) fn table() -> impl Iterator<Item = Row> {
    TABLE.into_iter().chain([SHUTDOWN_TIMEOUT])
}

/// Reads values as their types.
pub(super) struct Reader<'a> {
    pub(super) matches: &'a ArgMatches,
}

impl Reader<'_> {
    pub(super) fn flags(&self, headers: Option<String>) -> Result<Flags, Answer> {
        let typed = self.matches.get_many::<String>("proxy-headers");
        let typed: Vec<String> = typed.into_iter().flatten().cloned().collect();
        let headers = if typed.is_empty() {
            headers.into_iter().collect()
        } else {
            typed
        };
        let split = |header: &String| -> Vec<String> {
            let names = header.split(',').map(str::trim);
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let web_config_file = self.text("web.config.file");
        Ok(Flags {
            check_config: self.matches.get_flag("check-config"),
            bind_addr: self.text("bind-addr"),
            config: self.text("config").into(),
            log_level: self.text("log-level"),
            log_format: self.text("log-format"),
            log_max_form_prefix: usize::try_from(self.int("log-max-form-prefix")?).unwrap_or(0),
            web_config_file: (!web_config_file.is_empty()).then(|| web_config_file.into()),
            cors_origin: self.text("web.cors.origin"),
            read_timeout: self.limit("web.read-timeout")?,
            metrics_path: self.text("metrics-path"),
            proxy_headers: headers.iter().flat_map(split).collect(),
            external_url: self.text("web.external-url"),
            route_prefix: self.text("web.route-prefix"),
            enable_lifecycle: self.matches.get_flag("web.enable-lifecycle"),
            query_timeout: self.limit("query.timeout")?,
            max_samples: self.int("query.max-samples")?,
            max_bytes: self.int("query.max-bytes")?,
            lookback_delta: self.duration("query.lookback-delta")?,
            max_concurrency: self.int("query.max-concurrency")?,
            storage_path: self.text("storage.path"),
            storage_tsdb_path: self.text("storage.tsdb.path"),
            remote_read_max_concurrency: self.int("remote-read.max-concurrency")?,
            notification_queue_capacity: self.int("alertmanager.notification-queue-capacity")?,
            access_log_destination: self.text("access-log-destination"),
            for_outage_tolerance: self.duration("rules.alert.for-outage-tolerance")?,
            for_grace_period: self.duration("rules.alert.for-grace-period")?,
            resend_delay: self.duration("rules.alert.resend-delay")?,
            alert_backfill: self.matches.get_flag("rules.alertbackfill"),
            shutdown_delay: self.duration("http.shutdown-delay")?,
            shutdown_timeout: self.limit("http.shutdown-timeout")?,
        })
    }

    fn text(&self, name: &str) -> String {
        self.matches
            .get_one::<String>(name)
            .cloned()
            .unwrap_or_default()
    }

    fn duration(&self, name: &str) -> Result<Duration, Answer> {
        let nanos = parse_nanos(&self.text(name))
            .map_err(|e| invalid(name, "time.Duration", &e.to_string()))?;
        Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
    }

    /// A duration of which zero means no limit.
    fn limit(&self, name: &str) -> Result<Option<Duration>, Answer> {
        Ok(Some(self.duration(name)?).filter(|limit| !limit.is_zero()))
    }

    fn int(&self, name: &str) -> Result<i64, Answer> {
        let text = self.text(name);
        text.parse().map_err(|_| {
            let is_number = text
                .trim_start_matches(['-', '+'])
                .bytes()
                .all(|b| b.is_ascii_digit());
            let reason = if is_number && !text.is_empty() {
                "value out of range"
            } else {
                "invalid syntax"
            };
            let quoted = promql::format::quote(text.as_bytes());
            invalid(
                name,
                "int",
                &format!("strconv.ParseInt: parsing {quoted}: {reason}"),
            )
        })
    }
}

fn invalid(name: &str, expected: &str, reason: &str) -> Answer {
    Answer::Wrong(format!(
        "invalid argument for flag `--{name}' (expected {expected}): {reason}"
    ))
}

pub(super) fn command() -> Command {
    let switch = |name: &'static str, short: Option<char>, help: &'static str| {
        let arg = Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help);
        match short {
            Some(short) => arg.short(short),
            None => arg,
        }
    };
    let mut command = Command::new("promxy")
        .about("Many Prometheus servers as one")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .arg(switch("version", Some('v'), "Print the version and exit"))
        .arg(switch("help", Some('h'), "Print this and exit"));
    for (name, takes, default, help) in table() {
        let arg = match takes {
            Takes::Switch => switch(name, None, help),
            Takes::Texts => Arg::new(name)
                .long(name)
                .action(ArgAction::Append)
                .value_name("HEADER")
                .help(help),
            Takes::Text | Takes::Duration | Takes::Int => {
                let value_name = match takes {
                    Takes::Duration => "DURATION",
                    Takes::Int => "NUMBER",
                    _ => "TEXT",
                };
                let arg = Arg::new(name)
                    .long(name)
                    .value_name(value_name)
                    .help(help)
                    .default_value(default);
                arg.hide_default_value(default.is_empty())
                    .allow_negative_numbers(takes == Takes::Int)
            }
        };
        command = command.arg(arg);
    }
    command.arg(
        Arg::new("ignored")
            .action(ArgAction::Append)
            .num_args(0..)
            .hide(true),
    )
}

/// Turns what clap says into the words of the original's flag library.
pub(super) fn answer(error: &clap::Error) -> Answer {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    let argument = context(ContextKind::InvalidArg);
    let flag = argument.split_whitespace().next().unwrap_or_default();
    let name = flag.trim_start_matches('-');
    Answer::Wrong(match error.kind() {
        ErrorKind::UnknownArgument => format!("unknown flag `{name}'"),
        ErrorKind::TooManyValues => format!("bool flag `{flag}' cannot have an argument"),
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            format!("expected argument for flag `{flag}'")
        }
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    })
}
