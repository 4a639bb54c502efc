//! Batches on disk while the gateway is away (`-spool-dir`).
//!
//! Segments are files that are only appended to (`record`, `segment`); `store` keeps them in order. A batch counts as
//! taken when it is written, and is fsynced within `-spool-sync` (100 ms) together with its neighbours, or before it counts
//! as taken if that is zero. So a killed process loses nothing that was taken, and a power cut at most that time. A record
//! is done when the gateway took it or it was dropped; that is noted in a file beside the segment, without fsync: what a
//! power cut takes from it is sent twice. After a restart what is not done is read again in order; a torn tail, or any
//! bytes that are no record, are skipped and counted.

pub(crate) mod record;
mod segment;
mod store;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use shared::{lifecycle::Tasks, logging::Throttle};
use tokio::{
    sync::{Notify, Semaphore},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use self::store::{Depth, Next, Store};
use crate::{
    batch::{Batch, Moment},
    counters::{Counters, DropReason},
};

/// Where in the spool a batch lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    segment: u64,
    index: u32,
    lines: u32,
}

/// What the spool is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder; it is made if it is missing.
    pub folder: PathBuf,
    /// Bytes that the files may take.
    pub max_bytes: u64,
    /// Longest time between writing and fsync; zero is fsync with every batch.
    pub sync: Duration,
}

/// Batches on disk. Whoever waits for the disk does so one after another, off the runtime's own threads.
#[derive(Debug)]
pub struct Spool {
    store: Arc<Mutex<Store>>,
    turn: Semaphore,
    sync_each: bool,
    sync: Duration,
    counters: Arc<Counters>,
    arrived: Notify,
    /// Whether there are batches that nobody has read.
    unread: AtomicBool,
    synced_lines: AtomicU64,
    complaints: Throttle,
}

/// Why a batch was not taken; it comes back.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Batch);

/// What lies in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files.
    pub segments: u64,
    /// Batches that no worker has taken.
    pub batches: u64,
    /// Lines in them.
    pub lines: u64,
    /// When the oldest batch that is not done was closed; of the first segment that has one.
    pub oldest: Option<Moment>,
}

impl Spool {
    /// Opens the folder and counts what an earlier process has left.
    pub fn open(settings: &Settings, counters: Arc<Counters>) -> io::Result<Self> {
        let (store, recovered) = Store::open(&settings.folder, settings.max_bytes)?;
        counters.lines_recovered.fetch_add(recovered.lines, Relaxed);
        counters
            .spool_bytes_skipped
            .fetch_add(recovered.skipped_bytes, Relaxed);
        if recovered.batches > 0 {
            info!(
                batches = recovered.batches,
                lines = recovered.lines,
                "spool holds batches of an earlier process"
            );
        }
        if recovered.skipped_bytes > 0 {
            warn!(
                bytes = recovered.skipped_bytes,
                "spool has bytes that are no record; skipped"
            );
        }
        Ok(Self {
            store: Arc::new(Mutex::new(store)),
            turn: Semaphore::new(1),
            sync_each: settings.sync.is_zero(),
            sync: settings.sync,
            counters,
            arrived: Notify::new(),
            unread: AtomicBool::new(recovered.batches > 0),
            synced_lines: AtomicU64::new(0),
            complaints: Throttle::new(Duration::from_secs(60)),
        })
    }

    /// Returns whether there are batches that nobody has read.
    pub fn has_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Returns how many lines of this process have been fsynced.
    pub fn synced_lines(&self) -> u64 {
        self.synced_lines.load(Relaxed)
    }

    /// Returns what there is. Takes the lock of the files for a moment.
    pub fn contents(&self) -> Contents {
        let Depth {
            bytes,
            segments,
            unread_batches,
            unread_lines,
            oldest,
        } = self.store.lock().depth();
        Contents {
            bytes,
            segments,
            batches: unread_batches,
            lines: unread_lines,
            oldest,
        }
    }

    /// Returns how many lines wait here for the next process: those of all records that are not done.
    pub fn waiting_lines(&self) -> u64 {
        self.store.lock().undone_lines()
    }

