//! Test scripts as Prometheus has them, and a storage to run them on.
//!
//! * [`MemoryStorage`]: series in memory, with what Prometheus' storage does to histograms
//! * [`Script`]: a script in the language of `promqltest`: `load`, `eval`, `expect` and so on
//! * [`Subject`], [`run`]: what a script is run through; [`EngineSubject`] is this crate's engine
//! * [`parse_open_metrics`]: series from text
//! * [`block_on`]: waits for futures that need no runtime
//!
//! ```
//! use promql::parser::ParserOptions;
//! use promql::testing::{EngineSubject, Script, run};
//! use promql::{Engine, EngineOptions};
//!
//! let script = Script::parse(
//!     "load 1m\n  requests_total{job=\"api\"} 0+60x10\n\neval instant at 10m sum(rate(requests_total[5m]))\n  {} 1\n",
//! )?;
//! let engine = Engine::new(EngineOptions::new(ParserOptions::default()));
//! for case in run(&script, &mut EngineSubject::new(engine)) {
//!     case.result?;
//! }
//! # Ok::<(), String>(())
//! ```

mod at_modifier;
mod block_on;
mod compare;
mod expand;
mod load;
mod memory;
mod nhcb;
mod open_metrics;
mod runner;
mod script;

pub use block_on::block_on;
pub use compare::almost_equal;
pub use load::{Load, LoadedSeries, WrittenSample};
pub use memory::MemoryStorage;
pub use open_metrics::parse_open_metrics;
pub use runner::{Case, EngineSubject, Subject, run};
pub use script::{Command, Eval, Evaluation, Expectations, Script};
