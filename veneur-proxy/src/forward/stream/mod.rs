//! `SendMetricsV2`: one long-lived stream, a message for each metric.
//!
//! Nothing on such a stream says that a metric has arrived, until the stream is closed. So metrics arrive at most once, and
//! what is written stays in doubt until there is a sign that it was read:
//!
//! * the flow control's window opens again, which it does as the destination reads; or
//! * a second has passed, and half of the window is open; or
//! * the stream was closed by us, and the destination said OK.
//!
//! Only then it counts as delivered. If the stream breaks, what is in doubt is lost as `unconfirmed`: some of it may have
//! arrived, nothing of it is sent again. (A destination whose window is larger than 1 MiB may have had more unread than is
//! in doubt here.) What was not written goes to the next connection, or to the others if the ring has closed the gap.

mod doubts;

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::SendStream;
use tokio::{
    sync::oneshot,
    time::{sleep_until, timeout},
};

use self::doubts::Doubts;
use super::{
    Protocol,
    grpc::{self, CallError, Channel, SEND_BUFFER, UNIMPLEMENTED},
    parcel::{Parcel, split_message},
    sender::{Backoff, Lane},
};
use crate::{
    observe::{Connection, Event, Failure, Loss},
    proto::forwardrpc::SEND_METRICS_V2,
};

/// How much is written at a time; what counts metrics and looks for the end of the stream in between.
const CHUNK: usize = 64 * 1024;
/// How often doubts, ages and the connection are looked at.
const TICK: Duration = Duration::from_millis(250);

type Outcome = Pin<Box<dyn Future<Output = Result<(), CallError>> + Send>>;

/// A connection on which streams are spoken.
pub(super) struct Session<'a> {
    lane: &'a Lane,
    channel: Channel,
    stream: Option<Stream>,
    connection: Connection,
}

/// An open stream.
struct Stream {
    body: SendStream<Bytes>,
    outcome: Outcome,
    opened: Instant,
    doubts: Doubts,
}

/// Why a session is over.
enum End {
    /// The queue is.
    Queue,
    /// The connection is, in order.
    Connection,
    /// Something failed.
    Broken(CallError),
}

impl<'a> Session<'a> {
    /// Opens a stream and sends what is queued, until the queue or the connection is over.
    pub(super) async fn open(
        lane: &'a Lane,
        channel: Channel,
        tried: &mut Option<oneshot::Sender<()>>,
        backoff: &mut Backoff,
    ) {
        let mut session = Self {
            lane,
            channel,
            stream: None,
            connection: Connection::New,
        };
        if let Err(error) = session.open_stream().await {
            lane.member.failed();
            lane.tell(&Event::OpenFailed {
                destination: lane.member.name(),
                failure: &error.failure,
            });
            return;
        }
        lane.connected(tried, backoff).await;
        let end = session.run().await;
        session.finish(end).await;
    }

