//! The selects that a query makes beside what servers evaluate: which they are, and their samples once these are there.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use promql::{
    CancelToken, NodeRewriter, Query, QueryError, RewriteNode, Rewritten,
    labels::LabelMatcher,
    parser::Matcher,
    storage::{BoxFuture, Querier, Queryable, SelectHints, SeriesData, SeriesSet, StorageError},
};

use super::places::Places;
use crate::plan::Plan;

/// A request for raw samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// The matchers of the series.
    pub matchers: Vec<Matcher>,
    /// The first time of samples. Milliseconds since 1970.
    pub start: i64,
    /// The last time.
    pub end: i64,
}

/// Returns the selects that a query makes when nodes are replaced as planned, each once, in the order of the text.
///
/// The engine is asked, by preparing the query on a storage that has nothing: so what is fetched is what will be looked for.
pub async fn selects(query: &Query, plan: &Plan) -> Result<Vec<Select>, QueryError> {
    selects_beside(query, &Places::of(plan)).await
}

pub(super) async fn selects_beside(
    query: &Query,
    replaced: &Places,
) -> Result<Vec<Select>, QueryError> {
    let recorder = Recorder::default();
    let cancel = CancelToken::default();
    query
        .clone()
        .prepare(&recorder, Some(replaced), &cancel)
        .await?;
    let mut asked = recorder.0.lock();
    let mut selects: Vec<Select> = Vec::with_capacity(asked.len());
    for select in asked.drain(..) {
        if !selects.contains(&select) {
            selects.push(select);
        }
    }
    Ok(selects)
}

/// Every replaced node becomes a vector without series.
impl NodeRewriter for Places {
    fn rewrite<'a>(
        &'a self,
        node: RewriteNode<'a>,
    ) -> BoxFuture<'a, Result<Option<Rewritten>, StorageError>> {
        let rewritten = self.contains(node.id).then(Rewritten::default);
        Box::pin(std::future::ready(Ok(rewritten)))
    }
}

/// Has no series and remembers what it was asked for.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Select>>>);

impl Queryable for Recorder {
    fn querier(&self, _: i64, _: i64) -> BoxFuture<'_, Result<Box<dyn Querier>, StorageError>> {
        let querier: Box<dyn Querier> = Box::new(self.clone());
        Box::pin(std::future::ready(Ok(querier)))
    }
}

impl Querier for Recorder {
    fn select(&self, hints: &SelectHints, matchers: &[LabelMatcher]) -> Box<dyn SeriesSet> {
        let mut asked = self.0.lock();
        asked.push(select(hints, matchers));
        Box::new(Found(Ok(Vec::new().into_iter())))
    }
}

fn select(hints: &SelectHints, matchers: &[LabelMatcher]) -> Select {
    let matchers = matchers.iter().map(|matcher| matcher.matcher().clone());
    Select {
        matchers: matchers.collect(),
        start: hints.start,
        end: hints.end,
    }
}

/// The samples of selects.
#[derive(Clone, Default)]
pub(super) struct Fetched(Arc<HashMap<(i64, i64), Vec<Selected>>>);

/// A select and its samples.
type Selected = (Select, Vec<SeriesData>);

impl Fetched {
    pub(super) fn new(answers: impl IntoIterator<Item = Selected>) -> Self {
        let mut by_time: HashMap<(i64, i64), Vec<Selected>> = HashMap::new();
        for (select, series) in answers {
            let same_time = by_time.entry((select.start, select.end)).or_default();
            same_time.push((select, series));
        }
        Self(Arc::new(by_time))
    }
}

impl Queryable for Fetched {
    fn querier(&self, _: i64, _: i64) -> BoxFuture<'_, Result<Box<dyn Querier>, StorageError>> {
        let querier: Box<dyn Querier> = Box::new(self.clone());
        Box::pin(std::future::ready(Ok(querier)))
    }
}

impl Querier for Fetched {
    fn select(&self, hints: &SelectHints, matchers: &[LabelMatcher]) -> Box<dyn SeriesSet> {
        let wanted = select(hints, matchers);
        let same_time = self.0.get(&(wanted.start, wanted.end));
        let found = same_time
            .into_iter()
            .flatten()
            .find(|(select, _)| *select == wanted);
        // Both preparations of a query make the same selects; if not, this is an error, not an empty answer.
        let found = found.map(|(_, series)| series.clone().into_iter());
        Box::new(Found(found.ok_or_else(|| StorageError {
            message: "samples that were not asked for".to_owned(),
        })))
    }
}

struct Found(Result<std::vec::IntoIter<SeriesData>, StorageError>);

impl SeriesSet for Found {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<SeriesData>, StorageError>> {
        let next = match &mut self.0 {
            Ok(series) => Ok(series.next()),
            Err(error) => Err(error.clone()),
        };
        Box::pin(std::future::ready(next))
    }
}
