//! Rules that change the labels of answers and can be undone in requests (`metrics_relabel_configs`).
//!
//! Forward, rules run in order over every series, as Prometheus' relabelling would. Backward, in reverse order, they turn what a
//! query says of the changed labels into what the server behind has: matchers, names in `by` and `without`, names whose values
//! are asked for. Backward a rule that renames is exact. One that changes letter case is exact for `=` and `!=`; a regular
//! expression becomes one that ignores case, which is what the original does.

use promql::parser::{MatchOp, Matcher};

use super::{LabelsBuilder, condition::Condition};

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricRule {
    source: String,
    change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// The target becomes what the source is.
    Copy(String),
    Lowercase(String),
    Uppercase(String),
    Drop,
}

/// What is behind a label of the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The server's label; `None` if the label is dropped and thus always empty.
    pub label: Option<String>,
    changes: Vec<Case>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
}

impl MetricRule {
    /// Makes a rule of an action's name and its labels. The error is the original's.
    pub fn new(action: &str, source: &str, target: &str) -> Result<Self, String> {
        if !matches!(action, "replace" | "lowercase" | "uppercase" | "labeldrop") {
            return Err(format!("action {action} not supported"));
        }
        let requires =
            |labels| format!("relabel configuration for {action} action requires {labels}");
        if action == "labeldrop" {
            return match (source, target) {
                ("", _) => Err(requires("SourceLabel")),
                (_, "") => Ok(Self {
                    source: source.to_owned(),
                    change: Change::Drop,
                }),
                _ => Err("'TargetLabel' can not be set for labeldrop action".to_owned()),
            };
        }
        if source.is_empty() || target.is_empty() {
            return Err(requires("SourceLabel and TargetLabel"));
        }
        let (source, target) = (source.to_owned(), target.to_owned());
        let change = match action {
            "lowercase" => Change::Lowercase(target),
            "uppercase" => Change::Uppercase(target),
            _ => Change::Copy(target),
        };
        Ok(Self { source, change })
    }

    /// Returns the label that the rule sets, if it sets one.
    fn target(&self) -> Option<&str> {
        match &self.change {
            Change::Copy(target) | Change::Lowercase(target) | Change::Uppercase(target) => {
                Some(target)
            }
            Change::Drop => None,
        }
    }

    fn case(&self) -> Option<Case> {
        match self.change {
            Change::Lowercase(_) => Some(Case::Lower),
            Change::Uppercase(_) => Some(Case::Upper),
            Change::Copy(_) | Change::Drop => None,
        }
    }
}

impl Case {
    fn of(self, text: &str) -> String {
        match self {
            Self::Lower => text.to_lowercase(),
            Self::Upper => text.to_uppercase(),
        }
    }
}

impl Origin {
    /// Returns what a value of the server's label becomes.
    pub fn value(&self, value: &str) -> String {
        self.changes
            .iter()
            .fold(value.to_owned(), |value, case| case.of(&value))
    }
}

/// Changes the labels of a series.
pub fn forward(rules: &[MetricRule], labels: &mut LabelsBuilder) {
    for rule in rules {
        let value = match (&rule.change, rule.case()) {
            (Change::Drop, _) => {
                labels.set(&rule.source, "");
                continue;
            }
            (_, Some(case)) => case.of(labels.get(&rule.source)),
            (_, None) => labels.get(&rule.source).to_owned(),
        };
        if let Some(target) = rule.target() {
            labels.set(target, value);
        }
    }
}

/// Changes a list of label names as [`forward`] changes the names of a series that has them all. The result is sorted.
pub fn forward_names(rules: &[MetricRule], names: &[String]) -> Vec<String> {
    let mut labels = LabelsBuilder::default();
    for name in names {
        labels.set(name, "x");
    }
    forward(rules, &mut labels);
    labels.iter().map(|(name, _)| name.to_owned()).collect()
}

/// Turns matchers on the labels of answers into matchers on those of the server; `None` if no series can match.
pub fn backward(rules: &[MetricRule], matchers: &[Matcher]) -> Option<Vec<Matcher>> {
    let mut rewritten = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        match matcher_backward(rules, matcher) {
            Rewritten::Matcher(matcher) => rewritten.push(matcher),
            Rewritten::Always => {}
            Rewritten::Never => return None,
        }
    }
    Some(rewritten)
}

enum Rewritten {
    Matcher(Matcher),
    /// Every series satisfies it.
    Always,
    /// No series does.
    Never,
}

