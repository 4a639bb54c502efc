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
//!
//! And what makes a program of it:
//!
//! * [`flags`]: the command line
//! * `listen`, `serve`: sockets, and HTTP on them
//! * `import`, `grpc`: what metrics come by
//! * `admin`, `telemetry`: what operators and scrapers see
//! * [`memory`]: how soon freed memory is given back
//! * [`app`]: puts the parts together: build, start, drain

mod admin;
pub mod app;
pub mod config;
pub mod convert;
pub mod destinations;
pub mod flags;
pub mod forward;
mod grpc;
mod import;
pub mod json_metric;
mod listen;
pub mod memory;
pub mod observe;
pub mod proto;
pub mod route;
mod serve;
mod telemetry;
pub mod wire;

/// The version that the proxy tells its clients and its metrics: `VENEUR_PROXY_VERSION` when it was built. Like the
/// originals it is `dirty` if nobody said.
pub const VERSION: &str = match option_env!("VENEUR_PROXY_VERSION") {
    Some(version) => version,
    None => "dirty",
};

/// When it was built: `VENEUR_PROXY_BUILD_DATE` then.
pub const BUILD_DATE: &str = match option_env!("VENEUR_PROXY_BUILD_DATE") {
    Some(date) => date,
    None => "dirty",
};
