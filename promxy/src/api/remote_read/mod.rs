//! `/api/v1/read`: raw samples for Prometheus servers and others that read them remotely.
//!
//! Clients say which forms of answers they take, best first: all samples in one message, or a stream of frames with chunks.
//! External labels are added to every series; a matcher on one of them is answered here.

mod chunks;

use std::{fmt::Write as _, sync::atomic::Ordering::Relaxed, time::Duration};

use axum::body::{Body, Bytes};
use futures_util::{future::try_join_all, stream};
use http::{HeaderValue, StatusCode, header::CONTENT_ENCODING};
use promql::{
    histogram::{CounterResetHint, FloatHistogram, Span},
    labels::LabelMatcher,
    parser::{MatchOp, Matcher},
};
use tokio::time::timeout;

use crate::{
    labels::{self, Labels},
    merge::{self, Options},
    message::{
        Request,
        answer::{self, Response},
    },
    remote::{
        decode, encode, frames,
        messages::{
            BucketSpan, Histogram, Label, Query, QueryResult, ReadRequest, ReadResponse, SAMPLES,
            STREAMED_XOR_CHUNKS, Sample, TimeSeries,
        },
    },
    series::{Native, Samples, Series},
    state::State,
    upstream::{Asker, UpstreamError},
};

/// The longest request, unpacked.
const LONGEST: usize = 64 << 20;

/// Why there is no answer.
enum Refusal {
    /// The request makes no sense.
    Request(String),
    /// The servers have no answer, or it cannot be sent.
    Servers(String),
}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        Self::Servers(error.message)
    }
}

/// One place among the remote reads, counted while it is waited for and while it is held.
struct Counted<'a>(&'a State);

impl<'a> Counted<'a> {
    fn new(state: &'a State) -> Self {
        state.telemetry.other.remote_reads.fetch_add(1, Relaxed);
        Self(state)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.telemetry.other.remote_reads.fetch_sub(1, Relaxed);
    }
}

/// Answers a remote read.
pub async fn answer(state: &State, request: &Request) -> Response {
    let _counted = Counted::new(state);
    let limit = state.flags.query_timeout.unwrap_or(Duration::MAX);
    let asker = state.asker(&request.headers);
    let reading = timeout(limit, async {
        // The semaphore is never closed.
        let _place = state.remote_reads.acquire().await.ok();
        read(state, request, &asker).await
    });
    let reading = reading.await;
    let out_of_time = || Refusal::Servers("remote read timed out".to_owned());
    match reading.unwrap_or_else(|_| Err(out_of_time())) {
        Ok(response) => response,
        Err(Refusal::Request(text)) => answer::error(StatusCode::BAD_REQUEST, &text),
        Err(Refusal::Servers(text)) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, &text),
    }
}

async fn read(state: &State, request: &Request, asker: &Asker) -> Result<Response, Refusal> {
    let asked: ReadRequest =
        decode(&request.body, LONGEST).map_err(|error| Refusal::Request(error.to_string()))?;
    let form = negotiate(&asked.accepted_response_types)?;
    let live = state.live();
    let external: Labels = live
        .config
        .external_labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let found = asked
        .queries
        .iter()
        .map(|query| select(state, query, &external, asker));
    let found = try_join_all(found).await?;
    Ok(match form {
        Form::Chunks => stream_of(found),
        Form::Samples => message_of(found),
    })
}

/// Forms of the answer.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Samples,
    Chunks,
}

fn negotiate(accepted: &[i32]) -> Result<Form, Refusal> {
    if accepted.is_empty() {
        return Ok(Form::Samples);
    }
    let known = accepted.iter().find_map(|form| match *form {
        SAMPLES => Some(Form::Samples),
        STREAMED_XOR_CHUNKS => Some(Form::Chunks),
        _ => None,
    });
    known.ok_or_else(|| {
        let mut text = String::from("server does not support any of the requested response types:");
        for form in accepted {
            write!(text, " {form}").expect("writing to a String cannot fail");
        }
        Refusal::Request(text)
    })
}

