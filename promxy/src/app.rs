//! The program: build (bind) -> start -> reload -> drain.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::HeaderName;
use jiff::Timestamp;
use shared::{
    http::{
        Limits as ConnectionLimits, pace,
        web_config::{Error as WebConfigError, WebConfig, serve_web},
    },
    lifecycle::{Drained, Tasks},
    listen,
};
use tokio::{
    net::{TcpListener, lookup_host},
    sync::{Mutex, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    api::params::LANGUAGE,
    config::Config,
    discovery::Environment,
    flags::{Flags, Settings},
    query::{Limits, Queries, Settings as QuerySettings},
    reload,
    servergroup::Groups,
    state::{Live, State},
    telemetry::{
        Telemetry,
        active_queries::ActiveQueries,
        query_log::{Opened, QueryLog},
    },
    web,
};

/// How many clients there may be at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 16_384;
/// How long tasks may take to end once nothing is to be served any more.
const LAST_TASKS: Duration = Duration::from_secs(2);
/// What stands for no limit where one has to be given.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why the program cannot start. The texts are those of fatal log lines.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A part of the configuration cannot be put into force; what it is was logged.
    #[error("Error loading config: {}", reload::NOT_APPLIED)]
    NotApplied,
    /// The listener.
    #[error("Error creating server: {0}")]
    Server(String),
    /// The list of running queries.
    #[error("Unable to create query tracker in {folder}: {reason}")]
    ActiveQueries {
        /// The folder.
        folder: String,
        /// Why.
        reason: io::Error,
    },
    /// A name of `--proxy-headers`.
    #[error("--proxy-headers: {0} is not the name of a header")]
    Header(String),
}

/// The program with its listener bound.
#[derive(Debug)]
pub struct App {
    state: Arc<State>,
    listener: TcpListener,
    address: SocketAddr,
    web: Arc<WebConfig>,
    background: Tasks,
}

/// What the program was started with.
#[derive(Debug)]
pub struct Start {
    /// The command line.
    pub flags: Flags,
    /// What it means.
    pub settings: Settings,
    /// The configuration.
    pub config: Config,
    /// The machine's name.
    pub hostname: String,
    /// When the process started.
    pub started: Timestamp,
    /// What clients and sources take from the environment.
    pub environment: Environment,
}

impl App {
    /// Puts the parts together and binds the listener. Asks no target anything.
    pub async fn build(start: Start) -> Result<Self, BuildError> {
        let Start {
            flags,
            settings,
            config,
            hostname,
            started,
            environment,
        } = start;
        let background = Tasks::new();
        let not_applied = |reason: String| {
            error!("failed to apply configuration: {reason}");
            BuildError::NotApplied
        };
        let log = Opened::new(config.query_log_file.as_deref()).map_err(not_applied)?;
        let web = match &flags.web_config_file {
            None => WebConfig::plain(),
            Some(path) => {
                WebConfig::load(path).map_err(|error| BuildError::Server(web_refused(&error)))?
            }
        };
        let listener = bind(&flags.bind_addr).await.map_err(BuildError::Server)?;
        let address = listener.local_addr();
        let address = address.map_err(|reason| BuildError::Server(reason.to_string()))?;
        let active_queries = active_queries(&settings)?;
        let forwarded = flags.proxy_headers.iter().map(|name| {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| BuildError::Header(name.clone()))
        });
        let forwarded = forwarded.collect::<Result<_, _>>()?;
        let groups = Groups::start(&config, environment.clone(), &background)
            .map_err(|error| not_applied(reload::group_refused(&error)))?;
        reload::check_alerting(&config, &environment).map_err(not_applied)?;
        let telemetry = Telemetry::new(flags.max_concurrency, vec![Arc::new(groups.clone())]);
        telemetry.engine.set_log(log.is_enabled());
        telemetry.reload.succeeded();
        let query_log = QueryLog::default();
        query_log.switch(log);
        let limits = Limits {
            timeout: flags.query_timeout.unwrap_or(FOREVER),
            max_samples: flags.most_samples(),
            max_bytes: flags.most_bytes(),
            max_concurrency: None,
        };
        let query_settings = QuerySettings {
            parser: LANGUAGE,
            lookback: flags.lookback_delta,
            limits,
        };
        let queries = Queries::new(query_settings, reload::source(&groups, &config));
        let remote_reads = usize::try_from(flags.remote_read_max_concurrency)
            .ok()
            .filter(|most| *most > 0)
            .unwrap_or(Semaphore::MAX_PERMITS);
        let state = State {
            settings,
            hostname,
            started,
            environment,
            telemetry,
            query_log,
            active_queries,
            remote_reads: Semaphore::new(remote_reads.min(Semaphore::MAX_PERMITS)),
            queries,
            groups,
            live: ArcSwap::from_pointee(Live { config }),
            reloading: Mutex::new(()),
            quit: CancellationToken::new(),
            stopping: AtomicBool::new(false),
            forwarded,
            flags,
        };
        Ok(Self {
            state: Arc::new(state),
            listener,
            address,
            web: Arc::new(web),
            background,
        })
    }

    /// Starts serving.
    pub fn start(self) -> Running {
        let Self {
            state,
            listener,
            address,
            web,
            background,
        } = self;
        let flags = &state.flags;
        match &flags.web_config_file {
            None => info!("promxy starting with HTTP..."),
            Some(path) => info!("promxy starting with web config {}...", path.display()),
        }
        let http2 = web.is_secured();
        let word = if http2 { "enabled" } else { "disabled" };
        let place = address.to_string();
        info!(address = place, "Listening on");
        info!(address = place, http2, "TLS is {word}.");
        let serving = Tasks::new();
        let limits = ConnectionLimits {
            connections: CONNECTIONS,
            request_head: flags.read_timeout.unwrap_or(FOREVER).min(FOREVER),
            stall: pace::STALL,
            drain: flags.shutdown_timeout.unwrap_or(FOREVER),
        };
        let router = web::router(Arc::clone(&state));
        serve_web(&serving, listener, web, router, limits);
        Running {
            state,
            address,
            serving,
            background,
        }
    }
}

