//! The messages of veneur's gRPC service and of its traces, written by hand.
//!
//! There is no code generator: the messages are few and frozen, and names and tags must be bytes, because the original
//! takes and forwards text that is not UTF-8. `tests/proto.rs` holds the field numbers against bytes that originals sent.
//! The proxy itself routes without decoding (see [`crate::wire`]); these are for conversion, tests and peers.
//!
//! * [`metricpb`]: a metric and its digest (`samplers/metricpb/metric.proto`, `tdigest/tdigest.proto`)
//! * [`forwardrpc`]: the request of `SendMetrics` (`forwardrpc/forward.proto`)
//! * [`ssf`]: spans with samples, in which the proxy of generations 3 to 14 reports on itself (`ssf/sample.proto`)

pub mod forwardrpc;
pub mod metricpb;
pub mod ssf;
