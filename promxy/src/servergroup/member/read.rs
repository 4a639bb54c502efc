//! Raw samples in Prometheus' remote read protocol.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use promql::{
    histogram::{CounterResetHint, FloatHistogram, HistogramParts, Span},
    parser::{MatchOp, Matcher},
};

use super::{Failure, Member, query::take_samples, send::judged};
use crate::{
    labels::Labels,
    remote::{
        self, RemoteError,
        chunks::{self, Content},
        frames::Frames,
        messages::{
            BucketSpan, Histogram, Label, LabelMatcher, Query, ReadRequest, ReadResponse, SAMPLES,
            STREAMED_XOR_CHUNKS,
        },
    },
    series::{Native, Samples, Series},
    servergroup::{body::Body, request::encode},
    upstream::{Answer, Asker, Budget, FailureKind},
};

/// The largest frame of a streamed answer.
const LARGEST_FRAME: usize = 50 << 20;

/// The largest answer that is no stream, unpacked.
const LARGEST_MESSAGE: usize = 512 << 20;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-read-version");
const SNAPPY: HeaderValue = HeaderValue::from_static("snappy");

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        Self::new(FailureKind::Execution, error.to_string())
    }
}

/// A series in a list that grows.
type Read = Series<Samples<Native>>;

impl Member {
    /// Reads all samples between two times.
    pub(super) async fn remote_read(
        &self,
        matchers: &[Matcher],
        start: i64,
        end: i64,
        asker: &Asker,
    ) -> Result<Answer<Vec<Read>>, Failure> {
        let chunks = self.read(matchers, start, end, asker, &[STREAMED_XOR_CHUNKS, SAMPLES]);
        let data = match chunks.await? {
            Some(series) => series,
            // Some chunks are of a kind that is not read here (newer servers have some): samples are asked for instead.
            None => self
                .read(matchers, start, end, asker, &[SAMPLES])
                .await?
                .ok_or_else(|| Failure::from(RemoteError::Chunk("not asked for")))?,
        };
        Ok(Answer {
            data,
            ..Answer::default()
        })
    }

