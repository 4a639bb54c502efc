//! The running proxy: build (look up, bind) -> start -> reload TLS files -> drain.
//!
//! What is stopped in which order is the whole art of losing nothing: health says no, inputs end, destinations take what is
//! queued, and only then go the pages that operators look at and the proxy's own metrics.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use shared::{
    discovery,
    lifecycle::{Drained, Tasks},
    metrics::Registry,
    tls::{self, H2, Identity, Pem, server::Server},
};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::{
    VERSION,
    admin::{Readiness, Site},
    config::{Config, Generation, Tls, inbound::ClientAuth},
    destinations::{Destinations, StartError},
    grpc,
    import::Import,
    listen::{self, Listener},
    observe::Observer,
    serve,
    telemetry::{Arrival, Page, Telemetry},
};

/// How long inputs may take to end, of the time that the end may take as a whole.
const INPUT_DRAIN: Duration = Duration::from_secs(6);
/// How long pages, discovery and self metrics may take to end once everything has been delivered.
const BACKGROUND_DRAIN: Duration = Duration::from_secs(3);

/// Why a proxy cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Forwarding.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The HTTP listener.
    #[error("http_address: cannot listen on {address:?}: {reason}")]
    Http {
        /// As configured.
        address: String,
        /// Why not.
        reason: io::Error,
    },
    /// A gRPC listener.
    #[error("cannot listen on {address:?}: {reason}")]
    Grpc {
        /// As configured.
        address: String,
        /// Why not.
        reason: io::Error,
    },
    /// The certificates of the gRPC server.
    #[error("tls: {0}")]
    Tls(#[from] tls::Error),
}

/// A proxy whose sockets are bound and whose destinations are known, and which takes nothing yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    telemetry: Arc<Telemetry>,
    destinations: Destinations,
    discovered: discovery::Metrics,
    background: Tasks,
    http: Option<Listener>,
    grpc: Option<Listener>,
    grpc_tls: Option<(Listener, Arc<Server>)>,
}

/// A proxy at work.
#[derive(Debug)]
pub struct Running {
    generation: Generation,
    telemetry: Arc<Telemetry>,
    destinations: Destinations,
    readiness: Readiness,
    tls: Option<Arc<Server>>,
    addresses: Addresses,
    inputs: Tasks,
    admin: Tasks,
    background: Tasks,
    emitters: Tasks,
    limit: Duration,
}

/// Where a proxy listens, with real ports.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// HTTP: an address, or the path of a socket.
    pub http: Option<String>,
    /// gRPC.
    pub grpc: Option<String>,
    /// gRPC over TLS.
    pub grpc_tls: Option<String>,
}

/// How the end went, and what became of all metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Whether everything ended in time.
    pub drained: Drained,
    /// Metrics that were accepted.
    pub received: u64,
    /// Metrics that have arrived.
    pub delivered: u64,
    /// Metrics that were given up, each counted with its reason.
    pub lost: u64,
}

impl App {
    /// Starts looking for destinations, and binds everything once that has had its first answers. Needs a running tokio
    /// runtime. `variable` looks up the environment: `CONSUL_*`, `EINHORN_*`.
    pub async fn build(
        config: Config,
        variable: &(dyn Fn(&str) -> Option<String> + Sync),
    ) -> Result<Self, BuildError> {
        match config.generation {
            Generation::Stream => info!(version = VERSION, "starting server"),
            Generation::Legacy | Generation::Dual => info!(version = VERSION, "Starting server"),
        }
        let tls = config.grpc_tls.as_ref().map(server).transpose()?;
        let telemetry = Arc::new(Telemetry::new(&config));
        let background = Tasks::new();
        let discovered = discovery::Metrics::new("veneur_proxy");
        let destinations = Destinations::start(
            &background,
            &config,
            variable,
            &discovered,
            Arc::clone(&telemetry) as Arc<dyn Observer>,
        )
        .await?;
        let http = match &config.http_address {
            Some(address) => Some(bind_http(address, variable).await?),
            None if config.generation == Generation::Stream => None,
            None => return Err(http_error("", io::Error::other("http_address is not set"))),
        };
        let grpc = match &config.grpc_address {
            Some(address) => Some(bind_grpc(address).await?),
            None => None,
        };
        let grpc_tls = match (&config.grpc_tls, tls) {
            (Some(settings), Some(tls)) => Some((bind_grpc(&settings.address).await?, tls)),
            _ => None,
        };
        Ok(Self {
            config,
            telemetry,
            destinations,
            discovered,
            background,
            http,
            grpc,
            grpc_tls,
        })
    }

