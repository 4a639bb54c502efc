//! The parts put together: [`App::build`] reads files, [`App::ping`] asks the gateway, [`App::start`] binds and runs,
//! [`Running::drain`] delivers what was taken, within a limit, and ends.

use std::{
    env, io,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use shared::{
    http::{self, Limits},
    lifecycle::{Drained, Tasks},
    tls::{Identity, Pem, server},
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    config::{Addresses, Config, Destination, FirstPing, GatewayConfig},
    console,
    counters::{Counters, DropReason},
    gateway::{
        Gateways, Parts,
        proxy_env::Proxies,
        url::{Target, UrlError, split_list},
        worker::Work,
    },
    gzip::Press,
    input::{self, Context, shared_batch::SharedBatch},
    intake::{Intake, Outlet, Waiting},
    listen::{self, ListenError},
    page::{self, Reloads, Sources},
    queue::Queue,
    report,
    runstats::{self, Started},
    secrets::{self, SecretsError},
    spool::{Refused, Spool, SpoolError},
};

/// How long inputs may take to end. They end by themselves, well before this.
const INPUT_DRAIN: Duration = Duration::from_secs(5);
/// What workers, and writing down what they give up, may take beyond the limit of delivery.
const WORKER_MARGIN: Duration = Duration::from_secs(5);
/// How long operators' pages may take to end.
const ADMIN_DRAIN: Duration = Duration::from_secs(3);
/// Connections to a gateway are kept this long without `-cert`, as in the original; with it until the gateway closes them.
const IDLE_WITHOUT_CERTIFICATES: Duration = Duration::from_secs(90);

/// Why a proxy does not start. Each text is the original's, if it has one.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A file.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The gateway does not take us.
    #[error("{0}")]
    Ping(String),
    /// The plaintext listener, or another for lines.
    #[error("Listener error: {0}")]
    Listener(ListenError),
    /// The runstats listener.
    #[error("Runstats error: {0}")]
    Runstats(ListenError),
    /// The metrics page.
    #[error("metrics-addr: {0}")]
    Metrics(ListenError),
    /// TLS for the plaintext listener.
    #[error("listen-cert: {0}")]
    ListenTls(shared::tls::Error),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// A proxy whose files are read, and which has no port yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    gateways: Option<Arc<Gateways>>,
    started: Started,
}

/// A proxy at work.
#[derive(Debug)]
pub struct Running {
    config: Config,
    addresses: Addresses,
    counters: Arc<Counters>,
    context: Context,
    listen_tls: Option<Arc<server::Server>>,
    delivery: Option<Delivery>,
    reloads: Arc<Reloads>,
    ending: CancellationToken,
    inputs: Tasks,
    emitters: Tasks,
    outputs: Tasks,
    admin: Tasks,
}

/// What is between the inputs and the gateway.
#[derive(Debug)]
struct Delivery {
    gateways: Arc<Gateways>,
    queue: Arc<Queue>,
    spool: Option<Arc<Spool>>,
    work: Arc<Work>,
    spooling: Tasks,
}

/// What became of all lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Lines that came in by sockets, from the spool, or were made here.
    pub taken: u64,
    /// Lines that a gateway took.
    pub sent: u64,
    /// Lines dropped, each counted with its reason.
    pub dropped: u64,
    /// Lines in the spool, for the next process.
    pub spooled: u64,
}

impl App {
    /// Reads addresses, key and certificates.
    pub fn build(config: Config) -> Result<Self, StartError> {
        let gateways = match &config.destination {
            Destination::Console => None,
            Destination::Gateway(gateway) => {
                Some(Arc::new(make_gateways(gateway, config.workers)?))
            }
        };
        Ok(Self {
            config,
            gateways,
            started: Started::now(),
        })
    }

    /// Pings the gateway once, as the original does before it opens a port.
    pub async fn ping(&self) -> Result<(), StartError> {
        let (Some(gateways), Destination::Gateway(config)) =
            (&self.gateways, &self.config.destination)
        else {
            return Ok(());
        };
        match (gateways.ping().await, config.first_ping) {
            (Ok(()), _) => Ok(()),
            (Err(reason), FirstPing::MustSucceed) => Err(StartError::Ping(reason)),
            (Err(reason), FirstPing::MayFail) => {
                warn!("{reason}");
                Ok(())
            }
        }
    }

