//! The running proxy: build (bind) -> start -> reload -> drain.
//!
//! What is stopped in which order is the whole art of losing nothing: inputs first, until the kernel holds no more lines;
//! then the nodes are let go, so that TCP writers empty their queues and end; then what operators look at.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use shared::{
    http::{self, Limits},
    lifecycle::{Drained, Tasks},
    metrics,
};
use thiserror::Error;
use tokio::net::TcpListener;
use tracing::{error, info, warn};

use crate::{
    config::{Bind, Config, Origin},
    counters::Totals,
    input::{
        datagram::{DatagramSocket, Receiver},
        listen::{self, SocketFile},
        stream::{self, StreamListener},
    },
    management::{self, Facts},
    membership::{Membership, Surroundings},
    relay::{Relay, SharedRouting},
    reload::Reloader,
    resolve::Resolver,
    routing::Routing,
    telemetry::{self, Reloads, Sources},
};

/// How long inputs may take to end. They end by themselves, well before this; nothing can be delivered until they have.
const INPUT_DRAIN: Duration = Duration::from_secs(5);
/// What writers may take beyond the drain limit to count what they could not deliver.
const WRITER_MARGIN: Duration = Duration::from_secs(5);
/// How long operators' pages may take to end once everything has been delivered.
const ADMIN_DRAIN: Duration = Duration::from_secs(3);

/// Why a proxy cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A listener for lines. The text is the original's.
    #[error("Error setting up listener: listen {network} {place}: {reason} (exiting...)")]
    Listener {
        /// `udp`, `tcp`, `unix` or `unixgram`.
        network: &'static str,
        /// What was to be bound.
        place: String,
        /// Why it could not be.
        reason: io::Error,
    },
    /// The metrics page.
    #[error("metricsAddress: cannot listen on {place}: {reason}")]
    Metrics {
        /// What was to be bound.
        place: String,
        /// Why it could not be.
        reason: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Where a proxy listens, with real ports.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Lines by UDP.
    pub udp: Option<SocketAddr>,
    /// Lines by TCP.
    pub tcp: Option<SocketAddr>,
    /// The management console; `None` if it could not be bound.
    pub management: Option<SocketAddr>,
    /// The page for Prometheus.
    pub metrics: Option<SocketAddr>,
}

impl fmt::Display for Addresses {
    /// ` udp=127.0.0.1:8125 management=127.0.0.1:8126`: what is there, each with a space before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            udp,
            tcp,
            management,
            metrics,
        } = self;
        for (name, address) in [
            ("udp", udp),
            ("tcp", tcp),
            ("management", management),
            ("metrics", metrics),
        ] {
            if let Some(address) = address {
                write!(f, " {name}={address}")?;
            }
        }
        Ok(())
    }
}

/// A proxy whose sockets are bound, and which does nothing yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    resolver: Resolver,
    datagrams: Vec<DatagramSocket>,
    streams: Vec<StreamListener>,
    management: Option<TcpListener>,
    metrics: Option<TcpListener>,
    socket_files: Vec<SocketFile>,
    addresses: Addresses,
}

/// A proxy at work.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    reloader: Arc<Reloader>,
    facts: Arc<Facts>,
    totals: Arc<Totals>,
    inputs: Tasks,
    emitters: Tasks,
    members: Tasks,
    writers: Tasks,
    admin: Tasks,
    drain_limit: Duration,
    /// Removed when the proxy has ended.
    _socket_files: Vec<SocketFile>,
}

/// What became of all lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Lines that came in.
    pub received: u64,
    /// Lines sent to nodes; with several groups or mirroring, more than came in.
    pub sent: u64,
    /// Lines dropped, each counted with its reason.
    pub dropped: u64,
}

