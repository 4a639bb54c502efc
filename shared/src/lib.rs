//! What at least two of the tools need. `shared` knows no tool.
//!
//! Without features it is [`regex`](mod@regex), which needs no runtime; all else comes with the feature `service`, which the others bring.
//!
//! In reading order:
//!
//! * [`config`]: command-line words and durations as Go programs take them, and secrets
//! * [`regex`](mod@regex): regular expressions as Go programs take them
//! * [`discovery`]: where the members of a set come from: a list, a file, Consul (feature `consul`),
//!   Kubernetes (feature `kubernetes`); and targets as Prometheus discovers them (feature `targets`)
//! * [`hashing`]: the hash rings of the originals, point for point
//! * [`lifecycle`]: signals, named tasks and threads, drain with a deadline
//! * [`logging`]: log lines in the originals' formats, and a throttle for repeated ones
//! * [`listen`]: TCP listeners
//! * [`metrics`]: families for a Prometheus registry, and its `/metrics` page
//! * [`datagram`]: a UDP socket connected to a peer known by name
//! * [`http`]: serving a router with time limits and drain; over TLS and to those who may (feature `web-config`);
//!   a client with all that Prometheus' clients can be told (feature `http-client`)
//! * `tls`: certificates for servers and clients, private authorities, pinning (feature `tls`)
//! * `bell`: tasks that wake themselves (feature `http-client`)
//! * `testing`: child processes, raw peers and golden data (feature `testing`)

#[cfg(feature = "http-client")]
pub mod bell;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
pub mod datagram;
#[cfg(feature = "service")]
pub mod discovery;
#[cfg(feature = "service")]
pub mod hashing;
#[cfg(feature = "service")]
pub mod http;
#[cfg(feature = "service")]
pub mod lifecycle;
#[cfg(feature = "service")]
pub mod listen;
#[cfg(feature = "service")]
pub mod logging;
#[cfg(feature = "service")]
pub mod metrics;
pub mod regex;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
pub mod tls;