    async fn run(&mut self) -> End {
        let closed = self.channel.closed().clone();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                result = ended(&mut self.stream) => return Self::over(result),
                () = closed.cancelled() => return End::Connection,
                _ = tick.tick() => {
                    if let Some(end) = self.look().await {
                        return end;
                    }
                }
                parcel = self.lane.member.queue.pop() => {
                    let Some(parcel) = parcel else {
                        return End::Queue;
                    };
                    let parcel = self.lane.gather(parcel).await;
                    if let Err(error) = self.send(parcel).await {
                        return End::Broken(error);
                    }
                }
            }
        }
    }

    /// The destination has ended the stream, which it has no reason to.
    fn over(result: Result<(), CallError>) -> End {
        match result {
            Ok(()) => End::Broken(Failure::Io("EOF".to_owned()).into()),
            Err(error) => End::Broken(error),
        }
    }

    /// Looks at what time brings: metrics that have arrived, streams to close, connections that take no new ones.
    async fn look(&mut self) -> Option<End> {
        let now = Instant::now();
        // A connection that takes no new calls is about to be closed.
        let usable = timeout(Duration::ZERO, self.channel.ready()).await;
        let refused = matches!(usable, Ok(Err(_)));
        let stream = self.stream.as_mut()?;
        let settings = &self.lane.settings;
        stream.doubts.settle(stream.body.capacity(), now);
        let idle = stream.doubts.last_written.unwrap_or(stream.opened);
        let old = settings
            .stream_max_age
            .is_some_and(|age| now - stream.opened >= age);
        let idle = settings
            .stream_idle_close
            .is_some_and(|limit| stream.doubts.written > 0 && now - idle >= limit);
        if refused || old || idle {
            self.close_stream().await;
            if refused {
                return Some(End::Connection);
            }
        }
        None
    }

    async fn open_stream(&mut self) -> Result<&mut Stream, CallError> {
        if self.stream.is_none() {
            let ready = timeout(self.lane.settings.dial_timeout, self.channel.ready()).await;
            ready
                .unwrap_or_else(|_| Err(Failure::Io("no stream could begin in time".to_owned())))?;
            let (response, body) = self.channel.call(SEND_METRICS_V2, None)?;
            self.lane.tell(&Event::ConnectionUsed {
                destination: self.lane.member.name(),
                connection: std::mem::replace(&mut self.connection, Connection::Reused),
            });
            self.stream = Some(Stream {
                body,
                outcome: Box::pin(grpc::outcome(response)),
                opened: Instant::now(),
                doubts: Doubts::default(),
            });
        }
        let stream = self.stream.as_mut();
        stream.ok_or_else(|| Failure::Io("no stream".to_owned()).into())
    }

    /// Writes a parcel. On an error, what was not written is back in the queue.
    async fn send(&mut self, mut parcel: Parcel) -> Result<(), CallError> {
        let lane = self.lane;
        if parcel.is_late(Instant::now()) {
            parcel.lost(Loss::Timeout, None);
            return Ok(());
        }
        lane.reframe(&mut parcel, Protocol::Stream);
        let mut failed = None;
        match self.open_stream().await {
            Err(error) => failed = Some(error),
            Ok(stream) => {
                while !parcel.data.is_empty() {
                    let wanted = parcel.data.len();
                    let room = match room(stream, wanted, lane.settings.stall_timeout).await {
                        Ok(room) => room,
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    };
                    let now = Instant::now();
                    let (metrics, bytes) = whole_messages(&parcel.data, room.min(CHUNK));
                    let chunk = parcel.split_to(metrics, bytes);
                    if let Err(reason) = stream.body.send_data(chunk.data.clone(), false) {
                        failed = Some(Failure::Io(reason.to_string()).into());
                        lane.member.queue.put_back(chunk);
                        break;
                    }
                    lane.member.got_on();
                    lane.member
                        .took(now.saturating_duration_since(chunk.since), now.elapsed());
                    stream.doubts.wrote(chunk, now);
                    stream.doubts.settle(stream.body.capacity(), now);
                }
            }
        }
        match failed {
            None => {
                if parcel.metrics > 0 {
                    // Nothing is left of it but what could not be counted as messages.
                    parcel.lost(Loss::Convert, None);
                }
                Ok(())
            }
            Some(error) => {
                lane.member.queue.put_back(parcel);
                Err(error)
            }
        }
    }

    /// Ends the stream and waits for the destination to say what became of it.
    async fn close_stream(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        let ended = stream.body.send_data(Bytes::new(), true);
        let limit = self.lane.settings.stall_timeout;
        let outcome = match ended {
            Ok(()) => timeout(limit, stream.outcome)
                .await
                .unwrap_or_else(|_| Err(grpc::too_long().into())),
            Err(reason) => Err(Failure::Io(reason.to_string()).into()),
        };
        match outcome {
            Ok(()) => stream.doubts.arrived(),
            Err(error) => self.give_up(stream.doubts, &error),
        }
    }

    async fn finish(mut self, end: End) {
        match end {
            End::Queue => self.close_stream().await,
            End::Connection => {
                // Closed already, unless the connection broke in between.
                let failure = Failure::Io("connection closed".to_owned());
                if let Some(stream) = self.stream.take() {
                    self.give_up(stream.doubts, &failure.clone().into());
                    self.lane.disconnected(Some(&failure)).await;
                } else {
                    self.lane.disconnected(None).await;
                }
            }
            End::Broken(error) => {
                if let Some(stream) = self.stream.take() {
                    self.give_up(stream.doubts, &error);
                }
                self.lane.disconnected(Some(&error.failure)).await;
            }
        }
    }

    /// Counts what is in doubt as lost, unless the destination certainly did nothing with it.
    fn give_up(&self, doubts: Doubts, error: &CallError) {
        let refused = matches!(error.failure, Failure::Grpc { code, .. } if code == UNIMPLEMENTED);
        let metrics = doubts.metrics();
        if metrics > 0 {
            self.lane.tell(&Event::Failed {
                destination: self.lane.member.name(),
                protocol: Protocol::Stream,
                metrics,
                failure: &error.failure,
            });
        }
        if doubts.is_complete() && (refused || error.unprocessed) {
            for parcel in doubts.into_parcels().rev() {
                self.lane.member.queue.put_back(parcel);
            }
        } else {
            for parcel in doubts.into_parcels() {
                parcel.lost(Loss::Unconfirmed, Some(&error.failure));
            }
        }
    }
}

/// Waits for the destination to end the stream.
async fn ended(stream: &mut Option<Stream>) -> Result<(), CallError> {
    match stream {
        Some(stream) => (&mut stream.outcome).await,
        None => pending().await,
    }
}

/// Waits until the destination takes bytes; returns how many.
///
/// It waits for a fair part of them: writing whenever a few bytes are free would cut everything into tiny frames.
async fn room(stream: &mut Stream, wanted: usize, stall: Duration) -> Result<usize, CallError> {
    // All of it is asked for, so that the capacity shows how much of the window is open.
    stream.body.reserve_capacity(SEND_BUFFER);
    let until = Instant::now() + stall;
    loop {
        let capacity = stream.body.capacity();
        // A destination that has read all opens at least half of its window.
        let fair = wanted.min(CHUNK).min(stream.doubts.window / 4).max(1);
        if capacity >= fair {
            return Ok(capacity);
        }
        tokio::select! {
            biased;
            result = &mut stream.outcome => {
                return Err(match result {
                    Ok(()) => Failure::Io("EOF".to_owned()).into(),
                    Err(error) => error,
                });
            }
            grown = poll_fn(|cx| stream.body.poll_capacity(cx)) => match grown {
                Some(Ok(_)) => {}
                // What has happened, the outcome says.
                Some(Err(_)) | None => {
                    return Err(match timeout(stall, &mut stream.outcome).await {
                        Ok(Err(error)) => error,
                        Ok(Ok(())) | Err(_) => Failure::Io("EOF".to_owned()).into(),
                    });
                }
            },
            () = sleep_until(until.into()) => {
                return Err(Failure::Io("destination does not read".to_owned()).into());
            }
        }
    }
}

/// Counts the whole messages in the first `limit` bytes, but at least one: how many there are, and their length.
fn whole_messages(data: &[u8], limit: usize) -> (usize, usize) {
    let (mut metrics, mut rest) = (0, data);
    while let Some((_, after)) = split_message(rest) {
        if metrics > 0 && data.len() - after.len() > limit {
            break;
        }
        metrics += 1;
        rest = after;
    }
    if metrics == 0 {
        return (0, data.len());
    }
    (metrics, data.len() - rest.len())
}
