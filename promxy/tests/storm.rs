//! A storm: promxy before two groups of two replicas, twenty queries a second, and one replica or one group after the other is
//! killed, hung, slowed, cut, reset, answers 500, 403 with a page, 204.
//!
//! Every answer is that of one Prometheus with all the data, or an error that names a target that is missing. Beside it run a promxy
//! that downgrades errors, whose answers are whole or have a warning that names who is missing, and one that reads remotely.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod dataset;
mod holding;
mod storm_server;
mod support;

use std::{
    fmt::{self, Write as _},
    ops::AddAssign,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use dataset::{RegionLabel, Times, series};
use holding::Holding;
use serde_json::Value;
use storm_server::{Fault, Server};
use support::{
    Promxy, bytes_of,
    client::{Response, request_within},
};

/// The time between two queries.
const PACE: Duration = Duration::from_millis(50);
/// How many queries a fault lasts.
const QUERIES_A_PHASE: usize = 26;
/// promxy has its own limits, which are shorter.
const PATIENCE: Duration = Duration::from_secs(120);

const FAULTS: [Fault; 9] = [
    Fault::Killed,
    Fault::Hung,
    Fault::HungWithinAnswer,
    Fault::Slowed,
    Fault::Truncated,
    Fault::Reset,
    Fault::Status500,
    Fault::Html403,
    Fault::NoContent204,
];

/// What goes wrong together: each replica, each group. Servers 0 and 1 are the first group.
const VICTIMS: [&[usize]; 6] = [&[0], &[1], &[2], &[3], &[0, 1], &[2, 3]];

/// A request and how its answer has to be.
struct Question {
    path: String,
    expected: Value,
}

/// Questions of all kinds, the answers computed from all the data.
fn questions(times: Times) -> Vec<Question> {
    let whole = Holding::of(&series(&["east", "west"], times, RegionLabel::Written));
    let at = times.first + 1000;
    let federated = whole.answer("/api/v1/series", &[]);
    let instant = |query: &str| format!("query?query={query}&time={at}");
    let range = |query: &str| {
        format!(
            "query_range?query={query}&start={}&end={at}&step=60",
            at - 600
        )
    };
    let paths = [
        instant("temperature_celsius"),
        instant("sum%20by(dc)(http_requests_total)"),
        instant("count({__name__=~%22.%2B%22})"),
        range("temperature_celsius"),
        range("sum(rate(http_requests_total[2m]))"),
        range("topk(2,temperature_celsius)"),
        format!(
            "series?match[]={{job=%22api%22}}&start={}&end={at}",
            times.first
        ),
        "labels".to_owned(),
        "label/instance/values".to_owned(),
        instant("http_requests_total[2m]"),
        instant("{job=%22room%22}[5m]"),
    ];
    let question = |path: String| {
        let (call, query) = path.split_once('?').unwrap_or((&path, ""));
        let params = support::stub::parameters(query);
        let body = whole.answer(&format!("/api/v1/{call}"), &params);
        let mut body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["status"], "success", "{path}: {body}");
        let expected = ordered(body["data"].take());
        Question {
            path: format!("/api/v1/{path}"),
            expected,
        }
    };
    // The last three need samples as they are, which can be read remotely.
    let mut questions: Vec<Question> = paths.into_iter().map(question).collect();
    let mut federated: Value = serde_json::from_str(&federated).unwrap();
    questions.push(Question {
        path: "/federate?match[]={job!=%22%22}".to_owned(),
        expected: Value::from(federated["data"].as_array_mut().unwrap().len()),
    });
    questions
}

/// The data of an answer. Of a page that is federated, the number of series.
fn data(question: &Question, text: &str) -> Value {
    if question.path.starts_with("/federate") {
        return Value::from(text.lines().filter(|line| !line.starts_with('#')).count());
    }
    let mut body: Value = serde_json::from_str(text).unwrap_or_default();
    body.get_mut("data")
        .map_or(Value::Null, |data| ordered(data.take()))
}

