//! Queries: the text as the target gets it, and its answer onto columns or as samples.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::Arc,
};

use bytes::Bytes;
use promql::parser::{AggregateOp, Expr, Matcher, NodeKind};
use tokio::task::spawn_blocking;

use super::{Failure, Member};
use crate::{
    labels::Labels,
    merge::unique,
    plan::{Fetch, expr_for_target, split},
    series::{Column, Native, Samples, Series},
    servergroup::{
        body::{Body, BodyError, Inflater},
        decode::{DecodeError, Decoded, OnGrid, OwnTimes, Sink, Size, Stream},
        metrics::Filtered,
        request::{ApiRequest, Call, seconds},
        time_range::{Grid, step_shift},
    },
    upstream::{Answer, Asker, Budget, FailureKind, OverBudget, UpstreamError},
};

/// How many times Prometheus evaluates a query for at most.
const MOST_STEPS: usize = 11_000;

/// How many bytes, as they were sent, are read together.
const BATCH: usize = 64 << 10;

/// How many bytes, as they were sent, are read without leaving the thread that waits for others, too.
const SMALL: usize = 8 << 10;

/// A query that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// In the engine's own writing, if it could be read.
    pub(crate) text: &'a str,
    /// What the text says, if it could be read.
    pub(crate) expr: Option<&'a Expr>,
    pub(crate) grid: Grid,
}

impl Asked<'_> {
    /// Whether the answer's series are partial results, several of which can get the same labels and count all the same.
    fn is_partial(&self) -> bool {
        let root = self.expr.map(|expr| &expr.root().kind);
        root.is_some_and(|kind| match kind {
            NodeKind::Aggregate(aggregate) => {
                !matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk)
            }
            _ => false,
        })
    }
}

impl Member {
    /// Evaluates an expression at each time of a grid.
    pub(crate) async fn query(
        &self,
        asked: Asked<'_>,
        asker: &Asker,
    ) -> Result<Answer<Vec<Series<Column<Native>>>>, UpstreamError> {
        let Some((text, grid)) = self.as_asked(asked) else {
            return Ok(Answer::default());
        };
        let call = if grid.is_instant() {
            Call::Query
        } else {
            Call::QueryRange
        };
        let parts = split(grid, MOST_STEPS);
        let mut answer: Answer<Vec<Series<Column<Native>>>> = Answer::default();
        if let [part] = parts.as_slice() {
            let asking = pin!(self.query_part(&text, *part, asked.grid, asker));
            answer = self.counted(call, asker, asking).await?;
        } else {
            // One after the other: together they are one answer, and no more of the target's time than that.
            for part in parts {
                let asking = pin!(self.query_part(&text, part, part, asker));
                let found = self.counted(call, asker, asking).await?;
                answer.annotations.merge(found.annotations);
                join(
                    &mut answer.data,
                    found.data,
                    part,
                    asked.grid,
                    &asker.budget,
                )
                .map_err(|failure| self.named(&failure))?;
            }
        }
        if self.shape.can_merge_series() && !asked.is_partial() {
            answer.data = unique(answer.data, &asked.grid);
        }
        Ok(answer)
    }