impl App {
    /// Binds everything. Needs a running tokio runtime.
    pub async fn build(config: Config, resolver: Resolver) -> Result<Self, BuildError> {
        let listeners = &config.listeners;
        let mut app = Self {
            resolver,
            datagrams: Vec::new(),
            streams: Vec::new(),
            management: None,
            metrics: None,
            socket_files: Vec::new(),
            addresses: Addresses::default(),
            config: config.clone(),
        };
        let console = &listeners.management;
        info!(
            "Starting Management listener on {} and port {}",
            console.written, console.port
        );
        if let Some(bind) = &listeners.udp {
            info!(
                "Starting StatsD listener on {} and port {}",
                bind.written, bind.port
            );
            let sockets = listen::udp(bind, listeners.udp_sockets, listeners.receive_buffer)
                .map_err(|reason| listener_error("udp", bind, &reason))?;
            app.addresses.udp = sockets.first().and_then(DatagramSocket::udp_address);
            app.datagrams.extend(sockets);
        }
        if let Some(bind) = &listeners.tcp {
            info!(
                "Starting StatsD TCP listener on {} and port {}",
                bind.written, bind.port
            );
            let listener =
                listen::tcp(bind).map_err(|reason| listener_error("tcp", bind, &reason))?;
            app.addresses.tcp = listener.local_addr().ok();
            app.streams.push(StreamListener::Tcp(listener));
        }
        if let Some(bind) = &listeners.unix_stream {
            let failed = |reason| BuildError::Listener {
                network: "unix",
                place: bind.path.display().to_string(),
                reason,
            };
            let (listener, file) = listen::unix_stream(bind).map_err(failed)?;
            app.streams.push(StreamListener::Unix(listener));
            app.socket_files.push(file);
        }
        if let Some(bind) = &listeners.unix_datagram {
            let failed = |reason| BuildError::Listener {
                network: "unixgram",
                place: bind.path.display().to_string(),
                reason,
            };
            let (socket, file) =
                listen::unix_datagram(bind, listeners.receive_buffer).map_err(failed)?;
            app.datagrams.push(socket);
            app.socket_files.push(file);
        }
        app.bind_management();
        if let Some(place) = &listeners.metrics {
            let failed = |reason| BuildError::Metrics {
                place: place.clone(),
                reason,
            };
            let listener = shared::listen::tcp_at(place).await.map_err(failed)?;
            app.addresses.metrics = listener.local_addr().ok();
            app.metrics = Some(listener);
        }
        Ok(app)
    }

    /// A console that cannot be bound is no reason not to relay.
    fn bind_management(&mut self) {
        let bind = &self.config.listeners.management;
        match listen::tcp(bind) {
            Ok(listener) => {
                self.addresses.management = listener.local_addr().ok();
                self.management = Some(listener);
            }
            Err(reason) if reason.kind() == io::ErrorKind::InvalidInput => {
                error!("error listening: listen tcp: {reason}");
            }
            Err(reason) => error!(
                "error listening: listen tcp {}:{}: bind: {}",
                bind.written,
                bind.port,
                reason_text(&reason)
            ),
        }
    }

