//! Queries from text to result: parse, plan, select, evaluate.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::annotations::Annotations;
use crate::error::{QueryError, Stage};
use crate::exec::{CancelToken, Context, Evaluator, Grid, SampleBudget, Series, result};
use crate::histogram::window::counts_and_sums_only;
use crate::join::join_all;
use crate::parser::{Compat, Expr, ParserOptions, ValueType, parse};
use crate::plan::{Plan, PlanId, PlanKind, PlanNode, Settings, is_text_in_parentheses};
use crate::rewrite::{NodeRewriter, RewriteNode};
use crate::stats::SampleStats;
use crate::storage::{BoxFuture, Querier, Queryable, SeriesData, is_stale};
use crate::value::Value;

/// Expressions may have that many steps, however few samples a query may hold.
const FEWEST_STEPS: u64 = 1_000_000;

/// How queries are evaluated.
#[derive(Clone)]
pub struct EngineOptions {
    /// The language and the version whose results and texts apply.
    pub parser: ParserOptions,
    /// How long a sample stands for its series, in milliseconds; five minutes in Prometheus.
    pub lookback: i64,
    /// How many samples a query may hold at once.
    pub max_samples: u64,
    /// Whether metric names are removed at the end of a query and not where an operation drops them.
    pub delayed_name_removal: bool,
    /// Whether the label `__type__` says what a counter is, not the name.
    pub type_and_unit_labels: bool,
    /// Whether start times of samples count as resets and as zero points (3.14).
    pub start_timestamps: bool,
    /// The step in milliseconds of subqueries that give none, by their range.
    pub default_subquery_step: Arc<dyn Fn(i64) -> i64 + Send + Sync>,
}

impl EngineOptions {
    /// What a Prometheus server does that is started without flags.
    pub fn new(parser: ParserOptions) -> Self {
        Self {
            parser,
            lookback: 5 * 60 * 1000,
            max_samples: 50_000_000,
            delayed_name_removal: false,
            type_and_unit_labels: false,
            start_timestamps: false,
            default_subquery_step: Arc::new(|_| 60 * 1000),
        }
    }
}

impl fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineOptions")
            .field("parser", &self.parser)
            .field("lookback", &self.lookback)
            .field("max_samples", &self.max_samples)
            .field("delayed_name_removal", &self.delayed_name_removal)
            .field("type_and_unit_labels", &self.type_and_unit_labels)
            .field("start_timestamps", &self.start_timestamps)
            .finish_non_exhaustive()
    }
}

/// Evaluates queries. Cheap to make; holds no state between queries.
#[derive(Clone, Debug)]
pub struct Engine {
    options: EngineOptions,
}

/// A query that has been parsed, with its times.
#[derive(Clone, Debug)]
pub struct Query {
    text: String,
    expr: Expr,
    start: i64,
    end: i64,
    /// Zero for an instant query.
    step: i64,
    options: EngineOptions,
}

/// A query with all its series, ready to be evaluated.
pub struct Prepared {
    query: Query,
    plan: Plan,
    data: Vec<Vec<SeriesData>>,
    rewritten: Vec<(PlanId, Vec<Series>)>,
    annotations: Annotations,
}

/// What has become of a query.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The value, or why there is none.
    pub value: Result<Value, QueryError>,
    /// Remarks on the value.
    pub annotations: Annotations,
    /// What it cost.
    pub stats: SampleStats,
}

impl Engine {
    /// Returns an engine.
    pub fn new(options: EngineOptions) -> Self {
        Self { options }
    }

    /// Returns the options.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Parses a query for one time, in milliseconds since 1970.
    pub fn instant_query(&self, text: &str, time: i64) -> Result<Query, QueryError> {
        self.query(text, (time, time), 0)
    }

    /// Parses a query for evenly spaced times from `start` to `end`, all in milliseconds.
    ///
    /// ```
    /// use promql::parser::ParserOptions;
    /// use promql::{Engine, EngineOptions};
    ///
    /// let engine = Engine::new(EngineOptions::new(ParserOptions::default()));
    /// let error = engine.range_query("up[5m]", 0, 60_000, 1_000).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     r#"invalid expression type "range vector" for range query, must be Scalar or instant Vector"#,
    /// );
    /// ```
    pub fn range_query(
        &self,
        text: &str,
        start: i64,
        end: i64,
        step: i64,
    ) -> Result<Query, QueryError> {
        if step <= 0 {
            return Err(QueryError::BadData("zero or negative query resolution step widths are not accepted. Try a positive integer".to_owned()));
        }
        if end < start {
            return Err(QueryError::BadData(
                "end timestamp must not be before start time".to_owned(),
            ));
        }
        let query = self.query(text, (start, end), step)?;
        match query.expr.root().value_type {
            ValueType::Scalar | ValueType::Vector => Ok(query),
            other => Err(QueryError::BadData(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                other.documented()
            ))),
        }
    }

    fn query(&self, text: &str, (start, end): (i64, i64), step: i64) -> Result<Query, QueryError> {
        Ok(Query {
            expr: parse(text, &self.options.parser)?,
            text: text.to_owned(),
            start,
            end,
            step,
            options: self.options.clone(),
        })
    }
}

