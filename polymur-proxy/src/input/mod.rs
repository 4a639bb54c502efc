//! Where lines come in: TCP with TLS or without ([`stream`]), the pickle protocol ([`pickle`]), UDP ([`udp`]). What they
//! read goes to batches of their own or to a shared one ([`shared_batch`]).

pub(crate) mod pickle;
pub(crate) mod shared_batch;
pub(crate) mod stream;
pub(crate) mod udp;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use shared::lifecycle::Tasks;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tracing::error;

use self::shared_batch::SharedBatch;
use crate::{
    config::Sharing,
    counters::DropReason,
    intake::Intake,
    lines::{Check, Tally},
};

/// Time between two flushes of a connection's batch, from its beginning, as in the original.
pub(crate) const TICK: Duration = Duration::from_secs(15);

/// What every input needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) intake: Arc<Intake>,
    pub(crate) tasks: Tasks,
    pub(crate) check: Check,
    pub(crate) sharing: Sharing,
    pub(crate) shared_batch: Arc<SharedBatch>,
}

impl Context {
    /// Counts what was read.
    pub(crate) fn count(&self, bytes: usize, tally: Tally, peer: &SocketAddr) {
        let counters = &self.intake.counters;
        counters.bytes_received.fetch_add(bytes as u64, Relaxed);
        counters.lines_received.fetch_add(tally.read(), Relaxed);
        if tally.invalid > 0 {
            counters.drop_lines(DropReason::Invalid, tally.invalid);
        }
        self.intake.too_long(tally.oversize, peer);
    }
}

/// Accepts connections as a task, and serves each as a task of its own, until the group is stopped. What the kernel has
/// accepted by then is served too.
pub(crate) fn accept<F>(
    context: &Context,
    listener: TcpListener,
    serve: impl Fn(Context, TcpStream, SocketAddr) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.clone().spawn("listener", async move {
        let stop = tasks.stop_token();
        let start = |(stream, peer): (TcpStream, SocketAddr)| {
            keep_alive(&stream);
            let counters = Arc::clone(&context.intake.counters);
            counters.connections.fetch_add(1, Relaxed);
            counters.connections_open.fetch_add(1, Relaxed);
            let connection = serve(context.clone(), stream, peer);
            tasks.spawn("connection", async move {
                connection.await;
                counters.connections_open.fetch_sub(1, Relaxed);
            });
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => start(accepted),
                Err(reason) if is_peer_fault(&reason) => {}
                Err(reason) => {
                    error!("Connection handler error: {reason}");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
        while let Ok(Ok(accepted)) = timeout(Duration::ZERO, listener.accept()).await {
            start(accepted);
        }
    });
}

fn is_peer_fault(reason: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    matches!(reason.kind(), ConnectionAborted | ConnectionReset)
}

/// As Go's listeners do; a connection without works too.
fn keep_alive(stream: &TcpStream) {
    const FIRST: Duration = Duration::from_secs(15);
    let settings = TcpKeepalive::new().with_time(FIRST).with_interval(FIRST);
    let _set = SockRef::from(stream).set_tcp_keepalive(&settings).is_ok();
}
