//! Tags that take no part in routing (`ignore_tags`), so that for example the series of all pods meet in one global veneur.
//!
//! The original's patterns are Go's, and so are these ([`shared::regex`]). A tag that is not UTF-8 is matched with U+FFFD in
//! place of what is not.

use shared::regex::{PatternError, Regex};
use thiserror::Error;

/// What a tag has to be in order to be ignored.
#[derive(Debug, Clone)]
pub enum TagRule {
    /// This text.
    Exact(Vec<u8>),
    /// Text that begins so.
    Prefix(Vec<u8>),
    /// Text in which the pattern is found.
    Pattern(Regex),
}

/// Why a rule is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TagRuleError {
    /// A `kind` that does not exist.
    #[error("unknown matcher kind {0:?}; it is exact, prefix or regex")]
    Kind(String),
    /// A pattern that is none.
    #[error("invalid pattern {pattern:?}: {reason}")]
    Pattern {
        /// As configured.
        pattern: String,
        /// What is wrong, in Go's words.
        reason: PatternError,
    },
}

impl TagRule {
    /// Reads a rule as configured: `kind` is `exact`, `prefix` or `regex`.
    pub fn new(kind: &str, value: &str) -> Result<Self, TagRuleError> {
        match kind {
            "exact" => Ok(Self::Exact(value.into())),
            "prefix" => Ok(Self::Prefix(value.into())),
            "regex" => Regex::unanchored(value)
                .map(Self::Pattern)
                .map_err(|reason| TagRuleError::Pattern {
                    pattern: value.to_owned(),
                    reason,
                }),
            other => Err(TagRuleError::Kind(other.to_owned())),
        }
    }

    fn matches(&self, tag: &[u8]) -> bool {
        match self {
            Self::Exact(text) => tag == text,
            Self::Prefix(text) => tag.starts_with(text),
            Self::Pattern(pattern) => pattern.is_match(&String::from_utf8_lossy(tag)),
        }
    }
}

impl PartialEq for TagRule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Pattern(a), Self::Pattern(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// The rules; a tag that matches any of them is ignored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IgnoreTags(Vec<TagRule>);

impl IgnoreTags {
    /// Collects rules; without any, no tag is ignored.
    pub fn new(rules: Vec<TagRule>) -> Self {
        Self(rules)
    }

    /// Returns the rules.
    pub fn rules(&self) -> &[TagRule] {
        &self.0
    }

    /// Returns whether the whole text of a tag matches.
    pub fn matches(&self, tag: &[u8]) -> bool {
        self.0.iter().any(|rule| rule.matches(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        let f = |pattern: &str, tag: &str, expected: bool| {
            let rule = TagRule::new("regex", pattern).unwrap();
            assert_eq!(rule.matches(tag.as_bytes()), expected, "{pattern} {tag}");
        };
        // Found anywhere, unless anchored.
        f("od:a", "pod:abc", true);
        f("^pod:[a-z]+$", "pod:abc1", false);
        // Digits, words and spaces are ASCII.
        f(r"^\d$", "٣", false);
        f(r"^[\d]$", "7", true);
        f(r"^\w+$", "é", false);
        f(r"\s", "\u{b}", false);
        f(r"é\b", "é", false);
        // Brackets and doubled characters in a class are letters.
        f("^[[a&&b]+$", "[&", true);
        f("^[]a]+$", "]", true);
        f("^[[:alpha:]]+$", "abc", true);
        f(r"^\<a\>$", "<a>", true);
        f("(?i)POD", "pod:1", true);
        f("(?P<x>a)+?b*", "a", true);
        f(r"^\Qa.b\E\101$", "a.bA", true);
        // A dot takes a character, and tags need not be text.
        f("^.$", "é", true);
        assert!(TagRule::new("regex", "a.*b").unwrap().matches(b"a-b\xff"));
    }

    #[test]
    fn what_is_no_rule_is_named() {
        let f = |kind: &str, value: &str, expected: &str| {
            assert_eq!(TagRule::new(kind, value).unwrap_err().to_string(), expected);
        };
        f(
            "glob",
            "a",
            "unknown matcher kind \"glob\"; it is exact, prefix or regex",
        );
        f(
            "regex",
            "a**",
            "invalid pattern \"a**\": error parsing regexp: invalid nested repetition operator: `**`",
        );
        f(
            "regex",
            "(?x)a",
            "invalid pattern \"(?x)a\": error parsing regexp: invalid or unsupported Perl syntax: `(?x`",
        );
        f(
            "regex",
            "(a",
            "invalid pattern \"(a\": error parsing regexp: missing closing ): `(a`",
        );
    }
}
