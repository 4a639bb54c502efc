//! Limits, and random patterns.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[test]
fn a_deep_pattern_is_compiled_or_refused_without_overflowing_the_stack() {
    let nested = |open: &str, close: &str, depth| open.repeat(depth) + "a" + &close.repeat(depth);
    assert!(Regex::unanchored(&nested("(", ")", DEEPEST)).is_ok());
    assert!(Regex::anchored(&nested("(?:b|c(", ")*)+", DEEPEST / 6 - 1)).is_ok());
    let too_deep = [
        nested("(", ")", DEEPEST + 1),
        nested("(?:b|c(", ")*)+", DEEPEST / 2),
    ];
    for pattern in too_deep {
        let error = Regex::unanchored(&pattern)
            .expect_err("too deep")
            .to_string();
        assert!(error.starts_with("error parsing regexp: expression nests too deeply: `("));
    }
}

#[test]
fn a_large_pattern_is_an_error() {
    let f = |pattern: &str| {
        let error = Regex::anchored(pattern).expect_err("too large");
        assert!(
            error
                .to_string()
                .starts_with("error parsing regexp: expression too large: `^(?s:")
        );
    };
    f(&r"[\pL\pN]{1000}".repeat(40));
    f(&"a?".repeat(LONGEST));
    f(&r"\pL".repeat(LONGEST));
}

#[test]
fn many_alternatives_need_no_automaton() {
    let names: Vec<_> = (0..200_000).map(|n| format!("host{n}")).collect();
    let regex = Regex::matcher(&names.join("|")).expect("a pattern");
    assert!(regex.is_match("host199999") && !regex.is_match("host200000"));
}

#[test]
fn simple_patterns_are_known() {
    let f = |pattern: &str, expected: Option<Literal>| {
        assert_eq!(Literal::of(pattern), expected, "{pattern}");
    };
    let text = |text: &str| text.to_owned();
    f("", Some(Literal::OneOf(vec![text("")])));
    f(
        r"b\.c|a",
        Some(Literal::OneOf(vec![text("a"), text("b.c")])),
    );
    f(".*", Some(Literal::Prefix(text(""))));
    f(r"a\\.+", Some(Literal::LongerThan(text(r"a\"))));
    f(r"a\.*", None);
    f("a|b.*", None);
    f(r"\d", None);
    f("a{", None);
}

/// Pieces of patterns, whole and broken.
fn pattern() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a",
        "b",
        "K",
        "é",
        "ſ",
        "\n",
        ".",
        "*",
        "+",
        "?",
        "??",
        "|",
        "|",
        "(",
        "(",
        ")",
        ")",
        "(?:",
        "(?i)",
        "(?-s:",
        "(?U)",
        "(?mi-s)",
        "(?P<n>",
        "(?<m>",
        "(?P<n",
        "{2}",
        "{0}",
        "{1,2}",
        "{0,}",
        "{,3}",
        "{",
        "}",
        "[",
        "]",
        "[^",
        "-",
        "&&",
        "~~",
        "[a-c]",
        "[[:word:]]",
        "[[:^alpha:]x]",
        "[[:foo:]]",
        r"[^\W\d]",
        r"\d",
        r"\W",
        r"\s",
        r"\b",
        r"\B",
        r"\A",
        r"\z",
        "^",
        "$",
        r"\Q",
        r"\E",
        r"\Qa.\E",
        r"\Q\E",
        r"\pL",
        r"\P{^Greek}",
        r"\p{Foo}",
        r"\x41",
        r"\x{d800}",
        r"\x{10ffff}",
        r"\101",
        r"\.",
        r"\<",
        r"\-",
        "\\",
        "_",
        "#",
        " ",
        "0",
        ",",
        ":",
        "<",
        ">",
    ]);
    vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn text() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a", "b", "k", "K", "é", "s", "\n", ".", "|", "\\", "_", "0", "-", "{", "\u{212a}",
    ]);
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_is_accepted_compiles_and_its_empty_match_is_known(pattern in pattern(), text in text()) {
        let known = accepts_empty(pattern.as_bytes());
        let matcher = Regex::matcher(&pattern);
        prop_assert_eq!(known.is_ok(), matcher.is_ok(), "{:?} {:?}", &known, &matcher);
        if let (Ok(known), Ok(matcher)) = (known, matcher) {
            prop_assert_eq!(known, matcher.is_match(""));
            // A match of the whole text is a match somewhere.
            let dots = format!("(?s){pattern}");
            let anywhere = Regex::unanchored(&dots).expect("only flags were added");
            prop_assert!(!matcher.is_match(&text) || anywhere.is_match(&text));
        }
    }

    #[test]
    fn comparing_agrees_with_the_automaton(pattern in "([abK|_-]|\\\\[.|\\\\]|é){0,6}([.][*+])?", texts in vec(text(), 8)) {
        let compared = Regex::anchored(&pattern).expect("a simple pattern");
        let run = Regex::anchored(&format!("(?:{pattern})")).expect("the same in a group");
        let is_run = matches!(run.program, Program::Automaton { .. });
        prop_assert!(is_run);
        let template = Template::new("<$0$1>");
        // The pattern's own parts are likely matches.
        let parts = pattern.split('|').map(str::to_owned);
        let stripped = pattern.replace('\\', "").replace(".*", "").replace(".+", "x");
        for text in texts.into_iter().chain(parts).chain([stripped]) {
            prop_assert_eq!(compared.is_match(&text), run.is_match(&text), "{:?}", text);
            prop_assert_eq!(compared.expand(&template, &text), run.expand(&template, &text));
        }
    }

    #[test]
    fn any_text_is_a_template_and_no_text_panics(pattern in any::<String>(), text in any::<String>()) {
        if let Ok(regex) = Regex::anchored(&pattern) {
            regex.expand(&Template::new(&text), &text);
        }
        let template = Template::new(&text).expand(&[], |_| None);
        prop_assert!(template.len() <= text.len());
    }
}
