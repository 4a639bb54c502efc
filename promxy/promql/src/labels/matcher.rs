//! Conditions on labels, ready to be asked.

use std::fmt;

use shared::regex::{PatternError, Regex};

use crate::labels::Labels;
use crate::parser::{MatchOp, Matcher};

/// Why a matcher cannot be compiled.
pub type MatcherError = PatternError;

/// A condition on a label, its regular expression compiled.
#[derive(Clone)]
pub struct LabelMatcher {
    matcher: Matcher,
    regex: Option<Regex>,
}

impl LabelMatcher {
    /// Compiles a matcher.
    ///
    /// ```
    /// use promql::labels::LabelMatcher;
    /// use promql::parser::{ParserOptions, parse_selector};
    ///
    /// let matchers = parse_selector(r#"{job=~"a|b"}"#, &ParserOptions::default())?;
    /// assert!(LabelMatcher::new(&matchers[0])?.matches("b"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(matcher: &Matcher) -> Result<Self, MatcherError> {
        let regex = match matcher.op {
            MatchOp::Regex | MatchOp::NotRegex => {
                Some(Regex::matcher(&matcher.value.to_str_lossy())?)
            }
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        let matcher = matcher.clone();
        Ok(Self { matcher, regex })
    }

    /// Returns the name of the label.
    pub fn name(&self) -> &str {
        self.matcher.name.to_str().unwrap_or_default()
    }

    /// Returns the matcher as it was parsed.
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// Whether a value fulfils the condition. A label that is not there has the empty value.
    pub fn matches(&self, value: &str) -> bool {
        let matched = match &self.regex {
            Some(regex) => regex.is_match(value),
            None => self.matcher.value.as_bytes() == value.as_bytes(),
        };
        match self.matcher.op {
            MatchOp::Equal | MatchOp::Regex => matched,
            MatchOp::NotEqual | MatchOp::NotRegex => !matched,
        }
    }

    /// Whether a label set fulfils the condition.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(self.name()).unwrap_or_default())
    }
}

impl fmt::Debug for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.matcher)
    }
}
