//! What the proxy's own API sends.
//!
//! * [`write_json`]: answers as Prometheus writes them

pub mod write_json;
