//! `POST /import`: one request for each received batch, several at a time, on connections that are kept.
//!
//! What could not be sent for want of a connection is tried again until it is late. A request whose connection breaks is
//! lost, because it may have been counted: metrics arrive at most once.

mod message;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use shared::lifecycle::Tasks;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{sleep, timeout, timeout_at},
};

use self::message::{Answer, answer, redirect, request};
use super::{
    Protocol, TraceContext,
    connect::{Target, Version},
    parcel::Parcel,
    sender::{Backoff, Lane},
};
use crate::observe::{Connection, Event, Failure, Loss};

/// How many requests may be under way to one destination.
const REQUESTS: usize = 4;
/// How long a request may take if `forward_timeout` is not set.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// How many redirects are followed, as Go does.
const REDIRECTS: usize = 10;

/// Starts the workers of a destination. There is nothing to try before there is something to send.
pub(super) fn start(lane: &Lane, tried: oneshot::Sender<()>) {
    drop(tried);
    let workers = lane.settings.pool.max_idle_per_host.clamp(1, REQUESTS);
    for _ in 0..workers {
        let worker = Worker {
            lane: lane.clone(),
            kept: None,
        };
        let abort = lane.home.abort().clone();
        lane.tasks.spawn("http sender", async move {
            let _aborted = abort.run_until_cancelled(worker.run()).await;
        });
    }
}

/// Sends one request after the other, on a connection of its own.
struct Worker {
    lane: Lane,
    kept: Option<Kept>,
}

/// A connection between two requests.
struct Kept {
    requests: SendRequest<Full<Bytes>>,
    /// Its place among all that may be idle.
    _place: Option<OwnedSemaphorePermit>,
}

/// Why a request was not answered well.
struct Unsent {
    failure: Failure,
    fate: Fate,
}

/// What became of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing of it left; it may be sent again.
    NotSent,
    /// It may have arrived.
    Unknown,
    /// There was an answer.
    Answered,
}

impl Worker {
    async fn run(mut self) {
        let target = Target::read(self.lane.member.name());
        let idle = self.lane.settings.pool.idle_timeout;
        loop {
            let parcel = match (idle, &self.kept) {
                (Some(idle), Some(_)) => {
                    let popped = timeout(idle, self.lane.member.queue.pop()).await;
                    if let Ok(parcel) = popped {
                        parcel
                    } else {
                        self.kept = None;
                        continue;
                    }
                }
                _ => self.lane.member.queue.pop().await,
            };
            let Some(parcel) = parcel else {
                return;
            };
            let parcel = self.lane.gather(parcel).await;
            match &target {
                Ok(target) => self.forward(target, parcel).await,
                Err(reason) => {
                    let failure = Failure::Io(reason.clone());
                    self.fail(parcel, &failure, Loss::Refused);
                }
            }
        }
    }

    /// Sends a parcel until it has arrived or is lost.
    async fn forward(&mut self, target: &Target, mut parcel: Parcel) {
        self.lane.reframe(&mut parcel, Protocol::Http);
        let body = parcel.data.clone();
        let mut backoff = Backoff::new();
        let started = Instant::now();
        loop {
            let now = Instant::now();
            if parcel.is_late(now) {
                parcel.lost(Loss::Timeout, None);
                return;
            }
            let limit = parcel.deadline.unwrap_or(now + REQUEST_LIMIT);
            let sent = timeout_at(limit.into(), self.post(target, &body, parcel.trace)).await;
            let Unsent { failure, fate } = match sent {
                Ok(Ok(())) => {
                    self.lane.member.got_on();
                    self.lane.member.set_connected(true);
                    self.lane.member.took(
                        started.saturating_duration_since(parcel.since),
                        started.elapsed(),
                    );
                    parcel.delivered(started);
                    return;
                }
                Ok(Err(unsent)) => unsent,
                Err(_) => {
                    self.kept = None;
                    let failure = Failure::Io("context deadline exceeded".to_owned());
                    self.unreachable();
                    self.fail(parcel, &failure, Loss::Timeout);
                    return;
                }
            };
            match fate {
                Fate::NotSent if Instant::now() < Lane::patience(&parcel) => {
                    self.unreachable();
                    self.lane.tell(&Event::Failed {
                        destination: self.lane.member.name(),
                        protocol: Protocol::Http,
                        metrics: parcel.metrics,
                        failure: &failure,
                    });
                    sleep(backoff.next()).await;
                }
                Fate::NotSent => {
                    self.unreachable();
                    return self.fail(parcel, &failure, Loss::Timeout);
                }
                Fate::Unknown => {
                    self.unreachable();
                    return self.fail(parcel, &failure, Loss::Unconfirmed);
                }
                Fate::Answered => {
                    self.lane.member.got_on();
                    return self.fail(parcel, &failure, Loss::Refused);
                }
            }
        }
    }

