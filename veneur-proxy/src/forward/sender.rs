//! The sender of a destination: a task that empties its queue, whatever is spoken.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use shared::{lifecycle::Tasks, tls};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{sleep, timeout, timeout_at},
};

use super::{
    Protocol,
    connect::{Connector, Target},
    grpc::{self, CallError, Channel, UNIMPLEMENTED},
    http,
    pack::Packer,
    parcel::{self, Parcel},
    stream::Session,
    unary,
};
use crate::{
    config::{
        Config, Generation, HttpPool,
        outbound::{Batching, ForwardProtocol},
    },
    destinations::{
        members::Member,
        owner::{Home, Placement},
    },
    observe::{Event, Failure, Loss},
    proto::forwardrpc::SEND_METRICS_V2,
};

/// How long metrics wait for a connection if `forward_timeout` is not set.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked whether anybody has waited too long.
const LOOK: Duration = Duration::from_millis(50);
/// What is merged at most if nothing is said about it.
const MAX_MERGED: usize = 1 << 20;

/// What senders need to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) generation: Generation,
    pub(crate) protocol: ForwardProtocol,
    pub(crate) forward_timeout: Option<Duration>,
    pub(crate) dial_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    /// How long a destination that has left is given to take what is queued for it.
    pub(crate) leave_timeout: Duration,
    pub(crate) pool: HttpPool,
    /// How many outgoing HTTP connections may be idle, all destinations together; `None` is no limit.
    pub(crate) idle_places: Option<Arc<Semaphore>>,
    pub(crate) batching: Batching,
    pub(crate) packer: Arc<Packer>,
    pub(crate) stream_max_age: Option<Duration>,
    pub(crate) stream_idle_close: Option<Duration>,
    pub(crate) connector: Connector,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Result<Self, tls::Error> {
        let outbound = &config.outbound;
        Ok(Self {
            generation: config.generation,
            protocol: outbound.protocol,
            forward_timeout: config.forward_timeout,
            dial_timeout: config.dial_timeout,
            stall_timeout: outbound.stall_timeout,
            leave_timeout: config.shutdown_timeout,
            pool: config.http_pool.clone(),
            idle_places: config
                .http_pool
                .max_idle
                .map(|max| Arc::new(Semaphore::new(max))),
            batching: outbound.batching,
            packer: Packer::new(outbound.compression_level),
            stream_max_age: outbound.stream_max_age,
            stream_idle_close: outbound.stream_idle_close,
            connector: Connector::new(&outbound.tls, config.dial_timeout)?,
        })
    }
}

/// What the sender of one destination works with.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) member: Arc<Member>,
    pub(crate) home: Home,
    pub(crate) settings: Arc<Settings>,
    /// Connections are driven by tasks of this group.
    pub(crate) tasks: Tasks,
}

/// Starts the sender of a destination; it ends when the queue is closed and empty, or when all is to be given up.
///
/// `tried` is told when the first attempt to connect is over, well or not.
pub(crate) fn start(
    tasks: &Tasks,
    member: Arc<Member>,
    home: Home,
    settings: Arc<Settings>,
    tried: oneshot::Sender<()>,
) {
    let lane = Lane {
        member,
        home,
        settings,
        tasks: tasks.clone(),
    };
    let abort = lane.home.abort().clone();
    match lane.member.framing() {
        Protocol::Http => http::start(&lane, tried),
        Protocol::Unary | Protocol::Stream => {
            tasks.spawn("grpc sender", async move {
                let _aborted = abort.run_until_cancelled(lane.serve_grpc(tried)).await;
            });
        }
    }
}

impl Lane {
    fn name(&self) -> &str {
        self.member.name()
    }

    pub(super) fn tell(&self, event: &Event<'_>) {
        self.home.observer().event(event);
    }

