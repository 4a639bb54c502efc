//!
//! Everything here is a function over values: no sockets, no clocks, no tasks. In reading order:
//!
//! * [`wire`]: the metrics in a gRPC message, found without decoding them
//! * [`json_metric`]: the metrics in the body of `POST /import`, kept as received
//! * [`proto`]: the messages themselves, for conversion, tests and peers

pub mod json_metric;
pub mod proto;
pub mod wire;
