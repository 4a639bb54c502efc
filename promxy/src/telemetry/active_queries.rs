//! The queries that run now, in a file that survives a crash (`queries.active` in `--storage.path`), and how many there may be.
//!
//! The file is one byte and a slot of 1000 bytes for each query that may run: `[`, then JSON objects, padded with zeros and with a
//! comma at the end of their slots. What is left over from a run that ended badly is logged.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::info;

use crate::api::json;

const SLOT: usize = 1000;

/// The places for running queries.
#[derive(Debug)]
pub struct ActiveQueries {
    places: Arc<Semaphore>,
    slots: Mutex<Vec<usize>>,
    file: File,
}

/// A running query; its slot is free again when this is dropped.
#[derive(Debug)]
pub struct Active {
    queries: Arc<ActiveQueries>,
    slot: usize,
    _place: OwnedSemaphorePermit,
}

impl ActiveQueries {
    /// Starts the file anew, in a folder that is made if it is not there.
    pub fn open(folder: &Path, most: usize) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join("queries.active");
        if let Ok(left) = fs::read(&path) {
            log_left_over(&left);
        }
        let file = File::create(&path)?;
        file.set_len((1 + most * SLOT) as u64)?;
        file.write_all_at(b"[", 0)?;
        Ok(Self {
            places: Arc::new(Semaphore::new(most)),
            slots: Mutex::new((0..most).rev().collect()),
            file,
        })
    }

    /// Waits until one more query may run. `None` if the time is over before.
    pub async fn enter(self: &Arc<Self>, query: &str, limit: Option<Duration>) -> Option<Active> {
        let waiting = Arc::clone(&self.places).acquire_owned();
        let place = timeout(limit.unwrap_or(Duration::MAX), waiting).await;
        // The semaphore is never closed.
        let place = place.ok()?.ok()?;
        let slot = self.slots().pop()?;
        let entry = slot_text(query, Timestamp::now().as_second());
        // Without the note the query is as good.
        let _noted = self.write(slot, &entry).is_ok();
        Some(Active {
            queries: Arc::clone(self),
            slot,
            _place: place,
        })
    }

    fn slots(&self) -> parking_lot::MutexGuard<'_, Vec<usize>> {
        self.slots.lock()
    }

    fn write(&self, slot: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, (1 + slot * SLOT) as u64)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let _cleared = self.queries.write(self.slot, &[0; SLOT]).is_ok();
        self.queries.slots().push(self.slot);
    }
}

/// Writes a query's slot; what is too long is cut.
fn slot_text(query: &str, seconds: i64) -> Vec<u8> {
    let entry = |query: &str| {
        let query = json::quoted(query);
        format!(r#"{{"query":{query},"timestamp_sec":{seconds}}}"#)
    };
    let mut shown = query;
    let mut text = entry(shown);
    while text.len() >= SLOT {
        let shorter = shown
            .len()
            .saturating_sub((text.len() - SLOT + 1).div_ceil(6).max(1));
        let cut = (0..=shorter).rev().find(|at| shown.is_char_boundary(*at));
        shown = shown.get(..cut.unwrap_or(0)).unwrap_or_default();
        text = entry(shown);
    }
    let mut slot = text.into_bytes();
    slot.resize(SLOT - 1, 0);
    slot.push(b',');
    slot
}

fn log_left_over(file: &[u8]) {
    let text: Vec<u8> = file.iter().copied().filter(|byte| *byte != 0).collect();
    if text.len() > 1 {
        let text = String::from_utf8_lossy(&text);
        let queries = text.strip_suffix(',').unwrap_or(&text);
        info!(
            component = "activeQueryTracker",
            queries = format!("{queries}]"),
            "These queries didn't finish in prometheus' last run:"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_json_of_a_fixed_length() {
        let f = |query: &str| {
            let slot = slot_text(query, 1_795_207_731);
            assert_eq!(slot.len(), SLOT);
            let text: Vec<u8> = slot.into_iter().filter(|byte| *byte != 0).collect();
            let text = String::from_utf8(text).unwrap();
            let text = text.strip_suffix(',').unwrap().to_owned();
            let _json: serde_json::Value = serde_json::from_str(&text).unwrap();
            text
        };
        assert_eq!(f("up"), r#"{"query":"up","timestamp_sec":1795207731}"#);
        assert!(f(&"é<".repeat(900)).contains("é\\u003c"));
        f(&"\"".repeat(2000));
    }
}
