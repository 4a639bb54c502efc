//! statsd-proxy: routes StatsD lines to backends by consistent hashing, or mirrors them.
//!
//! A drop-in for go-statsd-proxy and for statsd's `proxy.js`. In reading order:
//!
//! * [`flags`] and [`config`]: from words and a file to a valid [`config::Config`]
//! * [`line`]: what a line is, and which part of it is hashed (pure)
//! * [`routing`]: which nodes a line goes to, as an immutable snapshot (pure)
//! * [`relay`]: the data path, from packet to node, one per input thread
//! * [`input`] and [`output`]: the sockets on either side of it
//! * [`membership`]: the one owner of nodes, their health ([`health`]) and addresses ([`resolve`]); publishes snapshots
//! * [`management`] and [`telemetry`]: what operators and scrapers see, read from [`counters`]
//! * [`app`]: puts the parts together: build, start, reload, drain

pub mod app;
pub mod config;
pub mod counters;
pub mod flags;
mod health;
mod input;
pub mod line;
pub mod log_style;
mod management;
mod membership;
pub mod memory;
pub mod node;
pub mod output;
pub mod placement;
pub mod relay;
mod reload;
pub mod resolve;
pub mod routing;
mod telemetry;
