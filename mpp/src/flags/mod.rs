//! The command line and the environment, as the original reads them.
//!
//! [`FLAGS`] lists the flags; this file reads words by the rules of Go's package `flag` as the original's command-line library
//! uses it: one dash or two, `-name value` or `-name=value`, the end at the first other word, the last of several wins. The texts
//! of usage errors are the original's, because scripts may look for them. Pinned by `tests/golden/mpp/cli/cases.json`.

mod table;

use std::{collections::BTreeMap, fmt::Write as _};

use shared::config::args::parse_bool;

pub use table::{FLAGS, Flag, Kind};

/// The exit status of a usage error, as of most programs; the original says 0, as if the work were done.
const USAGE: u8 = 2;

/// What the words of the user say: a text per flag, by the flag's first name. Every flag with a default is there.
#[derive(Debug, Clone)]
pub struct Flags {
    values: BTreeMap<&'static str, String>,
}

/// What is printed instead of running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// The exit status.
    pub status: u8,
}

impl Answer {
    fn printed(stdout: String) -> Self {
        Self {
            stdout,
            stderr: String::new(),
            status: 0,
        }
    }

    fn misused(reason: &str) -> Self {
        Self {
            stdout: format!("Incorrect Usage. {reason}\n\n{}", help()),
            stderr: String::new(),
            status: USAGE,
        }
    }
}

impl Flags {
    /// Reads `words` (without the program's name) and the variables that `environment` knows.
    pub fn parse(
        words: &[String],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Answer> {
        let mut flags = Self {
            values: BTreeMap::new(),
        };
        flags.take_defaults(&environment)?;
        let mut given: Vec<&str> = Vec::new();
        let mut words = words.iter();
        let mut rest: Vec<&String> = Vec::new();
        let mut special = None;
        while let Some(word) = words.next() {
            let Some(text) = flag_text(word) else {
                if word != "--" {
                    rest.push(word);
                }
                break;
            };
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let Some(flag) = find(name) else {
                return Err(Answer::misused(&format!(
                    "flag provided but not defined: -{name}"
                )));
            };
            match flag.kind {
                Kind::Help | Kind::Version => {
                    special.get_or_insert(flag.kind);
                    continue;
                }
                Kind::Switch => {
                    let value = value.unwrap_or("true");
                    if parse_bool(value).is_err() {
                        return Err(Answer::misused(&format!(
                            "invalid boolean value {value:?} for -{name}: parse error"
                        )));
                    }
                    flags.put(flag, value);
                }
                Kind::Text | Kind::Integer => {
                    let Some(value) = value.or_else(|| words.next().map(String::as_str)) else {
                        return Err(Answer::misused(&format!("flag needs an argument: -{name}")));
                    };
                    if flag.kind == Kind::Integer && parse_integer(value).is_none() {
                        return Err(Answer::misused(&format!(
                            "invalid value {value:?} for flag -{name}: parse error"
                        )));
                    }
                    flags.put(flag, value);
                }
            }
            given.push(name);
        }
        rest.extend(words);
        refuse_two_forms(&given)?;
        match (special, rest.first().map(|word| word.as_str())) {
            (Some(Kind::Version), _) => {
                return Err(Answer::printed(format!("mpp version {}\n", version())));
            }
            (Some(_), _) => return Err(Answer::printed(help())),
            (None, Some("help" | "h")) => {
                return Err(match rest.get(1) {
                    None => Answer::printed(help()),
                    Some(topic) => Answer {
                        stdout: String::new(),
                        stderr: format!("No help topic for '{topic}'\n"),
                        status: 3,
                    },
                });
            }
            _ => {}
        }
        Ok(flags)
    }

    /// Returns the text of a flag; empty if it was neither given nor has a default.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// Returns the value of a boolean flag.
    pub fn is_set(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or(false)
    }

    /// Returns the value of an integer flag.
    pub fn integer(&self, name: &str) -> i64 {
        parse_integer(self.text(name)).unwrap_or_default()
    }

    fn put(&mut self, flag: &Flag, value: &str) {
        self.values.insert(flag.names[0], value.to_owned());
    }

    /// Defaults, and over them the environment.
    fn take_defaults(
        &mut self,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Result<(), Answer> {
        for flag in FLAGS {
            if let Some(default) = flag.default {
                self.put(flag, default);
            }
            let set = flag
                .environment
                .iter()
                .find_map(|name| Some((name, environment(name)?)));
            // A variable that is set but empty says nothing; to the original it was a value, and refused.
            let Some((name, value)) = set.filter(|(_, value)| !value.is_empty()) else {
                continue;
            };
            let fits = match flag.kind {
                Kind::Switch => parse_bool(&value).is_ok(),
                Kind::Integer => parse_integer(&value).is_some(),
                _ => true,
            };
            if !fits {
                return Err(Answer {
                    stdout: String::new(),
                    stderr: format!("invalid value {value:?} of the variable {name}\n"),
                    status: 1,
                });
            }
            self.put(flag, &value);
        }
        Ok(())
    }
}

/// Returns the version that `--version` prints.
pub fn version() -> &'static str {
    concat!("v", env!("CARGO_PKG_VERSION"))
}

/// Returns the help text.
pub fn help() -> String {
    let mut text = format!(
        "NAME:\n   mpp - one endpoint before several Prometheus servers\n\nUSAGE:\n   mpp [options]\n\nVERSION:\n   {}\n\nOPTIONS:\n",
        version()
    );
    for flag in FLAGS {
        let names: Vec<String> = flag
            .names
            .iter()
            .map(|name| match (name.len(), flag.kind) {
                (1, Kind::Text | Kind::Integer) => format!("-{name} value"),
                (1, _) => format!("-{name}"),
                (_, Kind::Text | Kind::Integer) => format!("--{name} value"),
                _ => format!("--{name}"),
            })
            .collect();
        let default = flag
            .default
            .filter(|text| !text.is_empty() && flag.kind != Kind::Switch)
            .map(|text| format!(" (default: {text})"))
            .unwrap_or_default();
        let environment = match flag.environment {
            [] => String::new(),
            names => format!(" [${}]", names.join(", $")),
        };
        writeln!(
            text,
            "   {}\n      {}{default}{environment}",
            names.join(", "),
            flag.help
        )
        .expect("writing to a string cannot fail");
    }
    text
}

/// The text behind one or two dashes; `None` for a word that ends the flags (`x`, `-`, `--`).
fn flag_text(word: &str) -> Option<&str> {
    let text = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    (!text.is_empty()).then_some(text)
}

fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.names.contains(&name))
}