impl Query {
    /// Returns the query as it was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the syntax tree.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Uses another lookback, in milliseconds, than the engine's.
    #[must_use]
    pub fn with_lookback(mut self, lookback: i64) -> Self {
        self.options.lookback = lookback;
        self
    }

    /// Selects all series and evaluates.
    ///
    /// Evaluation is plain computing without waiting; a host that must not be held up prepares the query and evaluates it on a
    /// thread of its own.
    pub async fn run(self, storage: &dyn Queryable, cancel: &CancelToken) -> Outcome {
        match self.prepare(storage, None, cancel).await {
            Ok(prepared) => prepared.evaluate(cancel),
            Err(error) => Outcome::failed(error),
        }
    }

    /// Plans the query, offers its parts to a rewriter and waits for the series of all its selects.
    pub async fn prepare(
        self,
        storage: &dyn Queryable,
        rewriter: Option<&dyn NodeRewriter>,
        cancel: &CancelToken,
    ) -> Result<Prepared, QueryError> {
        cancel.check(Stage::Execution)?;
        let options = &self.options;
        if options.parser.compat == Compat::V3_5 && is_text_in_parentheses(&self.expr) {
            return Err(QueryError::execution(
                "unexpected result in StepInvariantExpr evaluation: *parser.StepInvariantExpr",
            ));
        }
        let default_step = &*options.default_subquery_step;
        let settings = Settings {
            grid: Grid::new(self.start, self.end, self.step),
            step: self.step,
            lookback: options.lookback,
            compat: options.parser.compat,
            default_step: &|range| default_step(range),
        };
        let mut plan = Plan::new(&self.expr, &settings)?;
        // Columns are dense, so that a subquery of countless steps has to be refused before it is begun.
        let most_steps = options.max_samples.max(FEWEST_STEPS);
        if plan.longest_grid() as u64 > most_steps {
            return Err(QueryError::TooManySamples);
        }
        let mut annotations = Annotations::default();
        let mut rewritten = Vec::new();
        if let Some(rewriter) = rewriter {
            rewritten = rewrite(&mut plan, &self.expr, rewriter, &mut annotations).await?;
        }
        let compat = options.parser.compat;
        let data = select(&plan, storage, &mut annotations, compat, cancel).await?;
        Ok(Prepared {
            query: self,
            plan,
            data,
            rewritten,
            annotations,
        })
    }
}

/// Offers nodes to a rewriter, level by level from the root down.
async fn rewrite(
    plan: &mut Plan,
    expr: &Expr,
    rewriter: &dyn NodeRewriter,
    annotations: &mut Annotations,
) -> Result<Vec<(PlanId, Vec<Series>)>, QueryError> {
    let mut rewritten = Vec::new();
    let mut level = vec![plan.root];
    while !level.is_empty() {
        let offered: Vec<PlanId> = level
            .iter()
            .copied()
            .filter(|id| plan.is_vector(*id))
            .collect();
        let answers = join_all(offered.iter().map(|id| {
            let node = &plan.nodes[id.index()];
            rewriter.rewrite(RewriteNode {
                expr,
                id: node.expr,
                start: node.grid.start,
                step: node.grid.step,
                steps: node.grid.count,
            })
        }));
        let mut replaced = HashMap::new();
        for (id, answer) in offered.iter().zip(answers.await) {
            if let Some(answer) = answer? {
                for warning in answer.warnings {
                    annotations.add_storage_warning(warning);
                }
                let series = answer.series.into_iter();
                replaced.insert(
                    *id,
                    series
                        .map(crate::rewrite::StepSeries::into_series)
                        .collect(),
                );
            }
        }
        let mut next = Vec::new();
        for id in level {
            match replaced.remove(&id) {
                Some(series) => {
                    plan.forget_below(id);
                    rewritten.push((id, series));
                }
                None => next.extend(plan.children(id)),
            }
        }
        level = next;
    }
    Ok(rewritten)
}

/// Issues all selects at once and reads their series side by side.
async fn select(
    plan: &Plan,
    storage: &dyn Queryable,
    annotations: &mut Annotations,
    compat: Compat,
    cancel: &CancelToken,
) -> Result<Vec<Vec<SeriesData>>, QueryError> {
    let mut data: Vec<Vec<SeriesData>> = plan.selects.iter().map(|_| Vec::new()).collect();
    let wanted: Vec<usize> = (0..plan.selects.len())
        .filter(|index| {
            let node = plan.nodes.get(plan.selects[*index].node.index());
            node.is_some_and(|node| node.needed)
        })
        .collect();
    if wanted.is_empty() {
        return Ok(data);
    }
    let (start, end) = plan.time_range();
    let querier = storage.querier(start, end).await?;
    let querier = querier.as_ref();
    let answers = join_all(wanted.iter().map(|index| {
        let select = &plan.selects[*index];
        Box::pin(read_all(querier, select, compat, cancel)) as BoxFuture<'_, _>
    }));
    for (index, answer) in wanted.into_iter().zip(answers.await) {
        let (series, warnings) = answer?;
        data[index] = series;
        for warning in warnings {
            annotations.add_storage_warning(warning);
        }
    }
    Ok(data)
}

