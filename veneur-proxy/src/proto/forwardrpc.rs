//! `forwardrpc.MetricList`, the request of `SendMetrics`, and the names of the service's methods.

use prost::Message;

use super::metricpb::Metric;

/// The path of the method that takes one [`MetricList`].
pub const SEND_METRICS: &str = "/forwardrpc.Forward/SendMetrics";
/// The path of the method that takes a stream of [`Metric`]s.
pub const SEND_METRICS_V2: &str = "/forwardrpc.Forward/SendMetricsV2";

/// The metrics of one flush.
#[derive(Clone, PartialEq, Message)]
pub struct MetricList {
    /// In the sender's order.
    #[prost(message, repeated, tag = "1")]
    pub metrics: Vec<Metric>,
}