fn refuse_two_forms(given: &[&str]) -> Result<(), Answer> {
    for flag in FLAGS {
        let mut forms: Vec<&str> = flag
            .names
            .iter()
            .filter(|name| given.contains(name))
            .copied()
            .collect();
        if forms.len() > 1 {
            forms.sort_unstable_by_key(|name| name.len());
            return Err(Answer {
                stdout: format!(
                    "Cannot use two forms of the same flag: {}\n{}",
                    forms.join(" "),
                    help()
                ),
                stderr: String::new(),
                status: USAGE,
            });
        }
    }
    Ok(())
}

/// Parses an integer as Go does with base 0: `0x`, `0b` and `0o` prefixes, a leading `0` means octal, `_` between digits.
fn parse_integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..)?),
        [b'0', b'b', ..] => (2, lower.get(2..)?),
        [b'0', b'o', ..] => (8, lower.get(2..)?),
        [b'0', _, ..] => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    if body.starts_with(['+', '-']) {
        return None;
    }
    let body = body.replace('_', "");
    i64::from_str_radix(&format!("{sign}{body}"), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Flags, Answer> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Flags::parse(&words, |_| None)
    }

    #[test]
    fn integers_are_read_with_their_prefix() {
        let f =
            |text: &str, expected: Option<i64>| assert_eq!(parse_integer(text), expected, "{text}");
        f("9090", Some(9090));
        f("0x5dd4", Some(24020));
        f("024020", Some(10256));
        f("-1", Some(-1));
        f("0", Some(0));
        f("1_0", Some(10));
        f("", None);
        f("abc", None);
        f("0x", None);
        f("--1", None);
    }

    #[test]
    fn both_names_of_the_insecure_flag_are_one() {
        assert_eq!(
            parse(&["--insecure", "true"])
                .unwrap()
                .text("insecure-certs"),
            "true"
        );
        let answer = parse(&["-k", "true", "--insecure-certs", "true"]).unwrap_err();
        assert!(
            answer
                .stdout
                .starts_with("Cannot use two forms of the same flag: k insecure-certs\n")
        );
    }

    #[test]
    fn the_environment_is_under_the_flags_and_over_the_defaults() {
        let environment = |name: &str| match name {
            "MPP_PORT" => Some("24021".to_owned()),
            "MPP_SERVICE_NAME" => Some("prometheus".to_owned()),
            "MPP_ROUTING_STRATEGY" => Some(String::new()),
            _ => None,
        };
        let flags = Flags::parse(&["-port".to_owned(), "1".to_owned()], environment).unwrap();
        assert_eq!(flags.integer("port"), 1);
        let flags = Flags::parse(&[], environment).unwrap();
        assert_eq!(flags.integer("port"), 24021);
        assert_eq!(flags.text("kube-service-name"), "prometheus");
        assert_eq!(flags.text("routing-strategy"), "single-most-data");
    }
}
