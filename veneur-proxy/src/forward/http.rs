//! A sender.
use super::sender::Lane;
use tokio::sync::oneshot;
pub(super) fn start(_lane: &Lane, _tried: oneshot::Sender<()>) {}
