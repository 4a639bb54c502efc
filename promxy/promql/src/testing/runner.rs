//! Running scripts.

use super::at_modifier::pinned;
use super::block_on;
use super::load::Load;
use super::memory::MemoryStorage;
use super::script::{Command, Eval, Evaluation, Script};
use crate::parser::ParserOptions;
use crate::value::{MatrixSeries, SampleValue, Value, VectorSample};
use crate::{CancelToken, Engine, Outcome};

/// What scripts are run through: storage and engine, or a host around both.
pub trait Subject {
    /// Removes all series.
    fn clear(&mut self);

    /// Adds series.
    fn load(&mut self, load: &Load);

    /// Evaluates a query.
    fn evaluate(&mut self, query: &str, evaluation: Evaluation) -> Outcome;

    /// Returns which language queries are in.
    fn parser_options(&self) -> ParserOptions;
}

/// This crate's engine on a storage in memory.
#[derive(Clone, Debug)]
pub struct EngineSubject {
    /// The engine.
    pub engine: Engine,
    /// The storage.
    pub storage: MemoryStorage,
}

impl EngineSubject {
    /// Returns an engine with an empty storage.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            storage: MemoryStorage::new(),
        }
    }
}

impl Subject for EngineSubject {
    fn clear(&mut self) {
        self.storage.clear();
    }

    fn load(&mut self, load: &Load) {
        self.storage.load(load);
    }

    fn evaluate(&mut self, query: &str, evaluation: Evaluation) -> Outcome {
        let query = match evaluation {
            Evaluation::Instant { time } => self.engine.instant_query(query, time),
            Evaluation::Range { start, end, step } => {
                self.engine.range_query(query, start, end, step)
            }
        };
        match query {
            Ok(query) => block_on(query.run(&self.storage, &CancelToken::default())),
            Err(error) => Outcome::failed(error),
        }
    }

    fn parser_options(&self) -> ParserOptions {
        self.engine.options().parser
    }
}

/// What has become of an `eval` command.
#[derive(Clone, Debug)]
pub struct Case {
    /// The line of the command, from one.
    pub line: usize,
    /// The query.
    pub query: String,
    /// Nothing if everything was as expected, else what was not.
    pub result: Result<(), String>,
}

/// Runs a script and returns what has become of each `eval`.
pub fn run(script: &Script, subject: &mut dyn Subject) -> Vec<Case> {
    let mut cases = Vec::new();
    for command in &script.commands {
        match command {
            Command::Clear => subject.clear(),
            Command::Load(load) => subject.load(load),
            Command::Eval(eval) => cases.push(Case {
                line: eval.line,
                query: eval.query.clone(),
                result: eval.check(subject),
            }),
        }
    }
    cases
}

impl Eval {
    /// Evaluates and compares; instant queries also with every selector pinned, and as the middle step of a range.
    fn check(&self, subject: &mut dyn Subject) -> Result<(), String> {
        let Evaluation::Instant { time } = self.evaluation else {
            let outcome = subject.evaluate(&self.query, self.evaluation);
            return self
                .check_outcome(&self.query, &outcome, self.evaluation)
                .map(|_| ());
        };
        self.check_instant(subject, &self.query, time)?;
        let options = subject.parser_options();
        if let Some((query, times)) = pinned(&self.query, time, options) {
            for time in times {
                self.check_instant(subject, &query, time)?;
            }
        }
        Ok(())
    }

    fn check_instant(
        &self,
        subject: &mut dyn Subject,
        query: &str,
        time: i64,
    ) -> Result<(), String> {
        let evaluation = Evaluation::Instant { time };
        let outcome = subject.evaluate(query, evaluation);
        let Some(value) = self.check_outcome(query, &outcome, evaluation)? else {
            return Ok(());
        };
        let expected = &self.expectations;
        let depends_on_query = ["start()", "end()", "range()", "step()"]
            .iter()
            .any(|call| query.contains(call));
        if expected.range_vector.is_some() || expected.string.is_some() || depends_on_query {
            return Ok(());
        }
        let (start, end, step) = (time - 60_000, time + 60_000, 60_000);
        let range = subject.evaluate(query, Evaluation::Range { start, end, step });
        let context = |error: String| format!("{query} at {time} in range mode: {error}");
        let matrix = match range.value {
            Ok(Value::Matrix(matrix)) => matrix,
            Ok(_) => return Err(context("no matrix".to_owned())),
            Err(error) => return Err(context(error.to_string())),
        };
        if expected.ordered {
            return Ok(());
        }
        let vector: Vec<VectorSample> = matrix
            .iter()
            .filter_map(|series| sample_at(series, time))
            .collect();
        let checked = match value {
            Value::Scalar { .. } => match vector.first().map(|sample| &sample.value) {
                Some(SampleValue::Float(value)) => {
                    let value = Value::Scalar {
                        timestamp: time,
                        value: *value,
                    };
                    expected.check_value(&value, evaluation)
                }
                _ => Err("no scalar".to_owned()),
            },
            _ => expected.check_vector(&vector),
        };
        checked.map_err(context)
    }

    /// Compares an outcome; returns the value if there had to be one.
    fn check_outcome<'o>(
        &self,
        query: &str,
        outcome: &'o Outcome,
        evaluation: Evaluation,
    ) -> Result<Option<&'o Value>, String> {
        let context = |error: String| format!("{query}: {error}");
        match (&outcome.value, &self.expectations.fail) {
            (Err(error), Some(expected)) if expected.matches(&error.to_string()) => Ok(None),
            (Err(error), Some(expected)) => {
                Err(context(format!("expected error {expected:?}, got {error}")))
            }
            (Err(error), None) => Err(context(error.to_string())),
            (Ok(_), Some(_)) => Err(context("expected an error, got none".to_owned())),
            (Ok(value), None) => {
                let expectations = &self.expectations;
                expectations
                    .check_annotations(&outcome.annotations, query)
                    .and_then(|()| expectations.check_value(value, evaluation))
                    .map_err(context)?;
                Ok(Some(value))
            }
        }
    }
}

fn sample_at(series: &MatrixSeries, time: i64) -> Option<VectorSample> {
    let float = series.floats().find(|(at, _)| *at == time);
    let value = if let Some((_, value)) = float {
        SampleValue::Float(value)
    } else {
        let mut histograms = series.histograms();
        let (_, value) = histograms.find(|(at, _)| *at == time)?;
        SampleValue::Histogram(value)
    };
    Some(VectorSample {
        labels: series.labels.clone(),
        timestamp: time,
        value,
    })
}
