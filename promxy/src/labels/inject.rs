//! Matchers that every request to a group gets (`inject_matchers`).

use promql::parser::Matcher;

/// Appends matchers that a selector does not have yet.
pub fn inject(injected: &[Matcher], matchers: &mut Vec<Matcher>) {
    for matcher in injected {
        if !matchers.contains(matcher) {
            matchers.push(matcher.clone());
        }
    }
}

/// As [`inject`], for requests with any number of selectors: without one, the injected matchers are it.
pub fn inject_all(injected: &[Matcher], selectors: &mut Vec<Vec<Matcher>>) {
    if selectors.is_empty() && !injected.is_empty() {
        selectors.push(Vec::new());
    }
    for selector in selectors {
        inject(injected, selector);
    }
}
