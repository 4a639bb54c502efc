//! `SendMetrics`: one call for each received list, several at a time on one connection.
//!
//! What was not taken for certain (the destination went away before it looked) is sent again; a call whose connection
//! breaks is lost, because it may have been counted: metrics arrive at most once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::{SendStream, client::ResponseFuture};
use tokio::{sync::oneshot, time::timeout};

use super::{
    Protocol,
    grpc::{self, CallError, Channel},
    parcel::Parcel,
    sender::{Backoff, Lane},
};
use crate::{
    observe::{Connection, Event, Failure, Loss},
    proto::forwardrpc::SEND_METRICS,
};

/// How many calls may be under way to one destination.
const CALLS: usize = 8;
/// How long a call may take if `forward_timeout` is not set.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A call that is over.
struct Done {
    parcel: Parcel,
    started: Instant,
    result: Result<(), CallError>,
}

/// Sends what is queued until the queue or the connection is over.
pub(super) async fn serve(
    lane: &Lane,
    mut channel: Channel,
    tried: &mut Option<oneshot::Sender<()>>,
    backoff: &mut Backoff,
) {
    lane.connected(tried, backoff).await;
    let closed = channel.closed().clone();
    let mut calls = FuturesUnordered::new();
    let mut connection = Connection::New;
    let broken = loop {
        tokio::select! {
            Some(done) = calls.next(), if !calls.is_empty() => settle(lane, done),
            () = closed.cancelled() => {
                // One that was idle was closed in order.
                break (!calls.is_empty()).then(|| Failure::Io("connection closed".to_owned()));
            }
            parcel = lane.member.queue.pop(), if calls.len() < CALLS => {
                let Some(parcel) = parcel else {
                    break None;
                };
                match begin(lane, &mut channel, parcel).await {
                    Ok(Some(call)) => {
                        lane.tell(&Event::ConnectionUsed {
                            destination: lane.member.name(),
                            connection: std::mem::replace(&mut connection, Connection::Reused),
                        });
                        calls.push(call);
                    }
                    Ok(None) => {}
                    Err(failure) => break Some(failure),
                }
            }
        }
    };
    while let Some(done) = calls.next().await {
        settle(lane, done);
    }
    if !lane.member.queue.is_over() {
        lane.disconnected(broken.as_ref()).await;
    }
}

/// Begins a call; none if there is nothing left to send. On an error the parcel is back in the queue.
async fn begin(
    lane: &Lane,
    channel: &mut Channel,
    parcel: Parcel,
) -> Result<Option<impl Future<Output = Done> + use<>>, Failure> {
    let mut parcel = lane.gather(parcel).await;
    let now = Instant::now();
    if parcel.is_late(now) {
        parcel.lost(Loss::Timeout, None);
        return Ok(None);
    }
    lane.reframe(&mut parcel, Protocol::Unary);
    let left = parcel.deadline.map(|deadline| deadline - now);
    let ready = timeout(left.unwrap_or(CALL_LIMIT), channel.ready()).await;
    let call = ready
        .unwrap_or_else(|_| Err(Failure::Io("no call could begin in time".to_owned())))
        .and_then(|()| channel.call(SEND_METRICS, left));
    let begun = call.and_then(|(response, mut body)| {
        let data = parcel.data.clone();
        body.send_data(data, true)
            .map_err(|reason| Failure::Io(reason.to_string()))?;
        Ok((response, body))
    });
    match begun {
        Ok((response, body)) => Ok(Some(finish(parcel, response, body, left))),
        Err(failure) => {
            lane.member.queue.put_back(parcel);
            Err(failure)
        }
    }
}

async fn finish(
    parcel: Parcel,
    response: ResponseFuture,
    body: SendStream<Bytes>,
    left: Option<Duration>,
) -> Done {
    let started = Instant::now();
    let result = timeout(left.unwrap_or(CALL_LIMIT), grpc::outcome(response))
        .await
        .unwrap_or_else(|_| Err(grpc::too_long().into()));
    // Kept until here: dropping it would cut the call off.
    drop(body);
    Done {
        parcel,
        started,
        result,
    }
}

fn settle(lane: &Lane, done: Done) {
    let Done {
        parcel,
        started,
        result,
    } = done;
    let CallError {
        failure,
        unprocessed,
    } = match result {
        Ok(()) => {
            lane.member.got_on();
            lane.member.took(
                started.saturating_duration_since(parcel.since),
                started.elapsed(),
            );
            parcel.delivered(started);
            return;
        }
        Err(error) => error,
    };
    lane.tell(&Event::Failed {
        destination: lane.member.name(),
        protocol: Protocol::Unary,
        metrics: parcel.metrics,
        failure: &failure,
    });
    if unprocessed && Lane::patience(&parcel) > Instant::now() {
        lane.member.queue.put_back(parcel);
        return;
    }
    let reason = if failure == grpc::too_long() {
        lane.member.failed();
        Loss::Timeout
    } else if let Failure::Io(_) = failure {
        lane.member.failed();
        Loss::Unconfirmed
    } else {
        lane.member.got_on();
        Loss::Refused
    };
    parcel.lost(reason, Some(&failure));
}