    /// Starts to take metrics.
    pub fn start(self) -> Running {
        let Self {
            config,
            telemetry,
            destinations,
            discovered,
            background,
            http,
            grpc,
            grpc_tls,
        } = self;
        let [inputs, admin, emitters] = std::array::from_fn(|_| Tasks::new());
        let readiness = Readiness::new(destinations.clone());
        telemetry.start(&emitters, &destinations, &inputs);
        let mut addresses = Addresses::default();
        if let Some(listener) = http {
            let import = Import::new(
                config.generation,
                config.inbound.limits,
                destinations.clone(),
                Arc::clone(&telemetry),
            );
            let page = Page::new(
                Arc::clone(&telemetry),
                destinations.clone(),
                config.generation.name(),
            );
            let registry = Registry::new(vec![Arc::new(page), Arc::new(discovered)]);
            let site = Site::new(&config, import, readiness.clone(), registry);
            info!(address = %listener, "HTTP server listening");
            addresses.http = Some(listener.to_string());
            // Health is answered until the end; /import, where it is served here, refuses before that.
            serve::http(&admin, listener, Arc::new(site));
        }
        let service = Arc::new(grpc::Service::new(
            destinations.clone(),
            readiness.clone(),
            Arc::clone(&telemetry),
            inputs.clone(),
        ));
        let serve_grpc = |listener: Listener, tls| {
            let address = listener.to_string();
            info!(address, "Starting gRPC server");
            grpc::serve(
                &inputs,
                listener,
                tls,
                config.grpc_server.clone(),
                Arc::clone(&service),
            );
            address
        };
        addresses.grpc = grpc.map(|listener| serve_grpc(listener, None));
        let mut tls = None;
        addresses.grpc_tls = grpc_tls.map(|(listener, server)| {
            tls = Some(Arc::clone(&server));
            serve_grpc(listener, Some(server))
        });
        Running {
            generation: config.generation,
            telemetry,
            destinations,
            readiness,
            tls,
            addresses,
            inputs,
            admin,
            background,
            emitters,
            limit: config.shutdown_timeout,
        }
    }
}

impl Running {
    /// Returns where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns whether there is something that [`Running::reload`] reads again.
    pub fn can_reload(&self) -> bool {
        self.tls.is_some() || self.destinations.can_reload_tls()
    }

    /// Reads the files of TLS again, of both sides. With broken files the old ones stay in use.
    pub fn reload(&self) {
        let server = self.tls.as_ref().map(|tls| tls.reload());
        let clients = self.destinations.reload_tls();
        match server.unwrap_or(Ok(())).and(clients) {
            Ok(()) => info!("reloaded the files of TLS"),
            Err(reason) => error!(error = %reason, "cannot reload the files of TLS"),
        }
    }

    /// Stops taking metrics, delivers what was taken, within the configured time, and ends.
    pub async fn drain(self) -> Summary {
        let deadline = Instant::now() + self.limit;
        let rest = || deadline.saturating_duration_since(Instant::now());
        self.readiness.end();
        self.inputs.stop();
        let inputs = self.inputs.drain(INPUT_DRAIN.min(self.limit)).await;
        let imports = self.readiness.requests_ended(INPUT_DRAIN.min(rest())).await;
        if inputs == Drained::DeadlineReached || imports == Drained::DeadlineReached {
            warn!(
                running = self.inputs.running(),
                "requests were still under way when their deadline came"
            );
        }
        let delivered = self.destinations.drain(rest()).await;
        let drained = match (inputs, imports, delivered) {
            (Drained::Completely, Drained::Completely, Drained::Completely) => Drained::Completely,
            _ => Drained::DeadlineReached,
        };
        self.background.stop();
        self.admin.stop();
        let background = self.background.drain(BACKGROUND_DRAIN).await;
        let pages = self.admin.drain(BACKGROUND_DRAIN).await;
        if background == Drained::DeadlineReached || pages == Drained::DeadlineReached {
            warn!("background tasks were still busy when their deadline came");
        }
        self.telemetry
            .arrival(&Arrival::Exit(&(drained == Drained::DeadlineReached)));
        self.emitters.stop();
        if self.emitters.drain(BACKGROUND_DRAIN).await == Drained::DeadlineReached {
            warn!("self metrics were still being sent when their deadline came");
        }
        let sums = self.telemetry.totals().sums();
        let summary = Summary {
            drained,
            received: sums.received,
            delivered: sums.delivered(),
            lost: sums.lost().values().sum(),
        };
        info!(
            received = summary.received,
            delivered = summary.delivered,
            lost = summary.lost,
            "drained"
        );
        if drained == Drained::DeadlineReached && self.generation == Generation::Stream {
            error!("error shutting down");
        }
        summary
    }
}

fn server(tls: &Tls) -> Result<Arc<Server>, tls::Error> {
    use tls::server::{Clients, Settings, Trust};
    let file = |path: &String| Pem::File(path.into());
    let identity = Identity {
        certificates: file(&tls.cert_file),
        key: file(&tls.key_file),
    };
    let mut settings = Settings::new(identity, &[H2]);
    let trust = || Trust {
        authorities: file(&tls.ca_file),
        names: Vec::new(),
    };
    settings.clients = match tls.client_auth {
        ClientAuth::None => Clients::Ignored,
        ClientAuth::VerifyIfGiven => Clients::VerifiedIfGiven(trust()),
        ClientAuth::Require => Clients::Verified(trust()),
    };
    Server::new(settings).map(Arc::new)
}

async fn bind_http(
    address: &str,
    variable: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<Listener, BuildError> {
    let bound = Listener::bind(address, variable).await;
    bound.map_err(|reason| http_error(address, reason))
}

fn http_error(address: &str, reason: io::Error) -> BuildError {
    BuildError::Http {
        address: address.to_owned(),
        reason,
    }
}

async fn bind_grpc(address: &str) -> Result<Listener, BuildError> {
    let failed = |reason| BuildError::Grpc {
        address: address.to_owned(),
        reason,
    };
    listen::tcp(address)
        .await
        .map(Listener::Tcp)
        .map_err(failed)
}