    /// Connects, serves the connection until it is over, and so on, until there is nothing more to send.
    async fn serve_grpc(self, tried: oneshot::Sender<()>) {
        let mut tried = Some(tried);
        let target = Target::read(self.name()).map_err(Failure::Io);
        let mut backoff = Backoff::new();
        loop {
            // The stream proxy knows who is there before it has anything to send; the dual proxy dials when it has.
            if self.settings.generation != Generation::Stream {
                tried.take();
                self.member.queue.filled().await;
            }
            if self.member.queue.is_over() {
                return;
            }
            match self.connect(target.as_ref()).await {
                Ok((channel, Protocol::Stream)) => {
                    let session = Session::open(&self, channel, &mut tried, &mut backoff);
                    session.await;
                }
                Ok((channel, _)) => unary::serve(&self, channel, &mut tried, &mut backoff).await,
                Err(()) => {}
            }
            // Those who wait for the first attempt have waited enough.
            tried.take();
            self.member.set_connected(false);
            if !self.member.queue.is_over() {
                self.wait_to_retry(backoff.next()).await;
            }
        }
    }

    /// Connects, and finds out what is spoken there if that is to be found out.
    async fn connect(&self, target: Result<&Target, &Failure>) -> Result<(Channel, Protocol), ()> {
        let Settings {
            connector,
            dial_timeout,
            protocol,
            ..
        } = &*self.settings;
        let dialled = match target {
            Err(failure) => Err(failure.clone()),
            Ok(target) => {
                let (name, observer) = (
                    Arc::clone(&self.member.account.destination),
                    self.home.clone(),
                );
                let spoken = self.member.framing();
                let ended = move || {
                    observer.observer().event(&Event::ConnectionEnded {
                        destination: &name,
                        protocol: spoken,
                    });
                };
                let channel =
                    grpc::connect(&self.tasks, connector, target, *dial_timeout, ended).await;
                channel.map_err(|reason| Failure::Io(reason.to_string()))
            }
        };
        let mut channel = dialled.map_err(|failure| {
            self.member.failed();
            self.tell(&Event::DialFailed {
                destination: self.name(),
                failure: &failure,
            });
        })?;
        self.tell(&Event::ConnectionBegan {
            destination: self.name(),
            protocol: self.member.framing(),
        });
        let spoken = match protocol {
            ForwardProtocol::Unary => Protocol::Unary,
            ForwardProtocol::Auto => self.probe(&mut channel).await.map_err(|failure| {
                self.member.failed();
                self.tell(&Event::OpenFailed {
                    destination: self.name(),
                    failure: &failure,
                });
            })?,
            ForwardProtocol::Stream | ForwardProtocol::Http => Protocol::Stream,
        };
        Ok((channel, spoken))
    }

    /// Asks with an empty stream, which counts nothing, whether streams are taken.
    async fn probe(&self, channel: &mut Channel) -> Result<Protocol, Failure> {
        let limit = self.settings.dial_timeout;
        let probe = async {
            channel.ready().await?;
            let (response, mut stream) = channel.call(SEND_METRICS_V2, None)?;
            stream
                .send_data(Bytes::new(), true)
                .map_err(|reason| Failure::Io(reason.to_string()))?;
            match grpc::outcome(response).await {
                Ok(()) => Ok(Protocol::Stream),
                Err(CallError {
                    failure:
                        Failure::Grpc {
                            code: UNIMPLEMENTED,
                            ..
                        },
                    ..
                }) => Ok(Protocol::Unary),
                Err(error) => Err(error.failure),
            }
        };
        let spoken = timeout(limit, probe)
            .await
            .unwrap_or_else(|_| Err(grpc::too_long()))?;
        if self.member.framing() != spoken {
            self.member.learn(spoken);
        }
        self.tell(&Event::Learned {
            destination: self.name(),
            protocol: spoken,
        });
        Ok(spoken)
    }

    /// Says that the destination is ready.
    pub(super) async fn connected(
        &self,
        tried: &mut Option<oneshot::Sender<()>>,
        backoff: &mut Backoff,
    ) {
        backoff.reset();
        self.member.got_on();
        self.member.queue.resume();
        self.home.report(&self.member, true).await;
        self.tell(&Event::Connected {
            destination: self.name(),
        });
        tried.take();
    }

