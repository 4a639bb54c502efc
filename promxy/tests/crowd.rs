//! A crowd: a thousand clients at the same time, some with heavy queries, some with queries that take more than is allowed.
//!
//! With `--query.max-concurrency` (and `--storage.path`, as in the original) so many queries run at a time and the others wait,
//! no longer than a query may take. What a query may hold is `--query.max-samples`. So memory has a bound, whoever comes; without
//! the first flag all run at once. `/-/healthy` waits for no query.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod support;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use support::{
    Promxy, bytes_of,
    client::{Response, request_within},
    groups,
    stub::{Asked, Reply, Stub},
};

const CLIENTS: usize = 1000;
/// promxy's own limits are shorter.
const PATIENCE: Duration = Duration::from_secs(300);

/// Series and steps of a heavy query, at each server.
const HEAVY: (usize, usize) = (150, 200);
/// Of one that takes more than is allowed.
const HUNGRY: (usize, usize) = (1000, 200);
/// More than the heavy query has at four servers, less than the hungry one.
const MAX_SAMPLES: usize = 150_000;
const AT_A_TIME: usize = 20;
/// What a sample may cost altogether: as a number in the columns of both replicas, of their merge and of the result, and as text.
const BYTES_A_SAMPLE: usize = 128;

const START: usize = 1_700_000_000;

fn matrix((series, steps): (usize, usize)) -> Vec<u8> {
    let mut body = String::from(r#"{"status":"success","data":{"resultType":"matrix","result":["#);
    for number in 0..series {
        let comma = if number == 0 { "" } else { "," };
        write!(
            body,
            r#"{comma}{{"metric":{{"__name__":"m","i":"{number}"}},"values":["#
        )
        .unwrap();
        for step in 0..steps {
            let comma = if step == 0 { "" } else { "," };
            let (time, value) = (START + 15 * step, number * step);
            write!(body, r#"{comma}[{time},"{value}"]"#).unwrap();
        }
        body.push_str("]}");
    }
    body.push_str("]}}");
    body.into_bytes()
}

/// A server that answers by the name of the metric.
fn server() -> Stub {
    let (heavy, hungry) = (matrix(HEAVY), matrix(HUNGRY));
    Stub::start(move |asked: &Asked| {
        let params = asked.parameters();
        let query = params.iter().find(|(name, _)| name == "query");
        match query.map_or("", |(_, query)| query.as_str()) {
            "heavy" => Reply::json(heavy.clone()),
            "hungry" => Reply::json(hungry.clone()),
            "light" => Reply::json(
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"m"},"value":[1700000000,"7"]}]}}"#,
            ),
            _ => Reply::json(r#"{"status":"success","data":{}}"#),
        }
    })
}

/// Every twentieth query is heavy, every fortieth takes too much.
fn path(number: usize) -> String {
    let range = |query| {
        let (steps, start) = (HEAVY.1, START);
        let end = start + 15 * (steps - 1);
        format!("/api/v1/query_range?query={query}&start={start}&end={end}&step=15")
    };
    match number % 40 {
        0 | 20 => range("heavy"),
        30 => range("hungry"),
        _ => format!("/api/v1/query?query=light&time={START}"),
    }
}

/// The most memory that a process has had, in bytes.
fn peak(promxy: &Promxy) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", promxy.program.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

/// What a client hears: the answer that is right, or why there is none.
fn judged(answer: Option<Response>, path: &str, right: &BTreeMap<String, String>) -> &'static str {
    let Some(answer) = answer else {
        return "wrong: no answer";
    };
    let text = answer.text();
    let is_hungry = path.contains("hungry");
    match answer.status {
        200 if right.get(path) == Some(&text) => "right",
        422 if is_hungry
            && text.contains("query processing would load too many samples into memory") =>
        {
            "refused: too many samples (422)"
        }
        503 if text.contains("query timed out in query queue") => "refused: waited too long (503)",
        503 if text.contains("\"errorType\":\"timeout\"") => "refused: out of time (503)",
        _ => {
            println!(
                "{path}: {} {}",
                answer.status,
                text.chars().take(500).collect::<String>()
            );
            "wrong"
        }
    }
}

