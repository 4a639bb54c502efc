//! `metricpb.Metric` and `tdigest.MergingDigestData`.

use prost::{Enumeration, Message, Oneof};

/// One metric on its way to a global veneur.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Usually UTF-8.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// In the sender's order, usually UTF-8.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub tags: Vec<Vec<u8>>,
    /// A [`Type`]; other numbers pass.
    #[prost(enumeration = "Type", tag = "3")]
    pub r#type: i32,
    /// What was measured.
    #[prost(oneof = "Value", tags = "5, 6, 7, 8")]
    pub value: Option<Value>,
    /// A [`Scope`]; other numbers pass.
    #[prost(enumeration = "Scope", tag = "9")]
    pub scope: i32,
}

/// What a metric measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Type {
    /// A sum.
    Counter = 0,
    /// A last value.
    Gauge = 1,
    /// A distribution.
    Histogram = 2,
    /// How many distinct values.
    Set = 3,
    /// A distribution of durations.
    Timer = 4,
}

impl Type {
    /// Returns the lower-case name, which routing and JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Set => "set",
            Self::Timer => "timer",
        }
    }

    /// Returns the type of that lower-case name.
    pub fn from_name(name: &str) -> Option<Self> {
        (0..=4)
            .filter_map(|number| Self::try_from(number).ok())
            .find(|kind| kind.name() == name)
    }
}

/// Where a metric is aggregated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Scope {
    /// Partly here, partly there, as its type has it.
    Mixed = 0,
    /// In the local veneur.
    Local = 1,
    /// In the global veneur.
    Global = 2,
}

/// The value of a metric.
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// Of a counter.
    #[prost(message, tag = "5")]
    Counter(CounterValue),
    /// Of a gauge.
    #[prost(message, tag = "6")]
    Gauge(GaugeValue),
    /// Of a histogram or timer.
    #[prost(message, tag = "7")]
    Histogram(HistogramValue),
    /// Of a set.
    #[prost(message, tag = "8")]
    Set(SetValue),
}

/// The value of a counter.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct CounterValue {
    /// The sum.
    #[prost(int64, tag = "1")]
    pub value: i64,
}

/// The value of a gauge.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct GaugeValue {
    /// The last value.
    #[prost(double, tag = "1")]
    pub value: f64,
}

/// The value of a histogram or timer.
#[derive(Clone, PartialEq, Message)]
pub struct HistogramValue {
    /// What was seen, in brief.
    #[prost(message, optional, tag = "1")]
    pub t_digest: Option<MergingDigestData>,
}

/// The value of a set.
#[derive(Clone, PartialEq, Message)]
pub struct SetValue {
    /// The sketch as `axiomhq/hyperloglog` writes it.
    #[prost(bytes = "vec", tag = "1")]
    pub hyper_log_log: Vec<u8>,
}

/// A t-digest.
#[derive(Clone, PartialEq, Message)]
pub struct MergingDigestData {
    /// Ascending by mean.
    #[prost(message, repeated, tag = "1")]
    pub main_centroids: Vec<Centroid>,
    /// 100 in all senders seen.
    #[prost(double, tag = "2")]
    pub compression: f64,
    /// The smallest value seen.
    #[prost(double, tag = "3")]
    pub min: f64,
    /// The largest value seen.
    #[prost(double, tag = "4")]
    pub max: f64,
    /// The sum of the reciprocals, for the harmonic mean.
    #[prost(double, tag = "5")]
    pub reciprocal_sum: f64,
}

/// Values that are near each other, as one.
#[derive(Clone, PartialEq, Message)]
pub struct Centroid {
    /// Their mean.
    #[prost(double, tag = "1")]
    pub mean: f64,
    /// How many they are.
    #[prost(double, tag = "2")]
    pub weight: f64,
    /// The values themselves, which only debugging senders include.
    #[prost(double, repeated, tag = "3")]
    pub samples: Vec<f64>,
}