    /// Says that it is no longer; what is queued goes to the others if it has left the ring.
    pub(super) async fn disconnected(&self, failure: Option<&Failure>) {
        if failure.is_some() {
            self.member.failed();
        }
        self.tell(&Event::Disconnected {
            destination: self.name(),
            failure,
        });
        let placement = self.home.report(&self.member, false).await;
        if placement == Placement::Elsewhere {
            self.member.queue.pause();
            self.home.place_anew(self.member.queue.take_all()).await;
        }
    }

    /// Returns until when a parcel may wait for a connection.
    pub(super) fn patience(parcel: &Parcel) -> Instant {
        parcel.deadline.unwrap_or(parcel.since + DEFAULT_PATIENCE)
    }

    /// Gives up what has waited too long for a connection; then pauses, as long as there is anything to wait for.
    async fn wait_to_retry(&self, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            let now = Instant::now();
            for parcel in self
                .member
                .queue
                .take_late(|parcel| Self::patience(parcel) <= now)
            {
                parcel.lost(Loss::Timeout, None);
            }
            if now >= until || self.member.queue.is_over() {
                return;
            }
            sleep((until - now).min(LOOK)).await;
        }
    }

    /// Merges queued parcels into one as far as the configuration wants it.
    pub(super) async fn gather(&self, mut parcel: Parcel) -> Parcel {
        let Batching {
            max_metrics,
            max_bytes,
            delay,
        } = self.settings.batching;
        if !self.settings.batching.is_on() {
            return parcel;
        }
        let until = Instant::now() + delay.unwrap_or(Duration::ZERO);
        let fits = |metrics: usize, bytes: usize| {
            max_metrics.is_none_or(|max| metrics <= max) && bytes <= max_bytes.unwrap_or(MAX_MERGED)
        };
        let mut parts = vec![parcel.data.clone()];
        let (mut metrics, mut bytes) = (parcel.metrics, parcel.data.len());
        let mut others = Vec::new();
        while fits(metrics + 1, bytes + 1) {
            let next = match self.member.queue.try_pop() {
                None => match timeout_at(until.into(), self.member.queue.pop()).await {
                    Ok(Some(next)) => next,
                    Ok(None) | Err(_) => break,
                },
                Some(next) => next,
            };
            if next.framing != parcel.framing
                || !fits(metrics + next.metrics, bytes + next.data.len())
            {
                self.member.queue.put_back(next);
                break;
            }
            metrics += next.metrics;
            bytes += next.data.len();
            parts.push(next.data.clone());
            others.push(next);
        }
        if !others.is_empty() {
            let (framing, packer) = (parcel.framing, Arc::clone(&self.settings.packer));
            // A body may be ten times as large when it is unpacked.
            let text = if framing == Protocol::Http {
                bytes * 10
            } else {
                0
            };
            let join = move || parcel::join(framing, parts, &packer);
            match self.settings.packer.work(text, join).await {
                Some(data) => parcel.merge(others, data),
                // The process ends, and they count as lost when they are dropped.
                None => drop(others),
            }
        }
        parcel
    }

    /// Brings a parcel into the framing that is spoken.
    pub(super) fn reframe(&self, parcel: &mut Parcel, framing: Protocol) {
        if parcel.framing != framing {
            let (data, lost) =
                parcel::convert(parcel.framing, framing, &parcel.data, &self.settings.packer);
            parcel.reframe(framing, data, lost);
        }
    }
}

/// Growing pauses between attempts to connect.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    pub(super) fn reset(&mut self) {
        self.next = FIRST_PAUSE;
    }

    /// Returns the next pause, with a bit of chance so that proxies do not come back all at once.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause.mul_f64(0.75 + 0.5 * fastrand::f64())
    }
}