    /// Returns what of a query is asked of the target; `None` if it has nothing to say to it.
    fn as_asked<'a>(&self, asked: Asked<'a>) -> Option<(Cow<'a, str>, Grid)> {
        let Some(expr) = asked.expr else {
            return Some((Cow::Borrowed(asked.text), asked.grid));
        };
        let filter = self.filter.load_full();
        let rules = self.rules(filter.as_deref());
        let text = if rules.leave(expr) {
            Some(Cow::Borrowed(asked.text))
        } else {
            expr_for_target(expr, rules).map(Cow::Owned)
        };
        let is_filtered =
            text.is_none() && filter.is_some() && expr_for_target(expr, self.rules(None)).is_some();
        let what = if asked.grid.is_instant() {
            Filtered::Query
        } else {
            Filtered::QueryRange
        };
        self.skipped(is_filtered, what);
        let grid = self
            .windows()
            .try_fold(asked.grid, |grid, window| window.query(expr, grid))?;
        Some((text?, grid))
    }

    /// Makes one request for the times of `part`, and puts its answer onto `grid`, which has all of them.
    async fn query_part(
        &self,
        text: &str,
        part: Grid,
        grid: Grid,
        asker: &Asker,
    ) -> Result<Answer<Vec<Series<Column<Native>>>>, Failure> {
        let request = if part.is_instant() {
            ApiRequest::form(Call::Query, "/api/v1/query").with("time", seconds(part.start))
        } else {
            ApiRequest::form(Call::QueryRange, "/api/v1/query_range")
                .with("start", seconds(part.start))
                .with("end", seconds(part.end))
                .with("step", seconds(part.step))
        };
        let request = request.with("query", text);
        let request = match asker.lookback_ms {
            Some(lookback) => request.with("lookback_delta", seconds(lookback)),
            None => request,
        };
        let shift = if self.common.config.align_query_range_with_step {
            step_shift(part)
        } else {
            0
        };
        let sink = OnGrid::new(grid, shift);
        let decoded = self.answer_to(request, text, sink, asker).await?;
        Ok(Answer {
            data: decoded.series,
            annotations: decoded.annotations,
        })
    }

    /// Reads all samples between two times, which both belong to it.
    pub(crate) async fn raw(
        &self,
        matchers: &[Matcher],
        start: i64,
        end: i64,
        asker: &Asker,
    ) -> Result<Answer<Vec<Series<Samples<Native>>>>, UpstreamError> {
        let filter = self.filter.load_full();
        let Some(asked) = self.rules(filter.as_deref()).selector(matchers) else {
            let is_filtered = filter.is_some_and(|filter| !filter.passes(matchers));
            self.skipped(is_filtered, Filtered::Raw);
            return Ok(Answer::default());
        };
        let Some((Some(start), Some(end))) = self.span(Some(start), Some(end)) else {
            return Ok(Answer::default());
        };
        let mut answer = if self.common.config.remote_read.is_some() {
            let asking = pin!(self.remote_read(&asked, start, end, asker));
            self.counted(Call::Raw, asker, asking).await?
        } else {
            let asking = pin!(self.raw_query(&asked, start, end, asker));
            self.counted(Call::Raw, asker, asking).await?
        };
        for series in &mut answer.data {
            // Whole seconds are asked for, and older servers count the first moment of a range to it.
            series
                .data
                .floats
                .retain(|(time, _)| (start..=end).contains(time));
            series
                .data
                .histograms
                .retain(|(time, _)| (start..=end).contains(time));
        }
        answer
            .data
            .retain(|series| !series.data.floats.is_empty() || !series.data.histograms.is_empty());
        if self.shape.can_merge_series() {
            answer.data = unique(answer.data, &());
        }
        Ok(answer)
    }

    async fn raw_query(
        &self,
        matchers: &[Matcher],
        start: i64,
        end: i64,
        asker: &Asker,
    ) -> Result<Answer<Vec<Series<Samples<Native>>>>, Failure> {
        let text = Fetch::raw_text(&selector_text(matchers), start, end);
        let request = ApiRequest::form(Call::Raw, "/api/v1/query")
            .with("time", seconds(end))
            .with("query", text.as_str());
        let sink = OwnTimes::new();
        let decoded = self.answer_to(request, &text, sink, asker).await?;
        Ok(Answer {
            data: decoded.series,
            annotations: decoded.annotations,
        })
    }

    /// Asks for the answer to a query. It is packed unless the last one was short.
    async fn answer_to<S>(
        &self,
        request: ApiRequest,
        text: &str,
        sink: S,
        asker: &Asker,
    ) -> Result<Decoded<S::Data>, Failure>
    where
        S: Sink + Send + 'static,
        S::Data: Send,
    {
        let last = self.short_answers.of(request.call, text);
        let request = request.plain_if(last.was_short());
        let body = self.ask(&request, asker).await?;
        let (decoded, length) = self.decoded(body, sink, asker).await?;
        last.is_now(length);
        Ok(decoded)
    }

    /// Reads an answer while it comes, large pieces of it on a thread that may take its time. Returns how many bytes it had, too.
    async fn decoded<S>(
        &self,
        mut body: Body,
        sink: S,
        asker: &Asker,
    ) -> Result<(Decoded<S::Data>, u64), Failure>
    where
        S: Sink + Send + 'static,
        S::Data: Send,
    {
        let most = usize::try_from(asker.budget.samples_left()).unwrap_or(usize::MAX);
        let mut reading = Reading {
            inflater: body.inflater(),
            stream: Stream::new(sink, self.shape.clone(), most.saturating_add(1)),
            counted: Size::default(),
            budget: Arc::clone(&asker.budget),
        };
        let mut is_first = true;
        loop {
            let mut batch: Vec<Bytes> = Vec::new();
            let mut size = 0;
            let mut is_end = false;
            while size < BATCH && !is_end {
                match body.next().await? {
                    Some(bytes) => {
                        size += bytes.len();
                        batch.push(bytes);
                    }
                    None => is_end = true,
                }
            }
            if size <= SMALL && is_first && is_end {
                reading.take_whole(batch)?;
            } else if size <= SMALL {
                reading.take(&batch)?;
            } else {
                let work = move || reading.take(&batch).map(|()| reading);
                reading = spawn_blocking(work).await.map_err(|_| lost())??;
            }
            if is_end {
                return reading.finish();
            }
            is_first = false;
        }
    }
}

