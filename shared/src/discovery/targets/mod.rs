//! Targets as Prometheus discovers them: groups of label sets, in the order in which their source has them (feature
//! `targets`).
//!
//! A [`Source`] follows what it looks at by itself and hands all its groups to a [`Publisher`] whenever they change. What it
//! knew stays through failures; an answer that names nothing empties it. Labels are those of Prometheus 3.5.

pub mod consul;
pub mod dns;
mod document;
pub mod file;
pub mod http;
pub mod kubernetes;
pub mod marathon;
mod request;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, error};

use crate::lifecycle::Tasks;

/// The label that holds a target's address.
pub const ADDRESS: &str = "__address__";

/// How long after a failure a source is asked again that has never answered, unless its own interval is shorter.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// Names and values of labels. None is empty.
pub type Labels = BTreeMap<String, String>;

/// Targets that share labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What the group stands for, unique within its source: a file and a number, a service, an object.
    pub source: String,
    /// The labels that all targets share, unless a target has its own of that name.
    pub labels: Labels,
    /// The labels of each target, [`ADDRESS`] among them.
    pub targets: Vec<Labels>,
}

/// All groups of a source, in its order.
pub type Groups = Arc<[Arc<Group>]>;

/// What is known of a source's targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Its groups; `None` before its first answer.
    pub groups: Option<Groups>,
    /// Why it could not be asked the last time, if so.
    pub failure: Option<Arc<str>>,
}

/// Something that names targets.
pub trait Source: Send + 'static {
    /// The word that log lines name it by.
    const KIND: &'static str;

    /// Follows the targets for ever. Is dropped when it is to end.
    fn follow(self, publisher: Publisher) -> impl Future<Output = ()> + Send;
}

/// Starts following a source, until `tasks` is stopped. `owner` is named in log lines.
pub fn start<S: Source>(tasks: &Tasks, owner: &str, source: S) -> watch::Receiver<State> {
    let (sender, receiver) = watch::channel(State::default());
    let publisher = Publisher {
        kind: S::KIND,
        owner: owner.to_owned(),
        sender,
        tasks: tasks.clone(),
    };
    spawn(tasks, source.follow(publisher));
    receiver
}

/// Starts a task that is dropped when `tasks` is stopped.
fn spawn(tasks: &Tasks, work: impl Future<Output = ()> + Send + 'static) {
    let stop = tasks.stop_token();
    tasks.spawn("target discovery", async move {
        let _stopped = stop.run_until_cancelled(work).await;
    });
}

/// Takes what a source finds.
#[derive(Debug)]
pub struct Publisher {
    kind: &'static str,
    owner: String,
    sender: watch::Sender<State>,
    tasks: Tasks,
}

impl Publisher {
    /// Replaces all groups of the source. Equal ones are no news.
    pub fn publish(&self, groups: Vec<Arc<Group>>) {
        self.sender.send_if_modified(|state| {
            let is_new = state.groups.as_ref().is_none_or(|known| **known != *groups);
            let is_news = is_new || state.failure.is_some();
            state.failure = None;
            if is_new {
                state.groups = Some(groups.into());
            }
            is_news
        });
    }

    /// Notes that the source cannot be asked. Its groups stay. The same failure again is not logged again.
    pub fn fail(&self, reason: &str) {
        self.sender.send_if_modified(|state| {
            let is_news = state.failure.as_deref() != Some(reason);
            let (discovery, config) = (self.kind, &self.owner);
            if is_news {
                error!(
                    discovery,
                    config,
                    err = reason,
                    "Unable to refresh target groups"
                );
                state.failure = Some(reason.into());
            } else {
                debug!(
                    discovery,
                    config,
                    err = reason,
                    "Unable to refresh target groups"
                );
            }
            is_news
        });
    }

    /// Returns whether there was an answer yet.
    fn has_answered(&self) -> bool {
        self.sender.borrow().groups.is_some()
    }
}

/// Something that is asked again and again.
trait Ask: Send {
    /// Asks once.
    fn ask(&mut self) -> impl Future<Output = Result<Vec<Arc<Group>>, String>> + Send;
}

/// Asks once per interval, and publishes what comes.
async fn poll(publisher: &Publisher, interval: Duration, mut asked: impl Ask) {
    // Zero would ask without end.
    let interval = interval.max(Duration::from_millis(1));
    loop {
        let due = Instant::now() + interval;
        match asked.ask().await {
            Ok(groups) => publisher.publish(groups),
            Err(reason) => {
                publisher.fail(&reason);
                if !publisher.has_answered() {
                    sleep(FIRST_RETRY.min(interval)).await;
                    continue;
                }
            }
        }
        sleep_until(due).await;
    }
}

/// Adds a label, unless its value is empty, which is none.
fn put(labels: &mut Labels, name: impl Into<String>, value: impl Into<String>) {
    let value = value.into();
    if !value.is_empty() {
        labels.insert(name.into(), value);
    }
}

/// Makes of any text a part of a label's name.
fn label_name(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() => letter,
            _ => '_',
        })
        .collect()
}

/// Joins host and port, with brackets around an IPv6 address.
fn join(host: &str, port: impl std::fmt::Display) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
