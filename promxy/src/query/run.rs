//! One query.

use std::{collections::HashMap, future::Future, sync::Arc};

use futures_util::FutureExt as _;
use promql::{
    CancelToken, Query, SampleStats,
    annotations::Severity,
    parser::{Matcher, NodeId, NodeKind},
    value::Value,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tracing::debug;

use super::{
    Outcome, Params, QueryFailure, QueryFailureKind, Shared, Source, Timings,
    combine::{self, Answered, Columns, Copies},
    fetch::{self, Answers, Pushed},
    places::{Places, Source as Made},
    selects::{Fetched, Select, selects_beside},
    substitute::{Substitute, Substitutes},
};
use crate::{
    config::Groups,
    plan::{self, Plan, plan_keeping},
    series::{Native, Samples},
    servergroup::{decode::Annotations, time_range::Grid},
    upstream::{Asker, Budget, Part, Upstream},
};

/// Queries with fewer samples and steps than this are evaluated at once: handing them to another thread takes longer.
const FEW: usize = 10_000;

pub(super) async fn run(
    shared: &Shared,
    source: &Source,
    query: Query,
    grid: Grid,
    params: &Params,
    begun: Instant,
) -> Result<Outcome, QueryFailure> {
    let limits = &shared.limits;
    let limit = params
        .timeout
        .map_or(limits.timeout, |timeout| timeout.min(limits.timeout));
    let deadline = begun.checked_add(limit);
    let permit = within(deadline, "query queue", turn(shared)).await?;
    let queue = begun.elapsed();
    let query = match params.lookback_ms {
        Some(lookback) => query.with_lookback(lookback),
        None => query,
    };
    let asker = Asker {
        headers: Arc::clone(&params.headers),
        lookback_ms: params.lookback_ms,
        budget: Arc::new(Budget::new(limits.max_bytes, limits.max_samples)),
    };
    let gathering = gather(source, &query, grid, &asker);
    let gathered = within(deadline, "expression evaluation", gathering).await??;
    let fetch = begun.elapsed().saturating_sub(queue);

    let cancel = CancelOnDrop(CancelToken::default());
    let annotations = gathered.annotations.clone();
    let evaluating = evaluate(query, gathered, source.groups, cancel.0.clone(), permit);
    let evaluated = match within(deadline, "expression evaluation", evaluating).await {
        Ok(evaluated) => evaluated,
        Err(failure) => {
            cancel.0.time_out();
            Err(failure)
        }
    };
    let mut outcome = evaluated.map_err(|failure| QueryFailure {
        annotations,
        ..failure
    })?;
    outcome.timings = Timings {
        queue,
        fetch,
        evaluate: begun.elapsed().saturating_sub(queue + fetch),
    };
    outcome.cut(params.limit);
    Ok(outcome)
}

/// Ends evaluation when nobody waits for it any more.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // Of a query that has ended this changes nothing.
        self.0.cancel();
    }
}

async fn within<T>(
    deadline: Option<Instant>,
    doing: &str,
    work: impl Future<Output = T>,
) -> Result<T, QueryFailure> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work)
            .await
            .map_err(|_| QueryFailure::timed_out(doing)),
        None => Ok(work.await),
    }
}

/// Waits until one more query may run.
async fn turn(shared: &Shared) -> Option<OwnedSemaphorePermit> {
    let places = Arc::clone(shared.places.as_ref()?);
    // The semaphore is never closed.
    places.acquire_owned().await.ok()
}

/// A query with all that it needs.
struct Gathered {
    places: Places,
    pushed: Vec<Pushed>,
    selects: Vec<Select>,
    columns: Vec<Vec<Part<crate::series::Column<Native>>>>,
    samples: Vec<Vec<Part<Samples<Native>>>>,
    annotations: Annotations,
}

