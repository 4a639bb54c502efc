//! Labels that a group adds to its series: what they do to requests and to answers.
//!
//! The server behind does not have them, so a matcher on one is answered here: either the added value satisfies it and it is
//! left out of the request, or nothing of this target can match and there is no request.

use promql::parser::{MatchOp, Matcher};

use super::{Labels, METRIC_NAME, condition::Condition};

/// Removes matchers on added labels; `None` if one of them rejects the added value.
pub fn strip(added: &Labels, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
    let mut left = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        let name = matcher.name.to_str_lossy();
        match added.get(&name) {
            None => left.push(matcher.clone()),
            Some(value) => {
                let accepts = Condition::new(matcher).is_ok_and(|matcher| matcher.accepts(value));
                if !accepts {
                    return None;
                }
            }
        }
    }
    Some(left)
}

/// As [`strip`], for selectors, which must not be empty: one that has lost all its matchers selects every series.
pub fn strip_selector(added: &Labels, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
    let mut left = strip(added, matchers)?;
    if left.is_empty() {
        left.push(Matcher {
            name: METRIC_NAME.into(),
            op: MatchOp::Regex,
            value: ".+".into(),
        });
    }
    Some(left)
}

/// Adds the names of added labels to names that a server has. The result is sorted.
pub fn names(added: &Labels, names: Vec<String>) -> Vec<String> {
    with_words(names, added.iter().map(|(name, _)| name))
}

/// Adds the value of an added label to values that a server has for it. The result is sorted.
pub fn values(added: &Labels, label: &str, values: Vec<String>) -> Vec<String> {
    with_words(values, added.get(label).into_iter())
}

fn with_words<'a>(mut words: Vec<String>, more: impl Iterator<Item = &'a str>) -> Vec<String> {
    words.extend(more.map(str::to_owned));
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use promql::parser::{ParserOptions, parse_selector};

    use super::*;

    #[test]
    fn matchers_on_added_labels_are_answered_here() {
        let added: Labels = [("az", "a"), ("env", "prod")].into_iter().collect();
        let f = |selector: &str, expected: Option<&str>| {
            let matchers = parse_selector(selector, &ParserOptions::v3_5()).unwrap();
            let left = strip_selector(&added, &matchers).map(|matchers| {
                let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
                texts.join(",")
            });
            assert_eq!(left.as_deref(), expected, "{selector}");
        };
        f(r#"up{az="a"}"#, Some(r#"__name__="up""#));
        f(r#"up{az="b"}"#, None);
        f(r#"up{az=~"a|b",env!="dev"}"#, Some(r#"__name__="up""#));
        f(r#"{az=~".+"}"#, Some(r#"__name__=~".+""#));
        f(r#"up{az=""}"#, None);
    }

    #[test]
    fn names_and_values_are_added_once() {
        let added: Labels = [("az", "a")].into_iter().collect();
        let words =
            |words: &[&str]| -> Vec<String> { words.iter().map(|w| (*w).to_owned()).collect() };
        assert_eq!(names(&added, words(&["job", "az"])), ["az", "job"]);
        assert_eq!(values(&added, "az", words(&["z"])), ["a", "z"]);
        assert_eq!(values(&added, "job", words(&["z"])), ["z"]);
    }
}
