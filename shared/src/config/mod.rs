//! Configuration words that the Go originals share: flags ([`args`]) and durations ([`duration`]); and what must not be
//! seen ([`secret`]).

pub mod args;
pub mod duration;
pub mod secret;