/// Plans a query and fetches everything. Of parts whose answers turn out to hold histograms, raw samples are fetched instead:
/// results of servers do not have all that queries look at.
async fn gather(
    source: &Source,
    query: &Query,
    grid: Grid,
    asker: &Asker,
) -> Result<Gathered, QueryFailure> {
    let upstream = &*source.upstream;
    let mut kept: Vec<NodeId> = Vec::new();
    let mut known: Vec<(Pushed, _)> = Vec::new();
    let mut known_selects: Vec<(Select, _)> = Vec::new();
    let mut annotations = Annotations::default();
    loop {
        let plan = plan_of(source, query, grid, &kept);
        refuse_lossy(upstream, &plan)?;
        let places = Places::of(&plan);
        let pushed = pushed(&plan);
        let selects = selects_beside(query, &places).await?;
        debug!(
            queries = pushed.len(),
            selects = selects.len(),
            "query planned"
        );
        let new: Vec<Pushed> = pushed
            .iter()
            .filter(|query| known.iter().all(|(known, _)| known != *query))
            .cloned()
            .collect();
        let new_selects: Vec<Select> = selects
            .iter()
            .filter(|select| known_selects.iter().all(|(known, _)| known != *select))
            .cloned()
            .collect();
        let answers = fetch::all(upstream, asker, &new, &new_selects).await?;
        let Answers {
            columns,
            samples,
            annotations: said,
        } = answers;
        annotations.merge(said);
        known.extend(new.into_iter().zip(columns));
        known_selects.extend(new_selects.into_iter().zip(samples));
        let before = kept.len();
        kept.extend(of_histograms(&plan, &known));
        if kept.len() > before {
            continue;
        }
        let columns = pushed.iter().map(|query| take(&mut known, query));
        let columns = columns.collect();
        let samples = selects
            .iter()
            .map(|select| take(&mut known_selects, select));
        let samples = samples.collect();
        return Ok(Gathered {
            places,
            pushed,
            selects,
            columns,
            samples,
            annotations,
        });
    }
}

fn plan_of(source: &Source, query: &Query, grid: Grid, kept: &[NodeId]) -> Plan {
    let settings = plan::Settings {
        default_step_ms: super::millis(source.default_step),
        groups: source.groups,
        is_histogram: &|name| source.upstream.is_histogram(name),
    };
    plan_keeping(query.expr(), grid, settings, kept)
}

