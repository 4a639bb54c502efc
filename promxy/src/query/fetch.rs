//! All requests of a query at once.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use promql::storage::{self, SeriesData};

use super::{combine, failure::QueryFailure, selects::Select};
use crate::{
    labels::Labels,
    plan,
    series::{Column, Native, Samples, Series},
    servergroup::{decode::Annotations, time_range::Grid},
    upstream::{Asker, Part, Upstream},
};

/// How many requests of one query are on their way at the same time, each of which goes to all groups.
const MOST_AT_ONCE: usize = 64;

/// How many times a server answers at most (D37).
const MOST_STEPS: usize = 11_000;

/// An expression that servers evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pushed {
    pub(super) text: String,
    pub(super) grid: Grid,
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

/// One request, or what came back.
enum Piece<Q, R> {
    Query(Q),
    Raw(R),
}

/// Asks for everything. The first failure ends all requests.
pub(super) async fn all(
    upstream: &dyn Upstream,
    asker: &Asker,
    pushed: &[Pushed],
    selects: &[Select],
) -> Result<Answers, QueryFailure> {
    let mut asked = Vec::new();
    for (number, query) in pushed.iter().enumerate() {
        let grids = plan::split(query.grid, MOST_STEPS);
        asked.extend(grids.into_iter().map(|grid| Piece::Query((number, grid))));
    }
    asked.extend((0..selects.len()).map(Piece::Raw));
    let requests = asked.into_iter().map(|piece| async move {
        match piece {
            Piece::Query((number, grid)) => {
                let query = &pushed[number];
                let answer = upstream.query(&query.text, grid, asker).await;
                let answer = answer.map_err(|error| QueryFailure::of_fetch(error, query.prefix))?;
                Ok::<_, QueryFailure>((
                    Piece::Query((number, grid, answer.data)),
                    answer.annotations,
                ))
            }
            Piece::Raw(number) => {
                let Select {
                    matchers,
                    start,
                    end,
                } = &selects[number];
                let answer = upstream.raw(matchers, *start, *end, asker).await;
                let answer =
                    answer.map_err(|error| QueryFailure::of_fetch(error, "expanding series: "))?;
                Ok((Piece::Raw((number, answer.data)), answer.annotations))
            }
        }
    });
    let mut answered = stream::iter(requests).buffer_unordered(MOST_AT_ONCE);
    let mut slices: Vec<Vec<(Grid, Vec<Part<Column<Native>>>)>> = vec![Vec::new(); pushed.len()];
    let mut answers = Answers {
        samples: vec![Vec::new(); selects.len()],
        ..Answers::default()
    };
    while let Some((piece, annotations)) = answered.try_next().await? {
        answers.annotations.merge(annotations);
        match piece {
            Piece::Query((number, grid, parts)) => slices[number].push((grid, parts)),
            Piece::Raw((number, parts)) => answers.samples[number] = parts,
        }
    }
    let whole = slices.into_iter().zip(pushed);
    answers.columns = whole
        .map(|(slices, query)| joined(slices, query.grid))
        .collect();
    Ok(answers)
}

/// Joins the answers for the parts of a grid.
fn joined(
    mut slices: Vec<(Grid, Vec<Part<Column<Native>>>)>,
    grid: Grid,
) -> Vec<Part<Column<Native>>> {
    if slices.len() < 2 {
        return slices.pop().map_or_else(Vec::new, |(_, parts)| parts);
    }
    slices.sort_by_key(|(grid, _)| grid.start);
    let mut whole: Vec<Part<Column<Native>>> = Vec::new();
    let mut places: HashMap<(usize, Labels, usize), usize> = HashMap::new();
    for (slice, parts) in slices {
        let first = grid.index(slice.start).unwrap_or(0);
        for Part { group, series } in parts {
            let at = whole.iter().position(|part| part.group == group);
            let at = at.unwrap_or_else(|| {
                let series = Vec::new();
                whole.push(Part { group, series });
                whole.len() - 1
            });
            let mut seen: HashMap<Labels, usize> = HashMap::new();
            for Series { labels, data } in series {
                let nth = seen.entry(labels.clone()).or_insert(0);
                *nth += 1;
                let part = &mut whole[at].series;
                let place = *places
                    .entry((group, labels.clone(), *nth))
                    .or_insert_with(|| {
                        let data = Column::empty(grid.len());
                        part.push(Series { labels, data });
                        part.len() - 1
                    });
                let column = &mut part[place].data;
                for (step, value) in data.iter() {
                    column.set(first + step, value);
                }
                for (step, histogram) in data.histograms() {
                    column.set_histogram(first + *step as usize, histogram.clone());
                }
            }
        }
    }
    whole
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
