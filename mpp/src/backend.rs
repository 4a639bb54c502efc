//! What is known of one server while the process lives: its traffic, its failures in a row, whether it is ejected, and its idle
//! connections. Locators and rounds come and go; a server that keeps its address keeps this.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use http::HeaderValue;
use tokio::sync::Notify;

use crate::{endpoint::Endpoint, proxy::pool::Pool};

/// Upper bounds of the latency histogram, in seconds.
pub const LATENCY_BOUNDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Why a server could not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// No connection.
    Connect,
    /// A connection that ended before the answer began.
    Reset,
    /// No first byte within the limit, or while the server was found to hang.
    Hang,
    /// Something that is not HTTP.
    NotHttp,
    /// Its own 502.
    BadGateway,
    /// A 503 by which Prometheus says that it is starting or stopping.
    NotReady,
    /// Its own 504.
    GatewayTimeout,
    /// An answer that broke off in the middle; nothing can be tried again then.
    Cut,
}

impl Failure {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Reset,
        Self::Hang,
        Self::NotHttp,
        Self::BadGateway,
        Self::NotReady,
        Self::GatewayTimeout,
        Self::Cut,
    ];

    /// Returns the name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::NotHttp => "not_http",
            Self::BadGateway => "bad_gateway",
            Self::NotReady => "not_ready",
            Self::GatewayTimeout => "gateway_timeout",
            Self::Cut => "cut",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// A server.
pub struct Backend {
    /// Its address.
    pub endpoint: Endpoint,
    /// Its origin as headers need it.
    pub(crate) origin_value: HeaderValue,
    /// `host:port` as the header `Host` needs it.
    pub(crate) host_value: HeaderValue,
    /// The cookie that sticks clients to it.
    pub(crate) cookie_value: HeaderValue,
    /// Its counters.
    pub traffic: Traffic,
    /// Its idle connections, one pool per worker thread.
    pub(crate) pools: Vec<Pool>,
    ejection: Ejection,
}

/// The counters of a server. Attempts, not requests, as in the original.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Attempts made.
    pub attempts: AtomicU64,
    /// Attempts that were not the last of their request, by reason.
    pub retries: [AtomicU64; Failure::ALL.len()],
    /// Failures, by reason.
    pub failures: [AtomicU64; Failure::ALL.len()],
    /// Attempts that ended.
    pub ended: AtomicU64,
    /// Time that ended attempts took, in microseconds.
    pub microseconds: AtomicU64,
    /// Ended attempts by latency; the last is beyond all bounds.
    pub latencies: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    /// Attempts under way.
    pub in_flight: AtomicUsize,
    /// Attempts that wait for their first byte.
    waiting: AtomicUsize,
    /// When the server last gave a first byte, or the wait for one began; milliseconds since the process first asked.
    progress: AtomicU64,
}

/// Whether a server gets requests, and since when not.
#[derive(Debug, Default)]
struct Ejection {
    in_a_row: AtomicU32,
    ejected: AtomicBool,
    count: AtomicU64,
    cut: Notify,
    state: Mutex<EjectionState>,
}

/// When an ejected server may be asked again.
#[derive(Debug, Default, Clone, Copy)]
struct EjectionState {
    why: Option<Failure>,
    pause: Duration,
    next_probe: Option<Instant>,
    returned: Option<Instant>,
}

/// The first pause before an ejected server is asked again; it doubles while the server fails again soon.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that fails again within this time after its return has not really returned.
const PROVING_TIME: Duration = Duration::from_secs(30);

impl Backend {
    /// Makes the record of a server nothing is known of, for so many worker threads.
    pub fn new(endpoint: Endpoint, workers: usize) -> Self {
        let value = |text: &str| {
            HeaderValue::from_str(text).expect("an origin consists of characters of a URL")
        };
        Self {
            origin_value: value(endpoint.origin()),
            host_value: value(endpoint.authority()),
            cookie_value: value(&format!(
                "MPP.Route={}; Path=/; HttpOnly",
                endpoint.origin()
            )),
            endpoint,
            traffic: Traffic::default(),
            pools: (0..workers).map(|_| Pool::default()).collect(),
            ejection: Ejection::default(),
        }
    }

    /// Says whether the server gets no requests at present.
    pub fn is_ejected(&self) -> bool {
        self.ejection.ejected.load(Relaxed)
    }

    /// Returns why the server is ejected.
    pub fn ejected_because(&self) -> Option<Failure> {
        self.is_ejected()
            .then(|| self.ejection.state.lock().why)
            .flatten()
    }

