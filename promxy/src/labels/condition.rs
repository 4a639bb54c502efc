//! A matcher that can be asked.

use promql::parser::{MatchOp, Matcher};
use shared::regex::{PatternError, Regex};

/// A compiled condition on the value of a label.
#[derive(Clone, Debug)]
pub struct Condition {
    name: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Equal(String),
    NotEqual(String),
    Regex(Regex),
    NotRegex(Regex),
}

impl Condition {
    /// Compiles a matcher. Names and values that are not UTF-8 match nothing that a server could send; their ill-formed bytes
    /// become U+FFFD.
    pub fn new(matcher: &Matcher) -> Result<Self, PatternError> {
        let value = matcher.value.to_str_lossy();
        let test = match matcher.op {
            MatchOp::Equal => Test::Equal(value.into_owned()),
            MatchOp::NotEqual => Test::NotEqual(value.into_owned()),
            MatchOp::Regex => Test::Regex(Regex::matcher(&value)?),
            MatchOp::NotRegex => Test::NotRegex(Regex::matcher(&value)?),
        };
        let name = matcher.name.to_str_lossy().into_owned();
        Ok(Self { name, test })
    }

    /// Returns the label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a value satisfies the condition. A label that is absent has the empty value.
    pub fn accepts(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal(expected) => value == expected,
            Test::NotEqual(unexpected) => value != unexpected,
            Test::Regex(regex) => regex.is_match(value),
            Test::NotRegex(regex) => !regex.is_match(value),
        }
    }
}
