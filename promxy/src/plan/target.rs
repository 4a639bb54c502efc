//! A request's text as one target gets it.

use promql::parser::{
    AggregateOp, Expr, Grouping, Matcher, Node, NodeId, NodeKind, ParserOptions, parse,
    parse_selector,
};

use crate::labels::{
    Labels, METRIC_NAME, added,
    filter::LabelFilter,
    inject,
    metric_relabel::{self, MetricRule},
};

/// What stands between a query and a target.
#[derive(Clone, Copy, Debug)]
pub struct TargetRules<'a> {
    /// The labels that the target's series get, in place of their own.
    pub added: &'a Labels,
    /// What is made of its series' labels then.
    pub metrics_relabel: &'a [MetricRule],
    /// Matchers that every selector gets.
    pub injected: &'a [Matcher],
    /// What the target has at all.
    pub filter: Option<&'a LabelFilter>,
}

impl TargetRules<'_> {
    /// Whether labels are all that the target's series get, so that only queries of these change.
    fn only_add(&self) -> bool {
        self.metrics_relabel.is_empty() && self.injected.is_empty() && self.filter.is_none()
    }

    /// Whether a query is asked of the target as it is.
    pub fn leave(&self, expr: &Expr) -> bool {
        let is_added = |name: &str| self.added.get(name).is_some();
        let stays = |(_, node): (NodeId, &Node)| match &node.kind {
            NodeKind::Vector(selector) => {
                let mut names = selector.matchers.iter().map(|matcher| &matcher.name);
                !selector.matchers.is_empty() && names.all(|name| !is_added(&name.to_str_lossy()))
            }
            // An empty list is left out.
            NodeKind::Aggregate(aggregate) => match &aggregate.grouping {
                Some(Grouping::Only(labels)) => !labels.is_empty(),
                _ => true,
            },
            _ => true,
        };
        self.only_add() && (self.added.is_empty() || expr.nodes().all(stays))
    }

    /// Rewrites the matchers of one selector; `None` if no series of the target can match.
    pub fn selector(&self, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
        if self.filter.is_some_and(|filter| !filter.passes(matchers)) {
            return None;
        }
        let rewritten = self.list(matchers)?;
        if rewritten.is_empty() {
            return added::strip_selector(&Labels::default(), &rewritten);
        }
        Some(rewritten)
    }

    /// As [`TargetRules::selector`], for lists of names and values: those are not filtered, and no matcher may be left.
    pub fn list(&self, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
        let rewritten = metric_relabel::backward(self.metrics_relabel, matchers)?;
        let mut rewritten = added::strip(self.added, &rewritten)?;
        inject::inject(self.injected, &mut rewritten);
        Some(rewritten)
    }
}

/// Rewrites the text of a query for a target; `None` if the target has nothing to say to it.
///
/// A text that does not parse is the target's to refuse.
pub fn for_target(text: &str, rules: TargetRules<'_>) -> Option<String> {
    if rules.only_add() && rules.added.is_empty() {
        return Some(text.to_owned());
    }
    let Ok(expr) = parse(text, &ParserOptions::v3_5().with_all_features()) else {
        return Some(text.to_owned());
    };
    expr_for_target(&expr, rules)
}

/// As [`for_target`], for a query that was read before.
pub fn expr_for_target(expr: &Expr, rules: TargetRules<'_>) -> Option<String> {
    if rules.only_add() && rules.added.is_empty() {
        return Some(expr.to_string());
    }
    let mut expr = expr.clone();
    let ids: Vec<NodeId> = expr.nodes().map(|(id, _)| id).collect();
    for id in ids {
        rewrite(&mut expr, id, rules)?;
    }
    let text = expr.to_string();
    Some(merge_first(&expr, &text, rules.metrics_relabel).unwrap_or(text))
}

