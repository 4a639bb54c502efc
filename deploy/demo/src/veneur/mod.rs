//! veneur-proxy's part of the demo: each generation between local veneurs and four global ones, and the bridge that lets
//! either side speak what the other does not.
//!
//! What should arrive where is asked of [`ConsistentRing`](shared::hashing::consistent::ConsistentRing), the ring alone; and
//! it has to arrive byte for byte: JSON elements and protobuf messages as they were sent, or as the other form of the same metric.

mod bridge;
mod consul;
mod dual;
mod global;
mod sender;
mod stage;
mod stream;
mod traffic;

use crate::scenario::{Sink, Stand};

/// Goes through all scenarios. The proxies that come back are still up.
pub(crate) async fn exercise(report: Sink<'_>) -> anyhow::Result<Vec<Stand>> {
    Ok(vec![
        dual::exercise(report).await?,
        stream::exercise(report).await?,
        bridge::to_newer_globals(report).await?,
        bridge::to_older_globals(report).await?,
    ])
}
