//! Planning a query and fetching all that it needs.

use std::collections::HashMap;

use promql::{
    Query,
    parser::{AggregateOp, Expr, Matcher, Node, NodeId, NodeKind},
};
use tracing::debug;

use super::{
    QueryFailure, QueryFailureKind, Source,
    fetch::{self, Answers, Pushed},
    places::Places,
    selects::{Select, selects_beside},
};
use crate::{
    labels::METRIC_NAME,
    plan::{self, Fetch, Plan, plan_keeping},
    series::{Column, Native, Samples},
    servergroup::{decode::Annotations, time_range::Grid},
    upstream::{Asker, Part, Upstream},
};

/// A query with all that it needs.
pub(super) struct Gathered {
    pub(super) places: Places,
    /// What servers have evaluated, in the order of the plan.
    pub(super) fetches: Vec<Fetch>,
    /// Their answers.
    pub(super) columns: Vec<Vec<Part<Column<Native>>>>,
    pub(super) selects: Vec<Select>,
    /// Their samples.
    pub(super) samples: Vec<Vec<Part<Samples<Native>>>>,
    pub(super) annotations: Annotations,
}

/// What has been fetched.
#[derive(Default)]
struct Known {
    columns: HashMap<Fetch, Vec<Part<Column<Native>>>>,
    selects: Vec<Select>,
    samples: Vec<Vec<Part<Samples<Native>>>>,
    annotations: Annotations,
}

/// Plans a query and fetches everything. Of parts whose answers turn out to hold histograms, raw samples are fetched instead:
/// results of servers do not have all that queries look at.
pub(super) async fn gather(
    source: &Source,
    query: &Query,
    grid: Grid,
    asker: &Asker,
) -> Result<Gathered, QueryFailure> {
    let upstream = &*source.upstream;
    let mut kept = kept_for_labels(upstream, query.expr());
    let mut known = Known::default();
    loop {
        let plan = plan_of(source, query, grid, &kept);
        refuse_lossy(upstream, &plan)?;
        let places = Places::of(&plan);
        let selects = selects_beside(query, &places).await?;
        debug!(
            queries = plan.fetches.len(),
            selects = selects.len(),
            "query planned"
        );
        known.complete(upstream, asker, &plan, &selects).await?;
        let of_histograms = known.of_histograms(&plan);
        if of_histograms.is_empty() {
            return Ok(known.into_gathered(places, plan.fetches, selects));
        }
        kept.extend(of_histograms);
    }
}

/// Lists the nodes whose values have labels, or lack them, where groups change labels of that name: servers cannot evaluate them.
///
/// Most functions drop the name of the metric. Where it is a label's source, or a label its, that has to come after the change.
fn kept_for_labels(upstream: &dyn Upstream, expr: &Expr) -> Vec<NodeId> {
    if upstream.changes_label(METRIC_NAME) {
        return vec![expr.root_id()];
    }
    let names_changed = |(id, node): (NodeId, &Node)| {
        let NodeKind::Aggregate(aggregate) = &node.kind else {
            return None;
        };
        let is_counting = aggregate.op == AggregateOp::CountValues;
        let mut label = aggregate.param.filter(|_| is_counting)?;
        while let NodeKind::Paren(inner) = expr[label].kind {
            label = inner;
        }
        let NodeKind::String(label) = &expr[label].kind else {
            return None;
        };
        upstream.changes_label(&label.to_str_lossy()).then_some(id)
    };
    expr.nodes().filter_map(names_changed).collect()
}

fn plan_of(source: &Source, query: &Query, grid: Grid, kept: &[NodeId]) -> Plan {
    let settings = plan::Settings {
        default_step_ms: super::millis(source.default_step),
        groups: source.groups,
        loses_labels: source.upstream.loses_labels(),
        is_histogram: &|name| source.upstream.is_histogram(name),
    };
    plan_keeping(query.expr(), grid, settings, kept)
}

