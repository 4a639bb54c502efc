//! Lists and watches, over our own client or, where a kubeconfig file says how, over that of crate `kube`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Limited, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    Kind, ServiceAccount,
    store::{self, Object},
};
use crate::{
    discovery::{escape, kubernetes::Cluster, with_causes},
    http::client::{self, Authentication, Client, Credential},
    tls::{Pem, client::Roots},
};

/// How long a list may take.
const LIST: Duration = Duration::from_secs(60);

/// How long a watch lasts before the server ends it.
const WATCH: Duration = Duration::from_secs(300);

/// The pauses after failures, from the first on.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// The largest answer, and the largest line of a watch, that is read.
const LARGEST: usize = 256 << 20;

/// How many objects are listed at once.
const PAGE: usize = 500;

/// How an API server is reached.
#[derive(Debug, Clone)]
pub enum Access {
    /// At a URL, without a slash at its end.
    Direct {
        /// The URL.
        url: String,
        /// What it is asked with.
        client: Client,
    },
    /// As the current context of a file says, plugins included.
    Kubeconfig(PathBuf),
}

/// Why this process cannot ask its own cluster.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It is no pod.
    #[error(
        "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
    )]
    NotInCluster,
    /// The folder of its service account does not hold what it should.
    #[error(transparent)]
    Client(#[from] client::ClientError),
}

/// Reaches the cluster that this process is a pod of. Its own credentials replace those of `settings`.
pub fn in_cluster(
    account: Option<&ServiceAccount>,
    settings: client::Settings,
) -> Result<Access, AccessError> {
    let account = account.ok_or(AccessError::NotInCluster)?;
    let ServiceAccount { host, port, folder } = account;
    let mut settings = settings;
    settings.authentication = Authentication::Header {
        scheme: "Bearer".to_owned(),
        credential: Some(Credential::File(folder.join("token"))),
    };
    settings.tls.roots = Roots::Authorities(Pem::File(folder.join("ca.crt")));
    Ok(Access::Direct {
        url: format!("https://{}", super::super::join(host, port)),
        client: Client::new(settings)?,
    })
}

/// Returns the namespace that this process is a pod in.
pub fn own_namespace(account: Option<&ServiceAccount>) -> Option<String> {
    let text = fs::read_to_string(account?.folder.join("namespace")).ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

/// A kind of objects in a namespace or in all.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) kind: Kind,
    pub(super) namespace: Option<String>,
    pub(super) label: String,
    pub(super) field: String,
}

/// What happened to the objects of a watch.
#[derive(Debug)]
pub(super) enum Change {
    /// These are all.
    Listed(Vec<Object>),
    /// One is new or changed.
    Applied(Object),
    /// One is gone.
    Deleted(Object),
    /// Nothing is known any more but what was; why.
    Failed(String),
}

/// Follows objects for ever.
pub(super) async fn follow(
    access: Access,
    watched: Watched,
    index: usize,
    changes: mpsc::Sender<(usize, Change)>,
) {
    let mut link = Link::new(access);
    let mut failures = 0;
    loop {
        let ended = round(&mut link, &watched, index, &changes, &mut failures).await;
        match ended {
            Ended::Gone => return,
            Ended::Expired => {}
            Ended::Failed(reason) => {
                let what = watched.kind.place().1;
                let reason = format!("failed to list or watch {what}: {reason}");
                if changes.send((index, Change::Failed(reason))).await.is_err() {
                    return;
                }
                let pause = PAUSES.get(failures).or(PAUSES.last()).copied();
                sleep(pause.unwrap_or(LIST)).await;
                failures += 1;
            }
        }
    }
}

/// Why a round of listing and watching is over.
enum Ended {
    /// Nobody listens any more.
    Gone,
    /// The server has forgotten what was listed.
    Expired,
    Failed(String),
}

async fn round(
    link: &mut Link,
    watched: &Watched,
    index: usize,
    changes: &mpsc::Sender<(usize, Change)>,
    failures: &mut usize,
) -> Ended {
    let listed = match timeout(LIST, list(link, watched)).await {
        Ok(listed) => listed,
        Err(_) => Err("the list took too long".to_owned()),
    };
    let (objects, mut version) = match listed {
        Ok(listed) => listed,
        Err(reason) => return Ended::Failed(reason),
    };
    if changes
        .send((index, Change::Listed(objects)))
        .await
        .is_err()
    {
        return Ended::Gone;
    }
    *failures = 0;
    loop {
        let limit = WATCH + Duration::from_secs(spread(index));
        let target = format!(
            "{}watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={}",
            target(watched),
            limit.as_secs()
        );
        let watch = watch(link, &target, watched.kind, index, changes, &mut version);
        match timeout(limit + LIST, watch).await {
            // The server has ended it in good order: go on where it stopped.
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(ended)) => return ended,
        }
    }
}

/// Spreads the ends of watches, so that they are not renewed all at once.
fn spread(index: usize) -> u64 {
    (index as u64 * 7) % 60
}

/// Returns path and beginning of the query for a kind of objects.
fn target(watched: &Watched) -> String {
    let (root, kind) = watched.kind.place();
    let mut target = match &watched.namespace {
        Some(namespace) => format!("{root}/namespaces/{}/{kind}?", escape(namespace, b"")),
        None => format!("{root}/{kind}?"),
    };
    for (name, selector) in [
        ("labelSelector", &watched.label),
        ("fieldSelector", &watched.field),
    ] {
        if !selector.is_empty() {
            target = target + name + "=" + &escape(selector, b"") + "&";
        }
    }
    target
}

