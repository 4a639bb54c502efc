//! The program: flags, files, a ping, then lines until a signal says stop.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use mimalloc::MiMalloc;
use polymur_proxy::{
    app::{App, Summary},
    config::Config,
    flags::{Flags, Refusal, usage_page},
};
use shared::{
    lifecycle::{Request, Signals},
    logging::{self, GoLog, Stream},
};
use tracing::{error, info, level_filters::LevelFilter, warn};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A bad command line.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let parsed = match Flags::parse(words, |name| env::var(name).ok()) {
        Ok(parsed) => parsed,
        Err(Refusal::Help) => return explain(0, &usage_page(&program)),
        Err(Refusal::Usage(reason)) => {
            return explain(USAGE, &format!("{reason}\n{}", usage_page(&program)));
        }
    };
    let config = match Config::new(&parsed.flags) {
        Ok(config) => config,
        Err(reason) => return explain(USAGE, &format!("{reason}\n{}", usage_page(&program))),
    };
    logging::init(GoLog, Stream::Stderr, LevelFilter::INFO);
    info!("::: Polymur-proxy :::");
    for sentence in parsed.ignored {
        warn!("{sentence}");
    }
    run(config).unwrap_or_else(|reason| {
        error!("{reason:#}");
        ExitCode::FAILURE
    })
}

fn run(config: Config) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let app = App::build(config)?;
        // Until there is something to drain, a signal ends the process by itself, as in the original.
        app.ping().await?;
        let mut signals = Signals::install()?;
        let running = app.start().await?;
        let status = loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Reload => running.reload(),
                    Request::Stop => break ExitCode::SUCCESS,
                },
                () = running.broken() => break ExitCode::FAILURE,
            }
        };
        info!("Shutting down");
        let Summary {
            taken,
            sent,
            dropped,
            spooled,
        } = running.drain().await;
        info!(
            lines_taken = taken,
            lines_sent = sent,
            lines_dropped = dropped,
            lines_spooled = spooled,
            "drained"
        );
        Ok(status)
    })
}

/// Prints to standard error, as Go's package `flag` does. A terminal that is gone takes no help.
fn explain(status: u8, text: &str) -> ExitCode {
    let _printed = io::stderr().write_all(text.as_bytes()).is_ok();
    ExitCode::from(status)
}
