//! The program: flags, configuration, destinations, sockets, then metrics until a signal says stop.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use shared::{
    lifecycle::{Drained, Request, Signals},
    logging::logrus::{self, Detail, FATAL},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use veneur_proxy::{
    app::{App, BuildError},
    config::{self, Config, ConfigError, Generation, Loaded},
    destinations::StartError,
    flags::{Action, Flags},
    memory,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads for what would hold up others: looking names up, compressing, reading huge bodies. Each keeps memory of its own.
const BLOCKING_THREADS: usize = 8;

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args_os()) {
        Ok(flags) => flags,
        Err(answer) => {
            // A terminal that is gone takes no help.
            let _printed = answer.print().is_ok();
            return ExitCode::from(answer.exit_code() as u8);
        }
    };
    let done = match flags.action {
        Action::Run => run(&flags),
        Action::CheckConfig => check_config(&flags),
    };
    done.unwrap_or_else(|failure| {
        error!(target: FATAL, "{failure:#}");
        ExitCode::FAILURE
    })
}

fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    logrus::init();
    let Some(path) = &flags.file else {
        if flags.generation == Some(Generation::Stream) {
            error!(target: FATAL, "missing required config file");
        } else {
            error!(target: FATAL, "You must specify a config file");
        }
        return Ok(ExitCode::FAILURE);
    };
    let Some(config) = read_config(flags, path) else {
        return Ok(ExitCode::FAILURE);
    };
    memory::give_back_soon();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::install().context("cannot take over signals")?;
    // One more that ends the originals.
    let mut user = signal(SignalKind::user_defined2()).context("cannot take over signals")?;
    let generation = config.generation;
    let app = tokio::select! {
        built = App::build(config, &variable) => match built {
            Ok(app) => app,
            Err(reason) => return Ok(refuse(&reason)),
        },
        // Nothing was accepted yet.
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let running = app.start();
    loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Reload if running.can_reload() => running.reload(),
                Request::Reload | Request::Stop => break,
            },
            _ = user.recv() => break,
        }
    }
    info!("shutting down");
    let summary = running.drain().await;
    Ok(match summary.drained {
        Drained::DeadlineReached if generation == Generation::Stream => {
            error!(target: FATAL, "exited with error");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Says why there is nothing to run, in the originals' words.
fn refuse(reason: &BuildError) -> ExitCode {
    match reason {
        BuildError::Start(StartError::ZeroDestinations { service, .. }) => {
            error!(target: FATAL, serviceName = service, "{reason}");
        }
        BuildError::Http { .. } => {
            // The original's listener writes to standard error itself. If nobody reads it, nobody misses it.
            let _written = writeln!(io::stderr(), "{reason}").is_ok();
        }
        BuildError::Grpc { .. } => {
            error!(error = %reason, "gRPC server was not shut down cleanly");
        }
        BuildError::Start(_) | BuildError::Tls(_) => {
            error!(target: FATAL, error = %reason, "Could not initialize proxy");
        }
    }
    ExitCode::FAILURE
}

/// Reads the file; what is wrong with it goes to the log.
fn read_config(flags: &Flags, path: &Path) -> Option<Config> {
    match load(flags, path) {
        Ok(Loaded {
            config,
            unknown_keys,
            warnings,
        }) => {
            logrus::set_detail(if config.debug {
                Detail::Debug
            } else {
                Detail::Normal
            });
            info!(
                generation = config.generation.name(),
                reason = config.reason,
                "decided which proxy this configuration is for"
            );
            if !unknown_keys.is_empty() {
                warn!(
                    error = unknown_keys.join(", "),
                    "Config contains invalid or deprecated keys"
                );
            }
            for warning in warnings {
                warn!("{warning}");
            }
            Some(config)
        }
        Err((generation, reason)) => {
            explain(generation, &reason);
            None
        }
    }
}

/// Why there is no configuration, and whose file it seems to be.
type LoadFailure = (Option<Generation>, anyhow::Error);

fn load(flags: &Flags, path: &Path) -> Result<Loaded, LoadFailure> {
    let failed = |reason| (flags.generation, reason);
    let text = std::fs::read(path)
        .with_context(|| format!("open {}", path.display()))
        .map_err(failed)?;
    let text = String::from_utf8(text)
        .context("the file is not UTF-8")
        .map_err(failed)?;
    config::load(&text, &variable, flags.generation, flags.unknown_keys).map_err(|reason| {
        let guess = flags
            .generation
            .or_else(|| config::generation_of(&text, &variable));
        (guess, reason.into())
    })
}

fn explain(generation: Option<Generation>, reason: &anyhow::Error) {
    let error = format!("{reason:#}");
    if generation == Some(Generation::Stream) {
        error!(target: FATAL, error, "failed to load config file");
        return;
    }
    match reason.downcast_ref::<ConfigError>() {
        Some(ConfigError::NothingToForward) => {
            error!(error, "Oops");
            error!(target: FATAL, error, "Could not initialize proxy");
        }
        Some(ConfigError::Value {
            key: "ssf_destination_address",
            ..
        }) => error!(target: FATAL, error, "Error using SSF destination address"),
        Some(ConfigError::Value { .. } | ConfigError::Ambiguous { .. }) => {
            error!(target: FATAL, error, "Could not initialize proxy");
        }
        _ => error!(target: FATAL, error, "Error reading config file"),
    }
}

fn check_config(flags: &Flags) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let Some(path) = &flags.file else {
        writeln!(out, "-f is missing")?;
        return Ok(ExitCode::FAILURE);
    };
    let file = path.display();
    match load(flags, path) {
        Ok(loaded) => {
            for key in &loaded.unknown_keys {
                writeln!(out, "{file}: warning: unknown key {key}")?;
            }
            for warning in &loaded.warnings {
                writeln!(out, "{file}: warning: {warning}")?;
            }
            let Config {
                generation, reason, ..
            } = &loaded.config;
            writeln!(out, "{file}: ok, {}: {reason}", generation.name())?;
            Ok(ExitCode::SUCCESS)
        }
        Err((_, reason)) => {
            writeln!(out, "{file}: error: {reason:#}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}
