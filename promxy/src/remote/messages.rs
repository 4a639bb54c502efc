//! The messages of remote read and remote write, version 1 (`prompb/remote.proto`, `prompb/types.proto`).

use prost::Message;

/// A request for samples.
#[derive(Clone, PartialEq, Message)]
pub struct ReadRequest {
    /// What is asked.
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    /// The kinds of answers that are taken, best first: [`SAMPLES`], [`STREAMED_XOR_CHUNKS`].
    #[prost(int32, repeated, tag = "2")]
    pub accepted_response_types: Vec<i32>,
}

/// One message with all samples.
pub const SAMPLES: i32 = 0;
/// A stream of frames with chunks.
pub const STREAMED_XOR_CHUNKS: i32 = 1;

/// A question.
#[derive(Clone, PartialEq, Message)]
pub struct Query {
    /// The first time. Milliseconds since 1970.
    #[prost(int64, tag = "1")]
    pub start_timestamp_ms: i64,
    /// The last time.
    #[prost(int64, tag = "2")]
    pub end_timestamp_ms: i64,
    /// Which series.
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
    /// What will be done with them.
    #[prost(message, optional, tag = "4")]
    pub hints: Option<ReadHints>,
}

/// A condition on a label.
#[derive(Clone, PartialEq, Message)]
pub struct LabelMatcher {
    /// 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// The label.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The value or pattern.
    #[prost(string, tag = "3")]
    pub value: String,
}

/// What will be done with samples.
#[derive(Clone, PartialEq, Message)]
pub struct ReadHints {
    /// The query's step. Milliseconds.
    #[prost(int64, tag = "1")]
    pub step_ms: i64,
    /// The function around the selector.
    #[prost(string, tag = "2")]
    pub func: String,
    /// The first time that is needed.
    #[prost(int64, tag = "3")]
    pub start_ms: i64,
    /// The last.
    #[prost(int64, tag = "4")]
    pub end_ms: i64,
    /// The labels of the aggregation around it.
    #[prost(string, repeated, tag = "5")]
    pub grouping: Vec<String>,
    /// Whether they are those of `by`.
    #[prost(bool, tag = "6")]
    pub by: bool,
    /// The length of the range. Milliseconds.
    #[prost(int64, tag = "7")]
    pub range_ms: i64,
}

/// An answer with all samples.
#[derive(Clone, PartialEq, Message)]
pub struct ReadResponse {
    /// A result for each query.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<QueryResult>,
}

/// The answer to a question.
#[derive(Clone, PartialEq, Message)]
pub struct QueryResult {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// A series with samples.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Its labels, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Its numbers.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Its histograms.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

/// A label.
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A number at a time.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// The number.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// A native histogram at a time. Of each pair of counts, integer or float, one is there.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Observations, of integer histograms.
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    /// Observations, of float histograms.
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    /// Their sum.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// How fine buckets are; -53 for own bounds.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// How wide the zero bucket is.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Observations in it, of integer histograms.
    #[prost(uint64, optional, tag = "6")]
    pub zero_count_int: Option<u64>,
    /// Observations in it, of float histograms.
    #[prost(double, optional, tag = "7")]
    pub zero_count_float: Option<f64>,
    /// Where negative buckets lie.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    /// Their counts, each as the difference to the one before.
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    /// Their counts, of float histograms.
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    /// Where positive buckets lie.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    /// Their counts, each as the difference to the one before.
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// Their counts, of float histograms.
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// 0 unknown, 1 yes, 2 no, 3 a gauge.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    /// Own bounds.
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

/// A run of buckets.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct BucketSpan {
    /// How many buckets are left out before it.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// How many it has.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// A frame of a streamed answer.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkedReadResponse {
    /// Series, each perhaps only in part.
    #[prost(message, repeated, tag = "1")]
    pub chunked_series: Vec<ChunkedSeries>,
    /// Which query it belongs to.
    #[prost(int64, tag = "2")]
    pub query_index: i64,
}

/// A series with chunks.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkedSeries {
    /// Its labels, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Its chunks, by time.
    #[prost(message, repeated, tag = "2")]
    pub chunks: Vec<Chunk>,
}

/// Samples, packed.
#[derive(Clone, PartialEq, Message)]
pub struct Chunk {
    /// The first time. Milliseconds since 1970.
    #[prost(int64, tag = "1")]
    pub min_time_ms: i64,
    /// The last.
    #[prost(int64, tag = "2")]
    pub max_time_ms: i64,
    /// 1 floats, 2 histograms, 3 float histograms.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    /// The samples.
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

/// Samples to be stored.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}