    /// Binds all ports and starts all tasks.
    pub async fn start(self) -> Result<Running, StartError> {
        let Self {
            config,
            gateways,
            started,
        } = self;
        let counters = Arc::<Counters>::default();
        let [inputs, emitters, outputs, admin] = std::array::from_fn(|_| Tasks::new());
        let ending = CancellationToken::new();
        let listen_tls = match &config.inputs.tls {
            Some((certificate, key)) => Some(Arc::new(listen_server(certificate, key)?)),
            None => None,
        };
        let delivery = match gateways {
            Some(gateways) => Some(Delivery::start(
                &config, gateways, &counters, &outputs, &ending,
            )?),
            None => None,
        };
        // They end with the last input that could give them work.
        let pressing = Tasks::new();
        let outlet = match &delivery {
            Some(delivery) => Outlet::Gateway(Waiting {
                press: Press::start(&pressing, processors())?,
                queue: Arc::clone(&delivery.queue),
                spool: delivery.spool.clone(),
                gateways: Arc::clone(&delivery.gateways),
                on_full: config.on_full,
            }),
            None => Outlet::Console(console::start(&outputs)?),
        };
        let intake = Arc::new(Intake::new(outlet, Arc::clone(&counters)));
        let context = Context {
            intake: Arc::clone(&intake),
            tasks: inputs.clone(),
            check: config.inputs.check,
            sharing: config.inputs.sharing,
            shared_batch: Arc::<SharedBatch>::default(),
        };
        let reloads = Arc::<Reloads>::default();
        let sources = Sources {
            counters: Arc::clone(&counters),
            queue: delivery
                .as_ref()
                .map(|delivery| Arc::clone(&delivery.queue)),
            spool: delivery
                .as_ref()
                .and_then(|delivery| delivery.spool.clone()),
            gateways: delivery
                .as_ref()
                .map(|delivery| Arc::clone(&delivery.gateways)),
            reloads: Arc::clone(&reloads),
            ending: ending.clone(),
        };
        let rate = report::log_rate(&emitters, Arc::clone(&counters), sources.gateways.clone());
        let addresses = bind(
            &config,
            &context,
            listen_tls.clone(),
            &admin,
            started,
            sources,
        )
        .await?;
        if let Some(every) = config.metrics_flush {
            report::send_metrics(&emitters, every, intake, rate);
        }
        Ok(Running {
            config,
            addresses,
            counters,
            context,
            listen_tls,
            delivery,
            reloads,
            ending,
            inputs,
            emitters,
            outputs,
            admin,
        })
    }
}

/// Binds all listeners, in the original's order, and serves them.
async fn bind(
    config: &Config,
    context: &Context,
    listen_tls: Option<Arc<server::Server>>,
    admin: &Tasks,
    started: Started,
    sources: Sources,
) -> Result<Addresses, StartError> {
    let Config {
        inputs,
        stat_address,
        metrics_address,
        ..
    } = config;
    info!("Metrics listener started: {}", inputs.tcp);
    info!("Runstats started: {stat_address}");
    let (stat_listener, stat) = listen::tcp(stat_address)
        .await
        .map_err(StartError::Runstats)?;
    let (lines, tcp) = listen::tcp(&inputs.tcp)
        .await
        .map_err(StartError::Listener)?;
    let pickle = match &inputs.pickle {
        Some(address) => Some(listen::tcp(address).await.map_err(StartError::Listener)?),
        None => None,
    };
    let udp = match &inputs.udp {
        Some(address) => Some(listen::udp(address).await.map_err(StartError::Listener)?),
        None => None,
    };
    let metrics = match metrics_address {
        Some(address) => Some(listen::tcp(address).await.map_err(StartError::Metrics)?),
        None => None,
    };
    let addresses = Addresses {
        tcp,
        stat,
        udp: udp.as_ref().map(|(_, address)| *address),
        pickle: pickle.as_ref().map(|(_, address)| *address),
        metrics: metrics.as_ref().map(|(_, address)| *address),
    };
    runstats::serve(admin, stat_listener, started);
    input::stream::serve(context, lines, listen_tls);
    input::shared_batch::keep_flushing(context);
    if let Some((listener, _)) = pickle {
        input::pickle::serve(context, listener);
    }
    if let Some((socket, _)) = udp {
        input::udp::serve(context, socket);
    }
    if let Some((listener, _)) = metrics {
        http::serve(admin, listener, page::router(sources), Limits::ADMIN);
    }
    Ok(addresses)
}

