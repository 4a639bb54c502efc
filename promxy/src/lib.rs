//! Many Prometheus servers as one.
//!
//! In reading order:
//!
//! * [`flags`]: the command line
//! * [`config`]: the configuration file
//! * [`labels`]: label sets, relabelling, matchers
//! * [`plan`]: which requests a query becomes, and what is left to evaluate here
//! * [`upstream`]: what queries and the API ask the server groups for
//! * [`servergroup`]: targets, their windows of time, and what their answers hold
//! * [`series`]: samples and columns
//! * [`merge`]: the answers of replicas and groups as one
//! * [`query`]: queries from text to value
//! * [`remote`]: remote read and write
//! * [`rules`]: files of rules, which are checked
//! * [`message`]: requests and answers; [`state`]: what requests are answered from
//! * [`api`]: the HTTP API; [`web`]: the server around it
//! * [`telemetry`]: metrics and logs; [`build_info`]: the version
//! * [`app`]: the program, from building to draining; [`reload`]: another configuration for it
//!
//! Errors that reach a user have the original's words. Nothing here panics on what comes from outside.

pub mod api;
pub mod app;
pub mod build_info;
pub mod config;
pub mod discovery;
pub mod flags;
pub mod labels;
pub mod merge;
pub mod message;
pub mod plan;
pub mod query;
pub mod reload;
pub mod remote;
pub mod rules;
pub mod series;
pub mod servergroup;
pub mod state;
pub mod telemetry;
pub mod upstream;
pub mod web;

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
