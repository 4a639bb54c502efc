//! The services of a Consul catalogue, as Prometheus' `consul_sd`: all their instances, whatever their health.
//!
//! One task follows the list of services by blocking queries, and one for each service the health of its instances. A change
//! arrives as Consul tells it; the next question waits a moment, so that a busy catalogue is not asked without end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{ADDRESS, Group, Labels, Publisher, Source, join, label_name, put, request, spawn};
use crate::{config::secret::Secret, http::client::Client, lifecycle::Tasks};

/// How long Consul is asked to wait for a change.
const WAIT: Duration = Duration::from_secs(120);

/// How much longer an answer may take. Consul itself adds up to a sixteenth of the wait.
const GRACE: Duration = Duration::from_secs(30);

/// The least time between two questions about the same thing.
const SPACING: Duration = Duration::from_secs(1);

/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// The largest answer that is read.
const LARGEST: usize = 256 << 20;

/// How many services' changes may wait; a service waits with the next question until its last change is taken.
const WAITING_CHANGES: usize = 64;

/// How long changes are gathered.
const BATCH: Duration = Duration::from_millis(20);

/// A catalogue.
#[derive(Debug, Clone)]
pub struct Consul {
    /// The API's URL, without a slash at its end: `http://localhost:8500`.
    pub url: String,
    /// The datacenter; empty for the server's.
    pub datacenter: String,
    /// The namespace; empty for none.
    pub namespace: String,
    /// The partition; empty for none.
    pub partition: String,
    /// The token.
    pub token: Option<Secret>,
    /// What stands between and around tags.
    pub tag_separator: String,
    /// Whether any server may answer, not only the leader.
    pub allow_stale: bool,
    /// The services; empty for all.
    pub services: Vec<String>,
    /// The tags that an instance must have.
    pub tags: Vec<String>,
    /// What an instance's node must say of itself.
    pub node_meta: Vec<(String, String)>,
    /// A filter expression for the list of services.
    pub filter: String,
    /// What it is asked with.
    pub client: Client,
}

/// What the tasks tell the one that publishes.
enum News {
    /// The services that are to be followed now.
    Services(Vec<String>),
    /// The instances of a service.
    Instances(String, Arc<Group>),
    Failure(String),
}

impl Source for Consul {
    const KIND: &'static str = "consul";

    async fn follow(self, publisher: Publisher) {
        let (sender, mut news) = mpsc::channel(WAITING_CHANGES);
        let (tasks, stop) = (publisher.tasks.child(), publisher.tasks.clone());
        let consul = Arc::new(self);
        let mut followed: BTreeMap<String, Followed> = BTreeMap::new();
        if consul.services.is_empty() || !consul.tags.is_empty() {
            spawn(&tasks, Arc::clone(&consul).list_services(sender.clone()));
        } else {
            let services = consul.services.clone();
            let _told = sender.send(News::Services(services)).await.is_ok();
        }
        // The tasks of services end with the catalogue's.
        let _ended_with = EndWith(tasks.clone());
        loop {
            let Some(first) = news.recv().await else {
                return;
            };
            let mut next = Some(first);
            let mut failure = None;
            let deadline = Instant::now() + BATCH;
            while let Some(one) = next {
                match one {
                    News::Services(names) => {
                        followed.retain(|name, _| names.contains(name));
                        for name in names {
                            followed.entry(name).or_insert_with_key(|name| {
                                let tasks = stop.child();
                                let work = Arc::clone(&consul)
                                    .follow_service(name.clone(), sender.clone());
                                spawn(&tasks, work);
                                Followed {
                                    group: None,
                                    tasks: EndWith(tasks),
                                }
                            });
                        }
                    }
                    News::Instances(name, group) => {
                        if let Some(service) = followed.get_mut(&name) {
                            service.group = Some(group);
                        }
                    }
                    News::Failure(reason) => failure = Some(reason),
                }
                next = timeout(
                    deadline.saturating_duration_since(Instant::now()),
                    news.recv(),
                )
                .await
                .unwrap_or_default();
            }
            let is_complete = followed.values().all(|service| service.group.is_some());
            // Before the first answer of each service, targets would be missing that are there.
            if (is_complete && failure.is_none()) || publisher.has_answered() {
                let groups = followed
                    .values()
                    .filter_map(|service| service.group.clone());
                publisher.publish(groups.collect());
            }
            if let Some(reason) = failure {
                publisher.fail(&reason);
            }
        }
    }
}

