//! What `--check-config` says.

use std::path::Path;

use super::{ConfigError, load};

/// An answer of `--check-config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What standard output gets.
    pub stdout: String,
    /// What deserves a look, for standard error; none of it makes a file wrong.
    pub warnings: Vec<String>,
    /// The message of the fatal log line, if the file is wrong.
    pub fatal: Option<String>,
    /// The exit status.
    pub status: u8,
}

/// Judges a file. Only the file itself is opened: neither rules nor certificates nor what discovery reads.
pub fn check(path: &Path) -> Verdict {
    match load(path) {
        Ok(loaded) => Verdict {
            // The original's spelling, which scripts look for.
            stdout: format!("{} if valid promxy config file syntax\n", path.display()),
            warnings: loaded.warnings,
            fatal: None,
            status: 0,
        },
        Err(error) => Verdict {
            stdout: String::new(),
            warnings: Vec::new(),
            fatal: Some(fatal(&error)),
            status: 1,
        },
    }
}

fn fatal(error: &ConfigError) -> String {
    format!("Error loading cfg: {error}")
}
