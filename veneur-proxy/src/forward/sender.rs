//! The sender of a destination: a task that empties its queue, whatever is spoken.

use std::{sync::Arc, time::Duration};

use shared::lifecycle::Tasks;
use tokio::sync::oneshot;

use super::{Protocol, connect::Connector, http, stream, unary};
use crate::{
    config::{
        Config, Generation, HttpPool,
        outbound::{Batching, ForwardProtocol},
    },
    destinations::{members::Member, set::Home},
};

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
    pub(crate) batching: Batching,
    pub(crate) compression_level: u32,
    pub(crate) stream_max_age: Option<Duration>,
    pub(crate) stream_idle_close: Option<Duration>,
    pub(crate) connector: Connector,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let outbound = &config.outbound;
        Ok(Self {
            generation: config.generation,
            protocol: outbound.protocol,
            forward_timeout: config.forward_timeout,
            dial_timeout: config.dial_timeout,
            stall_timeout: outbound.stall_timeout,
            leave_timeout: config.shutdown_timeout,
            pool: config.http_pool.clone(),
            batching: outbound.batching,
            compression_level: outbound.compression_level,
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
    match lane.member.framing() {
        Protocol::Http => http::start(&lane, tried),
        Protocol::Unary => {
            let abort = lane.home.abort().clone();
            tasks.spawn("unary sender", async move {
                let _aborted = abort
                    .run_until_cancelled(unary::run(lane, Some(tried)))
                    .await;
            });
        }
        Protocol::Stream => {
            let abort = lane.home.abort().clone();
            tasks.spawn("stream sender", async move {
                let _aborted = abort
                    .run_until_cancelled(stream::run(lane, Some(tried)))
                    .await;
            });
        }
    }
}
