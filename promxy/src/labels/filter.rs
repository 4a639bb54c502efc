//! Which selectors a target can answer at all (`label_filter`).
//!
//! A filter knows for some labels every value that a target has. A selector that accepts none of them is not worth a request.
//! Where a label may be absent, the empty value is one that the target has.

use std::collections::{BTreeMap, BTreeSet};

use promql::parser::Matcher;

use super::{METRIC_NAME, condition::Condition};

/// The values of some labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelFilter {
    values: BTreeMap<String, BTreeSet<String>>,
}

/// Lists of values by label.
pub type Values = Vec<(String, Vec<String>)>;

impl LabelFilter {
    /// Joins the values that a target said it has with those that were listed, and takes away those that were listed against.
    pub fn new(known: &Values, included: &Values, excluded: &Values) -> Self {
        let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (label, more) in known.iter().chain(included) {
            values
                .entry(label.clone())
                .or_default()
                .extend(more.iter().cloned());
        }
        for (label, less) in excluded {
            if let Some(values) = values.get_mut(label) {
                values.retain(|value| !less.contains(value));
            }
        }
        Self { values }
    }

    /// Whether a target with these values may have a series that satisfies all matchers.
    pub fn passes(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().all(|matcher| self.passes_one(matcher))
    }

    /// Whether the target may have metadata of a metric, or of any if none is named.
    pub fn passes_metric(&self, metric: &str) -> bool {
        metric.is_empty()
            || self
                .values
                .get(METRIC_NAME)
                .is_none_or(|names| names.contains(metric))
    }

    fn passes_one(&self, matcher: &Matcher) -> bool {
        let Some(values) = self.values.get(matcher.name.to_str_lossy().as_ref()) else {
            return true;
        };
        // What does not compile is for the server to refuse.
        let Ok(condition) = Condition::new(matcher) else {
            return true;
        };
        condition.accepts("") || values.iter().any(|value| condition.accepts(value))
    }
}

#[cfg(test)]
mod tests {
    use promql::parser::{ParserOptions, parse_selector};

    use super::*;

    #[test]
    fn selectors_without_a_chance_are_filtered() {
        let lists = |lists: &[(&str, &[&str])]| -> Values {
            let own = |(label, values): &(&str, &[&str])| {
                (
                    (*label).to_owned(),
                    values.iter().map(|v| (*v).to_owned()).collect(),
                )
            };
            lists.iter().map(own).collect()
        };
        // The recorded scenario `label-filter-static`.
        let included = lists(&[("__name__", &["up", "only_a"]), ("job", &["api"])]);
        let excluded = lists(&[("__name__", &["only_a"])]);
        let filter = LabelFilter::new(&lists(&[]), &included, &excluded);
        let f = |selector: &str, expected: bool| {
            let matchers = parse_selector(selector, &ParserOptions::v3_5()).unwrap();
            assert_eq!(filter.passes(&matchers), expected, "{selector}");
        };
        f("up", true);
        f("only_a", false);
        f(r#"up{job="api"}"#, true);
        f(r#"up{job="web"}"#, false);
        f(r#"up{job=~"a.*|web"}"#, true);
        f(r#"{instance="i0"}"#, true);
        // D24: series without the label satisfy these.
        f(r#"up{job=""}"#, true);
        f(r#"up{job!="api"}"#, true);
        f(r#"temperature{job=""}"#, false);
        assert!(filter.passes_metric("") && filter.passes_metric("up"));
        assert!(!filter.passes_metric("temperature"));
    }
}
