//! The program: flags, configuration, sockets, then lines until a signal says stop.

use std::{
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
};

use shared::{
    lifecycle::{Request, Signals},
    logging::{self, GoLog, Stream},
};
use statsd_proxy::{
    app::App,
    config::{self, Config, ConfigError, Dialect, FileVersion, Origin},
    flags::{Action, Flags},
    log_style::{PLAIN, ProxyJs},
    memory,
    placement::Placement,
    resolve::Resolver,
};
use tracing::{error, info, level_filters::LevelFilter, warn};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Threads for what is not the data path: checks, consoles, streams.
const RUNTIME_THREADS: usize = 2;

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args_os()) {
        Ok(flags) => flags,
        Err(answer) => {
            // A terminal that is gone takes no help.
            let _printed = answer.print().is_ok();
            return ExitCode::from(answer.exit_code() as u8);
        }
    };
    let done = match &flags.action {
        Action::Run => run(&flags),
        Action::CheckConfig => check_config(&flags),
        Action::Where(names) => print_nodes(&flags, names),
    };
    done.unwrap_or_else(|failure| {
        error!("{failure:#}");
        ExitCode::FAILURE
    })
}

fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    start_log(flags);
    // Looked at before it is read, so that no change in between is missed.
    let version = FileVersion::of(&flags.source.path).ok();
    let Some(config) = read_config(flags) else {
        return Ok(ExitCode::FAILURE);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::install()?;
        let origin = Origin {
            source: flags.source.clone(),
            version,
        };
        let app = App::build(config, Resolver::system()).await?;
        let running = app.start(Some(origin)).await?;
        let status = loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Reload => running.reload().await,
                    Request::Stop => break ExitCode::SUCCESS,
                },
                () = running.broken() => break ExitCode::FAILURE,
            }
        };
        running.drain().await;
        Ok(status)
    })
}

fn start_log(flags: &Flags) {
    let level = if flags.debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    match flags.source.dialect {
        Dialect::GoStatsdProxy => logging::init(GoLog, Stream::Stderr, level),
        Dialect::Statsd => logging::init(ProxyJs, Stream::Stdout, level),
    }
}

/// Reads the file; what is wrong with it goes to the log.
fn read_config(flags: &Flags) -> Option<Config> {
    if flags.source.dialect == Dialect::Statsd {
        info!(target: PLAIN, "reading config file: {}", flags.source.path.display());
    }
    match config::load(&flags.source) {
        Ok(loaded) => {
            for warning in loaded.warnings {
                warn!("{warning}");
            }
            Some(loaded.config)
        }
        Err(ConfigError { reasons, warnings }) => {
            for warning in warnings {
                warn!("{warning}");
            }
            for reason in reasons {
                error!("Error parsing config file: {reason} (exiting...)");
            }
            None
        }
    }
}

fn check_config(flags: &Flags) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let file = flags.source.path.display();
    match config::load(&flags.source) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(out, "{file}: warning: {warning}")?;
            }
            writeln!(out, "{file}: ok, {} warning(s)", loaded.warnings.len())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(ConfigError { reasons, warnings }) => {
            for warning in &warnings {
                writeln!(out, "{file}: warning: {warning}")?;
            }
            for reason in &reasons {
                writeln!(out, "{file}: error: {reason}")?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

fn print_nodes(flags: &Flags, names: &[String]) -> anyhow::Result<ExitCode> {
    start_log(flags);
    let Ok(loaded) = config::load(&flags.source) else {
        return check_config(flags);
    };
    let placement = Placement::new(&loaded.config);
    let mut out = io::stdout().lock();
    if names.is_empty() {
        placement.print(io::stdin().lock().lines(), &mut out)?;
    } else {
        placement.print(names.iter().cloned().map(Ok), &mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}