fn lost() -> Failure {
    Failure::new(FailureKind::Execution, "reading the answer failed")
}

/// Writes matchers as a selector.
pub(super) fn selector_text(matchers: &[Matcher]) -> String {
    let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

/// An answer that is being read.
struct Reading<S: Sink> {
    inflater: Inflater,
    stream: Stream<S>,
    /// What of it was taken from the budget.
    counted: Size,
    budget: Arc<Budget>,
}

impl<S: Sink> Reading<S> {
    fn take(&mut self, batch: &[Bytes]) -> Result<(), Failure> {
        let Self {
            inflater,
            stream,
            budget,
            ..
        } = self;
        for bytes in batch {
            inflater.inflate(bytes, budget, |text| {
                stream.push(text).map_err(Failure::from)
            })?;
        }
        self.count()
    }

    /// Takes all of a short answer.
    fn take_whole(&mut self, pieces: Vec<Bytes>) -> Result<(), Failure> {
        let whole = match <[Bytes; 1]>::try_from(pieces) {
            Ok([whole]) => whole,
            Err(pieces) => pieces.concat().into(),
        };
        let Self {
            inflater,
            stream,
            budget,
            ..
        } = self;
        inflater.inflate_whole(&whole, budget, |text| {
            stream.push(text).map_err(Failure::from)
        })?;
        self.count()
    }

    /// Returns what was read, and of how many bytes.
    fn finish(self) -> Result<(Decoded<S::Data>, u64), Failure> {
        self.inflater.finish()?;
        let length = self.inflater.length();
        let (counted, budget) = (self.counted, self.budget);
        let (decoded, size) = self.stream.finish()?;
        take_more(&budget, counted, size)?;
        Ok((decoded, length))
    }

    fn count(&mut self) -> Result<(), Failure> {
        let size = self.stream.size();
        take_more(&self.budget, self.counted, size)?;
        self.counted = size;
        Ok(())
    }
}

/// What a series takes beside its labels and samples, in bytes: more than the shortest has text.
const OF_A_SERIES: usize = 200;

/// Takes from a budget what has been added since it was asked last. Room that stays empty is memory for which no text has come.
fn take_more(budget: &Budget, before: Size, now: Size) -> Result<(), Failure> {
    take_samples(budget, now.samples.saturating_sub(before.samples))?;
    let empty = now.empty.saturating_sub(before.empty) * size_of::<f64>();
    let series = now.series.saturating_sub(before.series) * OF_A_SERIES;
    let bytes = (empty + series) as u64;
    budget.take_bytes(bytes).map_err(|over| match over {
        OverBudget::Bytes(most) | OverBudget::Samples(most) => BodyError::OverBudget(most).into(),
    })
}

pub(super) fn take_samples(budget: &Budget, samples: usize) -> Result<(), Failure> {
    let over = |over| match over {
        OverBudget::Bytes(most) | OverBudget::Samples(most) => {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            Failure::from(DecodeError::TooManySamples(most))
        }
    };
    budget.take_samples(samples as u64).map_err(over)
}

/// Puts the columns of a part of a grid into those of the whole; of equal labels, the first's into the first. What the columns of
/// the part have taken from the budget is given back.
fn join(
    whole: &mut Vec<Series<Column<Native>>>,
    part: Vec<Series<Column<Native>>>,
    part_grid: Grid,
    grid: Grid,
    budget: &Budget,
) -> Result<(), Failure> {
    let mut known: HashMap<Labels, VecDeque<usize>> = HashMap::with_capacity(whole.len());
    for (place, series) in whole.iter().enumerate() {
        known
            .entry(series.labels.clone())
            .or_default()
            .push_back(place);
    }
    let first = grid.index(part_grid.start).unwrap_or(0);
    let length = grid.len();
    for series in part {
        let places = known.get_mut(&series.labels);
        let place = places.and_then(VecDeque::pop_front).unwrap_or(whole.len());
        if place == whole.len() {
            take_samples(budget, length)?;
            whole.push(Series {
                labels: series.labels.clone(),
                data: Column::empty(length),
            });
        }
        let column = &mut whole[place].data;
        for (at, value) in series.data.iter() {
            if first + at < length {
                column.set(first + at, value);
            }
        }
        for (at, histogram) in series.data.histograms() {
            let at = first + *at as usize;
            if at < length {
                column.set_histogram(at, Arc::clone(histogram));
            }
        }
        budget.give_back_samples(series.data.len() as u64);
    }
    Ok(())
}
