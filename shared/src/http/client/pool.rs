//! The connections of a client that are not in use: Go's `MaxIdleConns`, `MaxIdleConnsPerHost` and `IdleConnTimeout`.
//!
//! The one that was used last is used next. Of those that are too many over all hosts, the one that was not used for the longest
//! time is closed. A connection of HTTP/2 is shared by many requests at a time and not counted, as in Go.
//!
//! A connection that is not in use is driven by nobody. Whether it still stands is found out when it is taken, and every few seconds
//! by a task that is there as long as there are any.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Uri, uri::Authority};
use http_body_util::Full;
use hyper::client::conn::http2;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::sleep;

use super::{Idle, link::Link};
use crate::lifecycle::Tasks;

/// How often connections that have ended or were idle for too long are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// Where a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    is_tls: bool,
    authority: Authority,
}

impl Place {
    /// Returns the place of a URL; nothing if it has none.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        Some(Self {
            is_tls: uri.scheme_str() == Some("https"),
            authority: uri.authority()?.clone(),
        })
    }
}

/// A connection of HTTP/2, which a task drives.
pub(super) type Shared = http2::SendRequest<Full<Bytes>>;

/// A connection that a request can be sent on.
pub(super) enum Kept {
    Own(Link),
    Shared(Shared),
}

/// The connections. Clones are handles on the same ones.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    limits: Idle,
    hosts: Mutex<Hosts>,
    tasks: Tasks,
}

#[derive(Default)]
struct Hosts {
    by_place: HashMap<Place, Host>,
    /// How many connections wait, over all hosts.
    waiting: usize,
    /// Whether the task runs.
    is_swept: bool,
}

#[derive(Default)]
struct Host {
    /// The one that was used last stands last.
    waiting: VecDeque<Waiting>,
    shared: Option<(Shared, Instant)>,
}

struct Waiting {
    link: Link,
    since: Instant,
}

impl Pool {
    /// Keeps as many connections as `limits` say.
    pub(super) fn new(limits: Idle) -> Self {
        Self(Arc::new(Inner {
            limits,
            hosts: Mutex::default(),
            tasks: Tasks::new(),
        }))
    }

    /// Takes a connection that stands, if there is one.
    pub(super) fn take(&self, place: &Place) -> Option<Kept> {
        loop {
            let mut hosts = self.0.hosts();
            let host = hosts.by_place.get_mut(place)?;
            if let Some((shared, used)) = &mut host.shared {
                if !shared.is_closed() {
                    *used = Instant::now();
                    return Some(Kept::Shared(shared.clone()));
                }
                host.shared = None;
            }
            let Waiting { mut link, since } = host.waiting.pop_back()?;
            hosts.waiting -= 1;
            drop(hosts);
            if since.elapsed() <= self.0.limits.timeout && link.is_idle() {
                return Some(Kept::Own(link));
            }
        }
    }

    /// Keeps a connection that is not in use any more, if it stands and there is room.
    pub(super) fn keep(&self, place: Place, mut link: Link) {
        let Idle {
            connections,
            per_host,
            ..
        } = self.0.limits;
        if connections == 0 || per_host == 0 || !link.is_idle() {
            return;
        }
        let mut hosts = self.0.hosts();
        let host = hosts.by_place.entry(place).or_default();
        if host.waiting.len() >= per_host {
            // The others are as good, and Go closes the one that comes last, too.
            return;
        }
        let since = Instant::now();
        host.waiting.push_back(Waiting { link, since });
        hosts.waiting += 1;
        let over = (hosts.waiting > connections).then(|| hosts.pop_oldest());
        self.sweep_later(&mut hosts);
        drop(hosts);
        drop(over);
    }

    /// Lets other requests share a connection, which `driver` keeps going.
    pub(super) fn share(
        &self,
        place: Place,
        shared: Shared,
        driver: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) {
        self.0.tasks.spawn("http/2 connection", async move {
            if let Err(reason) = driver.await {
                tracing::debug!(%reason, "http/2 connection ended early");
            }
        });
        if self.0.limits.per_host == 0 {
            return;
        }
        let mut hosts = self.0.hosts();
        let host = hosts.by_place.entry(place).or_default();
        host.shared = Some((shared, Instant::now()));
        self.sweep_later(&mut hosts);
    }

    /// Starts the task that closes connections, unless it runs.
    fn sweep_later(&self, hosts: &mut Hosts) {
        if std::mem::replace(&mut hosts.is_swept, true) {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        let pause = self.0.limits.timeout.min(SWEEP);
        // A clock that ticks no faster than timers can.
        let pause = pause.max(Duration::from_millis(50));
        self.0.tasks.spawn("idle connections", async move {
            loop {
                sleep(pause).await;
                let is_over = inner.upgrade().is_none_or(|inner| inner.sweep());
                if is_over {
                    return;
                }
            }
        });
    }
}

impl Inner {
    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock()
    }

    /// Closes what has ended or was idle for too long, and says whether nothing is left.
    fn sweep(&self) -> bool {
        let timeout = self.limits.timeout;
        let mut closed = Vec::new();
        let mut hosts = self.hosts();
        let Hosts {
            by_place,
            waiting,
            is_swept,
        } = &mut *hosts;
        by_place.retain(|_, host| {
            let before = host.waiting.len();
            for mut entry in std::mem::take(&mut host.waiting) {
                if entry.since.elapsed() <= timeout && entry.link.is_idle() {
                    host.waiting.push_back(entry);
                } else {
                    closed.push(entry);
                }
            }
            *waiting -= before - host.waiting.len();
            host.shared
                .take_if(|(shared, used)| shared.is_closed() || used.elapsed() > timeout);
            !host.waiting.is_empty() || host.shared.is_some()
        });
        *is_swept = !by_place.is_empty();
        let is_over = !*is_swept;
        drop(hosts);
        drop(closed);
        is_over
    }
}

impl Hosts {
    /// Takes out the connection that was not used for the longest time.
    fn pop_oldest(&mut self) -> Option<Waiting> {
        let queues = self.by_place.values_mut().map(|host| &mut host.waiting);
        let since = |queue: &VecDeque<Waiting>| queue.front().map(|first| first.since);
        let oldest = queues
            .filter(|queue| !queue.is_empty())
            .min_by_key(|queue| since(queue));
        let taken = oldest.and_then(VecDeque::pop_front);
        self.waiting -= usize::from(taken.is_some());
        taken
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.0.hosts().waiting;
        f.debug_struct("Pool")
            .field("limits", &self.0.limits)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
