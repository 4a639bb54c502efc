//! A sender.
use super::sender::Lane;
use tokio::sync::oneshot;
pub(super) async fn run(_lane: Lane, _tried: Option<oneshot::Sender<()>>) {}
