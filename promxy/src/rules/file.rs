//! A file of rules: Prometheus' form, in which every key has to be known.

use std::{collections::HashSet, fmt, fs, io, path::Path};

use promql::{
    SignedDuration,
    parser::{ParserOptions, parse},
};

use super::template;
use crate::{
    config::{
        word,
        yaml::{self, Node, Value},
    },
    labels::METRIC_NAME,
};

const GROUPS: &str = "rulefmt.RuleGroups";
const GROUP: &str = "rulefmt.RuleGroup";
const RULE: &str = "rulefmt.Rule";

/// A rule that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It raises alerts.
    Alerting,
    /// It writes series. The rule as YAML.
    Recording(String),
}

/// Reads and checks a file. The errors are the original's, each with the file in front.
pub(super) fn read(path: &Path) -> Result<Vec<Rule>, Vec<String>> {
    let place = path.display();
    let text = fs::read_to_string(path).map_err(|reason| {
        let reason = match reason.kind() {
            io::ErrorKind::PermissionDenied => format!("open {place}: permission denied"),
            io::ErrorKind::IsADirectory => format!("read {place}: is a directory"),
            _ => format!("open {place}: {reason}"),
        };
        vec![format!("{place}: {reason}")]
    })?;
    check(&text).map_err(|reasons| {
        let reasons = reasons.into_iter();
        reasons.map(|reason| format!("{place}: {reason}")).collect()
    })
}

/// Checks the text of a file.
fn check(text: &str) -> Result<Vec<Rule>, Vec<String>> {
    let node = yaml::read(text).map_err(|reason| vec![reason])?;
    let mut reader = Reader::default();
    let groups = reader.groups(&node).map_err(|reason| vec![reason])?;
    if !reader.wrong.is_empty() {
        let lines = reader.wrong.join("\n  ");
        return Err(vec![format!("yaml: unmarshal errors:\n  {lines}")]);
    }
    let mut wrong = Vec::new();
    let mut names = HashSet::new();
    let mut rules = Vec::new();
    for group in &groups {
        let name = &group.name.text;
        // The original has lost the places of groups.
        if name.is_empty() {
            wrong.push("0:0: Groupname must not be empty".to_owned());
        }
        if !names.insert(name) {
            wrong.push(format!(
                "0:0: groupname: \"{name}\" is repeated in the same file"
            ));
        }
        let labels = group.labels.iter().map(|(label, _)| label);
        let bad = labels.filter(|label| !is_label_name(label));
        wrong.extend(bad.map(|label| format!("invalid label name: {label}")));
        for (number, rule) in group.rules.iter().enumerate() {
            let found = rule.wrong();
            let number = number + 1;
            let quoted = |text: &str| promql::format::quote(text.as_bytes());
            let (group, rule_name) = (quoted(name), quoted(rule.name()));
            let named = format!("group {group}, rule {number}, {rule_name}");
            wrong.extend(found.into_iter().map(|wrong| match wrong {
                Wrong::At(places, reason) => format!("{places}: {named}: {reason}"),
                Wrong::Somewhere(reason) => format!("{named}: {reason}"),
            }));
            rules.push(rule.kind());
        }
    }
    if wrong.is_empty() {
        Ok(rules)
    } else {
        Err(wrong)
    }
}

/// A group as it is written.
struct RawGroup {
    name: Word,
    labels: Vec<(String, String)>,
    rules: Vec<RawRule>,
}

/// A rule as it is written.
#[derive(Default)]
struct RawRule {
    record: Word,
    alert: Word,
    expr: Word,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    has_for: bool,
    keeps_firing: bool,
}

/// A word and where it stands; 0:0 if it is not there.
#[derive(Default)]
struct Word {
    text: String,
    line: usize,
    column: usize,
}

impl fmt::Display for Word {
    /// Writes where it stands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

enum Wrong {
    At(String, String),
    Somewhere(String),
}

impl RawRule {
    fn name(&self) -> &str {
        if self.alert.text.is_empty() {
            &self.record.text
        } else {
            &self.alert.text
        }
    }

    fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let (record, alert) = (&self.record, &self.alert);
        let which = match (record.text.is_empty(), alert.text.is_empty()) {
            (false, false) => Some("only one of 'record' and 'alert' must be set"),
            (true, true) => Some("one of 'record' or 'alert' must be set"),
            _ => None,
        };
        wrong
            .extend(which.map(|reason| Wrong::At(format!("{record}: {alert}"), reason.to_owned())));
        let expr = &self.expr;
        if expr.text.is_empty() {
            let reason = "field 'expr' must be set in rule".to_owned();
            wrong.push(Wrong::At(expr.to_string(), reason));
        } else if let Err(error) = parse(&expr.text, &ParserOptions::v3_5()) {
            let reason = format!("could not parse expression: {error}");
            wrong.push(Wrong::At(expr.to_string(), reason));
        }
        if !record.text.is_empty() {
            let reasons = self.wrong_of_recording().into_iter();
            wrong.extend(reasons.map(|reason| Wrong::At(record.to_string(), reason)));
        }
        let labels = self.labels.iter().filter(|(name, _)| !is_label_name(name));
        wrong.extend(
            labels.map(|(name, _)| Wrong::Somewhere(format!("invalid label name: {name}"))),
        );
        let annotations = self.annotations.iter().filter(|(name, _)| name.is_empty());
        wrong.extend(
            annotations
                .map(|(name, _)| Wrong::Somewhere(format!("invalid annotation name: {name}"))),
        );
        if !alert.text.is_empty() {
            wrong.extend(self.wrong_templates().into_iter().map(Wrong::Somewhere));
        }
        wrong
    }

