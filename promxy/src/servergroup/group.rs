//! A group: its targets at the moment, and their answers as one.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use promql::{
    parser::{Matcher, ParserOptions, parse},
    storage::BoxFuture,
};
use tokio::{sync::watch, task::spawn_blocking};

use super::{
    coverage,
    member::{Asked, Common, Listed, Member},
    scatter::{Pending, hedged, replicas},
    targets::{Target, TargetError, assemble_all},
    unite::united,
};
use crate::{
    config::ErrorPolicy,
    discovery::Discovered,
    labels::Labels,
    merge::{self, Mergeable, Options},
    series::{Column, Native, Samples, Series},
    upstream::{Answer, Asker, Exemplars, FailureKind, Metadata, UpstreamError},
};

/// From how many series on answers are merged on a thread that may take its time.
const MANY_SERIES: usize = 500;

/// A group of servers that hold the same series, or each its own under labels of its own.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) common: Arc<Common>,
    state: ArcSwap<State>,
    /// Bumped whenever the state has changed.
    changed: watch::Sender<u64>,
    /// The names of metrics that are histograms, as far as that was asked.
    pub(crate) histograms: ArcSwap<HashSet<String>>,
}

/// The targets of a group at some moment.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The targets, in the order of discovery.
    pub(crate) members: Vec<Arc<Member>>,
    /// For each target a number, which those with the same labels have in common: they hold the same series.
    keys: Vec<usize>,
    /// Why there are no targets, or no newer ones.
    pub(crate) problem: Option<String>,
    /// Whether it was ever known which targets there are.
    pub(crate) has_begun: bool,
}

impl State {
    fn with_problem(&self, problem: String) -> Self {
        Self {
            members: self.members.clone(),
            keys: self.keys.clone(),
            problem: Some(problem),
            has_begun: self.has_begun,
        }
    }
}

impl Group {
    /// Makes a group that does not know its targets yet.
    pub(crate) fn new(common: Common) -> Self {
        let problem = Some("its targets are not known yet".to_owned());
        Self {
            common: Arc::new(common),
            state: ArcSwap::from_pointee(State {
                problem,
                ..State::default()
            }),
            changed: watch::Sender::new(0),
            histograms: ArcSwap::default(),
        }
    }

    /// Returns the state at this moment.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Tells of every change of the state.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes what discovery knows. Targets that stay keep their connections and what is known of them; what cannot be used
    /// changes nothing (S8). Returns the new ones.
    pub(crate) fn update(&self, found: &Discovered) -> Vec<Arc<Member>> {
        let before = self.state();
        let mut fresh = Vec::new();
        let state = match assemble_all(&self.common.config, found.targets()) {
            Ok(_) if !before.has_begun && !found.is_complete() => {
                let waiting = "discovery has not answered yet";
                before.with_problem(found.failure().unwrap_or(waiting).to_owned())
            }
            Ok(targets) => self.with_targets(&before, targets, &mut fresh),
            Err(error) => self.without_targets(&before, &error),
        };
        let is_empty = state.has_begun && state.members.is_empty();
        let was_empty = before.has_begun && before.members.is_empty();
        self.state.store(Arc::new(state));
        self.changed.send_modify(|count| *count += 1);
        if is_empty && !was_empty {
            self.warn_of_no_targets(!before.has_begun, before.members.len());
        }
        fresh
    }

    fn with_targets(
        &self,
        before: &State,
        targets: Vec<Target>,
        fresh: &mut Vec<Arc<Member>>,
    ) -> State {
        let members = targets.into_iter().map(|target| {
            let known = before.members.iter().find(|member| member.target == target);
            if let Some(known) = known {
                return Arc::clone(known);
            }
            let new = Arc::new(Member::new(&self.common, target));
            fresh.push(Arc::clone(&new));
            new
        });
        let members: Vec<Arc<Member>> = members.collect();
        let first_equal = |member: &Arc<Member>| {
            let mut others = members.iter();
            others.position(|other| other.target.labels == member.target.labels)
        };
        State {
            keys: members
                .iter()
                .map(|member| first_equal(member).unwrap_or(0))
                .collect(),
            members,
            problem: None,
            has_begun: true,
        }
    }

    fn without_targets(&self, before: &State, error: &TargetError) -> State {
        let text = error.to_string();
        if before.problem.as_ref() != Some(&text) {
            tracing::error!(
                ordinal = self.common.ordinal,
                name = self.common.config.name,
                "Error loading servergroup, retrying: {text}"
            );
        }
        before.with_problem(text)
    }

