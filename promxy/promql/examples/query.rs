//! Loads series from a file in the OpenMetrics format, in which every line has a time, and answers queries at the time of the
//! last sample.
//!
//! ```sh
//! cargo run --example query --features testing -- FILE 'sum by (job) (rate(requests_total[5m]))'
//! ```

use std::error::Error;
use std::io::Write as _;

use promql::parser::ParserOptions;
use promql::testing::{MemoryStorage, block_on, parse_open_metrics};
use promql::value::{SampleValue, Value};
use promql::{CancelToken, Engine, EngineOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: query FILE QUERY...")?;
    let series = parse_open_metrics(&std::fs::read_to_string(file)?)?;
    let times = series
        .iter()
        .filter_map(|series| series.samples.timestamps.last());
    let now = times.max().copied().unwrap_or(0);
    let storage = MemoryStorage::of_series(series);
    let engine = Engine::new(EngineOptions::new(ParserOptions::default()));
    let mut out = std::io::stdout().lock();
    for text in args {
        let query = engine.instant_query(&text, now)?;
        let outcome = block_on(query.run(&storage, &CancelToken::default()));
        for remark in outcome.annotations.warnings(&text) {
            writeln!(out, "{remark}")?;
        }
        match outcome.value? {
            Value::Scalar { value, .. } => writeln!(out, "{value}")?,
            Value::String { value, .. } => writeln!(out, "{value}")?,
            Value::Vector(vector) => {
                for sample in vector {
                    match sample.value {
                        SampleValue::Float(value) => writeln!(out, "{} {value}", sample.labels)?,
                        SampleValue::Histogram(value) => {
                            writeln!(out, "{} {value}", sample.labels)?;
                        }
                    }
                }
            }
            Value::Matrix(matrix) => {
                for series in matrix {
                    for (time, value) in series.floats() {
                        writeln!(out, "{} {value} @{time}", series.labels)?;
                    }
                }
            }
        }
    }
    Ok(())
}
