//! What destinations received when the originals were recorded, and destinations at the same places.

use serde::Deserialize;
use shared::testing::golden;

use super::{
    peers::{Manner, Peer, Speaks},
    support,
};

/// Ports of the recordings; only one test at a time can have them.
pub(crate) const PORTS: &str = "veneur-proxy-golden-ports";

/// What one destination received.
#[derive(Deserialize)]
pub(crate) struct Received {
    pub(crate) dest: String,
    #[serde(default)]
    pub(crate) head: Vec<String>,
    #[serde(default)]
    pub(crate) body: String,
    #[serde(default)]
    pub(crate) messages_b64: Vec<String>,
    #[serde(default)]
    pub(crate) deadline_s: Option<f64>,
}

/// Reads what was received in a case.
pub(crate) fn received(case: &str) -> Vec<Received> {
    golden::json_lines(support::path(&format!("routing/{case}/received.jsonl")))
}

/// Four destinations, the first at this port.
pub(crate) async fn four(first_port: u16, speaks: Speaks) -> Vec<Peer> {
    let mut peers = Vec::new();
    for port in first_port..first_port + 4 {
        let address = ([127, 0, 0, 1], port).into();
        peers.push(Peer::bind(address, speaks, Manner::Takes).await);
    }
    peers
}
