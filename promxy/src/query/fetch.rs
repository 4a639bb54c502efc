//! All requests of a query at once.

use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _, stream};
use promql::storage::{self, BoxFuture, SeriesData};

use super::{combine, failure::QueryFailure, selects::Select};
use crate::{
    plan::Fetch,
    series::{Column, Native, Samples, Series},
    servergroup::decode::Annotations,
    upstream::{Asker, Part, Upstream},
};

/// How many requests of one query are on their way at the same time, each of which goes to all groups.
const MOST_AT_ONCE: usize = 64;

/// An expression that servers evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pushed {
    pub(super) fetch: Fetch,
    /// What stands before the text of an error.
    pub(super) prefix: &'static str,
}

/// What has come back.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// For every expression.
    pub(super) columns: Vec<Vec<Part<Column<Native>>>>,
    /// For every select.
    pub(super) samples: Vec<Vec<Part<Samples<Native>>>>,
    pub(super) annotations: Annotations,
}

/// A request, and its place among those of its kind.
enum Request<'a> {
    Query((usize, &'a Pushed)),
    Raw((usize, &'a Select)),
}

impl Request<'_> {
    async fn send(
        self,
        upstream: &dyn Upstream,
        asker: &Asker,
    ) -> Result<(Answer, Annotations), QueryFailure> {
        match self {
            Self::Query((number, Pushed { fetch, prefix })) => {
                let answer = upstream.query(&fetch.text, fetch.grid, asker).await;
                let answer = answer.map_err(|error| QueryFailure::of_fetch(&error, prefix))?;
                Ok((Answer::Columns(number, answer.data), answer.annotations))
            }
            Self::Raw((number, select)) => {
                let Select {
                    matchers,
                    start,
                    end,
                } = select;
                let answer = upstream.raw(matchers, *start, *end, asker).await;
                let prefix = "expanding series: ";
                let answer = answer.map_err(|error| QueryFailure::of_fetch(&error, prefix))?;
                Ok((Answer::Samples(number, answer.data), answer.annotations))
            }
        }
    }
}

/// The answer to one request, and its place among those of its kind.
enum Answer {
    Columns(usize, Vec<Part<Column<Native>>>),
    Samples(usize, Vec<Part<Samples<Native>>>),
}

/// Asks for everything. The first failure ends all requests.
pub(super) async fn all(
    upstream: &dyn Upstream,
    asker: &Asker,
    pushed: &[Pushed],
    selects: &[Select],
) -> Result<Answers, QueryFailure> {
    let queries = pushed.iter().enumerate().map(Request::Query);
    let raw = selects.iter().enumerate().map(Request::Raw);
    let requests = queries.chain(raw);
    let requests: Vec<BoxFuture<'_, _>> = requests
        .enumerate()
        .map(|(place, request)| {
            let sent = request.send(upstream, asker);
            Box::pin(sent.map_ok(move |answer| (place, answer))) as _
        })
        .collect();
    // What servers say is told in the order of requests, whoever answers first.
    let mut said = vec![Annotations::default(); requests.len()];
    let mut answered = stream::iter(requests).buffer_unordered(MOST_AT_ONCE);
    let mut answers = Answers {
        columns: vec![Vec::new(); pushed.len()],
        samples: vec![Vec::new(); selects.len()],
        annotations: Annotations::default(),
    };
    while let Some((place, (answer, annotations))) = answered.try_next().await? {
        said[place] = annotations;
        match answer {
            Answer::Columns(number, parts) => answers.columns[number] = parts,
            Answer::Samples(number, parts) => answers.samples[number] = parts,
        }
    }
    for annotations in said {
        answers.annotations.merge(annotations);
    }
    Ok(answers)
}

/// Returns the samples of all groups as the engine wants them.
pub(super) fn series_data(parts: Vec<Part<Samples<Native>>>) -> Vec<SeriesData> {
    let series = combine::series(parts, &()).into_iter();
    series
        .map(|Series { labels, data }| {
            let mut samples = storage::Samples::default();
            (samples.timestamps, samples.values) = data.floats.into_iter().unzip();
            (samples.histogram_timestamps, samples.histograms) =
                data.histograms.into_iter().unzip();
            SeriesData {
                labels,
                samples: samples.into(),
            }
        })
        .collect()
}