    fn warn_of_no_targets(&self, is_start: bool, old_targets: usize) {
        let (ordinal, name) = (self.common.ordinal, &self.common.config.name);
        let known_name = (!name.is_empty()).then_some(name.as_str());
        let named = known_name.map(|name| format!(" name={name}"));
        let what = if is_start {
            "started with zero targets"
        } else {
            "transitioned to zero targets"
        };
        tracing::warn!(
            name = known_name,
            new_targets = 0,
            old_targets,
            ordinal,
            "ServerGroup ord={ordinal}{} {what}; check service discovery configuration and relabel rules",
            named.unwrap_or_default()
        );
    }

    // === asking ===

    /// Evaluates an expression on all targets.
    pub(crate) async fn query(
        &self,
        asked: Asked<'_>,
        asker: &Asker,
    ) -> Result<Answer<Vec<Series<Column<Native>>>>, UpstreamError> {
        let state = self.state();
        let is_aware = self.common.config.coverage_aware && state.members.len() > 1;
        let counting = asked.expr.filter(|_| is_aware).and_then(coverage::counting);
        if let Some(text) = counting {
            let covered = self.covered(&state, asked, &text, asker).await;
            return self.settled(covered);
        }
        let found = self
            .scatter(&state, |member| Box::pin(member.query(asked, asker)))
            .await;
        let merged = match found {
            Ok(answers) => self.merged(answers, asked.grid).await,
            Err(error) => Err(error),
        };
        self.settled(merged)
    }

    /// Evaluates an expression on all targets, and takes of each value that with the most samples behind it.
    async fn covered(
        &self,
        state: &State,
        asked: Asked<'_>,
        counting: &str,
        asker: &Asker,
    ) -> Result<Answer<Vec<Series<Column<Native>>>>, UpstreamError> {
        let expr = parse(counting, &ParserOptions::v3_5().with_all_features()).ok();
        let written = expr.as_ref().map(ToString::to_string);
        let counted = Asked {
            text: written.as_deref().unwrap_or(counting),
            expr: expr.as_ref(),
            grid: asked.grid,
        };
        let found = self
            .scatter(state, |member| {
                Box::pin(async move {
                    let (values, counts) =
                        tokio::try_join!(member.query(asked, asker), member.query(counted, asker))?;
                    Ok(Answer {
                        data: vec![(values.data, counts.data)],
                        annotations: values.annotations,
                    })
                })
            })
            .await?;
        let all = united(found, |members| members.into_iter().flatten().collect());
        Ok(Answer {
            data: coverage::merge(all.data, asked.grid),
            annotations: all.annotations,
        })
    }

    /// Reads raw samples from all targets.
    pub(crate) async fn raw(
        &self,
        matchers: &[Matcher],
        start: i64,
        end: i64,
        asker: &Asker,
    ) -> Result<Answer<Vec<Series<Samples<Native>>>>, UpstreamError> {
        let state = self.state();
        let found = self
            .scatter(&state, |member| {
                Box::pin(member.raw(matchers, start, end, asker))
            })
            .await;
        let merged = match found {
            Ok(answers) => self.merged(answers, ()).await,
            Err(error) => Err(error),
        };
        self.settled(merged)
    }

    /// Lists series.
    pub(crate) async fn series(
        &self,
        listed: Listed<'_>,
        asker: &Asker,
    ) -> Result<Answer<Vec<Labels>>, UpstreamError> {
        let state = self.state();
        let found = self
            .scatter(&state, |member| Box::pin(member.series(listed, asker)))
            .await;
        self.settled(found.map(|answers| united(answers, merge::label_sets)))
    }

    /// Lists label names.
    pub(crate) async fn label_names(
        &self,
        listed: Listed<'_>,
        asker: &Asker,
    ) -> Result<Answer<Vec<String>>, UpstreamError> {
        let state = self.state();
        let found = self
            .scatter(&state, |member| Box::pin(member.label_names(listed, asker)))
            .await;
        self.settled(found.map(|answers| united(answers, merge::words)))
    }

    /// Lists the values of a label.
    pub(crate) async fn label_values(
        &self,
        label: &str,
        listed: Listed<'_>,
        asker: &Asker,
    ) -> Result<Answer<Vec<String>>, UpstreamError> {
        let state = self.state();
        let found = self
            .scatter(&state, |member| {
                Box::pin(member.label_values(label, listed, asker))
            })
            .await;
        self.settled(found.map(|answers| united(answers, merge::words)))
    }

