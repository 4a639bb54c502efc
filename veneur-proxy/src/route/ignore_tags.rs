//! Tags that take no part in routing (`ignore_tags`), so that for example the series of all pods meet in one global veneur.
//!
//! The original's patterns are Go's. The crate `regex` reads the same syntax with other meanings in a few places; those
//! are rewritten here. What it does not read at all (`\Q..\E`, octal escapes, a literal `{` as in `a{2`) is an error
//! when the configuration is read, never another placement.

use regex::bytes::Regex;
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
    /// A pattern that is none, or that means something else in Go.
    #[error("invalid pattern {pattern:?}: {reason}")]
    Pattern {
        /// As configured.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
}

impl TagRule {
    /// Reads a rule as configured: `kind` is `exact`, `prefix` or `regex`.
    pub fn new(kind: &str, value: &str) -> Result<Self, TagRuleError> {
        match kind {
            "exact" => Ok(Self::Exact(value.into())),
            "prefix" => Ok(Self::Prefix(value.into())),
            "regex" => pattern(value)
                .and_then(|rewritten| {
                    Regex::new(&rewritten).map_err(|reason| match reason {
                        // The library draws the rewritten pattern over several lines; the last one has the reason.
                        regex::Error::Syntax(text) => {
                            text.lines().last().unwrap_or_default().trim().to_owned()
                        }
                        other => other.to_string(),
                    })
                })
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
            Self::Pattern(pattern) => pattern.is_match(tag),
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

/// Rewrites a Go pattern for the crate `regex`.
fn pattern(go: &str) -> Result<String, String> {
    let mut out = String::with_capacity(go.len() + 16);
    let mut chars = go.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                // The classes of Perl are ASCII in Go.
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str(r"[\t\n\f\r ]"),
                Some('S') => out.push_str(r"[^\t\n\f\r ]"),
                Some(edge @ ('b' | 'B')) if !in_class => {
                    if chars.peek() == Some(&'{') {
                        return Err(format!("\\{edge}{{ is not Go's"));
                    }
                    out.push_str("(?-u:\\");
                    out.extend([edge, ')']);
                }
                // The edges of words to the crate, letters to Go.
                Some(angle @ ('<' | '>')) => out.push(angle),
                Some(unicode @ ('u' | 'U')) => return Err(format!("\\{unicode} is not Go's")),
                Some(other) => out.extend(['\\', other]),
                None => return Err("it ends with a backslash".to_owned()),
            },
            '[' if in_class && chars.peek() == Some(&':') => {
                // A class of POSIX, as far as its own bracket.
                out.push('[');
                for inner in chars.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            // Set operations to the crate, letters to Go.
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that comes first is a letter.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '(' if !in_class && chars.peek() == Some(&'?') => {
                let flags: String = chars
                    .clone()
                    .skip(1)
                    .take_while(|c| c.is_ascii_alphabetic() || *c == '-')
                    .collect();
                if flags.contains(['x', 'u', 'R']) && !flags.starts_with('P') {
                    return Err(format!("flags {flags:?} are not Go's"));
                }
                out.push('(');
            }
            '*' | '+' | '?' if !in_class => {
                out.push(c);
                // A lazy mark may follow, but not another repetition.
                let lazy = c != '?' || !out.ends_with("(?");
                if lazy && chars.next_if_eq(&'?').is_some() {
                    out.push('?');
                }
                if lazy && matches!(chars.peek(), Some('*' | '+' | '?')) {
                    return Err("a repetition of a repetition is not Go's".to_owned());
                }
            }
            other => out.push(other),
        }
    }
    Ok(out)
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
            "invalid pattern \"a**\": a repetition of a repetition is not Go's",
        );
        f(
            "regex",
            "(?x)a",
            "invalid pattern \"(?x)a\": flags \"x\" are not Go's",
        );
        f(
            "regex",
            "(a",
            "invalid pattern \"(a\": error: unclosed group",
        );
    }
}