fn ordered(mut data: Value) -> Value {
    let list = if data.is_object() {
        &mut data["result"]
    } else {
        &mut data
    };
    if let Some(series) = list.as_array_mut() {
        series.sort_by_key(|one| one.get("metric").unwrap_or(one).to_string());
    }
    data
}

/// Whether two values are the same but for the last digits of numbers.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        (Value::String(text), Value::String(other)) => {
            let numbers = text.parse::<f64>().ok().zip(other.parse::<f64>().ok());
            text == other
                || numbers.is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()))
        }
        _ => a == b,
    }
}

/// What has become of queries.
#[derive(Clone, Copy, Default)]
struct Tally {
    right: usize,
    /// Errors that name who is missing.
    named: usize,
    /// Answers of a part of the data, with a warning that names who is missing.
    warned: usize,
    /// Anything else.
    wrong: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.named += other.named;
        self.warned += other.warned;
        self.wrong += other.wrong;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            right,
            named,
            warned,
            wrong,
        } = self;
        write!(f, "{right:>6} {named:>6} {warned:>6} {wrong:>6}")
    }
}

/// Judges an answer, by what names the servers that something is wrong with.
fn judged(
    question: &Question,
    answer: Option<&Response>,
    names: &[String],
) -> (Tally, Option<String>) {
    let mut tally = Tally::default();
    let Some(answer) = answer else {
        tally.wrong = 1;
        return (tally, Some(format!("{}: no answer", question.path)));
    };
    let text = answer.text();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let names_one = |said: &str| names.iter().any(|name| said.contains(name));
    if answer.status == 200 && alike(&data(question, &text), &question.expected) {
        tally.right = 1;
    } else if answer.status == 200 && names_one(&body["warnings"].to_string()) {
        tally.warned = 1;
    } else if answer.status >= 400 && names_one(&text) {
        tally.named = 1;
    } else {
        tally.wrong = 1;
        let why = format!(
            "{}: {} {text}\nshould be {}",
            question.path, answer.status, question.expected
        );
        return (tally, Some(why));
    }
    (tally, None)
}

/// Four servers, and promxy before them: as it is, downgrading errors, reading remotely.
struct Place {
    servers: Vec<Server>,
    failing: Promxy,
    warning: Promxy,
    reading: Promxy,
}

impl Place {
    fn start(holdings: &[Arc<Holding>; 2]) -> Self {
        let servers: Vec<Server> = [0, 0, 1, 1]
            .iter()
            .map(|group| Server::start(&holdings[*group]))
            .collect();
        let config = |more: &str| {
            let mut config = String::from("promxy:\n  server_groups:\n");
            for (pair, region) in servers.chunks(2).zip(["east", "west"]) {
                let (one, two) = (pair[0].port, pair[1].port);
                writeln!(
                    config,
                    "  - {{static_configs: [{{targets: ['127.0.0.1:{one}', '127.0.0.1:{two}']}}], labels: {{dc: {region}}}, timeout: 1s{more}}}"
                )
                .unwrap();
            }
            config
        };
        let args = ["--query.timeout=3s", "--access-log-destination=none"];
        Self {
            failing: Promxy::start(&config(""), &args).ready(),
            warning: Promxy::start(&config(", downgrade_error: true"), &args).ready(),
            reading: Promxy::start(&config(", remote_read: true"), &args).ready(),
            servers,
        }
    }

    /// Asks while servers have a fault.
    fn phase(
        &self,
        questions: &Arc<[Question]>,
        fault: Fault,
        victims: &[usize],
    ) -> (Tally, Vec<String>) {
        for victim in victims {
            self.servers[*victim].set(fault);
        }
        let judged = self.ask(questions, victims);
        for victim in victims {
            self.servers[*victim].set(Fault::None);
        }
        judged
    }