async fn list(link: &mut Link, watched: &Watched) -> Result<(Vec<Object>, String), String> {
    let mut objects = Vec::new();
    let mut page = String::new();
    loop {
        let target = format!("{}limit={PAGE}{page}", target(watched));
        let body = link.get(&target).await?;
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body.map_err(|error| with_causes(&*error))?.to_bytes();
        let (page_of, metadata) = store::read_list(watched.kind, &body).map_err(unreadable)?;
        objects.extend(page_of);
        match metadata.r#continue.filter(|token| !token.is_empty()) {
            Some(token) => page = format!("&continue={}", escape(&token, b"")),
            None => return Ok((objects, metadata.resource_version)),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(unreadable)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what becomes of an error"
)]
fn unreadable(error: serde_json::Error) -> String {
    format!("cannot read the answer: {error}")
}

/// An event, but for what it is about.
#[derive(Deserialize)]
struct Event {
    r#type: String,
}

#[derive(Deserialize)]
struct Failed {
    object: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Marked {
    object: Mark,
}

#[derive(Deserialize)]
struct Mark {
    metadata: store::ListMetadata,
}

async fn watch(
    link: &mut Link,
    target: &str,
    kind: Kind,
    index: usize,
    changes: &mpsc::Sender<(usize, Change)>,
    version: &mut String,
) -> Result<(), Ended> {
    let mut body = link.get(target).await.map_err(Ended::Failed)?;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Ended::Failed)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if rest.len() + data.len() > LARGEST {
            return Err(Ended::Failed("an event is too large".to_owned()));
        }
        let first_new = rest.len();
        rest.extend_from_slice(data);
        let Some(end) = rest.iter().skip(first_new).rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let later = rest.split_off(first_new + end + 1);
        for line in rest.split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            if let Some(change) = event(line, kind, version)? {
                let sent = changes.send((index, change)).await;
                sent.map_err(|_| Ended::Gone)?;
            }
        }
        rest = later;
    }
    Ok(())
}

/// Reads an event of a watch, and notes up to where it leads.
fn event(line: &[u8], kind: Kind, version: &mut String) -> Result<Option<Change>, Ended> {
    let event: Event = parse(line).map_err(Ended::Failed)?;
    if event.r#type == "ERROR" {
        let Failed { object: status } = parse(line).map_err(Ended::Failed)?;
        return Err(match status.code {
            410 => Ended::Expired,
            code => Ended::Failed(format!("{} ({code})", status.message)),
        });
    }
    if event.r#type == "BOOKMARK" {
        let Marked { object } = parse(line).map_err(Ended::Failed)?;
        *version = object.metadata.resource_version;
        return Ok(None);
    }
    let object = store::read_event(kind, line).map_err(|error| Ended::Failed(unreadable(error)))?;
    if let Some(reached) = &object.metadata().resource_version {
        version.clone_from(reached);
    }
    Ok(match event.r#type.as_str() {
        "ADDED" | "MODIFIED" => Some(Change::Applied(object)),
        "DELETED" => Some(Change::Deleted(object)),
        _ => None,
    })
}

/// A way to the API that one watch uses.
enum Link {
    Direct(String, Client),
    /// Not yet opened: reading the file may run plugins.
    Closed(PathBuf),
    Kubeconfig(Box<Cluster>),
}

impl Link {
    fn new(access: Access) -> Self {
        match access {
            Access::Direct { url, client } => Self::Direct(url, client),
            Access::Kubeconfig(path) => Self::Closed(path),
        }
    }

    /// Asks, and returns the body of a good answer.
    async fn get(&mut self, target: &str) -> Result<UnsyncBoxBody<Bytes, String>, String> {
        if let Self::Closed(path) = self {
            *self = Self::open(path).await?;
        }
        let request = Request::get(target).header(http::header::ACCEPT, "application/json");
        let (status, mut body) = match self {
            Self::Direct(url, client) => {
                let full = format!("{url}{target}");
                let request = request.uri(&full).body(Bytes::new());
                let request = request.map_err(|error| error.to_string())?;
                let response = client.send(request, Some(LIST)).await;
                let response = response.map_err(|error| {
                    let place = full.split('?').next().unwrap_or_default();
                    format!("Get \"{place}\": {error}")
                })?;
                let (head, body) = response.into_parts();
                (
                    head.status,
                    body.map_err(|error| with_causes(&error)).boxed_unsync(),
                )
            }
            Self::Kubeconfig(cluster) => {
                let client = cluster.client().await.map_err(|error| error.to_string())?;
                let request = request.body(Body::empty());
                let request = request.map_err(|error| error.to_string())?;
                let response = timeout(LIST, client.send(request)).await;
                let response = response.map_err(|_| "the server does not answer".to_owned())?;
                let response = response.map_err(|error| with_causes(&error))?;
                let (head, body) = response.into_parts();
                (
                    head.status,
                    body.map_err(|error| error.to_string()).boxed_unsync(),
                )
            }
            Self::Closed(_) => return Err("the connection is closed".to_owned()),
        };
        if status.is_success() {
            return Ok(body);
        }
        let mut said = Vec::new();
        while said.len() < 4096 {
            let frame = timeout(LIST, body.frame()).await;
            let Ok(Some(Ok(frame))) = frame else { break };
            said.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        }
        let message = serde_json::from_slice(&said).map(|Status { message, .. }| message);
        let message = message.unwrap_or_else(|_| {
            let beginning = said.get(..256).unwrap_or(&said);
            String::from_utf8_lossy(beginning).into_owned()
        });
        Err(format!("{message} ({})", status.as_u16()))
    }

    async fn open(path: &Path) -> Result<Self, String> {
        let cluster = Cluster::from_kubeconfig(path).await;
        let cluster = cluster.map_err(|error| with_causes(&error))?;
        Ok(Self::Kubeconfig(Box::new(cluster)))
    }
}
