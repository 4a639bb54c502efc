//! `DogStatsD` lines in datagrams: as they are ([`Lines`]), or summed for an interval ([`Sums`]).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use shared::{datagram, logging::Throttle};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How many bytes of lines a datagram holds at most.
const DATAGRAM: usize = 1432;
/// How long lines of [`Lines`] wait for others.
const FLUSH: Duration = Duration::from_millis(100);
/// How long sending may take, the look-up of the name included.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many lines may wait; what comes then is dropped and counted.
const WAITING: usize = 16 * 1024;

/// Where lines go.
#[derive(Debug)]
pub(super) struct Target {
    address: String,
    lines_per_datagram: usize,
    failures: Throttle,
    dropped: AtomicU64,
}

impl Target {
    pub(super) fn new(address: String, lines_per_datagram: Option<usize>) -> Self {
        Self {
            address,
            lines_per_datagram: lines_per_datagram.unwrap_or(usize::MAX),
            failures: Throttle::new(Duration::from_secs(60)),
            dropped: AtomicU64::new(0),
        }
    }

    /// Sends lines, as many in a datagram as fit.
    pub(super) async fn send(&self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let sent = timeout(PATIENCE, self.try_send(lines)).await;
        let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if let Err(reason) = sent {
            self.dropped.fetch_add(lines.len() as u64, Relaxed);
            if let Some(suppressed) = self.failures.admit() {
                warn!(address = %self.address, error = %reason, suppressed, "cannot send self metrics");
            }
        }
    }

    async fn try_send(&self, lines: &[String]) -> io::Result<()> {
        let socket = datagram::connect(&self.address).await?;
        let mut refused = Ok(());
        for datagram in pack(lines, self.lines_per_datagram) {
            // A peer that is not there refuses one datagram and may be back for the next.
            if let Err(reason) = socket.send(datagram.as_bytes()).await {
                refused = Err(reason);
            }
        }
        refused
    }
}

fn pack(lines: &[String], per_datagram: usize) -> Vec<String> {
    let mut datagrams: Vec<String> = Vec::new();
    let mut count = 0;
    for line in lines {
        match datagrams.last_mut() {
            Some(last) if count < per_datagram && last.len() + 1 + line.len() <= DATAGRAM => {
                last.push('\n');
                last.push_str(line);
                count += 1;
            }
            _ => {
                datagrams.push(line.clone());
                count = 1;
            }
        }
    }
    datagrams
}

/// Writes one line: `name:value|kind|#tags`.
pub(super) fn line(name: &str, value: &str, kind: &str, tags: &str) -> String {
    let mut line = format!("{name}:{value}|{kind}");
    if !tags.is_empty() {
        write!(line, "|#{tags}").expect("a string takes all");
    }
    line
}

/// Lines that are sent as they are, within a tenth of a second.
#[derive(Debug)]
pub(super) struct Lines {
    target: Target,
    waiting: Mutex<Vec<String>>,
}

impl Lines {
    pub(super) fn new(address: String) -> Self {
        Self {
            target: Target::new(address, None),
            waiting: Mutex::default(),
        }
    }

    /// Queues a line; drops and counts it if too many wait.
    pub(super) fn push(&self, line: String) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < WAITING {
            waiting.push(line);
        } else {
            self.target.dropped.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.target.dropped.load(Relaxed)
    }

    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut moments = Moments::every(FLUSH);
        let mut more = true;
        while more {
            more = moments.next(&stop).await;
            let lines = std::mem::take(&mut *self.waiting.lock());
            self.target.send(&lines).await;
        }
    }
}

/// Sums for an interval: counts are added, the last of several gauges counts, timings are sent one by one.
#[derive(Debug)]
pub(super) struct Sums {
    target: Target,
    interval: Duration,
    waiting: Mutex<Waiting>,
}

/// By name and tags.
type Key = (String, String);

#[derive(Debug, Default)]
struct Waiting {
    counts: BTreeMap<Key, i64>,
    gauges: BTreeMap<Key, f64>,
    timings: Vec<String>,
}

impl Sums {
    pub(super) fn new(
        address: String,
        interval: Duration,
        lines_per_datagram: Option<usize>,
    ) -> Self {
        Self {
            target: Target::new(address, lines_per_datagram),
            interval,
            waiting: Mutex::default(),
        }
    }

    pub(super) fn count(&self, name: &str, tags: &str, value: i64) {
        *self
            .waiting
            .lock()
            .counts
            .entry((name.to_owned(), tags.to_owned()))
            .or_default() += value;
    }

    pub(super) fn gauge(&self, name: &str, tags: &str, value: f64) {
        self.waiting
            .lock()
            .gauges
            .insert((name.to_owned(), tags.to_owned()), value);
    }

    /// Takes note of a duration, which is sent in milliseconds.
    pub(super) fn timing(&self, name: &str, tags: &str, value: Duration) {
        let mut waiting = self.waiting.lock();
        if waiting.timings.len() < WAITING {
            let millis = format!("{:.6}", value.as_secs_f64() * 1e3);
            waiting.timings.push(line(name, &millis, "ms", tags));
        } else {
            self.target.dropped.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.target.dropped.load(Relaxed)
    }

    /// Sends every interval, each time after `observe` has added what is only looked at then.
    pub(super) async fn run(
        self: Arc<Self>,
        observe: impl Fn(&Self) + Send + Sync,
        stop: CancellationToken,
    ) {
        let mut moments = Moments::every(self.interval);
        let mut more = true;
        while more {
            more = moments.next(&stop).await;
            observe(&self);
            let lines = std::mem::take(&mut *self.waiting.lock()).lines();
            self.target.send(&lines).await;
        }
    }
}

impl Waiting {
    fn lines(self) -> Vec<String> {
        let counts = self
            .counts
            .iter()
            .map(|((name, tags), value)| line(name, &value.to_string(), "c", tags));
        let gauges = self
            .gauges
            .iter()
            .map(|((name, tags), value)| line(name, &value.to_string(), "g", tags));
        let mut lines: Vec<String> = counts.chain(gauges).collect();
        lines.extend(self.timings);
        lines
    }
}

/// The moments at which something is sent: every interval, and once more at the end.
pub(super) struct Moments(Interval);

impl Moments {
    pub(super) fn every(period: Duration) -> Self {
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(ticks)
    }

    /// Waits for the next moment; returns whether there are more.
    pub(super) async fn next(&mut self, stop: &CancellationToken) -> bool {
        stop.run_until_cancelled(self.0.tick()).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_filled_to_either_limit() {
        let lines: Vec<String> = (0..5).map(|n| format!("a:{n}|c")).collect();
        let sizes = |per: usize| -> Vec<usize> {
            pack(&lines, per)
                .iter()
                .map(|datagram| datagram.lines().count())
                .collect()
        };
        assert_eq!(sizes(2), [2, 2, 1]);
        assert_eq!(sizes(usize::MAX), [5]);
        let long = vec!["x".repeat(1000); 3];
        assert_eq!(pack(&long, 10).len(), 3);
    }

    #[test]
    fn counts_add_up_and_gauges_do_not() {
        let sums = Sums::new("127.0.0.1:1".into(), Duration::from_secs(1), None);
        sums.count("c", "a:1", 2);
        sums.count("c", "a:1", 3);
        sums.gauge("g", "", 1.0);
        sums.gauge("g", "", 7.0);
        sums.timing("t", "", Duration::from_micros(1500));
        let lines = std::mem::take(&mut *sums.waiting.lock()).lines();
        assert_eq!(lines, ["c:5|c|#a:1", "g:7|g", "t:1.500000|ms"]);
    }
}
