//! The running proxy: build (bind) -> start -> re-read -> drain.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::HeaderValue;
use shared::{
    discovery::kubernetes::SetupError,
    http::web_config::{self, WebConfig},
    lifecycle::{Drained, Tasks},
    tls,
};
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::{
    admin::{Admin, metrics::Metrics, status::Status},
    backend::Backends,
    config::{Config, Drain},
    front::{self, Front, WORKERS},
    health,
    locate::{
        Locator,
        file::FileLocator,
        kubernetes::KubernetesLocator,
        marathon::{MarathonError, MarathonLocator},
    },
    probe::Prober,
    proxy::{Proxy, affinity::Affinity, choice::Router},
    select::Selector,
};

/// How long tasks may take to end once nothing is to be served any more.
const LAST_TASKS: Duration = Duration::from_secs(2);

/// Why a proxy cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The port.
    #[error("cannot listen on port {0}: {1}")]
    Listen(i64, io::Error),
    /// The web configuration file; the text names it.
    #[error(transparent)]
    Web(#[from] web_config::Error),
    /// The settings for TLS towards servers.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] tls::Error),
    /// The HTTP client of probes.
    #[error("cannot set up probes: {0}")]
    Prober(#[from] reqwest::Error),
    /// The kubeconfig, or what takes its place in a pod.
    #[error("Failed to create kubernetes locator: {0}")]
    Kubernetes(String),
    /// Marathon, or its login.
    #[error("Failed to create marathon locator: {0}")]
    Marathon(#[from] MarathonError),
    /// Threads.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

/// A proxy with its listener bound.
#[derive(Debug)]
pub struct App {
    config: Config,
    locators: Vec<Locator>,
    listener: TcpListener,
    prober: Prober,
    web: Option<Arc<WebConfig>>,
    started: Instant,
}

impl App {
    /// Binds the listener. Asks nobody anything but Marathon, which must be there from the start.
    ///
    /// `environment` knows the variables by which a pod finds its cluster.
    pub async fn build(
        config: Config,
        started: Instant,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BuildError> {
        let port = config.front.port;
        let web = match &config.front.web_config {
            Some(path) => Some(Arc::new(WebConfig::load(path)?)),
            None => None,
        };
        let number = u16::try_from(port)
            .map_err(|_| BuildError::Listen(port, io::Error::other("not a port")))?;
        let listener = front::bind(config.front.address, number)
            .map_err(|reason| BuildError::Listen(port, reason))?;
        let prober = Prober::new(crate::tls::for_client(config.insecure_certs)?)?;
        let mut locators = Vec::new();
        if let Some(path) = &config.locators.file {
            locators.push(Locator::File(FileLocator::new(path.clone())));
        }
        if let Some(kubernetes) = &config.locators.kubernetes {
            let locator = KubernetesLocator::new(kubernetes, environment).await;
            let locator = locator.map_err(|reason| {
                // The path is in the line above; the words are the original's.
                BuildError::Kubernetes(match &reason {
                    SetupError::Kubeconfig { fault, .. } => fault.to_string(),
                    reason => reason.to_string(),
                })
            })?;
            locators.push(Locator::Kubernetes(Box::new(locator)));
        }
        if let Some(marathon) = &config.locators.marathon {
            locators.push(Locator::Marathon(MarathonLocator::connect(marathon).await?));
        }
        Ok(Self {
            config,
            locators,
            listener,
            prober,
            web,
            started,
        })
    }

    /// Starts serving; the first round of selection begins at the same time.
    pub fn start(self) -> Result<Running, BuildError> {
        let Self {
            config,
            locators,
            listener,
            prober,
            web,
            started,
        } = self;
        let background = Tasks::new();
        let serving = Tasks::new();
        let listening = Tasks::new();
        let backends = Arc::new(Backends::new(WORKERS));
        let selector = Selector::start(
            &background,
            config.strategy,
            config.selection_interval,
            locators,
            prober.clone(),
            Arc::clone(&backends),
        );
        health::start(&background, Arc::clone(&backends), prober, selector.clone());
        let proxy = Arc::new(Proxy {
            attempts: config.attempts,
            selector: selector.clone(),
            router: Router::new(config.strategy, Affinity::new(&config.affinity)),
            tls: crate::tls::for_requests(config.insecure_certs)?,
            host_name: host_name(),
            tasks: serving.child(),
        });
        let leaving = Arc::new(AtomicBool::new(false));
        let admin = Arc::new(Admin {
            metrics: Metrics::new(selector.clone(), backends, Arc::clone(&proxy)),
            status: Status {
                started,
                strategy: config.strategy.name(),
                interval: config.selection_interval,
                affinity: config.affinity.shown.clone(),
            },
            leaving: Arc::clone(&leaving),
        });
        let address = listener.local_addr().map_err(BuildError::Worker)?;
        let front = Front {
            proxy,
            admin,
            places: Arc::new(Semaphore::new(config.front.max_connections)),
            web: web.clone(),
        };
        front
            .start(&listening, &serving, &listener)
            .map_err(BuildError::Worker)?;
        info!("mpp is listening on port {}", address.port());
        Ok(Running {
            background,
            serving,
            listening,
            selector,
            web,
            leaving,
            drain: config.drain,
            address,
        })
    }
}

/// A proxy at work.
#[derive(Debug)]
pub struct Running {
    background: Tasks,
    serving: Tasks,
    listening: Tasks,
    selector: Selector,
    web: Option<Arc<WebConfig>>,
    leaving: Arc<AtomicBool>,
    drain: Drain,
    address: SocketAddr,
}

impl Running {
    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has the sources of addresses read again, now.
    pub fn reload(&self) {
        info!("reading the sources of endpoints again");
        if let Some(web) = &self.web
            && let Err(reason) = web.reload()
        {
            warn!("the web configuration stays as it was: {reason}");
        }
        self.selector.nudge();
    }

    /// Waits until a worker thread has died, which is a defect.
    pub async fn broken(&self) {
        self.serving.broken().await;
    }

    /// Ends in order: load balancers are told first, then the listener closes, then requests under way end.
    pub async fn drain(self) {
        self.leaving.store(true, Relaxed);
        if !self.drain.delay.is_zero() {
            info!(
                "no longer healthy; the listener closes in {:?}",
                self.drain.delay
            );
            tokio::time::sleep(self.drain.delay).await;
        }
        self.listening.stop();
        if self.serving.drain(self.drain.timeout).await == Drained::DeadlineReached {
            warn!("requests were still under way when the drain deadline came");
        }
        self.serving.stop();
        self.background.stop();
        let _in_time = self.serving.drain(LAST_TASKS).await;
        let _in_time = self.background.drain(LAST_TASKS).await;
        info!("drained");
    }
}

fn host_name() -> HeaderValue {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| HeaderValue::from_bytes(name.as_encoded_bytes()).ok())
        .unwrap_or(HeaderValue::from_static("unknown"))
}
