//! The demo: the tools at work on this machine, with nothing installed but a Rust toolchain and a C compiler.
//!
//! Each tool starts in this process on free loopback ports, in front of backends that are embedded here too. Traffic goes
//! through real sockets, and every backend's mail is compared, line by line, with what the ring says. The exit status is 0
//! only if all of it arrived where it was expected. `--keep-running` leaves everything up until Ctrl-C.
//!
//! In reading order: [`scenario`] says what a tool hands back; [`statsd`], [`veneur`], [`polymur`], [`mpp`] and [`promxy`] are the parts of the proxies
//! of that name (each tool has one such module, and one line in [`exercise`]); [`patience`] waits with a deadline, [`scrape`] reads a
//! metrics page.

#![expect(
    clippy::print_stdout,
    reason = "the tables are what the demo is for, and they go to standard output"
)]
#![expect(
    clippy::print_stderr,
    reason = "the reason for a failure goes to standard error, as in any program"
)]

mod mpp;
mod patience;
mod polymur;
mod promxy;
mod scenario;
mod scrape;
mod statsd;
mod veneur;

use std::process::ExitCode;

use clap::Parser;
use shared::{
    lifecycle::{Request, Signals},
    logging::{self, GoLog, Stream},
};
use tracing::level_filters::LevelFilter;

use crate::scenario::{Outcome, Stand};

/// Starts the tools on free loopback ports with embedded backends, sends traffic through real sockets, and shows what
/// arrived where. Exits with 0 only if everything arrived where the ring says.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Flags {
    /// Leave everything running afterwards, and print the addresses, until Ctrl-C
    #[arg(long)]
    keep_running: bool,
    /// Show the tools' own log on standard error
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.log {
        logging::init(GoLog, Stream::Stderr, LevelFilter::INFO);
    }
    match run(&flags) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("demo: {reason:#}");
            ExitCode::FAILURE
        }
    }
}

/// What became of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// All of it arrived where it was expected.
    Passed,
    /// Some did not.
    Failed,
}

/// The traffic is sent, and waited for, on this thread: the tools run on the runtime's workers and do not notice.
fn run(flags: &Flags) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before anything is up, so that Ctrl-C never finds the tools without a drain.
        let mut signals = Signals::install()?;
        let mut report = Report::new();
        let stands = exercise(&mut report).await?;
        if flags.keep_running {
            print_addresses(&stands);
            while signals.next().await != Request::Stop {}
        }
        for stand in stands {
            report.add(&stand.drain.await?);
        }
        Ok(report.conclude())
    })
}

/// Has every tool go through its scenarios. What comes back is still up.
async fn exercise(report: &mut Report) -> anyhow::Result<Vec<Stand>> {
    let mut stands = Vec::new();
    stands.extend(statsd::exercise(&mut |outcome| report.add(&outcome)).await?);
    stands.extend(veneur::exercise(&mut |outcome| report.add(&outcome)).await?);
    stands.extend(polymur::exercise(&mut |outcome| report.add(&outcome)).await?);
    stands.extend(mpp::exercise(&mut |outcome| report.add(&outcome)).await?);
    stands.extend(promxy::exercise(&mut |outcome| report.add(&outcome)).await?);
    Ok(stands)
}

/// Prints outcomes as they come, and remembers whether all were good.
#[derive(Debug)]
struct Report {
    verdict: Verdict,
}

impl Report {
    fn new() -> Self {
        Self {
            verdict: Verdict::Passed,
        }
    }

    fn add(&mut self, outcome: &Outcome) {
        println!("{outcome}");
        if !outcome.passed() {
            self.verdict = Verdict::Failed;
        }
    }

    fn conclude(self) -> Verdict {
        println!(
            "{}",
            match self.verdict {
                Verdict::Passed => "PASSED: everything arrived where it was expected",
                Verdict::Failed => "FAILED: see the rows marked with !",
            }
        );
        self.verdict
    }
}

fn print_addresses(stands: &[Stand]) {
    println!("Still running:");
    for stand in stands {
        println!("  {}", stand.name);
        for (what, place) in &stand.addresses {
            println!("    {what:<26} {place}");
        }
    }
    println!("Ctrl-C drains and ends it.\n");
}
