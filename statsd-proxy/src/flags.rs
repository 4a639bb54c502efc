//! The command line: go-statsd-proxy's two flags, and ours.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser};
use shared::config::args::{bool_flag, normalise};

use crate::config::{Dialect, RingKind, Source};

const DEFAULT_FILE: &str = "/etc/statsdproxy.json";

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Flags {
    /// The file and how to read it.
    pub source: Source,
    /// Whether debug lines are logged.
    pub debug: bool,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Relay lines.
    Run,
    /// Say what is wrong with the file, or unknown in it.
    CheckConfig,
    /// Print the nodes of these names; of those on standard input if there are none.
    Where(Vec<String>),
}

impl Flags {
    /// Reads the words of a command line, the first of which is the program's name.
    ///
    /// The error is help, the version, or a usage error; it knows its stream and its exit status.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let called_as = words.first().cloned().unwrap_or_default();
        let matches = command().try_get_matches_from(normalise(words, &command()))?;
        Ok(Self::from_matches(&matches, &called_as))
    }

    fn from_matches(matches: &ArgMatches, called_as: &OsStr) -> Self {
        let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
        let is_set = |name: &str| matches.get_one::<bool>(name).copied().unwrap_or(false);
        let dialect = match text("dialect") {
            Some("statsd") => Dialect::Statsd,
            Some(_) => Dialect::GoStatsdProxy,
            None => dialect_of_name(called_as),
        };
        let rest: Vec<String> = matches
            .get_many("rest")
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let action = if is_set("check-config") {
            Action::CheckConfig
        } else if is_set("where") {
            Action::Where(rest.clone())
        } else {
            Action::Run
        };
        // `node proxy.js FILE` takes the file as a word.
        let word = rest
            .first()
            .filter(|_| dialect == Dialect::Statsd && !matches!(action, Action::Where(_)));
        let path = matches
            .get_one::<PathBuf>("f")
            .cloned()
            .or_else(|| word.map(PathBuf::from));
        let ring = text("ring").and_then(RingKind::parse);
        Self {
            source: Source {
                path: path.unwrap_or_else(|| DEFAULT_FILE.into()),
                dialect,
                ring,
            },
            debug: is_set("d"),
            action,
        }
    }
}

/// A link named after the other original reads that original's files.
fn dialect_of_name(called_as: &OsStr) -> Dialect {
    match Path::new(called_as).file_stem().and_then(OsStr::to_str) {
        Some("statsd" | "proxy") => Dialect::Statsd,
        _ => Dialect::GoStatsdProxy,
    }
}

fn command() -> Command {
    let file = Arg::new("f")
        .long("f")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf));
    let dialect = Arg::new("dialect")
        .long("dialect")
        .value_name("DIALECT")
        .value_parser(PossibleValuesParser::new(["go-statsd-proxy", "statsd"]));
    let ring = Arg::new("ring")
        .long("ring")
        .value_name("RING")
        .value_parser(PossibleValuesParser::new([
            "statsd",
            "statsd-0.7",
            "go-statsd-proxy",
        ]));
    Command::new("statsd-proxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Routes StatsD lines to backends by consistent hashing, or mirrors them")
        .args_override_self(true)
        .arg(file.help(format!("Configuration file [default: {DEFAULT_FILE}]")))
        .arg(bool_flag("d").help("Log debug lines"))
        .arg(dialect.help("Whose configuration file it is [default: go-statsd-proxy; statsd if called as proxy or statsd]"))
        .arg(ring.help("Whose hash ring places the names, over the file's `ring`"))
        .arg(bool_flag("check-config").help("Say what is wrong with the file or unknown in it, and exit with 0 or 1"))
        .arg(bool_flag("where").help("Print the nodes of the names that follow, or of those on standard input, and exit"))
        .arg(
            Arg::new("rest")
                .action(ArgAction::Append)
                .num_args(0..)
                .value_name("WORD")
                .help("The file, for the dialect statsd; names, for -where; else ignored"),
        )
        .after_help("Flags take one dash or two, and their values after `=` or as the next word.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Flags, clap::Error> {
        Flags::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn f_and_d_are_those_of_go_statsd_proxy() {
        let f = |words: &[&str], path: &str, debug: bool| {
            let flags = parse(&[&["statsd-proxy"], words].concat()).unwrap();
            assert_eq!(
                (flags.source.path.as_path(), flags.debug),
                (Path::new(path), debug),
                "{words:?}"
            );
            assert_eq!(flags.action, Action::Run);
        };
        f(&[], DEFAULT_FILE, false);
        f(&["-f", "x.json"], "x.json", false);
        f(&["--f=x.json", "-d"], "x.json", true);
        f(&["-f", "x.json", "-d=T", "a", "b"], "x.json", true);
        f(&["-f=a", "-f=b"], "b", false);
        // Flags end at the first other word.
        f(&["a", "-d"], DEFAULT_FILE, false);
    }

    #[test]
    fn usage_errors_exit_with_2_and_help_with_0() {
        let f = |words: &[&str], status: i32| {
            let failure = parse(&[&["statsd-proxy"], words].concat()).unwrap_err();
            assert_eq!(failure.exit_code(), status, "{words:?}");
        };
        f(&["-h"], 0);
        f(&["-help"], 0);
        f(&["--help"], 0);
        f(&["-x"], 2);
        f(&["-f"], 2);
        f(&["-d=foo"], 2);
        f(&["-ring", "ketama"], 2);
    }

    #[test]
    fn dialect_statsd_takes_the_file_as_a_word() {
        let flags = parse(&["statsd-proxy", "-dialect", "statsd", "proxyConfig.js"]).unwrap();
        assert_eq!(
            (flags.source.dialect, flags.source.path),
            (Dialect::Statsd, "proxyConfig.js".into())
        );
        let flags = parse(&["/usr/bin/proxy.js", "proxyConfig.js"]).unwrap();
        assert_eq!(flags.source.dialect, Dialect::Statsd);
    }

    #[test]
    fn where_takes_names() {
        let flags = parse(&["statsd-proxy", "-f=x", "--where", "a", "-b"]).unwrap();
        assert_eq!(
            flags.action,
            Action::Where(vec!["a".to_owned(), "-b".to_owned()])
        );
    }
}