    fn wrong_of_recording(&self) -> Vec<String> {
        let name = &self.record.text;
        let mut wrong = Vec::new();
        let alone = [
            (!self.annotations.is_empty(), "annotations"),
            (self.has_for, "for"),
            (self.keeps_firing, "keep_firing_for"),
        ];
        for (_, field) in alone.iter().filter(|(is_there, _)| *is_there) {
            wrong.push(format!("invalid field '{field}' in recording rule"));
        }
        if name.contains(['{', '}']) {
            wrong.push(format!(
                "braces present in the recording rule name; should it be in expr?: {name}"
            ));
        }
        wrong
    }

    fn wrong_templates(&self) -> Vec<String> {
        let name = format!("__alert_{}", self.alert.text);
        let labels = self.labels.iter().map(|entry| ("label", entry));
        let annotations = self.annotations.iter().map(|entry| ("annotation", entry));
        let wrong = labels.chain(annotations).filter_map(|(what, (key, text))| {
            let wrong = template::check(text).err()?;
            Some(format!("{what} {key:?}: template: {name}:{wrong}"))
        });
        wrong.collect()
    }

    fn kind(&self) -> Rule {
        if self.record.text.is_empty() {
            return Rule::Alerting;
        }
        let expr = &self.expr.text;
        let expr = parse(expr, &ParserOptions::v3_5()).map_or(expr.clone(), |e| e.to_string());
        let mut text = format!(
            "record: {}\nexpr: {}\n",
            word(&self.record.text),
            word(&expr)
        );
        if !self.labels.is_empty() {
            text.push_str("labels:\n");
            for (name, value) in &self.labels {
                let entry = ["    ", &word(name), ": ", &word(value), "\n"];
                text.extend(entry);
            }
        }
        Rule::Recording(text)
    }
}

/// Any text is a label's name, but not none and not the metric's.
fn is_label_name(name: &str) -> bool {
    !name.is_empty() && name != METRIC_NAME
}

/// Reads nodes, and gathers what has a wrong type or is not known.
#[derive(Default)]
struct Reader {
    wrong: Vec<String>,
}

impl Reader {
    fn groups(&mut self, node: &Node) -> Result<Vec<RawGroup>, String> {
        let mut groups = Vec::new();
        for (_, groups_node) in self.fields(node, GROUPS, &["groups"]) {
            for node in self.items(groups_node, "[]rulefmt.RuleGroup") {
                groups.push(self.group(node)?);
            }
        }
        Ok(groups)
    }

    fn group(&mut self, node: &Node) -> Result<RawGroup, String> {
        let (mut name, mut labels, mut rules) = (Word::default(), Vec::new(), Vec::new());
        let keys = [
            "name",
            "interval",
            "query_offset",
            "limit",
            "rules",
            "labels",
        ];
        for (key, node) in self.fields(node, GROUP, &keys) {
            match key {
                "name" => name = self.word(node),
                "labels" => labels = self.words(node),
                "rules" => {
                    for node in self.items(node, "[]rulefmt.Rule") {
                        rules.push(self.rule(node)?);
                    }
                }
                "limit" => self.number(node),
                _ => {
                    self.duration(node)?;
                }
            }
        }
        Ok(RawGroup {
            name,
            labels,
            rules,
        })
    }

    fn rule(&mut self, node: &Node) -> Result<RawRule, String> {
        let mut rule = RawRule::default();
        let keys = [
            "record",
            "alert",
            "expr",
            "for",
            "keep_firing_for",
            "labels",
            "annotations",
        ];
        for (key, node) in self.fields(node, RULE, &keys) {
            match key {
                "record" => rule.record = self.word(node),
                "alert" => rule.alert = self.word(node),
                "expr" => rule.expr = self.word(node),
                "for" => rule.has_for = self.duration(node)?,
                "keep_firing_for" => rule.keeps_firing = self.duration(node)?,
                "labels" => rule.labels = self.words(node),
                _ => rule.annotations = self.words(node),
            }
        }
        Ok(rule)
    }

