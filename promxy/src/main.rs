//! The program: flags, configuration, sockets, then requests until somebody says stop.

use std::{
    io::{self, Write as _},
    num::NonZero,
    process::ExitCode,
    thread::available_parallelism,
};

use jiff::Timestamp;
use promxy::{
    app::{App, Start},
    build_info, config,
    discovery::Environment,
    flags::{Answer, Flags, LogLevel},
};
use shared::{
    lifecycle::{Request, Signals},
    logging::logrus::{self, Detail, FATAL, Layout},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, warn};

/// The allocator of musl is slow. That of glibc takes less time than this one for many small blocks that live as long as a query, and
/// half of the memory for large answers, which it gives back at once (`benches/cost.py`).
#[cfg(not(target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The fewest threads that answer requests, so that one that is busy holds up no other. Evaluation has its own.
const LEAST_WORKERS: usize = 2;

fn main() -> ExitCode {
    let started = Timestamp::now();
    let flags = match Flags::parse(std::env::args_os(), variable) {
        Ok(flags) => flags,
        Err(answer) => return print(&answer),
    };
    if flags.check_config {
        return check(&flags);
    }
    let hostname = hostname();
    let settings = match start_log(&flags).and_then(|()| flags.settle(&hostname)) {
        Ok(settings) => settings,
        Err(reason) => return fail(&reason),
    };
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    let loaded = match config::load(&flags.config) {
        Ok(loaded) => loaded,
        Err(reason) => {
            return fail(&format!(
                "Error loading config: error loading cfg: {reason}"
            ));
        }
    };
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    raise_descriptor_limit();
    let start = Start {
        flags,
        settings,
        config: loaded.config,
        hostname,
        started,
        environment: Environment::read(variable),
    };
    run(start).unwrap_or_else(|reason| fail(&reason.to_string()))
}

fn run(start: Start) -> anyhow::Result<ExitCode> {
    let cores = available_parallelism().map_or(LEAST_WORKERS, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(LEAST_WORKERS))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::install()?;
        // A Go program writes its stacks and ends with 2.
        let mut abort = signal(SignalKind::quit())?;
        let running = App::build(start).await?.start();
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Reload => running.reload().await,
                    Request::Stop => break,
                },
                _ = abort.recv() => return Ok(ExitCode::from(2)),
                () = running.quit() => break,
            }
        }
        running.drain().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn print(answer: &Answer) -> ExitCode {
    // A terminal that is gone takes no help.
    let (_printed, code) = match answer {
        Answer::Help(text) => (
            io::stdout().write_all(text.as_bytes()).is_ok(),
            ExitCode::FAILURE,
        ),
        Answer::Version => {
            let text = build_info::text();
            (
                io::stdout().write_all(text.as_bytes()).is_ok(),
                ExitCode::SUCCESS,
            )
        }
        Answer::Wrong(text) => {
            let line = format!("{text}\n");
            (
                io::stderr().write_all(line.as_bytes()).is_ok(),
                ExitCode::FAILURE,
            )
        }
    };
    code
}

/// Judges the file alone. Log flags have no say in how that looks.
fn check(flags: &Flags) -> ExitCode {
    logrus::init_as(Layout::TextWithTime);
    let verdict = config::check(&flags.config);
    let _printed = io::stdout().write_all(verdict.stdout.as_bytes()).is_ok();
    for warning in &verdict.warnings {
        warn!("{warning}");
    }
    if let Some(fatal) = &verdict.fatal {
        error!(target: FATAL, "{fatal}");
    }
    ExitCode::from(verdict.status)
}

fn start_log(flags: &Flags) -> Result<(), String> {
    let is_json = flags.log_format == "json";
    logrus::init_as(if is_json {
        Layout::Json
    } else {
        Layout::TextWithTime
    });
    logrus::set_detail(match flags.log_level()? {
        LogLevel::Fatal => Detail::Fatal,
        LogLevel::Error => Detail::Error,
        LogLevel::Warn => Detail::Warning,
        LogLevel::Info => Detail::Normal,
        LogLevel::Debug => Detail::Debug,
        LogLevel::Trace => Detail::Trace,
    });
    Ok(())
}

fn fail(reason: &str) -> ExitCode {
    error!(target: FATAL, "{reason}");
    ExitCode::FAILURE
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
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