    /// Makes one request; `None` if the answer has chunks of a kind that is not read here.
    async fn read(
        &self,
        matchers: &[Matcher],
        start: i64,
        end: i64,
        asker: &Asker,
        accepted: &[i32],
    ) -> Result<Option<Vec<Read>>, Failure> {
        let request = ReadRequest {
            queries: vec![Query {
                start_timestamp_ms: start,
                end_timestamp_ms: end,
                matchers: matchers.iter().map(matcher).collect(),
                hints: None,
            }],
            accepted_response_types: accepted.to_vec(),
        };
        let mut headers = self.headers(asker);
        headers.insert(header::ACCEPT_ENCODING, SNAPPY);
        headers.insert(header::CONTENT_ENCODING, SNAPPY);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        headers.insert(VERSION, HeaderValue::from_static("0.1.0"));
        let params = &self.common.params;
        let params = encode(
            params
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let mark = if params.is_empty() { "" } else { "?" };
        let url = format!("{}{mark}{params}", self.name);
        let body = Bytes::from(remote::encode(&request));
        let (status, is_stream, answer) = self.send_read(&url, headers, body).await?;
        let answer = judged(status, answer, asker).await?;
        if is_stream {
            self.read_stream(answer, asker).await
        } else {
            self.read_message(answer, asker).await.map(Some)
        }
    }

    async fn read_message(&self, answer: Body, asker: &Asker) -> Result<Vec<Read>, Failure> {
        let packed = answer
            .limited(LARGEST_MESSAGE as u64)
            .read(&asker.budget)
            .await?;
        let message: ReadResponse = remote::decode(&packed, LARGEST_MESSAGE)?;
        let mut all = Vec::new();
        for series in message
            .results
            .into_iter()
            .flat_map(|result| result.timeseries)
        {
            take_samples(&asker.budget, series.samples.len())?;
            let floats = series.samples.iter();
            let mut data = Samples {
                floats: floats
                    .map(|sample| (sample.timestamp, sample.value))
                    .collect(),
                histograms: Vec::with_capacity(series.histograms.len()),
            };
            for shown in series.histograms {
                let time = shown.timestamp;
                let histogram = histogram(shown)?;
                take_samples(&asker.budget, histogram.sample_equivalents())?;
                push_histogram(&mut data, time, histogram);
            }
            all.push(Series {
                labels: self.shape.of(&labels(&series.labels)),
                data,
            });
        }
        Ok(all)
    }

    async fn read_stream(
        &self,
        mut answer: Body,
        asker: &Asker,
    ) -> Result<Option<Vec<Read>>, Failure> {
        let mut inflater = answer.inflater();
        let mut frames = Frames::new(LARGEST_FRAME);
        let mut all: Vec<Read> = Vec::new();
        // A series may go on in the next frame.
        let mut last: Vec<Label> = Vec::new();
        while let Some(bytes) = answer.next().await? {
            inflater.inflate(&bytes, &asker.budget, |bytes| {
                frames.push(bytes);
                Ok::<(), Failure>(())
            })?;
            while let Some(frame) = frames.take()? {
                for series in frame.chunked_series {
                    let is_same = !all.is_empty() && series.labels == last;
                    if !is_same {
                        all.push(Series {
                            labels: self.shape.of(&labels(&series.labels)),
                            data: Samples::default(),
                        });
                        last = series.labels;
                    }
                    let Some(current) = all.last_mut() else {
                        continue;
                    };
                    for chunk in series.chunks {
                        match chunks::open(&chunk) {
                            Err(RemoteError::UnknownChunk(_)) => return Ok(None),
                            content => take(content?, &mut current.data, &asker.budget)?,
                        }
                    }
                }
            }
        }
        if frames.is_at_end() {
            Ok(Some(all))
        } else {
            Err(Failure::new(FailureKind::Execution, "unexpected EOF"))
        }
    }
}

/// Takes the samples of a chunk, each as the budget allows it.
fn take(content: Content<'_>, into: &mut Samples<Native>, budget: &Budget) -> Result<(), Failure> {
    match content {
        Content::Floats(floats) => {
            take_samples(budget, floats.len())?;
            into.floats.extend(floats);
        }
        Content::Histograms(histograms) => {
            for sample in histograms {
                let (time, histogram) = sample?;
                take_samples(budget, histogram.sample_equivalents())?;
                push_histogram(into, time, histogram);
            }
        }
    }
    Ok(())
}

fn push_histogram(into: &mut Samples<Native>, time: i64, mut histogram: FloatHistogram) {
    if let Some((_, before)) = into.histograms.last() {
        histogram.share_bounds(before);
    }
    into.histograms.push((time, Arc::new(histogram)));
}

fn matcher(matcher: &Matcher) -> LabelMatcher {
    LabelMatcher {
        kind: match matcher.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        },
        name: matcher.name.to_str_lossy().into_owned(),
        value: matcher.value.to_str_lossy().into_owned(),
    }
}

fn labels(labels: &[Label]) -> Labels {
    labels
        .iter()
        .map(|label| (label.name.as_str(), label.value.as_str()))
        .collect()
}

/// Makes a histogram of a message.
fn histogram(message: Histogram) -> Result<FloatHistogram, Failure> {
    let made = FloatHistogram::new(HistogramParts {
        schema: message.schema,
        zero_threshold: message.zero_threshold,
        zero_count: either(message.zero_count_int, message.zero_count_float),
        count: either(message.count_int, message.count_float),
        sum: message.sum,
        positive_spans: spans(&message.positive_spans),
        positive_counts: counts(&message.positive_deltas, message.positive_counts),
        negative_spans: spans(&message.negative_spans),
        negative_counts: counts(&message.negative_deltas, message.negative_counts),
        custom_values: message.custom_values,
        hint: match message.reset_hint {
            1 => CounterResetHint::Reset,
            2 => CounterResetHint::NotReset,
            3 => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
    });
    made.map_err(|error| Failure::new(FailureKind::Execution, error.to_string()))
}

fn either(int: Option<u64>, float: Option<f64>) -> f64 {
    float.or(int.map(|int| int as f64)).unwrap_or(0.0)
}

fn spans(spans: &[BucketSpan]) -> Vec<Span> {
    let own = |span: &BucketSpan| Span {
        offset: span.offset,
        length: span.length,
    };
    spans.iter().map(own).collect()
}

/// Returns the counts of buckets, which integer histograms have as differences.
fn counts(deltas: &[i64], counts: Vec<f64>) -> Vec<f64> {
    if deltas.is_empty() {
        return counts;
    }
    let mut count = 0i64;
    let absolute = deltas.iter().map(|delta| {
        count = count.wrapping_add(*delta);
        count as f64
    });
    absolute.collect()
}
