//! polymur-proxy: takes Graphite lines and carries them as gzip batches to a polymur gateway.
//!
//! A drop-in for jamiealquiza/polymur's `polymur-proxy` that loses nothing on the way. In reading order:
//!
//! * `flags` and `config`: from words and environment to a valid [`config::Config`]
//! * `lines`, `validate` and `pickle`: what a line is (pure)
//! * `batch` and `gzip`: lines gathered and compressed
//! * `input`: the sockets that lines come in by
//! * `intake`: the one way in, to the console or to where batches wait
//! * `budget`: the memory of all lines on their way there
//! * `queue` and `spool`: where batches wait, in memory and on disk
//! * `gateway`: requests, answers, retries
//! * `report`, `runstats`, `page`: what operators see, read from `counters` and `memory`
//! * `app`: puts the parts together: build, ping, start, reload, drain

pub mod app;
pub mod batch;
mod budget;
pub mod config;
mod console;
pub mod counters;
pub mod flags;
pub mod gateway;
pub mod gzip;
mod input;
mod intake;
pub mod lines;
mod listen;
mod memory;
mod page;
pub mod pickle;
pub mod queue;
mod report;
mod runstats;
mod secrets;
pub mod spool;
pub mod validate;