    /// Returns the entries of a map whose keys are known.
    fn fields<'n>(
        &mut self,
        node: &'n Node,
        go_type: &str,
        known: &[&str],
    ) -> Vec<(&'n str, &'n Node)> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, go_type);
            return Vec::new();
        };
        let mut fields: Vec<(&str, &Node)> = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let line = node.line;
            if let Some((_, first)) = fields.iter().find(|(other, _)| other == key) {
                let first = first.line;
                self.wrong.push(format!(
                    "line {line}: mapping key {key:?} already defined at line {first}"
                ));
            } else if known.contains(&key.as_str()) {
                fields.push((key, node));
            } else {
                self.wrong.push(format!(
                    "line {line}: field {key} not found in type {go_type}"
                ));
            }
        }
        fields
    }

    fn items<'n>(&mut self, node: &'n Node, go_type: &str) -> &'n [Node] {
        if let Value::List(items) = &node.value {
            return items;
        }
        self.wrong_type(node, go_type);
        &[]
    }

    fn word(&mut self, node: &Node) -> Word {
        match &node.value {
            Value::Scalar(_) if node.is_null() => Word::default(),
            Value::Scalar(scalar) => Word {
                text: scalar.text.clone(),
                line: node.line,
                column: node.column,
            },
            _ => {
                self.wrong_type(node, "string");
                Word::default()
            }
        }
    }

    /// Returns a map of words, sorted.
    fn words(&mut self, node: &Node) -> Vec<(String, String)> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, "map[string]string");
            return Vec::new();
        };
        let words = entries.iter();
        let mut words: Vec<_> = words
            .map(|(key, node)| (key.clone(), self.word(node).text))
            .collect();
        words.sort();
        words
    }

    fn number(&mut self, node: &Node) {
        let is_number = match &node.value {
            Value::Scalar(scalar) => matches!(scalar.meaning(), yaml::Meaning::Int(_)),
            _ => false,
        };
        if !is_number {
            self.wrong_type(node, "int");
        }
    }

    /// Whether a duration is more than nothing. A text that is none ends reading.
    fn duration(&mut self, node: &Node) -> Result<bool, String> {
        let text = self.word(node).text;
        if text.is_empty() {
            return Ok(false);
        }
        let duration = text.parse::<SignedDuration>();
        let duration = duration.map_err(|error| error.to_string())?;
        Ok(duration != SignedDuration::ZERO)
    }

    fn wrong_type(&mut self, node: &Node, go_type: &str) {
        if !node.is_null() {
            let (line, found) = (node.line, node.found());
            self.wrong.push(format!(
                "line {line}: cannot unmarshal {found} into {go_type}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_make_sense_are_told_apart() {
        let text = "groups:\n- name: a\n  interval: 1m\n  limit: 3\n  rules:\n  - {alert: X, expr: up == 0, for: 5m, labels: {s: '{{ $value }}'}}\n  - {record: z, expr: '1', labels: {b: c}}\n";
        let yaml = "record: z\nexpr: \"1\"\nlabels:\n    b: c\n".to_owned();
        assert_eq!(
            check(text).unwrap(),
            [Rule::Alerting, Rule::Recording(yaml)]
        );
        assert_eq!(check("").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let f = |rule: &str, expected: &[&str]| {
            let text = format!("groups: [{{name: a, rules: [{{{rule}}}]}}]");
            assert_eq!(check(&text).unwrap_err(), expected);
        };
        f(
            r#"alert: X, expr: "sum(""#,
            &[
                r#"1:45: group "a", rule 1, "X": could not parse expression: 1:5: parse error: unclosed left parenthesis"#,
            ],
        );
        f(
            "expr: '1'",
            &[r#"0:0: 0:0: group "a", rule 1, "": one of 'record' or 'alert' must be set"#],
        );
        f(
            "record: r, alert: b, expr: '1'",
            &[
                r#"1:37: 1:47: group "a", rule 1, "b": only one of 'record' and 'alert' must be set"#,
            ],
        );
        f(
            "record: 'r{}', for: 1m",
            &[
                r#"0:0: group "a", rule 1, "r{}": field 'expr' must be set in rule"#,
                r#"1:37: group "a", rule 1, "r{}": invalid field 'for' in recording rule"#,
                r#"1:37: group "a", rule 1, "r{}": braces present in the recording rule name; should it be in expr?: r{}"#,
            ],
        );
        f(
            "alert: X, expr: '1', labels: {__name__: b}",
            &[r#"group "a", rule 1, "X": invalid label name: __name__"#],
        );
        f(
            "alert: X, expr: '1', for: 1x",
            &[r#"unknown unit "x" in duration "1x""#],
        );
    }

    #[test]
    fn unknown_keys_and_wrong_types_come_together() {
        let text = "groups:\n- name: a\n  rules: x\n  foo: 1\n  limit: many\n";
        let expected = "yaml: unmarshal errors:\n  line 4: field foo not found in type rulefmt.RuleGroup\n  line 3: cannot unmarshal !!str `x` into []rulefmt.Rule\n  line 5: cannot unmarshal !!str `many` into int";
        assert_eq!(check(text).unwrap_err(), [expected]);
    }
}