fn matcher_backward(rules: &[MetricRule], matcher: &Matcher) -> Rewritten {
    let mut matcher = matcher.clone();
    for rule in rules.iter().rev() {
        if rule.change == Change::Drop && matcher.name == rule.source.as_str() {
            let accepts_nothing = Condition::new(&matcher).is_ok_and(|matcher| matcher.accepts(""));
            return if accepts_nothing {
                Rewritten::Always
            } else {
                Rewritten::Never
            };
        }
        if rule.target().is_none_or(|target| matcher.name != *target) {
            continue;
        }
        matcher.name = rule.source.as_str().into();
        let Some(case) = rule.case() else { continue };
        let value = matcher.value.to_str_lossy().into_owned();
        if value.is_empty() {
            continue;
        }
        match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => {
                let is_equal = matcher.op == MatchOp::Equal;
                if case.of(&value) != value {
                    // The label never has this value.
                    return if is_equal {
                        Rewritten::Never
                    } else {
                        Rewritten::Always
                    };
                }
                matcher.op = if is_equal {
                    MatchOp::Regex
                } else {
                    MatchOp::NotRegex
                };
                matcher.value = format!("(?i){}", escape(&value)).as_str().into();
            }
            MatchOp::Regex | MatchOp::NotRegex => {
                matcher.value = format!("(?i){value}").as_str().into();
            }
        }
    }
    Rewritten::Matcher(matcher)
}

/// Turns the names of a grouping (`by`, `without`) into the server's. What comes back tells apart at least what the names do; what
/// it tells apart beyond that has to be put together here.
///
/// Names that are dropped mean nothing in `by`. `without` may name a server's label only if none of the labels that it becomes
/// counts in the answer, and has to name those that become nothing, or the server would tell apart what the answer does not.
pub fn names_backward(rules: &[MetricRule], names: &[String], is_by: bool) -> Vec<String> {
    let behind = names.iter().filter_map(|name| origin(rules, name).label);
    let mut rewritten: Vec<String> = if is_by {
        behind.collect()
    } else {
        let is_left_out = |label: &String| {
            let made = made_of(rules, label);
            made.iter().all(|made| names.contains(made))
        };
        let lost = lost(rules).into_iter().map(str::to_owned);
        behind.filter(is_left_out).chain(lost).collect()
    };
    let mut known = Vec::with_capacity(rewritten.len());
    rewritten.retain(|name| {
        let is_new = !known.contains(name);
        known.push(name.clone());
        is_new
    });
    rewritten
}

/// Lists the labels of answers that a server's label becomes, itself among them if it stays.
fn made_of(rules: &[MetricRule], label: &str) -> Vec<String> {
    let targets = rules.iter().filter_map(MetricRule::target);
    let made = targets
        .chain([label])
        .filter(|name| origin(rules, name).label.as_deref() == Some(label));
    made.map(str::to_owned).collect()
}

/// Whether rules look at a label or change it.
pub fn concerns(rules: &[MetricRule], label: &str) -> bool {
    rules
        .iter()
        .any(|rule| rule.source == label || rule.target() == Some(label))
}

/// Finds what is behind a label of the answers.
pub fn origin(rules: &[MetricRule], name: &str) -> Origin {
    let mut label = name.to_owned();
    let mut changes = Vec::new();
    for rule in rules.iter().rev() {
        if rule.change == Change::Drop && rule.source == label {
            return Origin {
                label: None,
                changes: Vec::new(),
            };
        }
        if rule.target() == Some(label.as_str()) {
            label.clone_from(&rule.source);
            changes.extend(rule.case());
        }
    }
    changes.reverse();
    Origin {
        label: Some(label),
        changes,
    }
}

/// Lists the labels whose values are lost: dropped, and copied to no label that stays.
pub fn lost(rules: &[MetricRule]) -> Vec<&str> {
    let dropped = rules.iter().filter(|rule| rule.change == Change::Drop);
    let dropped = dropped.map(|rule| rule.source.as_str());
    dropped
        .filter(|label| made_of(rules, label).is_empty())
        .collect()
}

