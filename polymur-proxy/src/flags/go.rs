//! The words of a command line and of the environment as Go's package `flag` (with jamiealquiza/envy beside it) takes them.
//!
//! Spellings, error texts and the usage page are Go's, byte for byte, because they are what users of the original see.
//! Pinned by `tests/golden/cli/flags.json`.

use std::fmt::Write as _;

use shared::config::{args::parse_bool, duration};
use thiserror::Error;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No value, or `=true` and the like.
    Bool,
    /// 64 bits with sign, decimal or with Go's prefixes.
    Int,
    /// Go's `1m30s`.
    Duration,
    /// Any text.
    Text,
}

/// A flag as the usage page shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The default as the flag would be typed; empty for the zero value.
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
}

/// Why a command line is not run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// `-h` or `-help`: the usage page was asked for.
    #[error("help requested")]
    Help,
    /// A word that no flag can take, in Go's words.
    #[error("{0}")]
    Usage(String),
}

/// The text of each flag, in the order of the table, after environment and command line.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    flags: &'a [Flag],
    texts: Vec<String>,
}

impl<'a> Values<'a> {
    /// Starts with the built-in defaults.
    pub(crate) fn defaults(flags: &'a [Flag]) -> Self {
        let texts = flags.iter().map(|flag| flag.default.to_owned()).collect();
        Self { flags, texts }
    }

    /// Takes what the environment sets. An empty variable is unset; one that does not parse is left out and named in the answer.
    pub(crate) fn take_environment(
        &mut self,
        prefix: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Vec<String> {
        let mut ignored = Vec::new();
        for (flag, text) in self.flags.iter().zip(&mut self.texts) {
            let name = environment_name(prefix, flag.name);
            let Some(value) = variable(&name).filter(|value| !value.is_empty()) else {
                continue;
            };
            if check(flag, &value).is_ok() {
                *text = value;
            } else {
                ignored.push(format!(
                    "{name}={value:?} is not {} and is ignored",
                    a_kind(flag.kind)
                ));
            }
        }
        ignored
    }

    /// Takes the words after the program's name.
    pub(crate) fn take_words(
        &mut self,
        words: impl IntoIterator<Item = String>,
    ) -> Result<(), Refusal> {
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(dashed) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                return Ok(());
            };
            let body = dashed.strip_prefix('-').unwrap_or(dashed);
            if body.is_empty() {
                return Ok(());
            }
            if body.starts_with(['-', '=']) {
                return Err(Refusal::Usage(format!("bad flag syntax: {word}")));
            }
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let Some(place) = self.flags.iter().position(|flag| flag.name == name) else {
                return Err(unknown(name));
            };
            let flag = &self.flags[place];
            let value = match (value, flag.kind) {
                (Some(value), _) => value,
                (None, Kind::Bool) => "true".to_owned(),
                (None, _) => words
                    .next()
                    .ok_or_else(|| Refusal::Usage(format!("flag needs an argument: -{name}")))?,
            };
            check(flag, &value).map_err(|reason| Refusal::Usage(invalid(flag, &value, reason)))?;
            self.texts[place] = value;
        }
        Ok(())
    }

    /// Returns the text of a flag of the table.
    pub(crate) fn text(&self, name: &str) -> &str {
        let place = self.flags.iter().position(|flag| flag.name == name);
        &self.texts[place.expect("the flag is in the table")]
    }

    /// Returns the value of a whole number.
    pub(crate) fn int(&self, name: &str) -> i64 {
        parse_int(self.text(name)).expect("a text was checked before it was kept")
    }

    /// Returns the value of a switch.
    pub(crate) fn bool(&self, name: &str) -> bool {
        let text = self.text(name);
        !text.is_empty() && parse_bool(text).expect("a text was checked before it was kept")
    }

    /// Returns the value of a duration, in nanoseconds.
    pub(crate) fn nanos(&self, name: &str) -> i64 {
        duration::parse_nanos(self.text(name)).expect("a text was checked before it was kept")
    }
}

/// Prints the usage page; defaults are the built-in ones whatever the environment says.
pub(crate) fn usage(program: &str, prefix: &str, flags: &[Flag]) -> String {
    let mut sorted: Vec<&Flag> = flags.iter().collect();
    sorted.sort_by_key(|flag| flag.name);
    let mut page = format!("Usage of {program}:\n");
    for flag in sorted {
        let type_word = match flag.kind {
            Kind::Bool => "",
            Kind::Int => " int",
            Kind::Duration => " duration",
            Kind::Text => " string",
        };
        let default = match (flag.kind, flag.default) {
            (_, "" | "0" | "0s" | "false") => String::new(),
            (Kind::Text, text) => format!(" (default {text:?})"),
            (_, text) => format!(" (default {text})"),
        };
        let variable = environment_name(prefix, flag.name);
        writeln!(
            page,
            "  -{}{type_word}\n    \t{} [{variable}]{default}",
            flag.name, flag.help
        )
        .expect("writing to a string cannot fail");
    }
    page
}

