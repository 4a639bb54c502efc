//! Prometheus' relabelling rules (`relabel_configs`), which turn what discovery knows of a target into its labels.
//!
//! Follows Prometheus 3.5 (`model/relabel`), with its texts for rules that make no sense.

use md5::{Digest, Md5};
use promql::format::quote;
use shared::regex::{Regex, Template};

use super::LabelsBuilder;

const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_REPLACEMENT: &str = "$1";

/// A rule as it is written.
#[derive(Clone, Debug)]
pub struct RawRule<'a> {
    /// The labels whose values are joined and matched.
    pub source_labels: Vec<String>,
    /// What stands between the values; `;` by default.
    pub separator: &'a str,
    /// What the joined values are matched with; `(.*)` by default.
    pub regex: &'a str,
    /// How many remainders `hashmod` has.
    pub modulus: u64,
    /// The label that is set or compared.
    pub target_label: &'a str,
    /// What it is set to; `$1` by default.
    pub replacement: &'a str,
    /// What is done, `replace` by default; in any letter case.
    pub action: &'a str,
}

/// A rule that makes sense, compiled.
#[derive(Clone, Debug)]
pub struct Rule {
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Replace {
        target: Template,
        value: Template,
        plain: Option<(String, String)>,
    },
    Keep,
    Drop,
    KeepEqual(String),
    DropEqual(String),
    HashMod {
        target: String,
        modulus: u64,
    },
    LabelMap(Template),
    LabelDrop,
    LabelKeep,
    Lowercase(String),
    Uppercase(String),
}

impl Rule {
    /// Checks and compiles a rule. The error is Prometheus'.
    pub fn new(raw: &RawRule<'_>) -> Result<Self, String> {
        let regex = Regex::anchored(raw.regex).map_err(|e| e.to_string())?;
        let name = raw.action.to_lowercase();
        if !ACTIONS.contains(&name.as_str()) {
            return Err(format!(
                "unknown relabel action {}",
                quote(raw.action.as_bytes())
            ));
        }
        check(raw, &name)?;
        let target = raw.target_label.to_owned();
        let action = match name.as_str() {
            "keep" => Action::Keep,
            "drop" => Action::Drop,
            "keepequal" => Action::KeepEqual(target),
            "dropequal" => Action::DropEqual(target),
            "hashmod" => Action::HashMod {
                target,
                modulus: raw.modulus,
            },
            "labelmap" => Action::LabelMap(Template::new(raw.replacement)),
            "labeldrop" => Action::LabelDrop,
            "labelkeep" => Action::LabelKeep,
            "lowercase" => Action::Lowercase(target),
            "uppercase" => Action::Uppercase(target),
            _ => {
                let is_plain = raw.regex == DEFAULT_REGEX
                    && !raw.target_label.contains('$')
                    && !raw.replacement.contains('$');
                Action::Replace {
                    target: Template::new(raw.target_label),
                    value: Template::new(raw.replacement),
                    plain: is_plain.then(|| (target, raw.replacement.to_owned())),
                }
            }
        };
        Ok(Self {
            source_labels: raw.source_labels.clone(),
            separator: raw.separator.to_owned(),
            regex,
            action,
        })
    }

    /// Applies the rule, and says whether the labelled thing is kept.
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let values: Vec<&str> = self
            .source_labels
            .iter()
            .map(|name| labels.get(name))
            .collect();
        let value = values.join(&self.separator);
        match &self.action {
            Action::Keep => return self.regex.is_match(&value),
            Action::Drop => return !self.regex.is_match(&value),
            Action::KeepEqual(target) => return labels.get(target) == value,
            Action::DropEqual(target) => return labels.get(target) != value,
            Action::Replace {
                plain: Some((target, text)),
                ..
            } if value.is_empty() => {
                labels.set(target, text.as_str());
            }
            Action::Replace {
                target,
                value: template,
                ..
            } => {
                if let Some(target) = self.regex.expand(target, &value)
                    && !target.is_empty()
                {
                    let text = self.regex.expand(template, &value).unwrap_or_default();
                    labels.set(&target, text);
                }
            }
            Action::HashMod { target, modulus } => {
                labels.set(target, (md5_tail(&value) % modulus).to_string());
            }
            Action::LabelMap(template) => {
                let mapped = |(name, value): (&str, &str)| {
                    let name = self.regex.expand(template, name)?;
                    Some((name, value.to_owned()))
                };
                let mapped: Vec<(String, String)> = labels.iter().filter_map(mapped).collect();
                for (name, value) in mapped {
                    labels.set(&name, value);
                }
            }
            Action::LabelDrop => labels.retain(|name| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name| self.regex.is_match(name)),
            Action::Lowercase(target) => labels.set(target, value.to_lowercase()),
            Action::Uppercase(target) => labels.set(target, value.to_uppercase()),
        }
        true
    }
}