    /// Returns what is known of metrics. What becomes of errors is not seen in the answer, which has no place for warnings.
    pub(crate) async fn metadata(
        &self,
        metric: &str,
        asker: &Asker,
    ) -> Result<BTreeMap<String, Vec<Metadata>>, UpstreamError> {
        let state = self.state();
        let found = self
            .scatter(&state, |member| Box::pin(member.metadata(metric, asker)))
            .await;
        let answer = found.map(|answers| Answer {
            data: first_of_each(answers),
            ..Answer::default()
        });
        self.settled(answer).map(|answer| answer.data)
    }

    /// Returns exemplars.
    pub(crate) async fn exemplars(
        &self,
        listed: Listed<'_>,
        asker: &Asker,
    ) -> Result<Vec<Exemplars>, UpstreamError> {
        let state = self.state();
        let found = self
            .scatter(&state, |member| Box::pin(member.exemplars(listed, asker)))
            .await;
        let answer = found.map(|answers| Answer {
            data: answers.into_iter().flatten().collect(),
            ..Answer::default()
        });
        self.settled(answer).map(|answer| answer.data)
    }

    /// Asks all targets at once, or, of replicas, one after the other as far as that is needed.
    async fn scatter<'a, T>(
        &self,
        state: &'a State,
        ask: impl Fn(&'a Member) -> BoxFuture<'a, Result<T, UpstreamError>>,
    ) -> Result<Vec<T>, UpstreamError> {
        if let (false, Some(problem)) = (state.has_begun, &state.problem) {
            return Err(UpstreamError {
                kind: FailureKind::Execution,
                message: problem.clone(),
            });
        }
        let members = state.members.iter().zip(&state.keys);
        let members = members.map(|(member, key)| Pending {
            key: *key,
            answer: ask(member),
        });
        match self.common.config.hedge_after {
            None => replicas(members.collect()).await,
            Some(after) => {
                let count = |why| self.common.counters.hedged(why);
                hedged(members.collect(), after, &count).await
            }
        }
    }

    /// Merges the answers of targets, in their order.
    async fn merged<D>(
        &self,
        answers: Vec<Answer<Vec<Series<D>>>>,
        context: D::Context,
    ) -> Result<Answer<Vec<Series<D>>>, UpstreamError>
    where
        D: Mergeable + Send + 'static,
        D::Context: Sized + Send + 'static,
    {
        let config = &self.common.config;
        let options = Options {
            buffer_ms: config.anti_affinity_ms,
            dynamic: config.anti_affinity_dynamic,
            prefer_max: config.prefer_max,
        };
        let size: usize = answers.iter().map(|answer| answer.data.len()).sum();
        let work = move || united(answers, |members| merge::sets(members, options, &context));
        if size < MANY_SERIES {
            return Ok(work());
        }
        spawn_blocking(work).await.map_err(|_| UpstreamError {
            kind: FailureKind::Execution,
            message: "merging the answers failed".to_owned(),
        })
    }

    /// Names the group in an error, and makes of it what the configuration says.
    fn settled<T: Default>(
        &self,
        answer: Result<Answer<T>, UpstreamError>,
    ) -> Result<Answer<T>, UpstreamError> {
        let Err(UpstreamError { kind, message }) = answer else {
            return answer;
        };
        let message = format!(
            "error in servergroup ord={}: {message}",
            self.common.ordinal
        );
        match self.common.config.on_error {
            // A query that takes too much is nobody's fault but its own.
            _ if kind == FailureKind::TooMuch => Err(UpstreamError { kind, message }),
            ErrorPolicy::Fail => Err(UpstreamError { kind, message }),
            ErrorPolicy::Ignore => Ok(Answer::default()),
            ErrorPolicy::Warn => {
                let mut answer: Answer<T> = Answer::default();
                answer.annotations.add_warnings([message]);
                Ok(answer)
            }
        }
    }

    /// Whether some target could have a series that fulfils a selector.
    pub(crate) fn can_answer(&self, matchers: &[Matcher]) -> bool {
        self.state().members.iter().any(|member| {
            let filter = member.filter.load_full();
            member.rules(filter.as_deref()).selector(matchers).is_some()
        })
    }
}

/// Takes what the first knows of each metric.
pub(crate) fn first_of_each(
    answers: Vec<BTreeMap<String, Vec<Metadata>>>,
) -> BTreeMap<String, Vec<Metadata>> {
    let mut all = BTreeMap::new();
    for answer in answers {
        for (metric, entries) in answer {
            all.entry(metric).or_insert(entries);
        }
    }
    all
}