    /// Returns how many times the server was ejected.
    pub fn ejections(&self) -> u64 {
        self.ejection.count.load(Relaxed)
    }

    /// Returns the failures since the last success.
    pub fn failures_in_a_row(&self) -> u32 {
        self.ejection.in_a_row.load(Relaxed)
    }

    /// Counts a failure. Returns true if it ejects the server: the one that fills `limit`, or any hang.
    pub fn failed(&self, why: Failure, limit: Option<u32>) -> bool {
        self.traffic.failures[why.index()].fetch_add(1, Relaxed);
        let in_a_row = self.ejection.in_a_row.fetch_add(1, Relaxed) + 1;
        limit.is_some_and(|limit| in_a_row >= limit || why == Failure::Hang) && self.eject(why)
    }

    /// Counts a success.
    pub fn succeeded(&self) {
        if self.ejection.in_a_row.load(Relaxed) != 0 {
            self.ejection.in_a_row.store(0, Relaxed);
        }
    }

    /// Counts a retry of a request that this server failed.
    pub fn retried(&self, why: Failure) {
        self.traffic.retries[why.index()].fetch_add(1, Relaxed);
    }

    /// Takes the server out. Those who wait for its first byte are told. Returns false if it is out already.
    pub fn eject(&self, why: Failure) -> bool {
        if self.ejection.ejected.swap(true, Relaxed) {
            return false;
        }
        self.ejection.count.fetch_add(1, Relaxed);
        let now = Instant::now();
        let mut state = self.ejection.state.lock();
        let again = state
            .returned
            .is_some_and(|moment| now.duration_since(moment) < PROVING_TIME);
        state.pause = if again {
            (state.pause * 2).min(LONGEST_PAUSE)
        } else {
            FIRST_PAUSE
        };
        state.why = Some(why);
        state.next_probe = Some(now + state.pause);
        drop(state);
        if why == Failure::Hang {
            self.ejection.cut.notify_waiters();
        }
        true
    }

    /// Lets the server back in.
    pub fn readmit(&self) {
        let mut state = self.ejection.state.lock();
        state.returned = Some(Instant::now());
        state.next_probe = None;
        drop(state);
        self.ejection.in_a_row.store(0, Relaxed);
        self.ejection.ejected.store(false, Relaxed);
    }

    /// Says whether an ejected server is to be asked now, and if so sets the time of the next question.
    pub fn probe_due(&self, now: Instant) -> bool {
        let mut state = self.ejection.state.lock();
        let due = self.is_ejected() && state.next_probe.is_some_and(|moment| now >= moment);
        if due {
            state.next_probe = Some(now + state.pause);
        }
        due
    }

    /// Waits until the server is found to hang. Starts to listen when first polled.
    pub(crate) fn found_hanging(&self) -> tokio::sync::futures::Notified<'_> {
        self.ejection.cut.notified()
    }

    /// Says that an attempt waits for its first byte.
    pub(crate) fn wait_begins(&self) {
        if self.traffic.waiting.fetch_add(1, Relaxed) == 0 {
            self.traffic.progress.store(millis(), Relaxed);
        }
    }

    /// Says that an attempt has its first byte, or gave up.
    pub(crate) fn wait_ends(&self, progressed: bool) {
        self.traffic.waiting.fetch_sub(1, Relaxed);
        if progressed {
            self.traffic.progress.store(millis(), Relaxed);
        }
    }

    /// Returns for how long attempts have waited without any first byte from this server.
    pub fn silence(&self) -> Option<Duration> {
        (self.traffic.waiting.load(Relaxed) > 0).then(|| {
            Duration::from_millis(millis().saturating_sub(self.traffic.progress.load(Relaxed)))
        })
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.endpoint.address())
    }
}

