//! Where the servers of a group are: the sources of the configuration, followed, and the clients they are asked with.
//!
//! [`start`] follows the sources of one group; [`Following`] keeps them together with what they were started from, so that a
//! reload can keep those that did not change, and with them the targets that they know. [`client_settings`] makes an HTTP
//! client's settings of what the configuration says, for sources and for server groups alike.

mod client;
mod discovered;
mod environment;
mod source;

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{SelectAll, unfold},
};
use shared::{discovery::targets::State, lifecycle::Tasks};
use tokio::{sync::watch, time::sleep};

use self::source::Started;
pub use self::{
    client::{ClientSettingsError, check_client, client_settings},
    discovered::{Discovered, Entry, Found},
    environment::Environment,
    source::DiscoveryError,
};
use crate::config::Discovery;

/// How long changes are gathered after the first one.
const BATCH: Duration = Duration::from_millis(100);

/// The sources of a group, followed until this is dropped.
#[derive(Debug)]
pub struct Following {
    discoveries: Vec<Discovery>,
    found: watch::Receiver<Arc<Discovered>>,
    tasks: Tasks,
}

impl Following {
    /// Starts following `discoveries`; see [`start`].
    pub fn start(
        group_name: &str,
        discoveries: &[Discovery],
        environment: &Environment,
        tasks: &Tasks,
    ) -> Result<Self, DiscoveryError> {
        let tasks = tasks.child();
        Ok(Self {
            found: start(group_name, discoveries, environment, &tasks)?,
            discoveries: discoveries.to_vec(),
            tasks,
        })
    }

    /// Returns whether these are the very sources of `discoveries`, so that a group with them can go on with what is known.
    pub fn is_of(&self, discoveries: &[Discovery]) -> bool {
        self.discoveries == discoveries
    }

    /// Returns a receiver of what is found.
    pub fn watch(&self) -> watch::Receiver<Arc<Discovered>> {
        self.found.clone()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// Starts following the sources of a group, until `tasks` is stopped. Connects to nothing before it returns, but reads
/// certificates: an error means that the configuration cannot be used.
///
/// What static sources list is there at once. Everything else comes as soon as it is known, changes of about a tenth of a
/// second together. The sources stand in the order of the configuration, and so do their targets. A source that cannot be
/// started where this process runs, because that is no pod, is one that fails for ever.
pub fn start(
    group_name: &str,
    discoveries: &[Discovery],
    environment: &Environment,
    tasks: &Tasks,
) -> Result<watch::Receiver<Arc<Discovered>>, DiscoveryError> {
    // All are made before the first one starts, so that an error leaves nothing behind.
    let prepared: Result<Vec<_>, _> = discoveries
        .iter()
        .map(|discovery| source::prepare(discovery, environment))
        .collect();
    let started = prepared?
        .into_iter()
        .map(|source| source.start(tasks, group_name));
    let started: Vec<Started> = started.collect();
    let mut found = Discovered {
        sources: started.iter().map(Started::found).collect(),
    };
    let mut states = SelectAll::new();
    for (index, source) in started.into_iter().enumerate() {
        if let Started::Followed(receiver) = source {
            let changes = unfold(receiver, move |mut receiver| async move {
                receiver.changed().await.ok()?;
                let state: State = receiver.borrow_and_update().clone();
                Some(((index, state), receiver))
            });
            states.push(changes.boxed());
        }
    }
    let (sender, receiver) = watch::channel(Arc::new(found.clone()));
    if states.is_empty() {
        // The receiver keeps the last value when nobody sends any more, but would say that it has ended.
        let stop = tasks.stop_token();
        tasks.spawn("static targets", async move {
            stop.cancelled().await;
            drop(sender);
        });
        return Ok(receiver);
    }
    let stop = tasks.stop_token();
    let gather = async move {
        while let Some((index, state)) = states.next().await {
            found.take(index, &state);
            sleep(BATCH).await;
            while let Some(Some((index, state))) = states.next().now_or_never() {
                found.take(index, &state);
            }
            sender.send_replace(Arc::new(found.clone()));
        }
    };
    tasks.spawn("group discovery", async move {
        let _stopped = stop.run_until_cancelled(gather).await;
    });
    Ok(receiver)
}
