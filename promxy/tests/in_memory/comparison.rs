//! Queries over groups against the engine on the series of all groups.

use promql::{
    CancelToken, Engine, EngineOptions, Query, QueryError,
    parser::ParserOptions,
    testing::{Command, Load, MemoryStorage, Script, block_on},
};
use promxy::{query::Queries, servergroup::time_range::Grid};
use tokio::runtime::Runtime;

use super::{Likeness, ask, likeness, points};

/// How many differences are shown, and how much of each.
const SHOWN: usize = 20;
const LONGEST: usize = 1500;

/// Reads the series of a script that does nothing else.
pub(crate) fn load(script: &str) -> Load {
    match Script::parse(script).unwrap().commands.remove(0) {
        Command::Load(load) => load,
        _ => panic!("a load"),
    }
}

/// Prepares a query at the times of a grid.
pub(crate) fn prepared(engine: &Engine, text: &str, grid: Grid) -> Result<Query, QueryError> {
    if grid.is_instant() {
        engine.instant_query(text, grid.start)
    } else {
        engine.range_query(text, grid.start, grid.end, grid.step)
    }
}

/// What came of all comparisons so far.
pub(crate) struct Comparison {
    engine: Engine,
    runtime: Runtime,
    equal: usize,
    close: usize,
    failed: usize,
    /// What is no query.
    pub(crate) refused: usize,
    wrong: Vec<String>,
}

impl Comparison {
    pub(crate) fn new(parser: ParserOptions) -> Self {
        Self {
            engine: Engine::new(EngineOptions::new(parser)),
            runtime: Runtime::new().unwrap(),
            equal: 0,
            close: 0,
            failed: 0,
            refused: 0,
            wrong: Vec::new(),
        }
    }

    /// Compares what groups answer with what the engine makes of `alone`. `name` says which groups or which case it is.
    pub(crate) fn compare(
        &mut self,
        name: &str,
        (text, grid): (&str, Grid),
        queries: &Queries,
        alone: &MemoryStorage,
    ) {
        let Ok(query) = prepared(&self.engine, text, grid) else {
            self.refused += 1;
            return;
        };
        let expected = block_on(query.run(alone, &CancelToken::default())).value;
        let got = ask(&self.runtime, queries, text, grid).map(|outcome| outcome.value);
        let (expected, got) = match (expected, got) {
            (Ok(expected), Ok(got)) => {
                let (expected, got) = (points(&expected), points(&got));
                match likeness(&expected, &got) {
                    Likeness::Equal => {
                        self.equal += 1;
                        return;
                    }
                    Likeness::Close => {
                        self.close += 1;
                        return;
                    }
                    Likeness::Different => (format!("{expected:?}"), format!("{got:?}")),
                }
            }
            (Err(_), Err(_)) => {
                self.failed += 1;
                return;
            }
            (expected, got) => (format!("{:?}", expected.err()), format!("{:?}", got.err())),
        };
        self.wrong.push(format!(
            "{name} {text} {grid:?}\n  expected {expected}\n  got      {got}"
        ));
    }

    /// Prints the counts, and panics if anything differs.
    #[track_caller]
    pub(crate) fn conclude(self) {
        println!(
            "{} equal, {} but for the last digits, {} fail alike, {} are no queries, {} wrong",
            self.equal,
            self.close,
            self.failed,
            self.refused,
            self.wrong.len()
        );
        for text in self.wrong.iter().take(SHOWN) {
            println!("{}", text.chars().take(LONGEST).collect::<String>());
        }
        assert!(self.wrong.is_empty());
    }
}
