//! `ssf.SSFSpan`: how a proxy before the rewrite reports on itself, one span per datagram.

use std::collections::BTreeMap;

use prost::{Enumeration, Message};

/// A span, and the samples that travel with it.
#[derive(Clone, PartialEq, Message)]
pub struct SsfSpan {
    /// Of the format: 0.
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// The trace.
    #[prost(int64, tag = "2")]
    pub trace_id: i64,
    /// The span.
    #[prost(int64, tag = "3")]
    pub id: i64,
    /// The span above; 0 for none.
    #[prost(int64, tag = "4")]
    pub parent_id: i64,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "5")]
    pub start_timestamp: i64,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "6")]
    pub end_timestamp: i64,
    /// Whether what it stands for failed.
    #[prost(bool, tag = "7")]
    pub error: bool,
    /// `veneur-proxy`.
    #[prost(string, tag = "8")]
    pub service: String,
    /// What was measured.
    #[prost(message, repeated, tag = "10")]
    pub metrics: Vec<SsfSample>,
    /// Of the span.
    #[prost(btree_map = "string, string", tag = "11")]
    pub tags: BTreeMap<String, String>,
    /// Whether the span indicates the health of the service.
    #[prost(bool, tag = "12")]
    pub indicator: bool,
    /// The operation.
    #[prost(string, tag = "13")]
    pub name: String,
}

/// One measurement.
#[derive(Clone, PartialEq, Message)]
pub struct SsfSample {
    /// What is measured.
    #[prost(enumeration = "SsfMetric", tag = "1")]
    pub metric: i32,
    /// With the prefix `veneur_proxy.`.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The value.
    #[prost(float, tag = "3")]
    pub value: f32,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "4")]
    pub timestamp: i64,
    /// Of a status check.
    #[prost(string, tag = "5")]
    pub message: String,
    /// Of a status check: 0 ok, 1 warning, 2 critical, 3 unknown.
    #[prost(int32, tag = "6")]
    pub status: i32,
    /// The share of samples that is sent.
    #[prost(float, tag = "7")]
    pub sample_rate: f32,
    /// Of the sample.
    #[prost(btree_map = "string, string", tag = "8")]
    pub tags: BTreeMap<String, String>,
    /// `ns` for timings.
    #[prost(string, tag = "9")]
    pub unit: String,
}

/// What a sample measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SsfMetric {
    /// A sum.
    Counter = 0,
    /// A last value.
    Gauge = 1,
    /// A distribution.
    Histogram = 2,
    /// How many distinct values.
    Set = 3,
    /// A check.
    Status = 4,
}
