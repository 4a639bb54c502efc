//! A request's text as one target gets it.

use promql::parser::{
    Expr, Grouping, Matcher, NodeId, NodeKind, ParserOptions, parse, parse_selector,
};

use crate::labels::{
    Labels, added,
    filter::LabelFilter,
    inject,
    metric_relabel::{self, MetricRule},
};

/// What stands between a query and a target.
#[derive(Clone, Copy, Debug)]
pub struct TargetRules<'a> {
    /// The labels that the target's series get.
    pub added: &'a Labels,
    /// What is made of its series' labels before.
    pub metrics_relabel: &'a [MetricRule],
    /// Matchers that every selector gets.
    pub injected: &'a [Matcher],
    /// What the target has at all.
    pub filter: Option<&'a LabelFilter>,
}

impl TargetRules<'_> {
    /// Rewrites the matchers of one selector; `None` if no series of the target can match.
    fn selector(&self, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
        if self.filter.is_some_and(|filter| !filter.passes(matchers)) {
            return None;
        }
        let stripped = added::strip(self.added, matchers)?;
        let mut rewritten = metric_relabel::backward(self.metrics_relabel, &stripped)?;
        inject::inject(self.injected, &mut rewritten);
        if rewritten.is_empty() {
            return added::strip_selector(&Labels::default(), &rewritten);
        }
        Some(rewritten)
    }
}

/// Rewrites the text of a query for a target; `None` if the target has nothing to say to it.
///
/// A text that does not parse is the target's to refuse.
pub fn for_target(text: &str, rules: TargetRules<'_>) -> Option<String> {
    let Ok(mut expr) = parse(text, &ParserOptions::v3_5().with_all_features()) else {
        return Some(text.to_owned());
    };
    let ids: Vec<NodeId> = expr.nodes().map(|(id, _)| id).collect();
    for id in ids {
        rewrite(&mut expr, id, rules)?;
    }
    Some(expr.to_string())
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
