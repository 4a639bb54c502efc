//! What the parser has to know of a regular expression: whether it is one, and whether it matches the empty string.
//!
//! A selector whose matchers all accept the empty string is refused, because it would select everything. Patterns match whole
//! values and a dot matches a newline, as in `^(?s:...)$`.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind, Look};

use crate::Text;
use crate::format;

/// Whether `pattern` matches the empty string, or why it is not a pattern.
pub(crate) fn matches_empty(pattern: &Text) -> Result<bool, String> {
    let Some(text) = pattern.to_str() else {
        let lossy = pattern.to_str_lossy();
        return Err(format!("error parsing regexp: invalid UTF-8: `{lossy}`"));
    };
    match ParserBuilder::new()
        .dot_matches_new_line(true)
        .build()
        .parse(text)
    {
        Ok(hir) => Ok(accepts_empty(&hir)),
        Err(error) => Err(format!(
            "error parsing regexp: {}: `{text}`",
            reason(&error)
        )),
    }
}

/// Whether an expression can match at the only place of an empty text. The syntax crate limits how deep it nests.
fn accepts_empty(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Literal(_) | HirKind::Class(_) => false,
        // No place of an empty text is at the edge of a word.
        HirKind::Look(look) => matches!(
            look,
            Look::Start
                | Look::End
                | Look::StartLF
                | Look::EndLF
                | Look::StartCRLF
                | Look::EndCRLF
                | Look::WordAsciiNegate
                | Look::WordUnicodeNegate
        ),
        HirKind::Repetition(repetition) => repetition.min == 0 || accepts_empty(&repetition.sub),
        HirKind::Capture(capture) => accepts_empty(&capture.sub),
        HirKind::Concat(parts) => parts.iter().all(accepts_empty),
        HirKind::Alternation(parts) => parts.iter().any(accepts_empty),
    }
}

fn reason(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => format::quote(other.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_string_is_found_without_running_the_pattern() {
        let f = |pattern: &str, expected: bool| {
            assert_eq!(matches_empty(&pattern.into()), Ok(expected), "{pattern}");
        };
        f("", true);
        f(".*", true);
        f(".+", false);
        f("a|", true);
        f("(a?)(b*)", true);
        f("(a|b){0,3}", true);
        f("(|a)b", false);
        f("^$", true);
        f(r"\b", false);
        f(r"\B", true);
    }
}
