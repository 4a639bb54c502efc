//! What is served by HTTP: each generation's paths, and ours.
//!
//! | path | legacy, dual | stream |
//! |---|---|---|
//! | `POST /import` | [`crate::import`] | where `http.enable_import` is set |
//! | `/healthcheck` | GET, HEAD: `ok` for as long as the process serves | 204, or 503 without a destination or at the end |
//! | `/version`, `/builddate`, `/config/...` | not there | any method |
//! | `/debug/pprof/...` | `profiles` | where `http.enable_profiling` is set |
//! | `/healthcheck/ready`, `/metrics` | ours | ours |
//!
//! Everything else is 404, as is a known path with another method.

mod profiles;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use shared::{
    lifecycle::Drained,
    metrics::{self, Registry},
};
use tokio::time::timeout;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    config::{Config, Generation, Pages},
    destinations::Destinations,
    import::Import,
    serve::{self, Answer, Handler},
};

/// Whether metrics can be taken. Cloning gives another handle on the same.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    destinations: Destinations,
    ending: Arc<AtomicBool>,
    /// Requests that bring metrics.
    requests: TaskTracker,
}

impl Readiness {
    pub(crate) fn new(destinations: Destinations) -> Self {
        Self {
            destinations,
            ending: Arc::default(),
            requests: TaskTracker::new(),
        }
    }

    /// Says that the end has begun.
    pub(crate) fn end(&self) {
        self.ending.store(true, SeqCst);
    }

    /// Begins a request that brings metrics; `None` at the end, when no more are taken.
    pub(crate) fn begin(&self) -> Option<TaskTrackerToken> {
        let token = self.requests.token();
        // Looked at afterwards, so that whoever waits for requests to end sees this one or it is refused.
        (!self.ending.load(SeqCst)).then_some(token)
    }

    /// Waits until no request brings metrics any more.
    pub(crate) async fn requests_ended(&self, limit: Duration) -> Drained {
        self.requests.close();
        match timeout(limit, self.requests.wait()).await {
            Ok(()) => Drained::Completely,
            Err(_) => Drained::DeadlineReached,
        }
    }

    /// Returns whether a destination is connected, and the process is not about to end.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ending.load(SeqCst) && self.destinations.connected() > 0
    }
}

/// What answers requests by HTTP.
#[derive(Debug)]
pub(crate) struct Site {
    generation: Generation,
    /// Only where the generation takes metrics by HTTP, or was asked to.
    import: Option<Import>,
    readiness: Readiness,
    pages: Option<Pages>,
    profiles: bool,
    registry: Registry,
}

impl Site {
    pub(crate) fn new(
        config: &Config,
        import: Import,
        readiness: Readiness,
        registry: Registry,
    ) -> Self {
        Self {
            generation: config.generation,
            import: config.inbound.serve_import.then_some(import),
            readiness,
            pages: config.pages.clone().filter(|_| config.serve_config),
            profiles: config.serve_profiles,
            registry,
        }
    }

    fn page(&self, method: &Method, path: &str) -> Answer {
        let stream = self.generation == Generation::Stream;
        let reading = matches!(*method, Method::GET | Method::HEAD);
        match path {
            "/healthcheck" if stream => self.ready(StatusCode::NO_CONTENT),
            "/healthcheck" if reading => serve::text("ok\n"),
            "/healthcheck/ready" if reading => self.ready(StatusCode::OK),
            "/metrics" if reading => self.metrics(),
            "/version" if stream => serve::text(crate::VERSION),
            "/builddate" if stream => serve::text(crate::BUILD_DATE),
            "/config/json" if stream => self.config(JSON, |pages| &pages.json),
            "/config/yaml" if stream => self.config(YAML, |pages| &pages.yaml),
            "/debug/pprof" if stream && self.profiles => profiles::moved(),
            _ if self.profiles && (stream || reading) => match path.strip_prefix("/debug/pprof/") {
                Some(name) => profiles::profile(name),
                None => serve::not_found(),
            },
            _ => serve::not_found(),
        }
    }

    fn ready(&self, good: StatusCode) -> Answer {
        serve::empty(if self.readiness.is_ready() {
            good
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        })
    }

    fn config(&self, kind: HeaderValue, text: impl Fn(&Pages) -> &String) -> Answer {
        match &self.pages {
            Some(pages) => serve::page(kind, text(pages).clone()),
            None => serve::not_found(),
        }
    }

    fn metrics(&self) -> Answer {
        match self.registry.page() {
            Ok(page) => serve::page(HeaderValue::from_static(metrics::CONTENT_TYPE), page),
            Err(reason) => serve::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("cannot print metrics: {reason}"),
            ),
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/x-yaml");

impl Handler for Site {
    async fn answer(&self, request: Request<Incoming>, client: Option<SocketAddr>) -> Answer {
        if let Some(import) = &self.import
            && request.uri().path() == "/import"
            && request.method() == Method::POST
        {
            return match self.readiness.begin() {
                Some(_under_way) => import.answer(request, client).await,
                None => serve::error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the server is shutting down",
                ),
            };
        }
        self.page(request.method(), request.uri().path())
    }
}
