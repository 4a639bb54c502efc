//! The parts put together: [`App::build`] reads files, [`App::ping`] asks the gateway, [`App::start`] binds and runs,
//! [`Running::drain`] delivers what was taken, within a limit, and ends.

mod bind;
mod delivery;
mod gateways;
mod running;

use std::{io, sync::Arc, thread};

use shared::{
    lifecycle::Tasks,
    tls::{Identity, Pem, server},
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::running::{Running, Summary};
use self::{bind::bind, delivery::Delivery, gateways::make_gateways};
use crate::{
    budget::Budget,
    config::{Config, Destination, FirstPing},
    console,
    counters::Counters,
    gateway::{Gateways, url::UrlError},
    gzip::Press,
    input::{Context, shared_batch::SharedBatch},
    intake::{Intake, Outlet, Waiting},
    listen::ListenError,
    page::{Reloads, Sources},
    report,
    runstats::Started,
    secrets::SecretsError,
    spool::SpoolError,
};

/// Lines that are not in the queue yet may take one part in so many of what the queue may, besides.
const OUTSIDE_THE_QUEUE: usize = 4;

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
        let budget = Budget::new(config.queue_bytes / OUTSIDE_THE_QUEUE);
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
        let intake = Arc::new(Intake::new(
            outlet,
            Arc::clone(&counters),
            Arc::clone(&budget),
        ));
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
            budget,
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
