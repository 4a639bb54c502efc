//! The program: flags, configuration, sockets, then requests until a signal says stop.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Instant,
};

use mpp::{
    app::App,
    config::{Config, ConfigError},
    flags::{self, Answer, Flags},
    log_style::{self, FATAL},
};
use shared::lifecycle::{Request, Signals};
use tracing::{error, level_filters::LevelFilter};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let started = Instant::now();
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let flags = match Flags::parse(&words, variable) {
        Ok(flags) => flags,
        Err(answer) => return print(&answer),
    };
    log_style::init(if flags.is_set("verbose") {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    });
    let config = match Config::from_flags(&flags) {
        Ok(config) => config,
        Err(reason) => return refuse(&reason),
    };
    run(config, started).unwrap_or_else(|failure| {
        error!(target: FATAL, "{failure}");
        ExitCode::FAILURE
    })
}

fn run(config: Config, started: Instant) -> anyhow::Result<ExitCode> {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::install()?;
        let running = App::build(config, started, variable).await?.start()?;
        let status = loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Reload => running.reload(),
                    Request::Stop => break ExitCode::SUCCESS,
                },
                () = running.broken() => break ExitCode::FAILURE,
            }
        };
        running.drain().await;
        Ok(status)
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn print(answer: &Answer) -> ExitCode {
    // A terminal that is gone takes no help.
    let _printed = io::stdout().write_all(answer.stdout.as_bytes()).is_ok();
    let _printed = io::stderr().write_all(answer.stderr.as_bytes()).is_ok();
    ExitCode::from(answer.status)
}

/// Says what is wrong with a flag's value: with the help at level error, or at level fatal, as the original has it.
fn refuse(reason: &ConfigError) -> ExitCode {
    if reason.is_usage() {
        error!("{reason}\n");
        let _printed = io::stdout().write_all(flags::help().as_bytes()).is_ok();
    } else {
        error!(target: FATAL, "{reason}");
    }
    ExitCode::FAILURE
}

/// As Go programs do: a proxy needs a descriptor per connection, and the soft limit is for those who use `select`.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    }
}