/// Has series that will be equal once labels are dropped count as one in a sum or count (D23); `None` if there are none.
fn merge_first(expr: &Expr, text: &str, rules: &[MetricRule]) -> Option<String> {
    let lost = metric_relabel::lost(rules);
    let NodeKind::Aggregate(aggregate) = &expr.root().kind else {
        return None;
    };
    let counts = matches!(
        aggregate.op,
        AggregateOp::Sum | AggregateOp::Count | AggregateOp::CountValues
    );
    let names = aggregate
        .grouping
        .as_ref()
        .map_or(&[][..], Grouping::labels);
    // `without` drops the metric name, too.
    if !counts || lost.is_empty() || names.iter().any(|name| name == METRIC_NAME) {
        return None;
    }
    let inner = expr.display(aggregate.expr).to_string();
    let outer = text.strip_suffix(')')?.strip_suffix(&inner)?;
    let lost: Vec<String> = lost.into_iter().map(label_name).collect();
    Some(format!(
        "{outer}max without ({}) ({inner}))",
        lost.join(", ")
    ))
}

/// Writes a label's name so that older servers understand it if they can.
fn label_name(name: &str) -> String {
    let is_plain = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_plain {
        name.to_owned()
    } else {
        promql::format::quote(name.as_bytes())
    }
}

fn rewrite(expr: &mut Expr, id: NodeId, rules: TargetRules<'_>) -> Option<()> {
    match &mut expr[id].kind {
        NodeKind::Vector(selector) => {
            selector.matchers = rules.selector(&selector.matchers)?;
            let name = &selector.name;
            let says_name =
                |matcher: &Matcher| matcher.name == "__name__" && matcher.value == name.as_str();
            if !name.is_empty() && !selector.matchers.iter().any(says_name) {
                selector.name.clear();
            }
        }
        NodeKind::Aggregate(aggregate) => {
            let names = |names: &[String], is_by| {
                metric_relabel::names_backward(rules.metrics_relabel, names, is_by)
            };
            match &mut aggregate.grouping {
                Some(Grouping::Only(labels)) => {
                    let rewritten = names(labels, true);
                    aggregate.grouping =
                        (!rewritten.is_empty()).then_some(Grouping::Only(rewritten));
                }
                Some(Grouping::AllBut(labels)) => *labels = names(labels, false),
                None => {}
            }
        }
        _ => {}
    }
    Some(())
}

/// Rewrites a selector between braces for a target; `None` if the target has nothing to say to it.
pub fn raw_for_target(selector: &str, rules: TargetRules<'_>) -> Option<String> {
    let Ok(matchers) = parse_selector(selector, &ParserOptions::v3_5()) else {
        return Some(selector.to_owned());
    };
    let texts: Vec<String> = rules
        .selector(&matchers)?
        .iter()
        .map(ToString::to_string)
        .collect();
    Some(format!("{{{}}}", texts.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left as it is, is what rewriting would have made of it.
    #[test]
    fn a_query_that_no_rule_is_about_stays_as_it_is() {
        let added = [("az", "a")].into_iter().collect();
        let rules = |added| TargetRules {
            added,
            metrics_relabel: &[],
            injected: &[],
            filter: None,
        };
        let none = Labels::empty();
        for (text, leaves) in [
            ("up", true),
            ("sum by (az) (rate(up{job=\"node\"}[5m])) / 2", true),
            ("up + up{az=\"a\"}", false),
            ("{az=\"a\"}", false),
            ("sum by () (up)", false),
            ("sum(up)", true),
            ("1 + time()", true),
        ] {
            let expr = parse(text, &ParserOptions::v3_5()).unwrap();
            assert_eq!(rules(&added).leave(&expr), leaves, "{text}");
            if leaves {
                let rewritten = expr_for_target(&expr, rules(&added));
                assert_eq!(rewritten, Some(expr.to_string()), "{text}");
            }
            assert!(rules(&none).leave(&expr), "{text}");
        }
    }
}