fn environment_name(prefix: &str, flag: &str) -> String {
    format!("{prefix}{}", flag.to_uppercase().replace('-', "_"))
}

fn unknown(name: &str) -> Refusal {
    match name {
        "h" | "help" => Refusal::Help,
        _ => Refusal::Usage(format!("flag provided but not defined: -{name}")),
    }
}

fn invalid(flag: &Flag, value: &str, reason: &str) -> String {
    let Flag { name, kind, .. } = flag;
    match kind {
        Kind::Bool => format!("invalid boolean value {value:?} for -{name}: {reason}"),
        _ => format!("invalid value {value:?} for flag -{name}: {reason}"),
    }
}

fn a_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "a boolean",
        Kind::Int => "a whole number",
        Kind::Duration => "a duration",
        Kind::Text => "text",
    }
}

fn check(flag: &Flag, value: &str) -> Result<(), &'static str> {
    const PARSE: &str = "parse error";
    match flag.kind {
        Kind::Text => Ok(()),
        Kind::Bool => parse_bool(value).map(drop).map_err(|_| PARSE),
        Kind::Duration => duration::parse_nanos(value).map(drop).map_err(|_| PARSE),
        Kind::Int => match parse_int(value) {
            Ok(_) => Ok(()),
            Err(IntError::Syntax) => Err(PARSE),
            Err(IntError::Range) => Err("value out of range"),
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IntError {
    Syntax,
    Range,
}

/// Go's `strconv.ParseInt(text, 0, 64)`: sign, `0x`, `0o`, `0b`, a leading `0` for octal, `_` between digits and after a prefix.
fn parse_int(text: &str) -> Result<i64, IntError> {
    if text.is_empty() {
        return Err(IntError::Syntax);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, body, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..), true),
        [b'0', b'o', ..] => (8, lower.get(2..), true),
        [b'0', b'b', ..] => (2, lower.get(2..), true),
        [b'0', _, ..] => (8, lower.get(1..), true),
        _ => (10, lower.get(..), false),
    };
    let body = body.ok_or(IntError::Syntax)?;
    let mut value: u128 = 0;
    // After a prefix an underscore may stand where a digit could.
    let mut after_digit = prefixed;
    let mut digit_seen = false;
    for c in body.chars() {
        if c == '_' {
            if !after_digit {
                return Err(IntError::Syntax);
            }
            after_digit = false;
            continue;
        }
        let digit = c.to_digit(base).ok_or(IntError::Syntax)?;
        value = value
            .saturating_mul(u128::from(base))
            .saturating_add(u128::from(digit));
        after_digit = true;
        digit_seen = true;
    }
    if !digit_seen || !after_digit {
        return Err(IntError::Syntax);
    }
    let limit = if negative { 1u128 << 63 } else { (1 << 63) - 1 };
    if value > limit {
        return Err(IntError::Range);
    }
    let magnitude = value as i128;
    Ok(if negative { -magnitude } else { magnitude } as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_those_of_go() {
        let f = |text: &str, expected: Result<i64, IntError>| {
            assert_eq!(parse_int(text), expected, "{text}");
        };
        f("0", Ok(0));
        f("-7", Ok(-7));
        f("+7", Ok(7));
        f("0x4", Ok(4));
        f("0X1_f", Ok(31));
        f("0b101", Ok(5));
        f("0o17", Ok(15));
        f("010", Ok(8));
        f("0_7", Ok(7));
        f("1_0", Ok(10));
        f("9223372036854775807", Ok(i64::MAX));
        f("-9223372036854775808", Ok(i64::MIN));
        f("9223372036854775808", Err(IntError::Range));
        f("", Err(IntError::Syntax));
        f("-", Err(IntError::Syntax));
        f("1e3", Err(IntError::Syntax));
        f("_1", Err(IntError::Syntax));
        f("1__0", Err(IntError::Syntax));
        f("1_", Err(IntError::Syntax));
        f("08", Err(IntError::Syntax));
        f("0x", Err(IntError::Syntax));
    }
}