impl Delivery {
    fn start(
        config: &Config,
        gateways: Arc<Gateways>,
        counters: &Arc<Counters>,
        outputs: &Tasks,
        ending: &CancellationToken,
    ) -> Result<Self, StartError> {
        let Destination::Gateway(gateway) = &config.destination else {
            unreachable!("there are gateways only for this destination");
        };
        let queue = Arc::new(Queue::new(config.queue_batches, config.queue_bytes));
        let spooling = Tasks::new();
        let spool = match &config.spool {
            None => None,
            Some(settings) => {
                let spool = Spool::open(settings, Arc::clone(counters))
                    .map_err(|reason| SpoolError::new(&settings.folder, reason))?;
                let spool = Arc::new(spool);
                Arc::clone(&spool).keep(&spooling);
                Some(spool)
            }
        };
        let work = Arc::new(Work {
            queue: Arc::clone(&queue),
            spool: spool.clone(),
            gateways: Arc::clone(&gateways),
            counters: Arc::clone(counters),
            policy: gateway.policy,
            ending: ending.clone(),
            give_up: outputs.stop_token(),
            undelivered: Mutex::default(),
        });
        for number in 0..config.workers {
            outputs.spawn("worker", Arc::clone(&work).run(number));
        }
        if let Some(spool) = spool.clone() {
            let (queue, ending) = (Arc::clone(&queue), ending.clone());
            outputs.spawn("replay", async move {
                // A batch taken from the spool is not lost with this task: it is not done.
                let replay = async {
                    loop {
                        queue.wants_more().await;
                        let batch = spool.next().await;
                        queue.push(batch).await;
                    }
                };
                let _ended = ending.run_until_cancelled(replay).await;
            });
        }
        Ok(Self {
            gateways,
            queue,
            spool,
            work,
            spooling,
        })
    }

    /// Delivers what waits, within `limit`; what is left goes to the spool or is counted.
    async fn drain(self, outputs: &Tasks, limit: Duration, counters: &Counters) {
        let Self {
            gateways,
            queue,
            spool,
            work,
            spooling,
        } = self;
        queue.close();
        if spool.is_some() && gateways.is_away() {
            // Nobody takes it now, and on disk it is safe.
            outputs.stop();
        }
        if outputs.drain(limit).await == Drained::DeadlineReached {
            outputs.stop();
            if outputs.drain(WORKER_MARGIN).await == Drained::DeadlineReached {
                error!("workers did not give up in time; some lines are not accounted for");
            }
        }
        let mut left = std::mem::take(
            &mut *work
                .undelivered
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        left.extend(queue.take_all());
        // What came from the spool is still there.
        left.retain(|batch| batch.ticket.is_none());
        left.sort_by_key(|batch| batch.closed);
        let mut lost = 0;
        for batch in left {
            let lines = u64::from(batch.lines);
            match &spool {
                None => lost += lines,
                Some(spool) => {
                    if let Err(Refused(_)) = spool.append(batch).await {
                        lost += lines;
                    }
                }
            }
        }
        if lost > 0 {
            counters.drop_lines(DropReason::DrainDeadline, lost);
            warn!(lines = lost, "gave up delivering");
        }
        spooling.stop();
        if spooling.drain(WORKER_MARGIN).await == Drained::DeadlineReached {
            warn!("the spool was still busy when its deadline came");
        }
    }
}

impl Running {
    /// Returns where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the counters.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Waits until a thread of it has panicked.
    pub async fn broken(&self) {
        self.outputs.broken().await;
    }

