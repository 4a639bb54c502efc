//! Rules: their files are found, read and checked as the original does it, so that a mistake in them ends a start or a reload
//! here, too. Evaluating them is not built.
//!
//! In reading order:
//!
//! * [`load`]: from the patterns of the configuration to what their files hold
//! * `glob`: files by pattern; `file`: one file; `template`: the texts of labels and annotations

mod file;
mod glob;
mod template;

use tracing::error;

use crate::config::Config;
use file::Rule;

/// How many rules there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rules that raise alerts.
    pub alerting: usize,
    /// Rules that write series.
    pub recording: usize,
}

/// Why the rules of a configuration cannot be put into force. The texts are the original's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// A pattern of `rule_files` is none.
    #[error("error retrieving rule files for {0}: syntax error in pattern")]
    Pattern(String),
    /// A file is wrong; what is wrong was logged.
    #[error("error loading rules, previous rule set restored")]
    Refused,
    /// There is nowhere to write the series of this rule, which is written as YAML.
    #[error("promxy doesn't support recording rules: {0}")]
    Recording(String),
}

/// Reads and checks the files that a configuration names. Blocks while it does.
pub fn load(config: &Config) -> Result<Counts, RulesError> {
    let mut counts = Counts::default();
    let mut recording = None;
    for pattern in &config.rule_files {
        let files = glob::glob(pattern).map_err(|_| RulesError::Pattern(pattern.clone()))?;
        for path in files {
            let rules = file::read(&path).map_err(|reasons| {
                for reason in reasons {
                    error!(err = reason, "loading groups failed");
                }
                RulesError::Refused
            })?;
            for rule in rules {
                match rule {
                    Rule::Alerting => counts.alerting += 1,
                    Rule::Recording(text) => {
                        counts.recording += 1;
                        recording.get_or_insert(text);
                    }
                }
            }
        }
    }
    match recording {
        Some(text) if !config.has_remote_write => Err(RulesError::Recording(text)),
        _ => Ok(counts),
    }
}