/// Reads the series of one query, sorted by labels, with external labels.
async fn select(
    state: &State,
    query: &Query,
    external: &Labels,
    asker: &Asker,
) -> Result<Vec<Series<Samples<Native>>>, Refusal> {
    let mut matchers = Vec::with_capacity(query.matchers.len());
    for matcher in &query.matchers {
        let op = match matcher.kind {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err(Refusal::Request("invalid matcher type".to_owned())),
        };
        let is_external =
            op == MatchOp::Equal && external.get(&matcher.name) == Some(matcher.value.as_str());
        let value = if is_external { "" } else { &matcher.value };
        let matcher = Matcher {
            name: matcher.name.as_str().into(),
            op,
            value: value.into(),
        };
        LabelMatcher::new(&matcher).map_err(|error| Refusal::Request(error.to_string()))?;
        matchers.push(matcher);
    }
    if matchers.is_empty() {
        return Ok(Vec::new());
    }
    let (start, end) = (query.start_timestamp_ms, query.end_timestamp_ms);
    let answer = state.upstream().raw(&matchers, start, end, asker).await?;
    let members = answer.data.into_iter().map(|part| part.series).collect();
    let mut series = merge::sets(members, Options::GROUPS, &());
    for one in &mut series {
        one.labels = labels::with(external, &one.labels);
    }
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(series)
}

fn message_of(found: Vec<Vec<Series<Samples<Native>>>>) -> Response {
    let results = found.into_iter().map(|series| QueryResult {
        timeseries: series.into_iter().map(time_series).collect(),
    });
    let message = ReadResponse {
        results: results.collect(),
    };
    let mut response = answer::whole(StatusCode::OK, "application/x-protobuf", encode(&message));
    let snappy = HeaderValue::from_static("snappy");
    response.headers_mut().insert(CONTENT_ENCODING, snappy);
    response
}

/// Frames are made while they are sent, one series after the other.
fn stream_of(found: Vec<Vec<Series<Samples<Native>>>>) -> Response {
    let all = found.into_iter().enumerate().flat_map(|(query, series)| {
        let query = i64::try_from(query).unwrap_or(i64::MAX);
        series.into_iter().map(move |series| (query, series))
    });
    let frames = all.flat_map(|(query, series)| {
        let labels = pairs(&series.labels);
        chunks::frames(&labels, &series.data, query)
            .into_iter()
            .map(|frame| Ok::<_, std::convert::Infallible>(Bytes::from(frames::write(&frame))))
    });
    answer::whole(
        StatusCode::OK,
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse",
        Body::from_stream(stream::iter(frames)),
    )
}

fn pairs(labels: &Labels) -> Vec<Label> {
    let pair = |(name, value): (&str, &str)| Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    labels.iter().map(pair).collect()
}

fn time_series(series: Series<Samples<Native>>) -> TimeSeries {
    let Series { labels, data } = series;
    let sample = |(timestamp, value)| Sample { value, timestamp };
    TimeSeries {
        labels: pairs(&labels),
        samples: data.floats.into_iter().map(sample).collect(),
        histograms: data
            .histograms
            .iter()
            .map(|(time, histogram)| histogram_at(*time, histogram))
            .collect(),
    }
}

fn histogram_at(timestamp: i64, histogram: &FloatHistogram) -> Histogram {
    let parts = histogram.to_parts();
    let spans = |spans: Vec<Span>| {
        let span = |span: Span| BucketSpan {
            offset: span.offset,
            length: span.length,
        };
        spans.into_iter().map(span).collect()
    };
    Histogram {
        count_int: None,
        count_float: Some(parts.count),
        sum: parts.sum,
        schema: parts.schema,
        zero_threshold: parts.zero_threshold,
        zero_count_int: None,
        zero_count_float: Some(parts.zero_count),
        negative_spans: spans(parts.negative_spans),
        negative_deltas: Vec::new(),
        negative_counts: parts.negative_counts,
        positive_spans: spans(parts.positive_spans),
        positive_deltas: Vec::new(),
        positive_counts: parts.positive_counts,
        reset_hint: match parts.hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        },
        timestamp,
        custom_values: parts.custom_values,
    }
}
