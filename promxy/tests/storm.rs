//! A storm: promxy before two groups of two replicas, twenty queries a second, and one replica or one group after the other is
//! killed, hung, slowed, cut, reset, answers 500, 403 with a page, 204.
//!
//! Every answer is that of one Prometheus with all the data, or an error that names a target that is missing. Beside it run a promxy
//! that downgrades errors, whose answers are whole or have a warning that names who is missing, and one that reads remotely.
//!
//! On a busy machine a server without a fault may be late, and a promxy that gave it up would be right to name it. So limits of
//! time are out of reach, except where they are what tells that a server is silent; and few storms rage side by side.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod dataset;
mod holding;
#[path = "storm/judge.rs"]
mod judge;
mod storm_server;
mod support;

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use dataset::{RegionLabel, Times, series};
use holding::Holding;
use judge::{Question, Tally, judged, questions};
use storm_server::{Fault, Server};
use support::{Promxy, bytes_of, client::request_within};

/// The time between two queries.
const PACE: Duration = Duration::from_millis(50);
/// How many queries a fault lasts.
const QUERIES_A_PHASE: usize = 26;
/// promxy has its own limits, which are shorter.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long promxy waits: for a target to begin its answer, and for all of a query. In seconds.
#[derive(Clone, Copy)]
struct Limits {
    target: u32,
    query: u32,
}

/// Nothing takes as long.
const OUT_OF_REACH: Limits = Limits {
    target: 60,
    query: 90,
};

/// What tells that a server is silent: some hundred times what others take.
const OF_SILENCE: Limits = Limits {
    target: 8,
    query: 10,
};

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
const VICTIMS: [&[usize]; 6] = [&[0], &[1], &[0, 1], &[2], &[3], &[2, 3]];

/// Faults, one after the other, and whom they befall.
struct Storm {
    faults: &'static [Fault],
    victims: &'static [&'static [usize]],
    limits: Limits,
}

const fn storm(
    faults: &'static [Fault],
    victims: &'static [&'static [usize]],
    limits: Limits,
) -> Storm {
    Storm {
        faults,
        victims,
        limits,
    }
}

/// What rages side by side. Queries that wait for a silent server cost time and nothing else.
const STORMS: [Storm; 6] = [
    storm(&[Fault::Hung], VICTIMS.split_at(3).0, OF_SILENCE),
    storm(&[Fault::Hung], VICTIMS.split_at(3).1, OF_SILENCE),
    storm(
        &[Fault::HungWithinAnswer],
        VICTIMS.split_at(3).0,
        OF_SILENCE,
    ),
    storm(
        &[Fault::HungWithinAnswer],
        VICTIMS.split_at(3).1,
        OF_SILENCE,
    ),
    storm(
        &[Fault::Killed, Fault::Slowed, Fault::Truncated, Fault::Reset],
        &VICTIMS,
        OUT_OF_REACH,
    ),
    storm(
        &[Fault::Status500, Fault::Html403, Fault::NoContent204],
        &VICTIMS,
        OUT_OF_REACH,
    ),
];

/// What came of a fault of some servers.
struct Phase {
    fault: Fault,
    victims: &'static [usize],
    tally: Tally,
    wrong: Vec<String>,
}

/// Four servers, and promxy before them: as it is, downgrading errors, reading remotely.
struct Place {
    servers: Vec<Server>,
    failing: Promxy,
    warning: Promxy,
    reading: Promxy,
}

impl Place {
    fn start(holdings: &[Arc<Holding>; 2], limits: Limits) -> Self {
        let servers: Vec<Server> = [0, 0, 1, 1]
            .iter()
            .map(|group| Server::start(&holdings[*group]))
            .collect();
        let Limits { target, query } = limits;
        let config = |more: &str| {
            let mut config = String::from("promxy:\n  server_groups:\n");
            for (pair, region) in servers.chunks(2).zip(["east", "west"]) {
                let (one, two) = (pair[0].port, pair[1].port);
                writeln!(
                    config,
                    "  - {{static_configs: [{{targets: ['127.0.0.1:{one}', '127.0.0.1:{two}']}}], labels: {{dc: {region}}}, timeout: {target}s{more}}}"
                )
                .unwrap();
            }
            config
        };
        let timeout = format!("--query.timeout={query}s");
        let args = [timeout.as_str(), "--access-log-destination=none"];
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
            self.servers[*victim].recover();
        }
        judged
    }

    /// Asks while all is well, and then through faults, one after the other and of one victim after the other.
    fn through(&self, storm: &Storm, questions: &Arc<[Question]>) -> Vec<Phase> {
        let calm = self.phase(questions, Fault::None, &[]);
        assert_eq!(calm.0.right, QUERIES_A_PHASE, "{:?}", calm.1);
        let faults = storm.faults.iter();
        let phases =
            faults.flat_map(|fault| storm.victims.iter().map(|victims| (*fault, *victims)));
        let phases = phases.map(|(fault, victims)| {
            let (tally, wrong) = self.phase(questions, fault, victims);
            Phase {
                fault,
                victims,
                tally,
                wrong,
            }
        });
        phases.collect()
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
    let places: Vec<Place> = STORMS
        .iter()
        .map(|storm| Place::start(&holdings, storm.limits))
        .collect();
    let unlucky = Place::start(&holdings, OUT_OF_REACH);
    let (phases, chaos) = thread::scope(|scope| {
        let storms = STORMS.iter().zip(places).map(|(storm, place)| {
            let questions = &questions;
            scope.spawn(move || place.through(storm, questions))
        });
        let storms: Vec<_> = storms.collect();
        let chaos: Vec<_> = (0..6).map(|seed| unlucky.chaos(&questions, seed)).collect();
        let phases = storms.into_iter().flat_map(|storm| storm.join().unwrap());
        (phases.collect::<Vec<Phase>>(), chaos)
    });
    assert_eq!(phases.len(), FAULTS.len() * VICTIMS.len());
    let mut wrong = Vec::new();
    println!("                   |       one replica           |       a whole group");
    println!("fault              |  right  error   warn  wrong |  right  error   warn  wrong");
    for fault in FAULTS {
        let tally = |servers: usize| -> Tally {
            let phases = phases.iter();
            let phases = phases.filter(|one| one.fault == fault && one.victims.len() == servers);
            phases.map(|phase| phase.tally).sum()
        };
        let (replicas, groups) = (tally(1), tally(2));
        println!("{:<18} | {replicas}  | {groups}", format!("{fault:?}"));
        if replicas.right < 4 * QUERIES_A_PHASE {
            wrong.push(format!("{fault:?}: a replica is not enough"));
        }
    }
    let tally: Tally = chaos.iter().map(|(tally, _)| *tally).sum();
    println!("any of any server  | {tally}");
    wrong.extend(chaos.into_iter().flat_map(|(_, wrong)| wrong));
    for phase in phases {
        let (fault, victims) = (phase.fault, phase.victims);
        let named = phase.wrong.into_iter();
        wrong.extend(named.map(|why| format!("{fault:?} of {victims:?}: {why}")));
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
