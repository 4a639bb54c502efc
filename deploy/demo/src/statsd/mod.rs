//! statsd-proxy's part of the demo: a hash ring that loses a node and is reloaded, and groups that mirror and hash.
//!
//! What should arrive where is asked of [`Placement`], the pure function behind `statsd-proxy -where`: same ring, no sockets.

mod backend;
mod groups;
mod ring;
mod stage;
mod traffic;

use crate::scenario::{Sink, Stand};

/// Goes through all scenarios. The proxies that come back are still up.
pub(crate) async fn exercise(report: Sink<'_>) -> anyhow::Result<Vec<Stand>> {
    let ring = ring::exercise(report).await?;
    let groups = groups::exercise(report).await?;
    Ok(vec![ring, groups])
}