/// A service that is followed.
struct Followed {
    /// Its instances; `None` before the first answer.
    group: Option<Arc<Group>>,
    #[expect(dead_code, reason = "what it is there for happens when it is dropped")]
    tasks: EndWith,
}

/// Ends tasks when dropped.
struct EndWith(Tasks);

impl Drop for EndWith {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Consul {
    async fn list_services(self: Arc<Self>, news: mpsc::Sender<News>) {
        self.ask_again(
            "/v1/catalog/services",
            &self.catalogue_parameters(),
            &news,
            |services: Option<BTreeMap<String, Option<Vec<String>>>>| {
                let services = services.unwrap_or_default().into_iter();
                let wanted = services.filter(|(name, tags)| {
                    let tags = tags.as_deref().unwrap_or_default();
                    (self.services.is_empty() || self.services.contains(name))
                        && self.tags.iter().all(|tag| tags.contains(tag))
                });
                News::Services(wanted.map(|(name, _)| name).collect())
            },
        )
        .await;
    }

    async fn follow_service(self: Arc<Self>, name: String, news: mpsc::Sender<News>) {
        let path = format!("/v1/health/service/{}", encode(&name));
        let mut parameters = self.parameters();
        for tag in &self.tags {
            parameters.push(("tag", tag.clone()));
        }
        self.ask_again(&path, &parameters, &news, |entries: Option<Vec<Entry>>| {
            let group = self.group(&name, entries.unwrap_or_default());
            News::Instances(name.clone(), Arc::new(group))
        })
        .await;
    }