    fn unreachable(&self) {
        self.lane.member.failed();
        self.lane.member.set_connected(false);
    }

    fn fail(&self, parcel: Parcel, failure: &Failure, reason: Loss) {
        self.lane.tell(&Event::Failed {
            destination: self.lane.member.name(),
            protocol: Protocol::Http,
            metrics: parcel.metrics,
            failure,
        });
        parcel.lost(reason, Some(failure));
    }

    /// Sends a request, and those that its answer redirects to.
    async fn post(
        &mut self,
        target: &Target,
        body: &Bytes,
        trace: Option<TraceContext>,
    ) -> Result<(), Unsent> {
        let mut method = Method::POST;
        let mut path = format!("{}/import", target.path);
        let mut place = target.clone();
        let generation = self.lane.settings.generation;
        for _ in 0..=REDIRECTS {
            let sent = if method == Method::POST {
                body.clone()
            } else {
                Bytes::new()
            };
            let request = request(&method, &place, &path, sent, generation, trace)?;
            let answer = if place == *target {
                self.exchange(target, request).await?
            } else {
                let mut elsewhere = self.dial(&place).await?;
                answer(elsewhere.send_request(request).await.map_err(broken)?).await?
            };
            if matches!(answer.status, StatusCode::OK | StatusCode::ACCEPTED) {
                return Ok(());
            }
            let Some((next, next_path)) = redirect(&place, &answer) else {
                return Err(answer.refusal(body.len()));
            };
            if !matches!(
                answer.status,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            ) {
                method = Method::GET;
            }
            (place, path) = (next, next_path);
        }
        Err(Unsent {
            failure: Failure::Io(format!("stopped after {REDIRECTS} redirects")),
            fate: Fate::Answered,
        })
    }

    /// Sends a request on the kept connection, or on a new one.
    async fn exchange(
        &mut self,
        target: &Target,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, Unsent> {
        if let Some(mut kept) = self.kept.take()
            && kept.requests.ready().await.is_ok()
        {
            self.used(Connection::Reused);
            match kept.requests.try_send_request(request).await {
                Ok(response) => return self.keep(kept.requests, response).await,
                Err(mut error) => match error.take_message() {
                    // It was closed while it was idle; that is what new ones are for.
                    Some(unsent) => request = unsent,
                    None => return Err(broken(error.into_error())),
                },
            }
        }
        let mut requests = self.dial(target).await?;
        self.used(Connection::New);
        let response = requests.send_request(request).await.map_err(broken)?;
        self.keep(requests, response).await
    }

    /// Reads the answer; keeps the connection if there is a place for it.
    async fn keep(
        &mut self,
        requests: SendRequest<Full<Bytes>>,
        response: http::Response<Incoming>,
    ) -> Result<Answer, Unsent> {
        let answer = answer(response).await?;
        let place = match &self.lane.settings.idle_places {
            None => None,
            Some(places) => match Arc::clone(places).try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => return Ok(answer),
            },
        };
        self.kept = Some(Kept {
            requests,
            _place: place,
        });
        Ok(answer)
    }

    async fn dial(&self, target: &Target) -> Result<SendRequest<Full<Bytes>>, Unsent> {
        let connector = &self.lane.settings.connector;
        let dialled = connector.connect(target, Version::Http1).await;
        let unsent = |reason: &dyn std::fmt::Display| Unsent {
            failure: Failure::Io(reason.to_string()),
            fate: Fate::NotSent,
        };
        let socket = dialled.map_err(|reason| unsent(&reason))?;
        let (requests, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|reason| unsent(&reason))?;
        drive(&self.lane.tasks, connection);
        Ok(requests)
    }

    fn used(&self, connection: Connection) {
        self.lane.tell(&Event::ConnectionUsed {
            destination: self.lane.member.name(),
            connection,
        });
    }
}

/// Runs a connection until its worker lets go of it.
fn drive(tasks: &Tasks, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tasks.spawn("http connection to destination", async move {
        // Requests on it hear of its end themselves.
        let _ended = connection.await;
    });
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what map_err hands over"
)]
fn broken(reason: hyper::Error) -> Unsent {
    let fate = if reason.is_canceled() {
        Fate::NotSent
    } else {
        Fate::Unknown
    };
    Unsent {
        failure: Failure::Io(reason.to_string()),
        fate,
    }
}