/// Sends a crowd and returns the most memory above that before it.
fn crowd(name: &str, args: &[&str]) -> usize {
    let servers: Vec<Stub> = (0..4).map(|_| server()).collect();
    let ports: Vec<u16> = servers.iter().map(|server| server.port).collect();
    let config = groups(&[&ports[..2], &ports[2..]]);
    let args = [&["--access-log-destination=none"], args].concat();
    let promxy = Promxy::start(&config, &args).ready();
    let port = promxy.port;
    // What is right is what comes while nobody else asks.
    let right = [0, 1].map(|number| (path(number), promxy.get(&path(number)).text()));
    let right = Arc::new(BTreeMap::from(right));
    assert!(
        right.values().all(|text| text.contains("success")),
        "{right:?}"
    );
    let before = peak(&promxy);

    let begin = Arc::new(Barrier::new(CLIENTS + 1));
    let clients = (0..CLIENTS).map(|number| {
        let (begin, right) = (Arc::clone(&begin), Arc::clone(&right));
        let ask = move || {
            let path = path(number);
            let bytes = bytes_of("GET", &path, &[], b"");
            begin.wait();
            judged(request_within(port, &bytes, PATIENCE), &path, &right)
        };
        thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(ask)
            .unwrap()
    });
    let clients: Vec<_> = clients.collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let healthy = {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || {
            let idle = server();
            let (mut asked, mut slowest) = (0, [Duration::ZERO; 2]);
            while !is_over.load(Relaxed) {
                // What a server with nothing else to do takes on this machine is no fault of promxy.
                for (port, slowest) in [port, idle.port].iter().zip(&mut slowest) {
                    let asking = Instant::now();
                    let bytes = bytes_of("GET", "/-/healthy", &[], b"");
                    let answer = request_within(*port, &bytes, PATIENCE);
                    assert_eq!(answer.map(|answer| answer.status), Some(200), "/-/healthy");
                    *slowest = asking.elapsed().max(*slowest);
                }
                asked += 1;
                thread::sleep(Duration::from_millis(20));
            }
            (asked, slowest)
        })
    };
    begin.wait();
    let began = Instant::now();
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for client in clients {
        *tally.entry(client.join().unwrap()).or_default() += 1;
    }
    let took = began.elapsed();
    is_over.store(true, Relaxed);
    let (asked, slowest) = healthy.join().unwrap();
    let above = peak(&promxy).saturating_sub(before);
    println!(
        "{name}: {CLIENTS} queries at once in {took:.1?}: {tally:?}\n  most memory: {} MB, {} MB above that before; \
         /-/healthy: {asked} asked and answered, the slowest in {:.1?} (of an idle server in this test: {:.1?})",
        (before + above) >> 20,
        above >> 20,
        slowest[0],
        slowest[1]
    );
    assert!(
        !tally.keys().any(|what| what.starts_with("wrong")),
        "{tally:?}"
    );
    assert!(tally.get("right").is_some_and(|right| *right > 0));
    above
}

#[test]
fn a_thousand_queries_at_once_are_answered_or_refused_in_bounded_memory() {
    let (places, samples) = (
        format!("--query.max-concurrency={AT_A_TIME}"),
        format!("--query.max-samples={MAX_SAMPLES}"),
    );
    let limit = AT_A_TIME * MAX_SAMPLES * BYTES_A_SAMPLE;
    println!(
        "limits: {AT_A_TIME} queries at a time, {MAX_SAMPLES} samples each: {} MB",
        limit >> 20
    );
    let limited = [
        places.as_str(),
        &samples,
        "--storage.path=data",
        "--query.timeout=60s",
    ];
    let above = crowd("limited", &limited);
    assert!(above < limit, "{above} bytes");
    crowd(
        "as many at a time as come",
        &[&samples, "--query.timeout=60s"],
    );
}
