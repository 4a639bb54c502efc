//! Reading the configuration again: on SIGHUP, or, where the dialect has it, when the file changes.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    config::{self, Config, Listeners, Source},
    management::Facts,
    membership::Event,
    telemetry::Reloads,
};

/// How often the file is looked at. A poll also sees files that are replaced, mounted, or on a network.
const LOOK: Duration = Duration::from_secs(1);

/// Takes new configurations to those who need them.
#[derive(Debug)]
pub(crate) struct Reloader {
    source: Option<Source>,
    /// What the running sockets were bound for.
    listeners: Listeners,
    reporter: mpsc::Sender<Event>,
    facts: Arc<Facts>,
    counts: Arc<Reloads>,
}

impl Reloader {
    pub(crate) fn new(
        source: Option<Source>,
        config: &Config,
        reporter: mpsc::Sender<Event>,
        facts: &Arc<Facts>,
        counts: &Arc<Reloads>,
    ) -> Self {
        Self {
            source,
            listeners: config.listeners.clone(),
            reporter,
            facts: Arc::clone(facts),
            counts: Arc::clone(counts),
        }
    }

    /// Reads the file. A broken one changes nothing.
    pub(crate) async fn reload(&self) {
        let Some(source) = &self.source else { return };
        match config::load(source) {
            Ok(loaded) => {
                for warning in loaded.warnings {
                    warn!("{warning}");
                }
                self.apply(loaded.config).await;
                self.counts.succeeded.fetch_add(1, Relaxed);
                info!(file = %source.path.display(), "reloaded the configuration");
            }
            Err(reasons) => {
                self.counts.failed.fetch_add(1, Relaxed);
                error!("Error parsing config file: {reasons} (keeping the old configuration)");
            }
        }
    }

    pub(crate) async fn apply(&self, config: Config) {
        if config.listeners != self.listeners {
            warn!("listeners have changed in the configuration; that takes a restart");
        }
        self.facts.entries.store(Arc::new(config.entries.clone()));
        // Membership is gone only while the process ends.
        let _taken = self
            .reporter
            .send(Event::Reload(Box::new(config)))
            .await
            .is_ok();
    }

    /// Reloads whenever the file has changed, until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let Some(source) = &self.source else { return };
        let mut seen = Stamp::of(&source.path).ok();
        while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
            // A file that is gone is being replaced, or will be missed by the next start; either way there is nothing to read.
            let Ok(now) = Stamp::of(&source.path) else {
                continue;
            };
            if seen.as_ref() != Some(&now) {
                seen = Some(now);
                self.reload().await;
            }
        }
    }
}

/// What tells two versions of a file apart.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        Ok(Self {
            inode: file.ino(),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}
