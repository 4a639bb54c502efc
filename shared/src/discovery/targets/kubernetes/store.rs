//! The objects as the last changes left them, and the groups made of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{Endpoints, Namespace, Node, ObjectReference, Pod, Service},
        discovery::v1::EndpointSlice,
        networking::v1::Ingress,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Error;

use super::{
    super::{Group, Labels},
    Kind, Role,
    api::{Change, Watched},
    endpoints, ingress,
    meta::{add_object, add_own},
    node, pod, service, slices,
};

/// Namespace and name of an object.
type Key = (String, String);

/// An object. In boxes, because they are large and of different size.
#[derive(Debug)]
pub(super) enum Object {
    Node(Box<Node>),
    Pod(Box<Pod>),
    Service(Box<Service>),
    Endpoints(Box<Endpoints>),
    EndpointSlice(Box<EndpointSlice>),
    Ingress(Box<Ingress>),
    Namespace(Box<Namespace>),
}

impl Object {
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Node(object) => &mut object.metadata,
            Self::Pod(object) => &mut object.metadata,
            Self::Service(object) => &mut object.metadata,
            Self::Endpoints(object) => &mut object.metadata,
            Self::EndpointSlice(object) => &mut object.metadata,
            Self::Ingress(object) => &mut object.metadata,
            Self::Namespace(object) => &mut object.metadata,
        }
    }

    pub(super) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Node(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::Endpoints(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Ingress(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
        }
    }

    fn key(&self) -> Key {
        let metadata = self.metadata();
        (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        )
    }
}

/// What a list says about itself.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    pub(super) r#continue: Option<String>,
}

#[derive(Deserialize)]
struct List<K> {
    #[serde(default)]
    metadata: ListMetadata,
    // Go writes a list that was never made as null.
    items: Option<Vec<Box<K>>>,
}

#[derive(Deserialize)]
struct Event<K> {
    object: Box<K>,
}

/// Calls a reader for the type of a kind.
macro_rules! by_kind {
    ($kind:expr, $read:ident($text:expr)) => {
        match $kind {
            Kind::Node => $read($text, Object::Node),
            Kind::Pod => $read($text, Object::Pod),
            Kind::Service => $read($text, Object::Service),
            Kind::Endpoints => $read($text, Object::Endpoints),
            Kind::EndpointSlice => $read($text, Object::EndpointSlice),
            Kind::Ingress => $read($text, Object::Ingress),
            Kind::Namespace => $read($text, Object::Namespace),
        }
    };
}

/// Reads one page of a list.
pub(super) fn read_list(kind: Kind, text: &[u8]) -> Result<(Vec<Object>, ListMetadata), Error> {
    fn read<K: DeserializeOwned>(
        text: &[u8],
        wrap: fn(Box<K>) -> Object,
    ) -> Result<(Vec<Object>, ListMetadata), Error> {
        let list: List<K> = serde_json::from_slice(text)?;
        let items = list.items.unwrap_or_default().into_iter();
        Ok((
            items.map(|item| trimmed(wrap(item))).collect(),
            list.metadata,
        ))
    }
    by_kind!(kind, read(text))
}

/// Reads what an event is about.
pub(super) fn read_event(kind: Kind, text: &[u8]) -> Result<Object, Error> {
    fn read<K: DeserializeOwned>(text: &[u8], wrap: fn(Box<K>) -> Object) -> Result<Object, Error> {
        let event: Event<K> = serde_json::from_slice(text)?;
        Ok(trimmed(wrap(event.object)))
    }
    by_kind!(kind, read(text))
}

/// Drops who changed which field when: it is most of an object, and of no use here.
fn trimmed(mut object: Object) -> Object {
    object.metadata_mut().managed_fields = None;
    object
}

/// What one watch knows.
struct Part {
    watched: Watched,
    objects: BTreeMap<Key, Object>,
    is_listed: bool,
}

/// What groups have to be made anew.
#[derive(Default)]
struct Stale {
    all: bool,
    namespaces: BTreeSet<String>,
    objects: BTreeSet<Key>,
}

/// All that is known of a cluster.
pub(super) struct Store {
    role: Role,
    parts: Vec<Part>,
    groups: BTreeMap<Key, Arc<Group>>,
    stale: Stale,
}

impl Store {
    pub(super) fn new(role: Role, watched: Vec<Watched>) -> Self {
        let parts = watched.into_iter().map(|watched| Part {
            watched,
            objects: BTreeMap::new(),
            is_listed: false,
        });
        Self {
            role,
            parts: parts.collect(),
            groups: BTreeMap::new(),
            stale: Stale::default(),
        }
    }

    /// Returns whether every list was read.
    pub(super) fn is_complete(&self) -> bool {
        self.parts.iter().all(|part| part.is_listed)
    }