    /// Reads key and certificates again. What cannot be read stays as it was, and the log says why.
    pub fn reload(&self) {
        let mut failed = false;
        if let Some(server) = &self.listen_tls
            && let Err(reason) = server.reload()
        {
            error!("reload: listen-cert: {reason}");
            failed = true;
        }
        if let (Some(delivery), Destination::Gateway(gateway)) =
            (&self.delivery, &self.config.destination)
        {
            let https = has_https(&gateway.addresses);
            let read = secrets::key(gateway)
                .and_then(|key| secrets::tls(gateway, https).map(|tls| (key, tls)));
            match read {
                Ok((key, tls)) => delivery.gateways.renew(key, tls),
                Err(reason) => {
                    error!("reload: {reason}");
                    failed = true;
                }
            }
        }
        let count = if failed {
            &self.reloads.failed
        } else {
            info!("key and certificates read again");
            &self.reloads.succeeded
        };
        count.fetch_add(1, Relaxed);
    }

    /// Stops taking lines, delivers what was taken, and ends; all within bounded time.
    pub async fn drain(self) -> Summary {
        self.ending.cancel();
        if let Some(delivery) = &self.delivery {
            delivery.queue.lift_limits();
        }
        self.emitters.stop();
        self.inputs.stop();
        if self.inputs.drain(INPUT_DRAIN).await == Drained::DeadlineReached {
            warn!(
                running = self.inputs.running(),
                "inputs were still busy when their deadline came"
            );
        }
        let emitted = self.emitters.drain(ADMIN_DRAIN).await;
        if emitted == Drained::DeadlineReached {
            warn!("own metrics were still under way when their deadline came");
        }
        input::shared_batch::flush(&self.context).await;
        // The console's printer ends when nobody can send to it.
        drop(self.context);
        let spool = self
            .delivery
            .as_ref()
            .and_then(|delivery| delivery.spool.clone());
        match self.delivery {
            Some(delivery) => {
                delivery
                    .drain(&self.outputs, self.config.drain_timeout, &self.counters)
                    .await;
            }
            None => {
                if self.outputs.drain(self.config.drain_timeout).await == Drained::DeadlineReached {
                    warn!("the console did not take all lines in time");
                }
            }
        }
        self.admin.stop();
        if self.admin.drain(ADMIN_DRAIN).await == Drained::DeadlineReached {
            warn!("operators' connections were still open when their deadline came");
        }
        let Counters {
            lines_received,
            lines_own,
            lines_recovered,
            lines_sent,
            ..
        } = &*self.counters;
        Summary {
            taken: [lines_received, lines_own, lines_recovered]
                .map(|lines| lines.load(Relaxed))
                .iter()
                .sum(),
            sent: lines_sent.load(Relaxed),
            dropped: self.counters.dropped_in_all(),
            spooled: spool.map_or(0, |spool| spool.waiting_lines()),
        }
    }
}

fn make_gateways(config: &GatewayConfig, workers: usize) -> Result<Gateways, StartError> {
    let tls = secrets::tls(config, has_https(&config.addresses))?;
    let key = secrets::key(config)?;
    let mut targets = Vec::new();
    for text in split_list(&config.addresses) {
        match Target::parse(text, "/ping") {
            Ok(target) => targets.push((text.to_owned(), target)),
            Err(reason) => {
                info!("Pinging gateway {text}");
                return Err(reason.into());
            }
        }
    }
    // The original honours proxies only without -cert.
    let proxies = if config.certificates.is_some() {
        Proxies::default()
    } else {
        let (proxies, ignored) = Proxies::from_environment(|name| env::var(name).ok());
        for sentence in ignored {
            warn!("{sentence}");
        }
        proxies
    };
    Ok(Gateways::new(Parts {
        targets,
        key,
        tls,
        proxies,
        connections: workers,
        idle_limit: config
            .certificates
            .is_none()
            .then_some(IDLE_WITHOUT_CERTIFICATES),
        timeout: config.timeout,
    }))
}

fn has_https(addresses: &str) -> bool {
    addresses.to_ascii_lowercase().contains("https://")
}

fn listen_server(
    certificate: &std::path::Path,
    key: &std::path::Path,
) -> Result<server::Server, StartError> {
    let identity = Identity {
        certificates: Pem::File(certificate.to_owned()),
        key: Pem::File(key.to_owned()),
    };
    server::Server::new(server::Settings::new(identity, &[])).map_err(StartError::ListenTls)
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
