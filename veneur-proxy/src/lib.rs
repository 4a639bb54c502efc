//! The core of veneur-proxy: routes metrics of local veneurs to global ones by consistent hashing.
//!
//! Everything here is a function over values: no sockets, no clocks, no tasks. In reading order:
//!
//! * [`wire`]: the metrics in a gRPC message, found without decoding them
//! * [`json_metric`]: the metrics in the body of `POST /import`, kept as received
//! * [`route`]: which destination a metric goes to
//! * [`convert`]: a metric of one format in the other
//! * [`config`]: a file of any generation, and the environment, become one valid configuration
//! * [`proto`]: the messages themselves, for conversion, tests and peers

pub mod config;
pub mod convert;
pub mod json_metric;
pub mod proto;
pub mod route;
pub mod wire;
