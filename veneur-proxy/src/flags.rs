//! The command line: the originals' flags, and ours.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{OsStringValueParser, PossibleValuesParser},
};
use shared::config::args::{bool_flag, normalise};

use crate::config::{Generation, UnknownKeys};

/// Flags of the logging library that came with the originals' Kubernetes client. They are taken and have no effect.
const GLOG_TEXT: [&str; 5] = [
    "v",
    "vmodule",
    "stderrthreshold",
    "log_dir",
    "log_backtrace_at",
];
const GLOG_BOOL: [&str; 2] = ["logtostderr", "alsologtostderr"];

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// The configuration file; `None` is refused, in the original's words.
    pub file: Option<PathBuf>,
    /// What is done about unknown keys.
    pub unknown_keys: UnknownKeys,
    /// Whose configuration file it is, if that was said.
    pub generation: Option<Generation>,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Take and forward metrics.
    Run,
    /// Say what is wrong with the file, or unknown in it.
    CheckConfig,
}

impl Flags {
    /// Reads the words of a command line, the first of which is the program's name.
    ///
    /// The error is help, the version, or a usage error; it knows its stream and its exit status.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = command();
        let matches = command
            .clone()
            .try_get_matches_from(normalise(words, &command))?;
        Ok(Self::from_matches(&matches))
    }

    fn from_matches(matches: &ArgMatches) -> Self {
        let is_set = |name: &str| matches.get_one::<bool>(name).copied().unwrap_or(false);
        let generation = matches.get_one::<String>("generation").map(String::as_str);
        Self {
            file: matches
                .get_one::<OsString>("f")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            unknown_keys: if is_set("strict") {
                UnknownKeys::Refuse
            } else {
                UnknownKeys::Report
            },
            generation: [Generation::Legacy, Generation::Dual, Generation::Stream]
                .into_iter()
                .find(|known| Some(known.name()) == generation),
            action: if is_set("check-config") {
                Action::CheckConfig
            } else {
                Action::Run
            },
        }
    }
}

fn command() -> Command {
    let generation = Arg::new("generation")
        .long("generation")
        .value_name("GENERATION")
        .value_parser(PossibleValuesParser::new(["legacy", "dual", "stream"]));
    let command = Command::new("veneur-proxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Routes veneur's metrics to global veneurs by consistent hashing")
        .args_override_self(true)
        .arg(
            Arg::new("f")
                .long("f")
                .value_name("FILE")
                .value_parser(OsStringValueParser::new())
                .help("Configuration file (required)"),
        )
        .arg(bool_flag("strict").help("Refuse unknown keys"))
        .arg(generation.help("Whose configuration file it is [default: decided by its keys]"))
        .arg(bool_flag("check-config").help(
            "Say what is wrong with the file or unknown in it, and exit with 0 or 1",
        ))
        .arg(
            Arg::new("rest")
                .action(ArgAction::Append)
                .num_args(0..)
                .value_name("WORD")
                .help("Ignored"),
        )
        .after_help("Flags take one dash or two, and their values after `=` or as the next word. Flags of glog are ignored.");
    let texts = GLOG_TEXT
        .into_iter()
        .map(|name| Arg::new(name).long(name).value_name("TEXT").hide(true));
    let bools = GLOG_BOOL.into_iter().map(|name| bool_flag(name).hide(true));
    command.args(texts).args(bools)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Flags, clap::Error> {
        let words = [&["veneur-proxy"], words].concat();
        Flags::parse(words.into_iter().map(OsString::from))
    }

    #[test]
    fn f_and_strict_are_those_of_the_originals() {
        let f = |words: &[&str], path: Option<&str>, unknown_keys: UnknownKeys| {
            let flags = parse(words).unwrap();
            assert_eq!(flags.file, path.map(PathBuf::from), "{words:?}");
            assert_eq!(flags.unknown_keys, unknown_keys, "{words:?}");
            assert_eq!((flags.generation, flags.action), (None, Action::Run));
        };
        f(&[], None, UnknownKeys::Report);
        f(&["-f="], None, UnknownKeys::Report);
        f(&["-f", "a.yaml"], Some("a.yaml"), UnknownKeys::Report);
        f(
            &["--f=a.yaml", "-strict"],
            Some("a.yaml"),
            UnknownKeys::Refuse,
        );
        f(
            &["-strict=0", "-f=a", "-f=b"],
            Some("b"),
            UnknownKeys::Report,
        );
        f(
            &["-f", "a", "word", "-strict"],
            Some("a"),
            UnknownKeys::Report,
        );
        f(
            &["-v=2", "-logtostderr", "-log_dir", "/tmp", "-f", "a"],
            Some("a"),
            UnknownKeys::Report,
        );
    }

    #[test]
    fn usage_errors_exit_with_2_and_help_with_0() {
        let f = |words: &[&str], status: i32| {
            assert_eq!(parse(words).unwrap_err().exit_code(), status, "{words:?}");
        };
        f(&["-h"], 0);
        f(&["-help"], 0);
        f(&["-version"], 0);
        f(&["-bogus"], 2);
        f(&["-f"], 2);
        f(&["-strict=maybe"], 2);
        f(&["-generation", "v9"], 2);
    }

    #[test]
    fn generation_and_check_config_are_ours() {
        let flags = parse(&["-generation", "legacy", "-check-config", "-f", "a"]).unwrap();
        assert_eq!(flags.generation, Some(Generation::Legacy));
        assert_eq!(flags.action, Action::CheckConfig);
    }
}
