//! Clients that ask without a pause, each on its own connection, and count what they are told.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use crate::patience::{self, PATIENCE};

/// How many there are.
pub(crate) const CLIENTS: usize = 4;

const QUERY: &[u8] = b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: demo\r\n\r\n";

/// The clients at work.
#[derive(Debug)]
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// What they were told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
}

impl Clients {
    /// Starts asking.
    pub(crate) fn start(proxy: SocketAddr) -> Self {
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<Counts>::default());
        let threads = (0..CLIENTS).map(|_| {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            thread::spawn(move || ask(proxy, &stop, &counts))
        });
        Self {
            threads: threads.collect(),
            stop,
            counts,
        }
    }

    /// Waits until so many queries have been answered in all.
    pub(crate) fn wait_for(&self, queries: u64) -> anyhow::Result<()> {
        patience::until("queries to be answered", || {
            let done = self.counts.answered.load(Relaxed) + self.counts.failed.load(Relaxed);
            Ok((done >= queries).then_some(()))
        })
    }

    /// Stops asking.
    pub(crate) fn finish(self) -> Told {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                self.counts.failed.fetch_add(1, Relaxed);
            }
        }
        Told {
            sent: self.counts.sent.load(Relaxed),
            answered: self.counts.answered.load(Relaxed),
            failed: self.counts.failed.load(Relaxed),
        }
    }
}

fn ask(proxy: SocketAddr, stop: &AtomicBool, counts: &Counts) {
    let mut connection = None;
    while !stop.load(Relaxed) {
        counts.sent.fetch_add(1, Relaxed);
        if query(proxy, &mut connection).is_some() {
            counts.answered.fetch_add(1, Relaxed);
        } else {
            connection = None;
            counts.failed.fetch_add(1, Relaxed);
        }
    }
}

/// One query; the answer's head says how long its body is.
fn query(proxy: SocketAddr, connection: &mut Option<TcpStream>) -> Option<()> {
    if connection.is_none() {
        let stream = TcpStream::connect(proxy).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        *connection = Some(stream);
    }
    let stream = connection.as_mut()?;
    stream.write_all(QUERY).ok()?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut chunk).ok().filter(|length| *length > 0)?;
        answer.extend_from_slice(chunk.get(..length)?);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        if !head.starts_with("HTTP/1.1 200 ") {
            return None;
        }
        let wanted: usize = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())?;
        if body.len() >= wanted {
            return Some(());
        }
    }
}