impl Traffic {
    /// Records an attempt that took so long, from its start to the last byte.
    pub fn took(&self, time: Duration) {
        self.ended.fetch_add(1, Relaxed);
        self.microseconds
            .fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
        let seconds = time.as_secs_f64();
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < seconds);
        self.latencies[bucket].fetch_add(1, Relaxed);
    }

    /// Returns the sum of the failures.
    pub fn failed(&self) -> u64 {
        self.failures.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Returns the sum of the retries.
    pub fn retried(&self) -> u64 {
        self.retries.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Estimates a quantile of the latency in seconds, as Prometheus does from a histogram; `None` before the first answer.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let counts: Vec<u64> = self
            .latencies
            .iter()
            .map(|count| count.load(Relaxed))
            .collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = quantile * total as f64;
        let mut below = 0.0;
        for (bucket, count) in counts.iter().enumerate() {
            let reached = below + *count as f64;
            if reached >= rank && *count > 0 {
                let low = if bucket == 0 {
                    0.0
                } else {
                    LATENCY_BOUNDS[bucket - 1]
                };
                let Some(high) = LATENCY_BOUNDS.get(bucket) else {
                    return Some(low);
                };
                return Some(low + (high - low) * ((rank - below) / *count as f64));
            }
            below = reached;
        }
        LATENCY_BOUNDS.last().copied()
    }
}

/// All servers that a locator has named lately.
#[derive(Debug)]
pub struct Backends {
    workers: usize,
    known: Mutex<Vec<Arc<Backend>>>,
}

impl Backends {
    /// Makes an empty set, for so many worker threads.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            known: Mutex::new(Vec::new()),
        }
    }

    /// Returns the records of `endpoints`, new ones where needed, and forgets servers that are neither named nor in `kept`.
    pub fn follow(&self, endpoints: Vec<Endpoint>, kept: &[Arc<Backend>]) -> Vec<Arc<Backend>> {
        let mut known = self.known.lock();
        let mut named: Vec<Arc<Backend>> = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let same = |backend: &&Arc<Backend>| backend.endpoint == endpoint;
            let record = named.iter().find(same).or_else(|| known.iter().find(same));
            let record = match record {
                Some(record) => Arc::clone(record),
                None => Arc::new(Backend::new(endpoint, self.workers)),
            };
            named.push(record);
        }
        let mut all: Vec<Arc<Backend>> = Vec::new();
        for record in named.iter().chain(kept) {
            if !all.iter().any(|other| Arc::ptr_eq(other, record)) {
                all.push(Arc::clone(record));
            }
        }
        *known = all;
        named
    }

    /// Returns all servers, each once, in the order in which they were named.
    pub fn all(&self) -> Vec<Arc<Backend>> {
        self.known.lock().clone()
    }
}

/// Milliseconds since the process first asked.
fn millis() -> u64 {
    use std::sync::LazyLock;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend() -> Backend {
        Backend::new(Endpoint::parse("http://a:1").unwrap(), 1)
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_in_between_does_not() {
        let backend = backend();
        assert!(!backend.failed(Failure::Connect, Some(2)));
        backend.succeeded();
        assert!(!backend.failed(Failure::Connect, Some(2)));
        assert!(backend.failed(Failure::NotReady, Some(2)));
        assert_eq!(backend.ejected_because(), Some(Failure::NotReady));
        assert!(
            !backend.failed(Failure::Connect, Some(2)),
            "it is out already"
        );
        backend.readmit();
        assert!(!backend.is_ejected());
        assert!(
            backend.failed(Failure::Hang, Some(9)),
            "a hang counts at once"
        );
    }

    #[test]
    fn a_server_that_fails_again_soon_waits_longer() {
        let backend = backend();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            backend.eject(Failure::Connect);
            pauses.push(backend.ejection.state.lock().pause);
            backend.readmit();
        }
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert_eq!(pauses[1], FIRST_PAUSE * 2);
        assert_eq!(pauses[8], LONGEST_PAUSE);
    }

    #[test]
    fn quantiles_are_read_from_the_histogram() {
        let traffic = Traffic::default();
        assert_eq!(traffic.quantile(0.5), None);
        for _ in 0..100 {
            traffic.took(Duration::from_micros(7500));
        }
        assert_eq!(traffic.quantile(0.5), Some(0.0075));
        traffic.took(Duration::from_secs(60));
        assert_eq!(traffic.quantile(1.0), Some(30.0));
    }

    #[test]
    fn a_server_keeps_its_record_as_long_as_it_is_named() {
        let backends = Backends::new(1);
        let endpoint = |text| Endpoint::parse(text).unwrap();
        let first = backends.follow(vec![endpoint("a:1"), endpoint("a:1"), endpoint("b:1")], &[]);
        assert!(Arc::ptr_eq(&first[0], &first[1]));
        let second = backends.follow(vec![endpoint("b:1")], &first[..1]);
        assert!(Arc::ptr_eq(&second[0], &first[2]));
        assert_eq!(backends.all().len(), 2);
        backends.follow(vec![endpoint("b:1")], &[]);
        assert_eq!(backends.all().len(), 1);
    }
}