/// The program at work.
pub struct Running {
    state: Arc<State>,
    address: SocketAddr,
    serving: Tasks,
    background: Tasks,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl Running {
    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads the configuration again. What is wrong with it was logged.
    pub async fn reload(&self) {
        let _in_force = self.state.reload().await.is_ok();
    }

    /// Waits until the process is asked to end over HTTP.
    pub async fn quit(&self) {
        self.state.quit.cancelled().await;
    }

    /// Ends in order: load balancers are told first, then the listener closes, then requests under way end.
    pub async fn drain(self) {
        let flags = &self.state.flags;
        info!("promxy received exit signal, starting graceful shutdown");
        self.state.stopping.store(true, Relaxed);
        let shown = |duration: Duration| {
            let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
            shared::config::duration::format_nanos(nanos)
        };
        if !flags.shutdown_delay.is_zero() {
            info!(
                "promxy delaying shutdown by {}",
                shown(flags.shutdown_delay)
            );
            tokio::time::sleep(flags.shutdown_delay).await;
        }
        if let Some(limit) = flags.shutdown_timeout {
            info!("promxy exiting with timeout: {}", shown(limit));
        } else {
            info!("promxy exiting");
        }
        self.serving.stop();
        let limit = flags.shutdown_timeout.unwrap_or(FOREVER);
        if self.serving.drain(limit).await == Drained::DeadlineReached {
            warn!("requests were still under way when the timeout came");
        }
        self.background.stop();
        let _in_time = self.background.drain(LAST_TASKS).await;
    }
}

/// Says why a web configuration cannot be used; of a file that cannot be read, in the original's words.
fn web_refused(error: &WebConfigError) -> String {
    match error {
        WebConfigError::File { path, reason } if reason.kind() == io::ErrorKind::NotFound => {
            format!("open {}: no such file or directory", path.display())
        }
        other => other.to_string(),
    }
}

/// Opens the list of running queries, if there is a place for it.
fn active_queries(settings: &Settings) -> Result<Option<Arc<ActiveQueries>>, BuildError> {
    let (Some(folder), Some(most)) = (&settings.storage_path, settings.max_concurrency) else {
        return Ok(None);
    };
    let opened = ActiveQueries::open(folder, most);
    let opened = opened.map_err(|reason| BuildError::ActiveQueries {
        folder: folder.display().to_string(),
        reason,
    })?;
    Ok(Some(Arc::new(opened)))
}

/// Binds `host:port`; without a host, all addresses of both families where the system has both.
async fn bind(address: &str) -> Result<TcpListener, String> {
    let failed = |reason: String| format!("listen tcp {address}: {reason}");
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| failed("missing port in address".to_owned()))?;
    let bound = if host.is_empty() {
        let port = port
            .parse()
            .map_err(|_| failed(format!("lookup tcp/{port}: unknown port")))?;
        listen::tcp_everywhere(port).and_then(TcpListener::from_std)
    } else {
        let found = lookup_host(address).await;
        let found: Vec<SocketAddr> = found
            .map_err(|reason| failed(reason.to_string()))?
            .collect();
        if found.is_empty() {
            return Err(failed("no such host".to_owned()));
        }
        listen::tcp_at(&*found).await
    };
    bound.map_err(|reason| {
        failed(match reason.kind() {
            io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
            io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
            io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
            _ => format!("bind: {reason}"),
        })
    })
}