    /// Takes what happened to the objects of watch `index`.
    pub(super) fn take(&mut self, index: usize, change: Change) {
        let primary = self.primary();
        let Some(part) = self.parts.get_mut(index) else {
            return;
        };
        let kind = part.watched.kind;
        match change {
            Change::Listed(objects) => {
                let objects = objects.into_iter().map(|object| (object.key(), object));
                part.objects = objects.collect();
                part.is_listed = true;
                self.stale.all = true;
            }
            Change::Applied(object) => {
                let key = object.key();
                let before = part.objects.get(&key).map(Object::metadata);
                let looks_alike = before.is_some_and(|before| {
                    let now = object.metadata();
                    before.labels == now.labels && before.annotations == now.annotations
                });
                // A node tells every few seconds that it lives.
                let is_no_news =
                    looks_alike && kind != primary && matches!(kind, Kind::Node | Kind::Namespace);
                if !is_no_news {
                    self.stale.add(kind, primary, &key);
                }
                part.objects.insert(key, object);
            }
            Change::Deleted(object) => {
                let key = object.key();
                part.objects.remove(&key);
                self.stale.add(kind, primary, &key);
            }
            Change::Failed(_) => {}
        }
    }

    /// Returns all groups, by namespace and name; those of changed objects made anew.
    pub(super) fn groups(&mut self) -> Vec<Arc<Group>> {
        let stale = std::mem::take(&mut self.stale);
        let primary = self.primary();
        let mut groups = std::mem::take(&mut self.groups);
        let parts = || {
            self.parts
                .iter()
                .filter(|part| part.watched.kind == primary)
        };
        groups.retain(|key, _| parts().any(|part| part.objects.contains_key(key)));
        for (key, object) in parts().flat_map(|part| &part.objects) {
            if stale.holds(key) || !groups.contains_key(key) {
                groups.insert(key.clone(), Arc::new(self.group(object)));
            }
        }
        self.groups = groups;
        self.groups.values().cloned().collect()
    }

    fn primary(&self) -> Kind {
        match self.role {
            Role::Node => Kind::Node,
            Role::Pod => Kind::Pod,
            Role::Service => Kind::Service,
            Role::Endpoints => Kind::Endpoints,
            Role::EndpointSlice => Kind::EndpointSlice,
            Role::Ingress => Kind::Ingress,
        }
    }

    fn group(&self, object: &Object) -> Group {
        let mut group = match object {
            Object::Node(node) => node::group(node),
            Object::Pod(pod) => {
                let mut group = pod::group(pod);
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                if let (Some(node), false) = (node, group.targets.is_empty()) {
                    self.add_node(&mut group.labels, node);
                }
                group
            }
            Object::Service(service) => service::group(service),
            Object::Endpoints(endpoints) => endpoints::group(endpoints, self),
            Object::EndpointSlice(slice) => slices::group(slice, self),
            Object::Ingress(ingress) => ingress::group(ingress),
            Object::Namespace(_) => Group {
                source: String::new(),
                labels: Labels::new(),
                targets: Vec::new(),
            },
        };
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        if let Some(Object::Namespace(namespace)) = self.find(Kind::Namespace, "", namespace) {
            add_own(&mut group.labels, &namespace.metadata, "namespace");
        }
        group
    }

    fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut parts = self.parts.iter().filter(|part| part.watched.kind == kind);
        parts.find_map(|part| part.objects.get(&key))
    }

    /// Adds what is known of a node, if nodes are looked at.
    pub(super) fn add_node(&self, labels: &mut Labels, name: &str) {
        if let Some(Object::Node(node)) = self.find(Kind::Node, "", name) {
            add_object(labels, &node.metadata, "node");
        }
    }

    /// Adds what is known of a service.
    pub(super) fn add_service(&self, labels: &mut Labels, namespace: &str, name: &str) {
        if let Some(Object::Service(found)) = self.find(Kind::Service, namespace, name) {
            labels.extend(service::labels(found));
        }
    }

    /// Returns the pod that an endpoint stands for.
    pub(super) fn pod_behind(&self, behind: &ObjectReference) -> Option<&Pod> {
        if behind.kind.as_deref() != Some("Pod") {
            return None;
        }
        let namespace = behind.namespace.as_deref().unwrap_or_default();
        let name = behind.name.as_deref().unwrap_or_default();
        match self.find(Kind::Pod, namespace, name) {
            Some(Object::Pod(pod)) => Some(pod),
            _ => None,
        }
    }
}

impl Stale {
    /// Notes that an object has changed, and with it the groups that lean on it.
    fn add(&mut self, kind: Kind, primary: Kind, key: &Key) {
        if kind == primary {
            self.objects.insert(key.clone());
            return;
        }
        match kind {
            Kind::Node => self.all = true,
            Kind::Namespace => {
                self.namespaces.insert(key.1.clone());
            }
            _ => {
                self.namespaces.insert(key.0.clone());
            }
        }
    }

    fn holds(&self, key: &Key) -> bool {
        self.all || self.namespaces.contains(&key.0) || self.objects.contains(key)
    }
}
