//! Patterns that are matched without an automaton: `a|b|c`, `prefix.*` and `prefix.+`.

/// What a text has to be or to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    /// One of these, which are sorted.
    OneOf(Vec<String>),
    /// A prefix and anything behind it.
    Prefix(String),
    /// A prefix and at least one character behind it.
    LongerThan(String),
}

impl Literal {
    /// Finds out whether a pattern that has to match the whole text, where a dot matches a newline, is as simple as that.
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let single = |prefix| match literals(prefix)?.as_mut_slice() {
            [only] => Some(std::mem::take(only)),
            _ => None,
        };
        if let Some(prefix) = pattern.strip_suffix(".*") {
            return single(prefix).map(Self::Prefix);
        }
        if let Some(prefix) = pattern.strip_suffix(".+") {
            return single(prefix).map(Self::LongerThan);
        }
        let mut texts = literals(pattern)?;
        texts.sort_unstable();
        Some(Self::OneOf(texts))
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Self::OneOf(texts) => texts
                .binary_search_by(|known| known.as_str().cmp(text))
                .is_ok(),
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::LongerThan(prefix) => {
                text.len() > prefix.len() && text.starts_with(prefix.as_str())
            }
        }
    }
}

/// Returns the alternatives of a pattern, if none of them has an operator.
fn literals(pattern: &str) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut current = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '|' => done.push(std::mem::take(&mut current)),
            '\\' => current.push(rest.next().filter(char::is_ascii_punctuation)?),
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | '{' | '^' | '$' => return None,
            c => current.push(c),
        }
    }
    done.push(current);
    Some(done)
}
