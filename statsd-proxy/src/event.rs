//! What is reported to [`crate::membership`], the one place that acts on it.

use std::{net::SocketAddr, sync::Arc};

use crate::{config::Config, node::Node};

/// Something that may change the routing.
#[derive(Debug)]
pub(crate) enum Event {
    /// A name was looked up; without an address, it has never resolved.
    Resolved {
        node: Arc<Node>,
        address: Option<SocketAddr>,
    },
    /// A health check drew a conclusion.
    Checked { node: Arc<Node>, up: bool },
    /// The configuration has changed.
    Reload(Box<Config>),
}