    /// Starts all tasks and threads. `origin` is what a reload reads again.
    pub async fn start(self, origin: Option<Origin>) -> Result<Running, BuildError> {
        let Self {
            config,
            resolver,
            datagrams,
            streams,
            management,
            metrics,
            socket_files,
            addresses,
        } = self;
        let [inputs, emitters, members, writers, admin] = std::array::from_fn(|_| Tasks::new());
        let totals = Arc::<Totals>::default();
        let routing: SharedRouting = Arc::new(ArcSwap::from_pointee(Routing::empty(
            config.grammar,
            config.packing,
        )));
        let facts = Arc::new(Facts {
            dialect: config.dialect,
            started: Instant::now(),
            totals: Arc::clone(&totals),
            routing: Arc::clone(&routing),
            healthy: AtomicBool::new(true),
            entries: ArcSwap::from_pointee(config.entries.clone()),
        });
        let sources = Sources {
            totals: Arc::clone(&totals),
            routing: Arc::clone(&routing),
            reloads: Arc::<Reloads>::default(),
            ending: inputs.stop_token(),
        };

        let surroundings = Surroundings {
            routing: Arc::clone(&routing),
            totals: Arc::clone(&totals),
            resolver,
            watchers: members.clone(),
            writers: writers.clone(),
        };
        let membership = Membership::start(config.clone(), surroundings).await;
        let reloader = Arc::new(Reloader::new(
            origin,
            &config,
            membership.reporter(),
            &facts,
            &sources.reloads,
        ));
        members.spawn("membership", membership.run(members.stop_token()));

        for (number, socket) in datagrams.into_iter().enumerate() {
            let relay = Relay::new(Arc::clone(&routing), Arc::clone(&totals));
            let receiver = Receiver::new(socket, relay, Arc::clone(&totals))?;
            let stop = inputs.stop_token();
            inputs.spawn_thread(format!("relay-{number}"), move || receiver.run(&stop))?;
        }
        if !streams.is_empty() {
            stream::start(
                &inputs,
                streams,
                Relay::new(Arc::clone(&routing), Arc::clone(&totals)),
            )?;
        }
        if let Some(listener) = management {
            management::serve(&admin, listener, Arc::clone(&facts));
        }
        if let Some(settings) = config.self_metrics.clone() {
            emitters.spawn(
                "self metrics",
                telemetry::statsd::emit(settings, sources.clone(), emitters.stop_token()),
            );
        }
        if let Some(listener) = metrics {
            let ending = sources.ending.clone();
            let router = metrics::router(Arc::new(sources), ending);
            http::serve(&admin, listener, router, Limits::ADMIN);
        }
        if config.watch_file {
            admin.spawn(
                "file watch",
                Arc::clone(&reloader).watch(admin.stop_token()),
            );
        }
        let drain_limit = config.drain_limit;
        info!("server is up{addresses}");
        Ok(Running {
            addresses,
            reloader,
            facts,
            totals,
            inputs,
            emitters,
            members,
            writers,
            admin,
            drain_limit,
            _socket_files: socket_files,
        })
    }
}

impl Running {
    /// Returns where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until a thread of the data path has panicked, which leaves its socket unread: time to end and be started anew.
    pub async fn broken(&self) {
        self.inputs.broken().await;
    }

    /// Reads the configuration again. A broken file keeps the old one and says why.
    pub async fn reload(&self) {
        self.reloader.reload().await;
    }

    /// Takes `config` in place of the present one.
    pub async fn apply(&self, config: Config) {
        self.reloader.apply(config).await;
    }

    /// Stops taking lines, delivers what was taken, within the configured time, and ends.
    pub async fn drain(self) -> Summary {
        self.facts.healthy.store(false, Relaxed);
        self.inputs.stop();
        if self.inputs.drain(INPUT_DRAIN).await == Drained::DeadlineReached {
            warn!(
                running = self.inputs.running(),
                "inputs were still busy when their deadline came"
            );
        }
        self.emitters.stop();
        let emitted = self.emitters.drain(ADMIN_DRAIN).await;
        self.members.stop();
        let let_go = self.members.drain(ADMIN_DRAIN).await;
        if emitted == Drained::DeadlineReached || let_go == Drained::DeadlineReached {
            warn!("background tasks were still busy when their deadline came");
        }
        // Writers give up by themselves when their patience ends.
        if self.writers.drain(self.drain_limit + WRITER_MARGIN).await == Drained::DeadlineReached {
            error!("writers did not give up in time; some lines are not accounted for");
        }
        self.admin.stop();
        if self.admin.drain(ADMIN_DRAIN).await == Drained::DeadlineReached {
            warn!("management connections were still open when their deadline came");
        }
        let summary = Summary {
            received: self.totals.lines.load(Relaxed),
            sent: self.totals.retired.lines.load(Relaxed),
            dropped: self.totals.drops.sum() + self.totals.retired.drops.sum(),
        };
        let Summary {
            received,
            sent,
            dropped,
        } = summary;
        info!(
            lines_received = received,
            lines_sent = sent,
            lines_dropped = dropped,
            "drained"
        );
        summary
    }
}

fn listener_error(network: &'static str, bind: &Bind, reason: &io::Error) -> BuildError {
    let reason = io::Error::new(reason.kind(), format!("bind: {}", reason_text(reason)));
    BuildError::Listener {
        network,
        place: format!("{}:{}", bind.written, bind.port),
        reason,
    }
}

/// The operating system's words in lower case and without the number, as Go prints them.
fn reason_text(reason: &io::Error) -> String {
    let text = reason.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}
