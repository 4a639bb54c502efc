//! `grpc.health.v1.Health`: whether metrics can be taken, asked once or watched.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use prost::Message;
use shared::lifecycle::Tasks;
use tokio::{sync::mpsc, time::interval};

use super::status::{Code, Reply, Status, framed};
use crate::admin::Readiness;

pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";
pub(super) const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// The service that is asked for; without a name, the server as a whole.
const SERVICE: &str = "forwardrpc.Forward";
/// How soon a watcher learns of a change.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// How many changes may wait for a watcher; then it gets no more until it has read them.
const WAITING_CHANGES: usize = 4;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(enumeration = "State", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum State {
    Unknown = 0,
    Up = 1,
    Down = 2,
    NoSuchService = 3,
}

/// Answers `Check`.
pub(super) fn check(request: &[u8], readiness: &Readiness) -> Result<Response<Reply>, Status> {
    let name = service(request)?;
    if !known(&name) {
        return Err(Status::new(Code::NotFound, "unknown service"));
    }
    Ok(Reply::one(&answer(now(readiness))))
}

/// Answers `Watch`: with the state, and again whenever it changes.
pub(super) fn watch(
    request: &[u8],
    readiness: &Readiness,
    tasks: &Tasks,
) -> Result<Response<Reply>, Status> {
    let name = service(request)?;
    // When it is full, the watcher is slow, and the task waits for it.
    let (changes, messages) = mpsc::channel::<Bytes>(WAITING_CHANGES);
    let (readiness, stop) = (readiness.clone(), tasks.stop_token());
    tasks.spawn("grpc health watch", async move {
        let mut ticks = interval(WATCH_INTERVAL);
        let mut told = None;
        loop {
            let state = if known(&name) {
                now(&readiness)
            } else {
                State::NoSuchService
            };
            if told != Some(state) {
                told = Some(state);
                if changes.send(framed(&answer(state))).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = changes.closed() => return,
                _ = ticks.tick() => {}
            }
        }
    });
    Ok(Reply::many(messages))
}

fn service(request: &[u8]) -> Result<String, Status> {
    Request::decode(request)
        .map(|request| request.service)
        .map_err(|reason| Status::new(Code::Internal, format!("grpc: {reason}")))
}

fn known(service: &str) -> bool {
    service.is_empty() || service == SERVICE
}

fn now(readiness: &Readiness) -> State {
    if readiness.is_ready() {
        State::Up
    } else {
        State::Down
    }
}

fn answer(state: State) -> Vec<u8> {
    Answer {
        status: state.into(),
    }
    .encode_to_vec()
}