    /// Writes a batch behind all others.
    pub(crate) async fn append(&self, batch: Batch) -> Result<(), Refused> {
        let sync_each = self.sync_each;
        let (batch, result) = self
            .with_store(move |store| {
                let result = append(store, &batch, sync_each);
                (batch, result)
            })
            .await;
        match result {
            Ok(Appended::Taken { synced }) => {
                self.took(synced);
                Ok(())
            }
            Ok(Appended::Full) => Err(Refused(batch)),
            Err(reason) => {
                self.complain(&reason, "cannot write to the spool");
                Err(Refused(batch))
            }
        }
    }

    /// Writes a batch, and drops the oldest segments until there is room for it.
    pub(crate) async fn append_dropping_oldest(&self, batch: Batch) -> Result<(), Refused> {
        let mut batch = batch;
        loop {
            let Err(Refused(refused)) = self.append(batch).await else {
                return Ok(());
            };
            let Some(lines) = self.with_store(Store::drop_oldest).await else {
                return Err(Refused(refused));
            };
            self.counters.drop_lines(DropReason::SpoolFull, lines);
            batch = refused;
        }
    }

    /// Waits for the oldest batch that nobody has read, and takes it.
    pub(crate) async fn next(&self) -> Batch {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            match self.with_store(Store::next).await {
                Ok(Next::Batch(batch)) => return batch,
                Ok(Next::Damaged { lines, bytes }) => {
                    self.counters.drop_lines(DropReason::SpoolDamaged, lines);
                    self.counters.spool_bytes_skipped.fetch_add(bytes, Relaxed);
                    warn!(lines, bytes, "a record of the spool is damaged; skipped");
                }
                Ok(Next::Nothing) => {
                    self.unread.store(false, Relaxed);
                    // One may have been written between the look and the note.
                    if self.store.lock().depth().unread_batches > 0 {
                        self.unread.store(true, Relaxed);
                        continue;
                    }
                    arrived.await;
                }
                Err(reason) => {
                    self.complain(&reason, "cannot read the spool");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Notes that a batch is done.
    pub(crate) async fn done(&self, ticket: Ticket) {
        self.with_store(move |store| store.done(ticket)).await;
    }

    /// Fsyncs what was written.
    pub(crate) async fn sync(&self) {
        match self.with_store(Store::sync).await {
            Ok(lines) => {
                self.synced_lines.fetch_add(lines, Relaxed);
            }
            Err(reason) => self.complain(&reason, "cannot fsync the spool"),
        }
    }

    /// Keeps fsyncing and removing what is done, as a task of `tasks`.
    pub(crate) fn keep(self: Arc<Self>, tasks: &Tasks) {
        const TIDY: Duration = Duration::from_millis(100);
        let stop = tasks.stop_token();
        tasks.spawn("spool sync", async move {
            let mut ticks = interval(if self.sync.is_zero() { TIDY } else { self.sync });
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = ticks.tick() => {}
                }
                self.sync().await;
                self.with_store(Store::tidy).await;
            }
            self.sync().await;
        });
    }

    fn took(&self, synced: u64) {
        self.synced_lines.fetch_add(synced, Relaxed);
        self.unread.store(true, Relaxed);
        self.arrived.notify_one();
    }

    fn complain(&self, reason: &io::Error, what: &str) {
        if self.complaints.admit().is_some() {
            error!(%reason, "{what}");
        }
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> T {
        let _turn = self
            .turn
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let store = Arc::clone(&self.store);
        spawn_blocking(move || work(&mut store.lock()))
            .await
            .expect("the work does not panic, and the runtime outlives its tasks")
    }
}

enum Appended {
    Taken { synced: u64 },
    Full,
}

fn append(store: &mut Store, batch: &Batch, sync_each: bool) -> io::Result<Appended> {
    if !store.append(batch)? {
        return Ok(Appended::Full);
    }
    let synced = if sync_each { store.sync()? } else { 0 };
    Ok(Appended::Taken { synced })
}

/// Says why a folder cannot be a spool.
#[derive(Debug, thiserror::Error)]
#[error("spool-dir {folder}: {reason}")]
pub struct SpoolError {
    /// The folder.
    pub folder: String,
    /// What is wrong with it.
    pub reason: io::Error,
}

impl SpoolError {
    /// Blames `folder`.
    pub fn new(folder: &Path, reason: io::Error) -> Self {
        Self {
            folder: folder.display().to_string(),
            reason,
        }
    }
}