fn take<K: PartialEq, V: Default>(known: &mut [(K, V)], key: &K) -> V {
    let found = known.iter_mut().find(|(known, _)| known == key);
    found
        .map(|(_, value)| std::mem::take(value))
        .unwrap_or_default()
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

/// Returns the replaced nodes whose answers hold histograms.
fn of_histograms(
    plan: &Plan,
    known: &[(Pushed, Vec<Part<crate::series::Column<Native>>>)],
) -> Vec<NodeId> {
    let holds = |fetch: plan::FetchId| {
        let found = known
            .iter()
            .find(|(query, _)| query.fetch == plan.fetches[fetch]);
        let mut series = found
            .iter()
            .flat_map(|(_, parts)| parts)
            .flat_map(|part| &part.series);
        series.any(|series| !series.data.histograms().is_empty())
    };
    let replaced = plan.replacements.iter();
    replaced
        .filter(|(_, made)| made.fetches().any(holds))
        .map(|(id, _)| *id)
        .collect()
}

/// Evaluates what servers did not, on a thread of its own if that takes longer than going there.
async fn evaluate(
    query: Query,
    gathered: Gathered,
    groups: Groups,
    cancel: CancelToken,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Outcome, QueryFailure> {
    let has_subquery = query
        .expr()
        .nodes()
        .any(|(_, node)| matches!(node.kind, NodeKind::Subquery(_)));
    if !has_subquery && gathered.size(query.expr().nodes().count()) < FEW {
        return gathered.evaluate(query, groups, &cancel);
    }
    let evaluating = spawn_blocking(move || {
        // The place of the query is free when its work is done, not when nobody waits for it any more.
        let _permit = permit;
        gathered.evaluate(query, groups, &cancel)
    });
    evaluating.await.unwrap_or_else(|error| {
        let reason = if error.is_panic() {
            "evaluation panicked"
        } else {
            "the program is ending"
        };
        Err(QueryFailure::new(
            QueryFailureKind::Internal,
            format!("unexpected error: {reason}"),
        ))
    })
}

impl Gathered {
    /// Returns about how many values evaluation has to look at.
    fn size(&self, nodes: usize) -> usize {
        let columns = self.columns.iter().flatten();
        let columns = columns.map(|part| part.series.iter().map(|s| s.data.len()).sum::<usize>());
        let samples = self.samples.iter().flatten().flat_map(|part| &part.series);
        let samples = samples.map(|s| s.data.floats.len() + 16 * s.data.histograms.len());
        let steps = self.pushed.iter().map(|query| query.fetch.grid.len()).max();
        columns.sum::<usize>() + 4 * samples.sum::<usize>() + nodes * steps.unwrap_or(1)
    }

    fn evaluate(
        self,
        query: Query,
        groups: Groups,
        cancel: &CancelToken,
    ) -> Result<Outcome, QueryFailure> {
        let Self {
            places,
            pushed,
            selects,
            columns,
            samples,
            mut annotations,
        } = self;
        let sent: usize = columns
            .iter()
            .flatten()
            .flat_map(|part| &part.series)
            .map(|series| series.data.count() + series.data.histograms().len())
            .sum();
        let answers = columns
            .into_iter()
            .zip(&pushed)
            .map(|(parts, query)| Answered {
                parts,
                grid: query.fetch.grid,
            });
        let mut table = Table::new(answers.collect(), &places);
        let mut substitutes = HashMap::new();
        for (id, place) in places.into_iter() {
            let first = place.source.fetches().next().unwrap_or(0);
            let grid = table.grid(first).shifted(-place.offset_ms);
            let (series, copies) = made(place.source, &mut table, groups);
            if copies == Copies::Taken {
                annotations.add_warnings([copies_taken(&query, id)]);
            }
            let is_fixed = place.is_fixed;
            substitutes.insert(
                id,
                Substitute {
                    series,
                    grid,
                    is_fixed,
                },
            );
        }
        let samples = samples.into_iter().map(fetch::series_data);
        let fetched = Fetched::new(selects.into_iter().zip(samples));
        let substitutes = Substitutes::new(substitutes);
        let text = query.text().to_owned();
        let prepared = query.prepare(&fetched, Some(&substitutes), cancel);
        // Everything is there, so nothing waits.
        let prepared = prepared.now_or_never().unwrap_or_else(|| {
            Err(promql::QueryError::Execution(
                "samples are missing".to_owned(),
            ))
        })?;
        let evaluated = prepared.evaluate(cancel);
        let value = evaluated.value?;
        let said = evaluated.annotations;
        let mut own = Annotations {
            warnings: said.texts(Severity::Warning, &text),
            infos: said.texts(Severity::Info, &text),
        };
        append(&mut own.warnings, annotations.warnings);
        append(&mut own.infos, annotations.infos);
        let sent = sent as u64;
        Ok(Outcome {
            value,
            annotations: own,
            stats: SampleStats {
                total: evaluated.stats.total + sent,
                peak: evaluated.stats.peak.max(sent),
            },
            timings: Timings::default(),
        })
    }
}

/// Appends texts that are not there, with a place in the query or without.
fn append(texts: &mut Vec<String>, more: Vec<String>) {
    for text in more {
        let is_known = texts.iter().any(|known| {
            let rest = known.strip_prefix(text.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
        });
        if !is_known {
            texts.push(text);
        }
    }
}

fn copies_taken(query: &Query, id: NodeId) -> String {
    format!(
        "server groups have equal partial results of the aggregation of {}, and the first group's count: \
         set promxy.groups to disjoint if the groups hold different series",
        query.expr().display(id)
    )
}

/// Makes the value of a node.
fn made(source: Made, table: &mut Table, groups: Groups) -> (Columns, Copies) {
    match source {
        Made::Series(fetch) => {
            let Answered { parts, grid } = table.take(fetch);
            (combine::series(parts, &grid), Copies::None)
        }
        Made::Partial(op, fetch) => combine::partial(table.take(fetch), op, groups),
        Made::Sum(fetch, group) => combine::sum(table.take(fetch), &group, groups),
        Made::Quotient(sums, counts, group) => {
            combine::quotient(table.take(sums), table.take(counts), &group, groups)
        }
    }
}

/// Answers, which are copied only for nodes that share them.
struct Table {
    answers: Vec<Answered>,
    uses: Vec<usize>,
}

impl Table {
    fn new(answers: Vec<Answered>, places: &Places) -> Self {
        let mut uses = vec![0; answers.len()];
        for fetch in places.iter().flat_map(|place| place.source.fetches()) {
            uses[fetch] += 1;
        }
        Self { answers, uses }
    }

    fn grid(&self, fetch: usize) -> Grid {
        self.answers[fetch].grid
    }

    fn take(&mut self, fetch: usize) -> Answered {
        self.uses[fetch] = self.uses[fetch].saturating_sub(1);
        let answer = &mut self.answers[fetch];
        if self.uses[fetch] > 0 {
            return answer.clone();
        }
        let parts = std::mem::take(&mut answer.parts);
        let grid = answer.grid;
        Answered { parts, grid }
    }
}

impl Outcome {
    /// Leaves out the series beyond a limit.
    fn cut(&mut self, limit: Option<usize>) {
        let Some(limit) = limit else { return };
        let length = match &mut self.value {
            Value::Vector(vector) => {
                let length = vector.len();
                vector.truncate(limit);
                length
            }
            Value::Matrix(matrix) => {
                let length = matrix.len();
                matrix.truncate(limit);
                length
            }
            Value::Scalar { .. } | Value::String { .. } => 0,
        };
        if length > limit {
            self.annotations
                .warnings
                .push("results truncated due to limit".to_owned());
        }
    }
}
