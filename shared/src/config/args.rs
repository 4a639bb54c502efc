//! Go-style command lines for clap.
//!
//! Go's package `flag` takes `-name`, `--name`, `-name=value` and `-name value` alike, ends at the first word that is
//! not a flag, and lets the last of several equal flags win. [`normalise`] rewrites such words into the one form that
//! clap reads (`--name=value ... -- rest`), so that each tool declares its flags once, with clap, and gets help and
//! environment variables from it.
//!
//! Declare flags with long names only; booleans with [`bool_flag`]; the words after the flags as a trailing positional.
//! Pinned by `golden/go-stdlib/flag.jsonl`.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// Rewrites the words of a Go command line for `command`; the first word is the program's name and is kept.
///
/// Flags that `command` does not know are passed on, so that clap reports them. Words that are not valid UTF-8 end the
/// flags, as they cannot name one.
pub fn normalise(words: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let mut words = words.into_iter();
    let mut out: Vec<OsString> = words.next().into_iter().collect();
    let mut rest = None;
    while let Some(word) = words.next() {
        let Some(flag) = flag_text(&word) else {
            rest = (word != "--").then_some(word);
            break;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.into())),
            None if takes_next_word(command, flag) => (flag, words.next()),
            None => (flag, None),
        };
        out.push(clap_word(long_name(command, name), value));
    }
    out.push("--".into());
    out.extend(rest);
    out.extend(words);
    out
}

/// Declares a boolean flag with Go's rules: `-name`, `-name=true`, `-name=0`, but never `-name true`.
pub fn bool_flag(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
        .value_parser(parse_bool)
        .value_name("BOOL")
}

/// Parses a boolean as Go's `strconv.ParseBool` does.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected 1, 0, t, f, true or false".to_owned()),
    }
}

/// The text behind one or two dashes; `None` for a word that ends the flags (`x`, `-`, `--`).
fn flag_text(word: &OsString) -> Option<&str> {
    let word = word.to_str()?;
    let flag = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    (!flag.is_empty()).then_some(flag)
}

fn takes_next_word(command: &Command, name: &str) -> bool {
    command
        .get_arguments()
        .filter(|arg| arg.get_long() == Some(name))
        .any(|arg| {
            matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
                && !arg.is_require_equals_set()
        })
}

/// `-h` is Go's short word for help, and `-V` clap's for the version, unless a tool has a flag of that name.
fn long_name<'a>(command: &Command, name: &'a str) -> &'a str {
    let defined = command
        .get_arguments()
        .any(|arg| arg.get_long() == Some(name));
    match name {
        _ if defined => name,
        "h" => "help",
        "V" => "version",
        _ => name,
    }
}

fn clap_word(name: &str, value: Option<OsString>) -> OsString {
    let mut word = OsString::from("--");
    word.push(name);
    if let Some(value) = value {
        word.push("=");
        word.push(value);
    }
    word
}
