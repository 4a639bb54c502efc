//! The language of test scripts.
//!
//! Follows `promql/promqltest` of the reference.

use shared::regex::Regex;

use super::expand::{Described, expand};
use super::load::Load;
use crate::SignedDuration;
use crate::labels::Labels;
use crate::parser::parse_series;

/// A test script.
#[derive(Clone, Debug)]
pub struct Script {
    /// The commands in their order.
    pub commands: Vec<Command>,
}

/// A command of a script.
#[derive(Clone, Debug)]
pub enum Command {
    /// `clear`: removes all series.
    Clear,
    /// `load`: adds series.
    Load(Load),
    /// `eval`: evaluates a query and compares the result.
    Eval(Box<Eval>),
}

/// An evaluation with what is expected of it.
#[derive(Clone, Debug)]
pub struct Eval {
    /// The line of the command, from one.
    pub line: usize,
    /// The query.
    pub query: String,
    /// When it is evaluated.
    pub evaluation: Evaluation,
    /// What is expected.
    pub expectations: Expectations,
}

/// When a query is evaluated, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// Once.
    Instant {
        /// The time.
        time: i64,
    },
    /// At evenly spaced times.
    Range {
        /// The first time.
        start: i64,
        /// The last time.
        end: i64,
        /// Their distance.
        step: i64,
    },
}

/// What is expected of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    pub(super) fail: Option<TextMatch>,
    pub(super) warnings: Vec<TextMatch>,
    pub(super) infos: Vec<TextMatch>,
    pub(super) no_warnings: bool,
    pub(super) no_infos: bool,
    pub(super) ordered: bool,
    pub(super) string: Option<String>,
    pub(super) scalar: Option<f64>,
    /// The times of the values of an expected range vector: first, last and distance.
    pub(super) range_vector: Option<(i64, i64, i64)>,
    pub(super) series: Vec<(Labels, Vec<Described>)>,
}

/// How a text has to look.
#[derive(Clone, Debug)]
pub(super) enum TextMatch {
    Any,
    Exactly(String),
    Pattern(Regex),
}

impl TextMatch {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(expected) => expected == text,
            Self::Pattern(regex) => regex.is_match(text),
        }
    }

    fn pattern(text: &str) -> Result<Self, String> {
        Regex::unanchored(text)
            .map(Self::Pattern)
            .map_err(|error| error.to_string())
    }
}

impl Script {
    /// Reads a script. The error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .map(|line| if line.starts_with('#') { "" } else { line })
            .collect();
        let mut commands = Vec::new();
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            if line.is_empty() {
                at += 1;
                continue;
            }
            let block = lines.get(at + 1..).unwrap_or_default();
            let length = block
                .iter()
                .position(|line| line.is_empty())
                .unwrap_or(block.len());
            let block = block.get(..length).unwrap_or_default();
            let word = line.split_whitespace().next().unwrap_or_default();
            let word = word.to_ascii_lowercase();
            let command = match word.as_str() {
                "clear" => Ok((Command::Clear, 0)),
                "load" | "load_with_nhcb" => {
                    parse_load(line, block, word == "load_with_nhcb").map(|load| (load, length))
                }
                word if word.starts_with("eval") => parse_eval(line, block, at + 1),
                _ => Err(format!("invalid command {line:?}")),
            };
            let (command, used) = command.map_err(|error| format!("line {}: {error}", at + 1))?;
            commands.push(command);
            at += 1 + used;
        }
        Ok(Self { commands })
    }
}

fn parse_load(line: &str, block: &[&str], with_nhcb: bool) -> Result<Command, String> {
    let step = line.split_whitespace().nth(1).unwrap_or_default();
    Load::parse(block, millis(step)?, with_nhcb).map(Command::Load)
}

fn millis(text: &str) -> Result<i64, String> {
    let duration: Result<SignedDuration, _> = text.parse();
    duration
        .map(SignedDuration::as_millis)
        .map_err(|error| error.to_string())
}

/// Splits the first word off.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace)
        .map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

/// Splits an expected word off, whatever its case.
fn keyword<'t>(text: &'t str, expected: &str) -> Result<&'t str, String> {
    let (found, rest) = word(text);
    if found.eq_ignore_ascii_case(expected) {
        Ok(rest)
    } else {
        Err(format!("expected {expected:?}, got {found:?}"))
    }
}