    /// Asks for ever, and each time for what comes after the last answer.
    async fn ask_again<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, String)],
        news: &mpsc::Sender<News>,
        mut read: impl FnMut(T) -> News,
    ) {
        let mut index = 0;
        loop {
            let asked = Instant::now();
            let answer = match self.ask(path, parameters, index).await {
                Ok((body, answered)) => serde_json::from_slice(&body)
                    .map(|body| (read(body), answered))
                    .map_err(|error| format!("{path}: cannot read the answer: {error}")),
                Err(reason) => Err(reason),
            };
            match answer {
                Ok((_, Some(answered))) if answered == index && index > 0 => {
                    // The wait has passed without a change.
                    sleep_until(asked + SPACING).await;
                }
                Ok((found, answered)) => {
                    // An index that goes backwards is of another server's state; zero would not wait.
                    index = match answered {
                        Some(answered) if answered >= index => answered.max(1),
                        _ => 0,
                    };
                    if news.send(found).await.is_err() {
                        return;
                    }
                    sleep_until(asked + SPACING).await;
                }
                Err(reason) => {
                    index = 0;
                    if news.send(News::Failure(reason)).await.is_err() {
                        return;
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn ask(
        &self,
        path: &str,
        parameters: &[(&str, String)],
        index: u64,
    ) -> Result<(bytes::Bytes, Option<u64>), String> {
        let url = self.place(path, parameters, index);
        let token = self
            .token
            .as_ref()
            .map(|token| ("x-consul-token", token.reveal()));
        let headers: Vec<_> = token.into_iter().collect();
        let limit = if index > 0 { WAIT + GRACE } else { GRACE };
        let reply = request::get(&self.client, &url, &headers, limit, LARGEST).await?;
        if !reply.status.is_success() {
            let body = reply.body.get(..256).unwrap_or(&reply.body);
            let (status, body) = (reply.status.as_u16(), String::from_utf8_lossy(body));
            return Err(format!("Unexpected response code: {status} ({body})"));
        }
        let index = reply.headers.get("x-consul-index");
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        Ok((reply.body, index))
    }

    /// Returns the URL of a question.
    fn place(&self, path: &str, parameters: &[(&str, String)], index: u64) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(parameters);
        if index > 0 {
            form.append_pair("index", &index.to_string());
            form.append_pair("wait", &format!("{}ms", WAIT.as_millis()));
        }
        let mut target = form.finish();
        if self.allow_stale {
            target.push_str(if target.is_empty() {
                "stale="
            } else {
                "&stale="
            });
        }
        format!("{}{path}?{target}", self.url)
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let single = [
            ("dc", &self.datacenter),
            ("ns", &self.namespace),
            ("partition", &self.partition),
        ];
        let single = single.into_iter().filter(|(_, value)| !value.is_empty());
        let single = single.map(|(name, value)| (name, value.clone()));
        let meta = self.node_meta.iter();
        let meta = meta.map(|(name, value)| ("node-meta", format!("{name}:{value}")));
        single.chain(meta).collect()
    }

    fn catalogue_parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = self.parameters();
        if !self.filter.is_empty() {
            parameters.push(("filter", self.filter.clone()));
        }
        parameters
    }

    fn group(&self, name: &str, entries: Vec<Entry>) -> Group {
        let mut labels = Labels::new();
        put(&mut labels, "__meta_consul_service", name);
        let datacenter = match entries.first() {
            Some(entry) if self.datacenter.is_empty() => &entry.node.datacenter,
            _ => &self.datacenter,
        };
        put(&mut labels, "__meta_consul_dc", datacenter);
        Group {
            source: name.to_owned(),
            labels,
            targets: entries
                .into_iter()
                .map(|entry| self.target(entry))
                .collect(),
        }
    }

    fn target(&self, entry: Entry) -> Labels {
        let Entry {
            node,
            service,
            checks,
        } = entry;
        let mut target = Labels::new();
        let mut label =
            |name: &str, value: String| put(&mut target, format!("__meta_consul_{name}"), value);
        for (kind, all) in [
            ("metadata", node.meta),
            ("service_metadata", service.meta),
            ("tagged_address", node.tagged_addresses),
        ] {
            for (name, value) in all.unwrap_or_default() {
                label(&format!("{kind}_{}", label_name(&name)), value);
            }
        }
        // Around the list too, so that a pattern need not care where in it a tag stands.
        let (separator, tags) = (&self.tag_separator, service.tags.unwrap_or_default());
        label(
            "tags",
            format!("{separator}{}{separator}", tags.join(separator)),
        );
        let host = if service.address.is_empty() {
            &node.address
        } else {
            &service.address
        };
        let address = join(host, service.port);
        label("health", health(&checks.unwrap_or_default()).to_owned());
        label("address", node.address);
        label("node", node.name);
        label("namespace", service.namespace);
        label("partition", service.partition);
        label("service_address", service.address);
        label("service_id", service.id);
        label("service_port", service.port.to_string());
        put(&mut target, ADDRESS, address);
        target
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    checks: Option<Vec<Check>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "Node", default)]
    name: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    datacenter: String,
    tagged_addresses: Option<BTreeMap<String, String>>,
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: i64,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    partition: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID", default)]
    id: String,
    #[serde(default)]
    status: String,
}

/// Puts all checks of an instance in one word: the worst.
fn health(checks: &[Check]) -> &'static str {
    let is_maintained = |check: &Check| {
        check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance:")
    };
    let has = |status: &str| checks.iter().any(|check| check.status == status);
    if checks.iter().any(is_maintained) {
        "maintenance"
    } else if has("critical") {
        "critical"
    } else if has("warning") {
        "warning"
    } else {
        "passing"
    }
}

/// Percent-encodes a part of a path.
fn encode(text: &str) -> String {
    super::super::escape(text, b"$&+,:;=@")
}
