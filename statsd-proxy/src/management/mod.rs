//! The management console, in the words of either original ([`go`], [`js`]; pure). Here is what is around the words:
//! connections, each with its own task, a limit on their number, and an end for idle ones.

mod go;
mod js;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use shared::lifecycle::Tasks;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{config::Dialect, counters::Totals, relay::SharedRouting};

/// Consoles open at a time; more wait in the kernel's queue.
const MAX_CONSOLES: usize = 64;
const IDLE_LIMIT: Duration = Duration::from_secs(60);
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How long a text that is no command may be the beginning of one.
const REST_OF_COMMAND: Duration = Duration::from_millis(100);
/// The longest text that is read before it is answered.
const MAX_QUERY: usize = 4_096;

/// What consoles show and set.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) dialect: Dialect,
    pub(crate) started: Instant,
    pub(crate) totals: Arc<Totals>,
    pub(crate) routing: SharedRouting,
    /// What `health` answers. `proxy.js` lets operators set it; it changes nothing else.
    pub(crate) healthy: AtomicBool,
    /// The file's keys and values, as `proxy.js` shows them.
    pub(crate) entries: ArcSwap<Vec<String>>,
}

impl Facts {
    fn health(&self) -> &'static str {
        if self.healthy.load(Relaxed) {
            "health: up\n"
        } else {
            "health: down\n"
        }
    }

    fn uptime(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

/// What a console does about a query.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Text(String),
    Close,
}

/// Serves consoles on `listener` until `tasks` are stopped.
pub(crate) fn serve(tasks: &Tasks, listener: TcpListener, facts: Arc<Facts>) {
    let group = tasks.clone();
    let stop = tasks.stop_token();
    let places = Arc::new(Semaphore::new(MAX_CONSOLES));
    tasks.spawn("management console", async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = async { (Arc::clone(&places).acquire_owned().await, listener.accept().await) } => accepted,
            };
            let (Ok(place), accepted) = accepted else { return };
            match accepted {
                Ok((stream, _)) => {
                    let (facts, stop) = (Arc::clone(&facts), stop.clone());
                    group.spawn("management connection", async move {
                        stop.run_until_cancelled(converse(stream, &facts)).await;
                        drop(place);
                    });
                }
                Err(reason) => {
                    warn!(%reason, "cannot accept management connections");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
}

/// Answers queries until the client leaves, says `quit`, or is idle for too long.
async fn converse(mut stream: TcpStream, facts: &Facts) {
    let mut query = Vec::with_capacity(MAX_QUERY);
    loop {
        query.clear();
        let Ok(Ok(1..)) = timeout(IDLE_LIMIT, stream.read_buf(&mut query)).await else {
            return;
        };
        let answer = match facts.dialect {
            Dialect::Statsd => js::answer(&query, facts),
            Dialect::GoStatsdProxy => {
                let mut answer = go::answer(&query, facts);
                while answer.is_none() && query.len() < MAX_QUERY {
                    let Ok(Ok(1..)) = timeout(REST_OF_COMMAND, stream.read_buf(&mut query)).await
                    else {
                        break;
                    };
                    answer = go::answer(&query, facts);
                }
                answer.unwrap_or_else(go::unknown)
            }
        };
        let Answer::Text(text) = answer else { return };
        let Ok(Ok(())) = timeout(WRITE_LIMIT, stream.write_all(text.as_bytes())).await else {
            return;
        };
    }
}

#[cfg(test)]
impl Facts {
    fn for_test(dialect: Dialect, entries: &[&str]) -> Self {
        use crate::{config::Packing, line::Grammar, routing::Routing};
        Self {
            dialect,
            started: Instant::now(),
            totals: Arc::default(),
            routing: Arc::new(ArcSwap::from_pointee(Routing::empty(
                Grammar::Statsd,
                Packing::Single,
            ))),
            healthy: AtomicBool::new(true),
            entries: ArcSwap::from_pointee(
                entries.iter().map(|entry| (*entry).to_owned()).collect(),
            ),
        }
    }
}
