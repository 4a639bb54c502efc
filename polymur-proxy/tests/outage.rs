//! Gateways that fail in every way and come back: every line arrives, few arrive twice, and memory stays bounded.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use shared::testing::{eventually, wire::connect};
use support::{
    Proxy,
    gateway::{Action, Gateway, answer, ping_then},
    numbered, wait_for_count,
};

const LINES: u64 = 1_000_000;
const SENDERS: u64 = 4;
/// `-workers` as it is by default.
const WORKERS: u64 = 3;
/// Lines of a full batch.
const BATCH: u64 = 5_000;
/// Nobody listens, and the failures below, each with its share of the lines.
const PHASES: u64 = 1 + FAILURES.len() as u64;

/// How often each numbered line has arrived.
fn tally(text: &[u8]) -> HashMap<u64, u32> {
    let mut seen = HashMap::new();
    for line in String::from_utf8(text.to_vec()).unwrap().lines() {
        let number = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(
            line,
            format!("m.{number} {number} {}", 1_500_000_000 + number)
        );
        *seen.entry(number).or_default() += 1;
    }
    seen
}

fn peak_memory_mib(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() / 1_024
}

/// Sends the lines of one of the phases over some connections, in the background.
fn send_phase(proxy: &Proxy, phase: u64) -> Vec<thread::JoinHandle<()>> {
    let address = proxy.lines;
    let parts = PHASES * SENDERS;
    let senders = (0..SENDERS).map(|sender| {
        thread::spawn(move || {
            let part = phase * SENDERS + sender;
            let numbers = LINES * part / parts..LINES * (part + 1) / parts;
            let mut stream = connect(address);
            // The proxy may make it wait.
            stream.write_all(&numbered(numbers)).unwrap();
        })
    });
    senders.collect()
}

/// Does the failures, one at a time; takes batches in between.
struct Moody {
    /// Place in `FAILURES`, or behind all of them.
    mode: AtomicUsize,
    /// How many requests are still to hang. Their number is fixed, so that every other timeout is known to be the
    /// machine's doing, and what it makes arrive twice can be told from what the proxy does wrong.
    to_hang: AtomicUsize,
}

impl Moody {
    fn healthy() -> Arc<Self> {
        Arc::new(Self {
            mode: AtomicUsize::new(FAILURES.len()),
            to_hang: AtomicUsize::new(WORKERS as usize),
        })
    }

    fn script(self: &Arc<Self>) -> impl Fn(&str, usize) -> Action + Send + Sync + 'static {
        let moody = Arc::clone(self);
        move |path, _| match path {
            "/ping" => Action::status(200, "key is valid\n"),
            _ => moody.next(),
        }
    }

    fn next(&self) -> Action {
        match self.mode.load(Relaxed) {
            0 => {
                let left = |left: usize| left.checked_sub(1);
                match self.to_hang.fetch_update(Relaxed, Relaxed, left) {
                    Ok(_) => Action::Hang,
                    Err(_) => Action::received(),
                }
            }
            1 => Action::ResetWithin(1_000),
            2 => Action::status(500, "broken\n"),
            3 => Action::Answer(answer(
                429,
                &[("Retry-After".to_owned(), "0".to_owned())],
                b"slow down\n",
            )),
            4 => Action::status(401, "invalid key"),
            _ => Action::received(),
        }
    }
}

/// What a gateway does in turn, and the counter that shows that it has.
const FAILURES: [(&str, &str); 5] = [
    ("hangs", "timeout"),
    ("resets within the body", "closed"),
    ("500", "server"),
    ("429", "busy"),
    ("401", "unauthorized"),
];

#[test]
fn a_million_lines_survive_a_gateway_that_fails_in_every_way() {
    let moody = Moody::healthy();
    let gateway = Gateway::start(None, moody.script());
    let address = gateway.address;
    let mut proxy = Proxy::start(&[
        &gateway.flag(),
        "-verbose=false",
        // Long enough that only a gateway that hangs meets it.
        "-http-timeout=10s",
        &format!("-workers={WORKERS}"),
        "-queue-bytes=2000000",
        "-drain-timeout=60s",
    ]);
    let began = Instant::now();
    let retries =
        |reason: &str| proxy.metric(&format!("batch_retries_total{{reason=\"{reason}\"}}"));

    // Nobody listens.
    drop(gateway);
    let mut senders = send_phase(&proxy, 0);
    wait_for_count("refused connections", 5, || retries("connect"));
    let gateway = Gateway::start_at(address, None, moody.script());
    for (place, (what, counter)) in FAILURES.into_iter().enumerate() {
        let before = retries(counter);
        moody.mode.store(place, Relaxed);
        senders.extend(send_phase(&proxy, place as u64 + 1));
        wait_for_count(&format!("failures: {what}"), before + WORKERS, || {
            retries(counter)
        });
        // And back, so that lines flow in between; unless all have arrived since the last request that hung.
        let taken = gateway.taken_lines();
        moody.mode.store(FAILURES.len(), Relaxed);
        let sent = LINES * (place as u64 + 2) / PHASES;
        wait_for_count("lines", sent.min(taken + 1), || gateway.taken_lines());
    }
    for sender in senders {
        sender.join().unwrap();
    }
    wait_for_count("lines sent", LINES, || proxy.metric("lines_sent_total"));
    let peak = peak_memory_mib(&proxy);
    // The gateway never answered as many as were to hang. All other timeouts may have met a batch that it had taken.
    let unmeant = retries("timeout") - WORKERS;
    let (status, summary) = proxy.finish();
    assert!(status.success());
    assert_eq!(
        (summary.taken, summary.sent, summary.dropped),
        (LINES, LINES, 0)
    );

    let seen = tally(&gateway.taken());
    let twice = seen.values().filter(|times| **times > 1).count() as u64;
    println!(
        "{LINES} lines sent, {} arrived, {twice} more than once, {unmeant} timeouts of answers under way, \
         peak memory {peak} MiB, {:.1} s",
        seen.len(),
        began.elapsed().as_secs_f64()
    );
    assert_eq!(seen.len() as u64, LINES);
    // Nothing arrives twice but for those: none, where an answer takes less than the limit.
    assert!(twice <= unmeant * BATCH, "{twice}, {unmeant}");
    assert!(twice <= LINES / 100, "{twice}");
    assert!(peak < 200, "{peak} MiB");
}

