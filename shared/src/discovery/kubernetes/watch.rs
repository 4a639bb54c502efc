//! Following a set of objects through a watch.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{
    super::Error,
    cluster::{Cluster, api_error},
};

type Events<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// Namespace and name of an object.
type Key = (String, String);

/// The objects as the last event left them, and where the next one comes from.
pub(super) struct Watch<K> {
    events: Option<Events<K>>,
    objects: BTreeMap<Key, K>,
    /// The objects of a list that is not complete.
    listing: BTreeMap<Key, K>,
    complete: bool,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    pub(super) fn new() -> Self {
        Self {
            events: None,
            objects: BTreeMap::new(),
            listing: BTreeMap::new(),
            complete: false,
        }
    }

    /// Starts anew at the next call. The objects stay, to be compared with by nobody.
    pub(super) fn forget(&mut self) {
        *self = Self::new();
    }

    /// Returns whether the next call waits for a change.
    pub(super) fn follows(&self) -> bool {
        self.events.is_some() && self.complete
    }

    /// Returns all objects: at first as soon as they are listed, then after a change, or when `wait` has passed without.
    ///
    /// May be dropped at any await: events are taken from a stream that stays.
    pub(super) async fn next(
        &mut self,
        cluster: &mut Cluster,
        api: impl FnOnce(Client) -> Api<K>,
        selector: &str,
        wait: Duration,
    ) -> Result<impl Iterator<Item = &K>, Error> {
        if self.events.is_none() {
            let config = watcher::Config::default().labels(selector);
            let api = api(cluster.client().await?);
            self.events = Some(watcher(api, config).boxed());
        }
        if self.complete {
            // Nothing happened, which is an answer, too.
            if let Ok(event) = timeout(wait, self.event()).await {
                event?;
            }
        }
        while !self.complete {
            self.event().await?;
        }
        // What came together is answered together.
        while let Some(event) = self.event().now_or_never() {
            event?;
        }
        Ok(self.objects.values())
    }

    async fn event(&mut self) -> Result<(), Error> {
        let Some(events) = &mut self.events else {
            return Err(Error::Transport("the watch has ended".to_owned()));
        };
        let event = events.next().await;
        let event = event.ok_or_else(|| Error::Transport("the watch has ended".to_owned()))?;
        match event.map_err(|error| watch_error(&error))? {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => insert(&mut self.listing, object),
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            Event::Apply(object) => insert(&mut self.objects, object),
            Event::Delete(object) => {
                self.objects.remove(&key(&object));
            }
        }
        Ok(())
    }
}

fn insert<K: Resource>(objects: &mut BTreeMap<Key, K>, mut object: K) {
    // Who changed which field when is most of an object, and of no use here.
    object.meta_mut().managed_fields = None;
    objects.insert(key(&object), object);
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn watch_error(error: &watcher::Error) -> Error {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => api_error(error),
        watcher::Error::WatchError(status) => Error::Status {
            status: status.code,
            body: status.message.clone(),
        },
        watcher::Error::NoResourceVersion => Error::Decode(error.to_string()),
    }
}