impl Known {
    /// Fetches what is not there yet.
    async fn complete(
        &mut self,
        upstream: &dyn Upstream,
        asker: &Asker,
        plan: &Plan,
        selects: &[Select],
    ) -> Result<(), QueryFailure> {
        let mut pushed = pushed(plan);
        pushed.retain(|query| !self.columns.contains_key(&query.fetch));
        let selects = selects
            .iter()
            .filter(|select| !self.selects.contains(select));
        let selects: Vec<Select> = selects.cloned().collect();
        let Answers {
            columns,
            samples,
            annotations,
        } = fetch::all(upstream, asker, &pushed, &selects).await?;
        let fetches = pushed.into_iter().map(|query| query.fetch);
        self.columns.extend(fetches.zip(columns));
        self.selects.extend(selects);
        self.samples.extend(samples);
        self.annotations.merge(annotations);
        Ok(())
    }

    /// Returns the replaced nodes whose answers hold histograms.
    fn of_histograms(&self, plan: &Plan) -> Vec<NodeId> {
        let holds = |fetch: plan::FetchId| {
            let parts = self.columns.get(&plan.fetches[fetch]);
            let mut series = parts.into_iter().flatten().flat_map(|part| &part.series);
            series.any(|series| !series.data.histograms().is_empty())
        };
        let replaced = plan.replacements.iter();
        replaced
            .filter(|(_, made)| made.fetches().any(holds))
            .map(|(id, _)| *id)
            .collect()
    }

    fn into_gathered(
        mut self,
        places: Places,
        fetches: Vec<Fetch>,
        selects: Vec<Select>,
    ) -> Gathered {
        let columns = fetches.iter().map(|fetch| self.columns.remove(fetch));
        let columns = columns.map(Option::unwrap_or_default).collect();
        let samples = selects.iter().map(|select| {
            let place = self.selects.iter().position(|known| known == select);
            place.map_or_else(Vec::new, |place| std::mem::take(&mut self.samples[place]))
        });
        let samples = samples.collect();
        Gathered {
            places,
            fetches,
            columns,
            selects,
            samples,
            annotations: self.annotations,
        }
    }
}

/// Refuses a query of histograms that some group would not deliver whole.
fn refuse_lossy(upstream: &dyn Upstream, plan: &Plan) -> Result<(), QueryFailure> {
    let selectors: Vec<&[Matcher]> = plan
        .of_histograms
        .iter()
        .filter_map(|id| match &plan.expr[*id].kind {
            NodeKind::Vector(selector) => Some(selector.matchers.as_slice()),
            _ => None,
        })
        .collect();
    if selectors.is_empty() {
        return Ok(());
    }
    let groups = upstream.lossy_groups(&selectors);
    if groups.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = groups.iter().map(usize::to_string).collect();
    Err(QueryFailure::new(
        QueryFailureKind::Execution,
        format!(
            "native histogram query targets server_group(s) ordinal=[{}] without remote_read; configure remote_read on those groups \
             (preferred — preserves sparse-span schema) or set native_histogram.allow_lossy: true to accept JSON-API fidelity loss",
            groups.join(" ")
        ),
    ))
}

/// Returns what servers evaluate, with the prefixes that errors have in the original: those of selectors and comparisons end the
/// walk over the query, others are found when the engine reads series.
fn pushed(plan: &Plan) -> Vec<Pushed> {
    let fetches = plan.fetches.iter().enumerate();
    let pushed = fetches.map(|(number, fetch)| {
        let is_used = |made: &plan::Replacement| made.fetches().any(|used| used == number);
        let user = plan.replacements.iter().find(|(_, made)| is_used(made));
        let is_early = user.is_none_or(|(id, _)| {
            matches!(
                plan.expr[*id].kind,
                NodeKind::Vector(_) | NodeKind::Binary(_)
            )
        });
        Pushed {
            fetch: fetch.clone(),
            prefix: if is_early { "" } else { "expanding series: " },
        }
    });
    pushed.collect()
}
