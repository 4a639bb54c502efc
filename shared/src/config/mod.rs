//! Configuration words that the Go originals share: flags ([`args`]) and durations ([`duration`]).

pub mod args;
pub mod duration;
