//! veneur-proxy: routes metrics of local veneurs to global ones by consistent hashing.
//!
//! The core is functions over values, without sockets, clocks or tasks. In reading order:
//!
//! * [`wire`]: the metrics in a gRPC message, found without decoding them
//! * [`json_metric`]: the metrics in the body of `POST /import`, kept as received
//! * [`route`]: which destination a metric goes to
//! * [`convert`]: a metric of one format in the other
//! * [`config`]: a file of any generation, and the environment, become one valid configuration
//! * [`proto`]: the messages themselves, for conversion, tests and peers
//!
//! Around it, what forwards metrics:
//!
//! * [`forward`]: batches, queues, and the protocols that destinations speak
//! * [`destinations`]: who they are, from start to drain
//! * [`observe`]: what is told about it, for telemetry and logs

pub mod config;
pub mod convert;
pub mod destinations;
pub mod forward;
pub mod json_metric;
pub mod observe;
pub mod proto;
pub mod route;
pub mod wire;