    /// Asks while any server has any fault, and soon another.
    fn chaos(&self, questions: &Arc<[Question]>, seed: u64) -> (Tally, Vec<String>) {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = fastrand::Rng::with_seed(seed);
                while !is_over.load(Relaxed) {
                    let server = &self.servers[random.usize(..self.servers.len())];
                    // Half of the time there is none.
                    let fault = FAULTS.get(random.usize(..2 * FAULTS.len()));
                    server.set(*fault.unwrap_or(&Fault::None));
                    thread::sleep(PACE);
                }
            });
            let judged = self.ask(questions, &[0, 1, 2, 3]);
            is_over.store(true, Relaxed);
            judged
        })
    }

    /// Asks at an even pace, and waits for all answers.
    fn ask(&self, questions: &Arc<[Question]>, victims: &[usize]) -> (Tally, Vec<String>) {
        let names: Vec<String> = victims
            .iter()
            .map(|victim| format!("127.0.0.1:{}", self.servers[*victim].port))
            .collect();
        let asked = (0..QUERIES_A_PHASE).map(|number| {
            thread::sleep(PACE);
            let (questions, names) = (Arc::clone(questions), names.clone());
            // A page that is federated has no place for warnings.
            let all = questions.len();
            let (promxy, place) = if number < all {
                (&self.failing, number)
            } else if number < all + all - 1 {
                (&self.warning, number - all)
            } else {
                (&self.reading, number - all - 2)
            };
            let port = promxy.port;
            thread::spawn(move || {
                let question = &questions[place];
                let bytes = bytes_of("GET", &question.path, &[], b"");
                judged(
                    question,
                    request_within(port, &bytes, PATIENCE).as_ref(),
                    &names,
                )
            })
        });
        let asked: Vec<_> = asked.collect();
        let (mut tally, mut wrong) = (Tally::default(), Vec::new());
        for query in asked {
            let (one, why) = query.join().unwrap();
            tally += one;
            wrong.extend(why);
        }
        (tally, wrong)
    }
}

#[test]
fn in_a_storm_every_answer_is_whole_or_says_what_is_missing() {
    let times = Times::around_now(1000, 900, 15);
    let questions: Arc<[Question]> = questions(times).into();
    let holdings = ["east", "west"].map(|region| {
        let text = series(&[region], times, RegionLabel::LeftToPromxy);
        Arc::new(Holding::of(&text))
    });
    // Everything is bound before the first server is killed, so nobody takes its port.
    let places: Vec<Place> = FAULTS.iter().map(|_| Place::start(&holdings)).collect();
    let unlucky = Place::start(&holdings);
    let storms = FAULTS.iter().zip(places).map(|(fault, place)| {
        let questions = Arc::clone(&questions);
        thread::spawn(move || {
            let calm = place.phase(&questions, Fault::None, &[]);
            assert_eq!(calm.0.right, QUERIES_A_PHASE, "{:?}", calm.1);
            let (mut replicas, mut groups, mut wrong) =
                (Tally::default(), Tally::default(), Vec::new());
            for victims in VICTIMS {
                let (tally, why) = place.phase(&questions, *fault, victims);
                if victims.len() == 1 {
                    replicas += tally;
                } else {
                    groups += tally;
                }
                wrong.extend(
                    why.into_iter()
                        .map(|why| format!("{fault:?} of {victims:?}: {why}")),
                );
            }
            (replicas, groups, wrong)
        })
    });
    let storms: Vec<_> = storms.collect();
    let chaos = thread::spawn(move || {
        let (mut tally, mut wrong) = (Tally::default(), Vec::new());
        for seed in 0..6 {
            let (one, why) = unlucky.chaos(&questions, seed);
            tally += one;
            wrong.extend(why);
        }
        (tally, wrong)
    });
    println!("                   |       one replica           |       a whole group");
    println!("fault              |  right  error   warn  wrong |  right  error   warn  wrong");
    let mut all_wrong = Vec::new();
    for (fault, storm) in FAULTS.iter().zip(storms) {
        let (replicas, groups, wrong) = storm.join().unwrap();
        println!("{:<18} | {replicas}  | {groups}", format!("{fault:?}"));
        assert!(replicas.right > 0, "{fault:?}: a replica is not enough");
        all_wrong.extend(wrong);
    }
    let (tally, wrong) = chaos.join().unwrap();
    println!("any of any server  | {tally}");
    all_wrong.extend(wrong);
    assert!(
        all_wrong.is_empty(),
        "{} wrong:\n{}",
        all_wrong.len(),
        all_wrong.join("\n")
    );
}