/// Reads a command and the lines below it; returns how many of those it takes.
fn parse_eval(line: &str, block: &[&str], number: usize) -> Result<(Command, usize), String> {
    let (command, rest) = word(line);
    let (kind, rest) = word(rest);
    let (evaluation, query) = if kind.eq_ignore_ascii_case("instant") {
        let (time, query) = word(keyword(rest, "at")?);
        let time = millis(time)?;
        (Evaluation::Instant { time }, query)
    } else {
        let (start, rest) = word(keyword(rest, "from")?);
        let (end, rest) = word(keyword(rest, "to")?);
        let (step, query) = word(keyword(rest, "step")?);
        let (start, end, step) = (millis(start)?, millis(end)?, millis(step)?);
        (Evaluation::Range { start, end, step }, query)
    };
    let mut expectations = Expectations::default();
    match command.to_ascii_lowercase().as_str() {
        "eval_fail" => expectations.fail = Some(TextMatch::Any),
        "eval_warn" => expectations.warnings.push(TextMatch::Any),
        "eval_info" => expectations.infos.push(TextMatch::Any),
        "eval_ordered" => expectations.ordered = true,
        _ => {}
    }
    let mut used = 0;
    for line in block {
        used += 1;
        if !expectations.read(line)? {
            break;
        }
    }
    let eval = Eval {
        line: number,
        query: query.to_owned(),
        evaluation,
        expectations,
    };
    Ok((Command::Eval(Box::new(eval)), used))
}

impl Expectations {
    /// Reads a line; returns whether more may follow.
    fn read(&mut self, line: &str) -> Result<bool, String> {
        if let Some(message) = line.strip_prefix("expected_fail_message") {
            self.fail = Some(TextMatch::Exactly(message.trim().to_owned()));
            return Ok(false);
        }
        if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
            self.fail = Some(TextMatch::pattern(pattern.trim())?);
            return Ok(false);
        }
        let (first, rest) = word(line);
        if first == "expect" {
            return self.expect(rest).map(|()| true);
        }
        if let Some(number) = parse_number(line) {
            self.scalar = Some(number);
            return Ok(false);
        }
        let description = parse_series(line).map_err(|error| error.to_string())?;
        self.series.push(expand(&description)?);
        Ok(true)
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        let (kind, rest) = word(text);
        let text_match = || match rest.split_once(':') {
            None => Ok(TextMatch::Any),
            Some(("msg", text)) => Ok(TextMatch::Exactly(text.trim().to_owned())),
            Some(("regex", text)) => TextMatch::pattern(text.trim()),
            Some((other, _)) => Err(format!("invalid token {other} after {kind}")),
        };
        match kind {
            "ordered" => self.ordered = true,
            "fail" => self.fail = Some(text_match()?),
            "warn" => self.warnings.push(text_match()?),
            "info" => self.infos.push(text_match()?),
            "no_warn" => self.no_warnings = true,
            "no_info" => self.no_infos = true,
            "string" => self.string = Some(unquote(rest)?),
            "range" => {
                let rest = keyword(keyword(rest, "vector")?, "from")?;
                let (start, rest) = word(rest);
                let (end, rest) = word(keyword(rest, "to")?);
                let (step, _) = word(keyword(rest, "step")?);
                self.range_vector = Some((millis(start)?, millis(end)?, millis(step)?));
            }
            _ => return Err(format!("invalid expected error/annotation type {kind}")),
        }
        Ok(())
    }
}

/// Reads a number that stands alone: the expected value of a scalar.
fn parse_number(text: &str) -> Option<f64> {
    let is_word = |text: &str| {
        let text = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
        matches!(text.as_str(), "inf" | "nan")
            || text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
    };
    is_word(text).then(|| text.parse().ok()).flatten()
}

/// Reads a Go string literal, by way of the query parser.
fn unquote(text: &str) -> Result<String, String> {
    use crate::parser::{NodeKind, ParserOptions, parse};

    let expr = parse(text, &ParserOptions::default()).map_err(|error| error.to_string())?;
    match &expr.root().kind {
        NodeKind::String(text) => Ok(text.to_string()),
        _ => Err(format!("expected string literal not valid: {text}")),
    }
}
