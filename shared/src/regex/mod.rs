//! Regular expressions as Go programs take them: RE2's language, run by crate `regex`.
//!
//! Both crates run in linear time, but the languages differ: `\d` is ASCII in Go, `[a&&b]` holds three characters there, and a
//! count goes up to 1000. So a pattern is judged by Go's rules, with Go's error text, and then written anew for crate `regex`.
//! Prometheus' matchers and relabelling rules have to match the whole text, and there a dot matches a newline: `^(?s:P)$`.
//!
//! Pinned by `tests/golden/go-stdlib/regexp.jsonl`, recorded from Go. Less than Go takes is only how deep a pattern may nest, where
//! crate `regex` counts a group that captures nothing as a level, and how large it may be.
//!
//! ```
//! use shared::regex::{Regex, Template};
//!
//! let regex = Regex::anchored(r"(\d+)\.(?P<rest>.*)")?;
//! assert!(!regex.is_match("v1.2"));
//! assert_eq!(regex.expand(&Template::new("$1-${rest}"), "1.2"), Some("1-2".to_owned()));
//!
//! let error = Regex::anchored("a**").unwrap_err();
//! assert_eq!(error.to_string(), "error parsing regexp: invalid nested repetition operator: `**`");
//! # Ok::<(), shared::regex::PatternError>(())
//! ```

mod literal;
mod pattern;
mod template;

use std::fmt;

use literal::Literal;
use pattern::{DEEPEST, Pattern, TOO_DEEP, TOO_LARGE};
pub use template::Template;

/// The longest pattern that is compiled. Alternatives without operators are not, and may be longer.
const LONGEST: usize = 1 << 20;

/// How much memory a compiled pattern may take.
const SIZE_LIMIT: usize = 32 << 20;

/// Why a pattern is refused, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{part}`")]
pub struct PatternError {
    reason: &'static str,
    part: String,
}

impl PatternError {
    fn new(reason: &'static str, part: &str) -> Self {
        let part = part.to_owned();
        Self { reason, part }
    }
}

/// Whether a pattern that has to match the whole text accepts the empty one. Nothing is compiled.
pub fn accepts_empty(pattern: &[u8]) -> Result<bool, PatternError> {
    let text = str::from_utf8(pattern).map_err(|_| {
        let part = String::from_utf8_lossy(pattern);
        PatternError::new("invalid UTF-8", &part)
    })?;
    Pattern::read(text).map(|pattern| pattern.accepts_empty)
}

/// A compiled regular expression.
#[derive(Clone)]
pub struct Regex {
    pattern: Box<str>,
    program: Program,
}

/// How a text is matched.
#[derive(Clone)]
enum Program {
    /// By comparing it. Only for patterns without groups that match the whole text.
    Literal(Literal),
    /// By running an automaton.
    Automaton {
        regex: regex::Regex,
        names: Vec<(String, usize)>,
    },
}

impl Regex {
    /// Compiles a pattern that may match anywhere in a text, as Go's `regexp.Compile` does.
    pub fn unanchored(pattern: &str) -> Result<Self, PatternError> {
        let program = Program::automaton(pattern, Pattern::read(pattern)?)?;
        Ok(Self::new(pattern, program))
    }

    /// Compiles a pattern as relabelling rules and `label_replace` do: it has to match the whole text, and errors may show
    /// the anchors around it.
    pub fn anchored(pattern: &str) -> Result<Self, PatternError> {
        let program = if let Some(literal) = Literal::of(pattern) {
            Program::Literal(literal)
        } else {
            let anchored = format!("^(?s:{pattern})$");
            Program::automaton(&anchored, Pattern::read(&anchored)?)?
        };
        Ok(Self::new(pattern, program))
    }

    /// Compiles a pattern as the matchers of a selector do: it has to match the whole text, and errors show only what the user
    /// wrote.
    pub fn matcher(pattern: &str) -> Result<Self, PatternError> {
        let program = match Literal::of(pattern) {
            Some(literal) => Program::Literal(literal),
            None => Program::automaton(pattern, Pattern::read_matcher(pattern)?)?,
        };
        Ok(Self::new(pattern, program))
    }

    fn new(pattern: &str, program: Program) -> Self {
        let pattern = pattern.into();
        Self { pattern, program }
    }

    /// Returns the pattern as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Whether a text matches.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.program {
            Program::Literal(literal) => literal.is_match(text),
            Program::Automaton { regex, .. } => regex.is_match(text),
        }
    }

    /// Fills a template from the groups of the first match, if there is one.
    pub fn expand(&self, template: &Template, text: &str) -> Option<String> {
        let (regex, names) = match &self.program {
            Program::Literal(literal) => {
                let group = |index| (index == 0).then_some(text);
                return literal.is_match(text).then(|| template.expand(&[], group));
            }
            Program::Automaton { regex, names } => (regex, names),
        };
        let captures = regex.captures(text)?;
        Some(template.expand(names, |index| {
            captures.get(index).map(|group| group.as_str())
        }))
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.pattern).finish()
    }
}

impl Program {
    /// Compiles what was read of a pattern.
    fn automaton(pattern: &str, read: Pattern) -> Result<Self, PatternError> {
        let too_large = || PatternError::new(TOO_LARGE, pattern);
        if read.translation.len() > LONGEST {
            return Err(too_large());
        }
        // The crate, like Go, counts groups, alternatives, sequences and repetitions. The anchors around a pattern are two levels.
        let nest_limit = DEEPEST as u32 + 2;
        let compiled = regex::RegexBuilder::new(&read.translation)
            .size_limit(SIZE_LIMIT)
            .nest_limit(nest_limit)
            .build();
        match compiled {
            Ok(regex) => Ok(Self::Automaton {
                regex,
                names: read.names,
            }),
            Err(regex::Error::CompiledTooBig(_)) => Err(too_large()),
            // What Go takes is translated into what the crate takes; only the nesting can be too deep for it.
            Err(_) => Err(PatternError::new(TOO_DEEP, pattern)),
        }
    }
}

#[cfg(test)]
mod tests;
