//! Prometheus' own test scripts through the planner: every series in one of three groups of two replicas.
//!
//! What is compared is the value of every `eval` with the engine's on a storage that has all series: the engine's own tests compare
//! that with Prometheus. The scripts are read from `$PROMQL_TESTDATA`, by default `shared/golden/promql` beside the workspace. Without
//! them the test says so and passes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it compared"
)]

mod in_memory;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use in_memory::{Group, Likeness, Servers, ask, likeness, points, queries};
use promql::{
    CancelToken, Engine, EngineOptions, Outcome, QueryError,
    parser::ParserOptions,
    testing::{Command, Eval, Evaluation, Load, MemoryStorage, Script, block_on},
};
use promxy::{config::Groups, labels::Labels, query::Queries, servergroup::time_range::Grid};
use tokio::runtime::Runtime;

/// Evaluations whose values differ by decision, in both versions: file and line, reason.
const BY_DECISION: [(&str, &str); 7] = [
    ("aggregators.test:620", ROUNDED),
    ("aggregators.test:628", ROUNDED),
    ("name_label_dropping.test:59", ONE_SERIES),
    ("name_label_dropping.test:64", ONE_SERIES),
    ("name_label_dropping.test:69", ONE_SERIES),
    ("name_label_dropping.test:79", ONE_SERIES),
    ("name_label_dropping.test:84", ONE_SERIES),
];

/// D42: huge numbers that cancel each other are in different groups.
const ROUNDED: &str = "partial sums are numbers, without what rounding has lost of them";

/// Prometheus refuses them where one server holds both.
const ONE_SERIES: &str = "series of two groups that a function makes equal are one series";

const GROUPS: usize = 3;

/// Returns scripts by file name.
fn scripts() -> Vec<(String, Script)> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden/promql");
    let dir = std::env::var_os("PROMQL_TESTDATA").map_or(default, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(dir.join("testdata/prometheus")) else {
        println!("SKIPPED: no test scripts; set PROMQL_TESTDATA");
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let script = |file: PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        (name, Script::parse(&text).unwrap())
    };
    files.into_iter().map(script).collect()
}

/// One storage with everything, and groups that share it.
struct Both {
    engine: Engine,
    alone: MemoryStorage,
    groups: Vec<MemoryStorage>,
    queries: Queries,
    runtime: Runtime,
}

impl Both {
    fn new(parser: ParserOptions) -> Self {
        let groups = vec![MemoryStorage::new(); GROUPS];
        Self {
            engine: Engine::new(EngineOptions::new(parser)),
            alone: MemoryStorage::new(),
            queries: queries(servers(&groups, parser), Groups::Disjoint, parser),
            groups,
            runtime: Runtime::new().unwrap(),
        }
    }

    fn load(&mut self, load: &Load) {
        self.alone.load(load);
        for (number, group) in self.groups.iter_mut().enumerate() {
            let series = load.series.iter();
            let own = series.filter(|series| series.labels.hash64() as usize % GROUPS == number);
            group.load(&Load {
                series: own.cloned().collect(),
            });
        }
        self.refresh();
    }

    fn clear(&mut self) {
        self.alone.clear();
        for group in &mut self.groups {
            group.clear();
        }
        self.refresh();
    }

    fn refresh(&mut self) {
        let parser = self.engine.options().parser;
        let source = in_memory::source(servers(&self.groups, parser), Groups::Disjoint);
        self.queries.swap(source);
    }

    fn alone(&self, eval: &Eval) -> Result<Outcome, QueryError> {
        let query = match eval.evaluation {
            Evaluation::Instant { time } => self.engine.instant_query(&eval.query, time),
            Evaluation::Range { start, end, step } => {
                self.engine.range_query(&eval.query, start, end, step)
            }
        }?;
        Ok(block_on(query.run(&self.alone, &CancelToken::default())))
    }

    /// Compares both; an error is what they do not agree on.
    fn compare(&self, eval: &Eval) -> Result<Agreement, String> {
        let grid = match eval.evaluation {
            Evaluation::Instant { time } => Grid::instant(time),
            Evaluation::Range { start, end, step } => Grid { start, end, step },
        };
        let alone = self.alone(eval).and_then(|outcome| outcome.value);
        let ours = ask(&self.runtime, &self.queries, &eval.query, grid);
        match (alone, ours) {
            (Err(_), Err(_)) => Ok(Agreement::Failure),
            (Ok(expected), Ok(got)) => {
                let (expected, got) = (points(&expected), points(&got.value));
                match likeness(&expected, &got) {
                    Likeness::Equal => Ok(Agreement::Equal),
                    Likeness::Close => Ok(Agreement::Close),
                    Likeness::Different => {
                        Err(format!("\n  expected {expected:?}\n  got      {got:?}"))
                    }
                }
            }
            (Ok(_), Err(failure)) => Err(format!("\n  got failure {failure}")),
            (Err(error), Ok(got)) => Err(format!(
                "\n  expected failure {error}\n  got {:?}",
                got.value
            )),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Agreement {
    Equal,
    Close,
    Failure,
}

fn servers(groups: &[MemoryStorage], parser: ParserOptions) -> Arc<Servers> {
    let groups = groups.iter().map(|storage| Group {
        labels: Labels::empty(),
        replicas: vec![storage.clone(); 2],
    });
    Arc::new(Servers::new(groups.collect(), parser))
}

fn run(version: &str, parser: ParserOptions) {
    let mut counts: BTreeMap<Agreement, usize> = BTreeMap::new();
    let (mut total, mut by_decision, mut wrong) = (0, 0, Vec::new());
    for (file, script) in scripts() {
        let mut both = Both::new(parser);
        for command in &script.commands {
            match command {
                Command::Clear => both.clear(),
                Command::Load(load) => both.load(load),
                Command::Eval(eval) => {
                    total += 1;
                    let place = format!("{version} {file}:{}", eval.line);
                    let in_file = format!("{file}:{}", eval.line);
                    let is_known = BY_DECISION.iter().any(|(known, _)| *known == in_file);
                    match both.compare(eval) {
                        Ok(agreement) => *counts.entry(agreement).or_default() += 1,
                        Err(_) if is_known => by_decision += 1,
                        Err(difference) => {
                            wrong.push(format!("{place} {}{difference}", eval.query));
                        }
                    }
                }
            }
        }
    }
    println!(
        "{version}: {total} evaluations, {counts:?}, {by_decision} differ by decision, {} wrong",
        wrong.len()
    );
    for text in &wrong {
        println!("{}", text.chars().take(1000).collect::<String>());
    }
    assert!(wrong.is_empty());
    assert!(total == 0 || by_decision == BY_DECISION.len());
}

#[test]
fn scripts_give_what_the_engine_alone_gives_in_3_5() {
    run("3.5", ParserOptions::v3_5().with_all_features());
}

#[test]
fn scripts_give_what_the_engine_alone_gives_in_3_14() {
    run("3.14", ParserOptions::v3_14().with_all_features());
}