#[test]
fn what_is_in_the_spool_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let spool = format!("-spool-dir={}", folder.path().display());
    let gateway = Gateway::friendly();
    let address = gateway.address;
    let flag = gateway.flag();
    let words = [flag.as_str(), &spool, "-verbose=false"];
    let mut proxy = Proxy::start(&words);
    proxy.send(&numbered(0..1_000));
    wait_for_count("lines", 1_000, || gateway.taken_lines());
    let before = gateway.taken();
    drop(gateway);
    // The first batch finds the gateway gone; a worker holds it in memory.
    proxy.send(&numbered(1_000..1_001));
    wait_for_count("refused connections", 1, || {
        proxy.metric("batch_retries_total{reason=\"connect\"}")
    });
    let accepted = 200_000;
    proxy.send(&numbered(1_001..accepted));
    wait_for_count("lines accepted", accepted, || {
        proxy.metric("lines_received_total")
    });
    let synced = wait_for_count("lines fsynced", accepted - 1_001, || {
        proxy.metric("spool_synced_lines_total")
    });
    proxy.program.kill();

    let gateway = Gateway::friendly_at(address);
    let mut proxy = Proxy::start(&words);
    wait_for_count("lines replayed", synced, || gateway.taken_lines());
    let (status, summary) = proxy.finish();
    assert!(status.success());
    assert_eq!(
        (summary.sent, summary.dropped, summary.spooled),
        (synced, 0, 0)
    );
    let replayed = gateway.taken();
    let first = tally(&replayed);
    let order: Vec<u64> = String::from_utf8(replayed)
        .unwrap()
        .lines()
        .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
        .collect();
    let seen = tally(&[before, gateway.taken()].concat());
    let twice = seen.values().filter(|times| **times > 1).count();
    println!(
        "{accepted} lines accepted, {synced} of them fsynced in the spool, then kill -9: {} arrived after the restart, \
         {twice} twice; {} in a worker's memory only",
        first.len(),
        accepted - 1_000 - first.len() as u64
    );
    assert_eq!(first.len() as u64, synced);
    assert_eq!(twice, 0);
    // In order, but for what several workers send at the same time: the first to arrive is one of the first batches.
    assert!(order[0] <= 1_001 + (WORKERS - 1) * BATCH, "{}", order[0]);
}

#[test]
fn sigterm_while_the_gateway_is_away_leaves_everything_in_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let spool = format!("-spool-dir={}", folder.path().display());
    let gateway = Gateway::friendly();
    let address = gateway.address;
    let flag = gateway.flag();
    let words = [flag.as_str(), &spool, "-verbose=false"];
    let mut proxy = Proxy::start(&words);
    drop(gateway);
    proxy.send(&numbered(0..50_000));
    wait_for_count("lines", 50_000, || proxy.metric("lines_received_total"));
    let (status, summary) = proxy.finish();
    assert!(status.success(), "{:#?}", proxy.program.stderr());
    assert_eq!(
        (summary.taken, summary.dropped, summary.spooled),
        (50_000, 0, 50_000)
    );

    let gateway = Gateway::friendly_at(address);
    let mut proxy = Proxy::start(&words);
    wait_for_count("lines", 50_000, || gateway.taken_lines());
    let (_, summary) = proxy.finish();
    assert_eq!(
        (summary.taken, summary.sent, summary.spooled),
        (50_000, 50_000, 0)
    );
    assert_eq!(tally(&gateway.taken()).len(), 50_000);
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "only the lock is left");
}

#[test]
fn a_full_queue_pushes_the_oldest_out_with_on_full_drop_oldest() {
    let gateway = Gateway::start(None, ping_then(Action::status(503, "later\n")));
    let proxy = Proxy::start(&[
        &gateway.flag(),
        "-queue-cap=2",
        "-workers=1",
        "-on-full=drop-oldest",
        "-verbose=false",
    ]);
    proxy.send(&numbered(0..50_000));
    // One batch is with the worker, two wait, seven are gone.
    let dropped = || proxy.metric("lines_dropped_total{reason=\"queue_full\"}");
    eventually("the oldest to go", || (dropped() >= 35_000).then_some(()));
    assert_eq!(proxy.metric("queue_batches"), 2);
    proxy
        .program
        .wait_for_line("Incoming queue capacity 2 reached");
}

#[test]
fn a_full_queue_makes_senders_wait_by_default() {
    let gateway = Gateway::start(None, ping_then(Action::Hang));
    let proxy = Proxy::start(&[&gateway.flag(), "-queue-cap=2", "-workers=1"]);
    let mut stream = connect(proxy.lines);
    stream
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let block = numbered(0..10_000);
    let mut blocks = 0;
    while stream.write_all(&block).is_ok() {
        blocks += 1;
        assert!(blocks < 1_000, "nothing held the sender back");
    }
    assert_eq!(
        proxy.metric("lines_dropped_total{reason=\"queue_full\"}"),
        0
    );
}