async fn read_all(
    querier: &dyn Querier,
    select: &crate::plan::Select,
    compat: Compat,
    cancel: &CancelToken,
) -> Result<(Vec<SeriesData>, Vec<String>), QueryError> {
    cancel.check(Stage::Execution)?;
    let mut set = querier.select(&select.hints, &select.matchers);
    let mut series = Vec::new();
    while let Some(mut next) = set.next().await? {
        cancel.check(Stage::Execution)?;
        if select.counts_only && !next.samples.histograms.is_empty() {
            let samples = Arc::make_mut(&mut next.samples);
            samples.histograms =
                counts_and_sums_only(&samples.histograms, |h| is_stale(h.sum), compat);
        }
        series.push(next);
    }
    Ok((series, set.warnings()))
}

impl Prepared {
    /// Computes the result.
    pub fn evaluate(self, cancel: &CancelToken) -> Outcome {
        self.evaluate_on(NonZeroUsize::MIN, cancel)
    }

    /// Computes the result on up to so many threads, which end before this returns.
    ///
    /// Selectors and functions over ranges are computed for several series at a time; all else, such as adding them up, stays
    /// on the calling thread and in the order of series. So the outcome is the same on any number of threads, down to the last bit and
    /// the last annotation. It pays for many series over many steps or samples; starting threads costs some 50 microseconds for
    /// every 16 series and thread.
    pub fn evaluate_on(self, threads: NonZeroUsize, cancel: &CancelToken) -> Outcome {
        let Self {
            query,
            plan,
            data,
            rewritten,
            annotations,
        } = self;
        let mut context = Context {
            options: &query.options,
            data: &data,
            lookback: query.options.lookback,
            annotations,
            budget: SampleBudget::new(query.options.max_samples),
            cancel,
            threads,
        };
        let mut evaluator = Evaluator::new(&plan, &mut context);
        let replaced = rewritten
            .into_iter()
            .try_for_each(|(id, series)| evaluator.replace(id, series));
        let evaluated = replaced.and_then(|()| evaluator.run());
        // As in the reference, an error of evaluation stands alone.
        if evaluated.is_err() {
            context.annotations = Annotations::default();
        }
        let value =
            evaluated.and_then(|evaluated| result(&plan, evaluated, &mut context, query.step == 0));
        Outcome {
            value,
            stats: context.budget.stats(),
            annotations: context.annotations,
        }
    }
}

impl Outcome {
    /// Returns the outcome of a query that could not be evaluated.
    pub fn failed(error: QueryError) -> Self {
        Self {
            value: Err(error),
            annotations: Annotations::default(),
            stats: SampleStats::default(),
        }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("query", &self.query.text)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Returns how many steps the expression with the most of them has.
    fn longest_grid(&self) -> usize {
        let needed = self.nodes.iter().filter(|node| node.needed);
        needed.map(|node| node.grid.count).max().unwrap_or(0)
    }

    /// Whether a node yields an instant vector by evaluation, and not samples to a function above it.
    fn is_vector(&self, id: PlanId) -> bool {
        let node = &self.nodes[id.index()];
        node.value_type == ValueType::Vector && node.needed && node.grid.count > 0
    }

    /// Returns the nodes directly below a node that are evaluated.
    fn children(&self, id: PlanId) -> Vec<PlanId> {
        self.children_of(&self.nodes[id.index()])
    }

    pub(crate) fn children_of(&self, node: &PlanNode) -> Vec<PlanId> {
        let children = match &node.kind {
            PlanKind::Negate(operand) => vec![*operand],
            PlanKind::Binary(binary) => vec![binary.lhs, binary.rhs],
            PlanKind::Call(call) => call.args.clone(),
            PlanKind::Aggregate(aggregate) => {
                let param = aggregate.param.into_iter();
                param.chain([aggregate.expr]).collect()
            }
            PlanKind::Subquery(subquery) => vec![subquery.expr],
            PlanKind::Number(_)
            | PlanKind::String(_)
            | PlanKind::Selector(_)
            | PlanKind::Range(_) => Vec::new(),
        };
        let needed = |child: &PlanId| self.nodes[child.index()].needed;
        children.into_iter().filter(needed).collect()
    }

    /// Takes everything below a node out of the plan.
    fn forget_below(&mut self, id: PlanId) {
        let mut pending = self.children(id);
        while let Some(child) = pending.pop() {
            pending.extend(self.children(child));
            self.nodes[child.index()].needed = false;
        }
        // A rewritten selector needs no series of its own either.
        for select in &mut self.selects {
            if select.node == id {
                select.node = PlanId::NOWHERE;
            }
        }
    }
}
