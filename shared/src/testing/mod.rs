//! What integration tests and the demo share: child processes, raw peers, golden data (feature `testing`), certificates
//! (feature `testing-tls`).
//!
//! Nothing here waits by sleeping for a guessed time: [`eventually`] polls with a deadline.

#![allow(clippy::unwrap_used, reason = "a failed test helper is a failed test")]

pub mod client;
pub mod golden;
#[cfg(feature = "testing-tls")]
pub mod pki;
pub mod process;
pub mod wire;

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

/// How long a test waits for something that should come at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `probe` until it gives a value, and panics naming `what` if none comes within [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until no other test holds `name`, in this process or another, and holds it until the file is dropped.
///
/// For tests that replay recorded traffic on the very ports that it was recorded on.
#[track_caller]
pub fn exclusive(name: &str) -> fs::File {
    let path = env::temp_dir().join(format!("{name}.test-lock"));
    let file = fs::File::create(path).expect("a lock file can be made");
    file.lock().expect("a lock file can be locked");
    file
}