/// Escapes what has a meaning in a pattern.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use promql::parser::{ParserOptions, parse_selector};

    use super::*;

    /// The rules of the recorded scenario `metrics-relabel`.
    fn rules() -> Vec<MetricRule> {
        [
            ("replace", "job", "scrape_job"),
            ("labeldrop", "job", ""),
            ("uppercase", "room", "room"),
            ("uppercase", "instance", "INST"),
        ]
        .map(|(action, source, target)| MetricRule::new(action, source, target).unwrap())
        .to_vec()
    }

    #[test]
    fn answers_are_changed_in_order() {
        let labels = [("job", "api"), ("instance", "i0"), ("room", "attic")]
            .into_iter()
            .collect();
        let mut labels = LabelsBuilder::new(&labels);
        forward(&rules(), &mut labels);
        let expected = r#"{INST="I0", instance="i0", room="ATTIC", scrape_job="api"}"#;
        assert_eq!(labels.build().to_string(), expected);
        let names = ["job", "instance"].map(str::to_owned);
        assert_eq!(
            forward_names(&rules(), &names),
            ["INST", "instance", "scrape_job"]
        );
    }

    #[test]
    fn matchers_are_changed_back() {
        let f = |selector: &str, expected: Option<&str>| {
            let matchers = parse_selector(selector, &ParserOptions::v3_5()).unwrap();
            let rewritten = backward(&rules(), &matchers).map(|matchers| {
                let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
                texts.join(",")
            });
            assert_eq!(rewritten.as_deref(), expected, "{selector}");
        };
        f(r#"{scrape_job="api"}"#, Some(r#"job="api""#));
        f(r#"{job="api"}"#, None);
        f(r#"{job!="api"}"#, Some(""));
        f(r#"{job="",x="y"}"#, Some(r#"x="y""#));
        f(r#"{job!~".+"}"#, Some(""));
        f(r#"{job!=""}"#, None);
        f(r#"{room="ATT.C"}"#, Some(r#"room=~"(?i)ATT\\.C""#));
        f(r#"{room="attic"}"#, None);
        f(r#"{room!="attic"}"#, Some(""));
        f(r#"{room!="ATTIC"}"#, Some(r#"room!~"(?i)ATTIC""#));
        f(r#"{room=""}"#, Some(r#"room="""#));
        f(r#"{INST=~"I.*"}"#, Some(r#"instance=~"(?i)I.*""#));
        f(r#"{instance="i0"}"#, Some(r#"instance="i0""#));
    }

    #[test]
    fn groupings_are_changed_back() {
        let f = |names: &[&str], is_by: bool, expected: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(names_backward(&rules(), &names, is_by), expected);
        };
        f(&["scrape_job"], true, &["job"]);
        f(&["job"], true, &[]);
        f(&["scrape_job"], false, &["job"]);
        f(&["INST", "instance"], true, &["instance"]);
        // What another label is made of counts as long as that one does.
        f(&["az"], false, &["az"]);
        f(&["job"], false, &[]);
        f(&["instance"], false, &[]);
        f(&["INST"], false, &[]);
        f(&["instance", "INST"], false, &["instance"]);
    }

    #[test]
    fn without_names_what_is_lost() {
        let f = |rules: &[(&str, &str, &str)], names: &[&str], expected: &[&str]| {
            let rule = |r: &(&str, &str, &str)| MetricRule::new(r.0, r.1, r.2).unwrap();
            let rules: Vec<MetricRule> = rules.iter().map(rule).collect();
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(names_backward(&rules, &names, false), expected, "{rules:?}");
        };
        let drop = ("labeldrop", "job", "");
        f(&[drop], &["az"], &["az", "job"]);
        f(&[("replace", "job", "j"), drop], &["az"], &["az"]);
        // Copied to a label that is copied over.
        let over = ("replace", "x", "j");
        f(
            &[("replace", "job", "j"), drop, over],
            &["az"],
            &["az", "job"],
        );
        // The answer's `job` is the server's `x`.
        f(&[drop, ("replace", "x", "job")], &["job"], &["job"]);
        f(
            &[drop, ("replace", "x", "job")],
            &["job", "x"],
            &["x", "job"],
        );
    }

    #[test]
    fn values_are_asked_of_the_label_behind() {
        let found = origin(&rules(), "INST");
        assert_eq!(
            (found.label.as_deref(), found.value("i0")),
            (Some("instance"), "I0".to_owned())
        );
        assert_eq!(origin(&rules(), "job").label, None);
        assert_eq!(origin(&rules(), "az").label.as_deref(), Some("az"));
    }

    #[test]
    fn lost_labels_are_those_that_no_other_label_has() {
        assert!(lost(&rules()).is_empty());
        let rule = MetricRule::new("labeldrop", "replica", "").unwrap();
        assert_eq!(lost(&[rule]), ["replica"]);
    }
}