/// Applies rules in turn, and says whether the labelled thing is kept.
///
/// ```
/// use promxy::labels::{LabelsBuilder, relabel::{RawRule, Rule, relabel}};
///
/// let rule = Rule::new(&RawRule {
///     source_labels: vec!["__address__".to_owned()],
///     separator: ";",
///     regex: "(.*):.*",
///     modulus: 0,
///     target_label: "host",
///     replacement: "$1",
///     action: "replace",
/// })?;
/// let mut labels = LabelsBuilder::default();
/// labels.set("__address__", "db1:9090");
/// assert!(relabel(&[rule], &mut labels));
/// assert_eq!(labels.get("host"), "db1");
/// # Ok::<(), String>(())
/// ```
pub fn relabel(rules: &[Rule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// The last eight bytes of a text's MD5, as a number.
fn md5_tail(text: &str) -> u64 {
    let digest = Md5::digest(text);
    digest
        .iter()
        .skip(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

const ACTIONS: [&str; 11] = [
    "replace",
    "keep",
    "drop",
    "keepequal",
    "dropequal",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
];

/// Says what is wrong with a rule whose action is known.
fn check(raw: &RawRule<'_>, action: &str) -> Result<(), String> {
    let target = quote(raw.target_label.as_bytes());
    let sets_target = matches!(
        action,
        "replace" | "hashmod" | "lowercase" | "uppercase" | "keepequal" | "dropequal"
    );
    let has_default_replacement = raw.replacement == DEFAULT_REPLACEMENT;
    let has_defaults =
        raw.modulus == 0 && raw.separator == DEFAULT_SEPARATOR && has_default_replacement;
    match action {
        "hashmod" if raw.modulus == 0 => {
            Err("relabel configuration for hashmod requires non-zero modulus".to_owned())
        }
        _ if sets_target && raw.target_label.is_empty() => Err(format!(
            "relabel configuration for {action} action requires 'target_label' value"
        )),
        "replace" if !is_name_template(raw.target_label) => Err(format!(
            "{target} is invalid 'target_label' for {action} action"
        )),
        "lowercase" | "uppercase" | "keepequal" | "dropequal" if !has_default_replacement => {
            Err(format!("'replacement' can not be set for {action} action"))
        }
        "labelmap" if raw.replacement.is_empty() || !is_name_template(raw.replacement) => {
            let replacement = quote(raw.replacement.as_bytes());
            Err(format!(
                "{replacement} is invalid 'replacement' for {action} action"
            ))
        }
        "keepequal" | "dropequal" if raw.regex != DEFAULT_REGEX || !has_defaults => Err(format!(
            "{action} action requires only 'source_labels' and `target_label`, and no other fields"
        )),
        "labeldrop" | "labelkeep"
            if !raw.source_labels.is_empty() || !raw.target_label.is_empty() || !has_defaults =>
        {
            Err(format!(
                "{action} action requires only 'regex', and no other fields"
            ))
        }
        _ => Ok(()),
    }
}

/// Whether a text can become a label name: every brace belongs to a reference such as `${1}`.
fn is_name_template(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, braces) = rest.split_at(at);
        let inside = braces.strip_prefix('{').filter(|_| before.ends_with('$'));
        let Some((name, after)) = inside.and_then(|inside| inside.split_once('}')) else {
            return false;
        };
        if name.is_empty() || name.contains(['$', '{']) {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: &str) -> RawRule<'_> {
        RawRule {
            source_labels: Vec::new(),
            separator: DEFAULT_SEPARATOR,
            regex: DEFAULT_REGEX,
            modulus: 0,
            target_label: "",
            replacement: DEFAULT_REPLACEMENT,
            action,
        }
    }

    fn run(raw: &RawRule<'_>, labels: &[(&str, &str)]) -> Option<String> {
        let labels = labels.iter().copied().collect();
        let mut builder = LabelsBuilder::new(&labels);
        let kept = relabel(&[Rule::new(raw).unwrap()], &mut builder);
        kept.then(|| builder.build().to_string())
    }

    fn sources(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_action_does_what_prometheus_does() {
        let labels = [("a", "foo"), ("b", "bar"), ("c", "baz")];
        let f = |raw: RawRule<'_>, expected: Option<&str>| {
            assert_eq!(run(&raw, &labels), expected.map(str::to_owned), "{raw:?}");
        };
        let replace = RawRule {
            source_labels: sources(&["a", "b"]),
            ..rule("replace")
        };
        let f_replace = |regex, target_label, replacement, expected| {
            let raw = RawRule {
                regex,
                target_label,
                replacement,
                ..replace.clone()
            };
            f(raw, Some(expected));
        };
        f_replace(
            "f(.*);(.*)r",
            "a",
            "b${1}${2}m",
            r#"{a="boobam", b="bar", c="baz"}"#,
        );
        f_replace(
            "f(.*);(.*)r",
            "$1",
            "x",
            r#"{a="foo", b="bar", c="baz", oo="x"}"#,
        );
        f_replace("nomatch", "d", "x", r#"{a="foo", b="bar", c="baz"}"#);
        f_replace("(.*)", "b", "", r#"{a="foo", c="baz"}"#);
        f(
            RawRule {
                target_label: "d",
                replacement: "x",
                ..rule("replace")
            },
            Some(r#"{a="foo", b="bar", c="baz", d="x"}"#),
        );
        f(
            RawRule {
                source_labels: sources(&["a"]),
                regex: ".*o.*",
                ..rule("drop")
            },
            None,
        );
        f(
            RawRule {
                source_labels: sources(&["a"]),
                regex: "o",
                ..rule("keep")
            },
            None,
        );
        f(
            RawRule {
                source_labels: sources(&["a"]),
                target_label: "b",
                ..rule("keepequal")
            },
            None,
        );
        f(
            RawRule {
                source_labels: sources(&["a"]),
                target_label: "a",
                ..rule("dropequal")
            },
            None,
        );
        f(
            RawRule {
                source_labels: sources(&["c"]),
                target_label: "d",
                modulus: 1000,
                ..rule("hashmod")
            },
            Some(r#"{a="foo", b="bar", c="baz", d="976"}"#),
        );
        f(
            RawRule {
                regex: "(a|b)",
                replacement: "new_$1",
                ..rule("labelmap")
            },
            Some(r#"{a="foo", b="bar", c="baz", new_a="foo", new_b="bar"}"#),
        );
        f(
            RawRule {
                regex: "a|c",
                ..rule("labeldrop")
            },
            Some(r#"{b="bar"}"#),
        );
        f(
            RawRule {
                regex: "a|c",
                ..rule("LabelKeep")
            },
            Some(r#"{a="foo", c="baz"}"#),
        );
        f(
            RawRule {
                source_labels: sources(&["a", "b"]),
                target_label: "u",
                ..rule("uppercase")
            },
            Some(r#"{a="foo", b="bar", c="baz", u="FOO;BAR"}"#),
        );
    }

    #[test]
    fn rules_that_make_no_sense_are_refused_in_prometheus_words() {
        let f =
            |raw: RawRule<'_>, expected: &str| assert_eq!(Rule::new(&raw).unwrap_err(), expected);
        f(rule("nope"), r#"unknown relabel action "nope""#);
        f(
            rule("hashmod"),
            "relabel configuration for hashmod requires non-zero modulus",
        );
        f(
            rule("lowercase"),
            "relabel configuration for lowercase action requires 'target_label' value",
        );
        f(
            RawRule {
                target_label: "${a",
                ..rule("replace")
            },
            r#""${a" is invalid 'target_label' for replace action"#,
        );
        f(
            RawRule {
                target_label: "a",
                replacement: "x",
                ..rule("uppercase")
            },
            "'replacement' can not be set for uppercase action",
        );
        f(
            RawRule {
                source_labels: sources(&["a"]),
                ..rule("labeldrop")
            },
            "labeldrop action requires only 'regex', and no other fields",
        );
        f(
            RawRule {
                regex: "(",
                ..rule("replace")
            },
            "error parsing regexp: missing closing ): `^(?s:()$`",
        );
    }
}
