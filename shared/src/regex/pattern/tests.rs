//! What is judged, and how patterns are translated.

use super::*;

#[test]
fn the_empty_string_is_found_without_running_the_pattern() {
    let f = |pattern: &str, expected: bool| {
        let accepts_empty = Pattern::read(pattern).map(|read| read.accepts_empty);
        assert_eq!(accepts_empty, Ok(expected), "{pattern}");
    };
    f("", true);
    f(".*", true);
    f(".+", false);
    f("a|", true);
    f("(a?)(b*)", true);
    f("(a|b){0,3}", true);
    f("(|a)b", false);
    f("(|a){3}", true);
    f("^$", true);
    f(r"\b", false);
    f(r"\B", true);
    f(r"\Q\E", true);
    f("(?i)", true);
    f("(?i:a)", false);
    f("x{,3}", false); // plain text
    f("x{01}", false); // plain text too
    f("(?P<n>)(?<n>)", true);
    f("[]a]*", true);
}

#[test]
fn a_refused_pattern_says_so_in_gos_words() {
    let f = |pattern: &str, expected: &str| {
        let error = Pattern::read(pattern).expect_err(pattern);
        assert_eq!(
            error.to_string(),
            format!("error parsing regexp: {expected}")
        );
    };
    f("a{2,1}", "invalid repeat count: `{2,1}`");
    f("a{99999999999}", "invalid repeat count: `{99999999999}`");
    f("((a{10}){10}){11}", "invalid repeat count: `{11}`");
    f("a*?*", "invalid nested repetition operator: `*?*`");
    f("(*a)", "missing argument to repetition operator: `*`");
    f("(?-)", "invalid or unsupported Perl syntax: `(?-)`");
    f("(?<a b>)", "invalid named capture: `(?<a b>`");
    f(r"\x{110000}", r"invalid escape sequence: `\x{110000`");
    f(r"[a-\d]", r"invalid escape sequence: `\d`");
    f(r"\p{Greek", r"invalid character class range: `\p{Greek`");
}

#[test]
fn a_long_or_deep_pattern_is_read_once() {
    let long = 1_000_000;
    let accepts_empty = |pattern: &str| {
        let read = Pattern::read(&pattern.repeat(long));
        read.ok().map(|read| read.accepts_empty)
    };
    assert_eq!(accepts_empty("("), None);
    assert_eq!(accepts_empty("["), None);
    assert_eq!(accepts_empty("a?"), Some(true));
    assert_eq!(accepts_empty("{"), Some(false));
    assert_eq!(accepts_empty("[[:a]"), Some(false));
    assert_eq!(accepts_empty("[[:"), None);
    assert_eq!(accepts_empty(r"*\Q\E"), None);
    assert_eq!(accepts_empty(r"\pL"), None);
}

#[test]
fn a_pattern_is_put_into_the_words_of_the_crate() {
    let f = |pattern: &str, expected: &str| {
        let translation = Pattern::read(pattern).map(|read| read.translation);
        assert_eq!(translation, Ok(expected.to_owned()), "{pattern}");
    };
    f(r"\d\W", "[0-9][^0-9A-Za-z_]"); // ASCII only
    f(r"\<a\>", r"\x3ca\x3e"); // no edges of words
    f("[a&&[b]", r"[a\x26\x26\x5bb]"); // no set operations
    f(r"[\d-z]", r"[[0-9]\x2dz]");
    f(r"\Qa.b\E+", r"a\x2eb+");
    f(r"a{,3}", r"a\x7b\x2c3\x7d");
    f("(?P<n>a)(?P<n>b)", "(a)(b)"); // names are kept apart
    f("(?i)a(?-i:b(?s).)c", "(?i-msU)a(?:(?-imsU)b(?s-imU).)c");
    f("a(?i)*", "a*"); // flags may stand before an operator
    f(r"a+\Q\E?", "(?:a+)?"); // not a lazy plus
    f(r"\p{^Greek}\PL", r"[^\p{sc=Greek}][^\p{gc=L}]");
    f(r"[\x{d7ff}-\x{e000}]", "[\u{d7ff}-\u{e000}]");
    f(r"[\x{d800}-\x{dfff}]", r"[[^\x{0}-\x{10FFFF}]]"); // surrogates are no characters
}
