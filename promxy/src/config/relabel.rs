//! Prometheus' relabelling rules, which several sections have.

use crate::labels::relabel::{RawRule, Rule};

use super::schema::{Default, Field, Kind, Schema, Section, Shown};

/// A relabelling rule.
pub(super) static RELABEL: Schema = Schema {
    go_type: "relabel.plain",
    fields: &[&[
        Field::new("source_labels", Kind::FlowList(&Kind::Text)),
        Field::new("separator", Kind::Text).default(Default::Text(";")),
        Field::new("regex", Kind::Text)
            .default(Default::Text("(.*)"))
            .shown(Shown::Changed),
        Field::new("modulus", Kind::Int),
        Field::new("target_label", Kind::Text),
        Field::new("replacement", Kind::Text).default(Default::Text("$1")),
        Field::new("action", Kind::Text).default(Default::Text("replace")),
    ]],
    check: |rule| relabel_rule(rule).map(|_| ()),
    null: Some("empty or null relabeling rule"),
    is_open: false,
};

/// Compiles a relabelling rule.
pub(super) fn relabel_rule(rule: &Section) -> Result<Rule, String> {
    let raw = RawRule {
        source_labels: rule.words("source_labels").map(str::to_owned).collect(),
        separator: rule.text("separator"),
        regex: rule.text("regex"),
        modulus: u64::try_from(rule.int("modulus"))
            .map_err(|_| "modulus is negative".to_owned())?,
        target_label: rule.text("target_label"),
        replacement: rule.text("replacement"),
        action: rule.text("action"),
    };
    Rule::new(&raw)
}
