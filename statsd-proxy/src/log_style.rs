//! Log lines as `proxy.js` writes them (`lib/logger.js`): `7 Mar 04:05:06 - LEVEL: [pid] text`.

use std::{fmt::Write as _, process};

use shared::logging::{Style, Zoned};
use tracing::{Level, Metadata};

/// The target of events whose lines show neither level nor process, as the original's first line does.
pub const PLAIN: &str = "plain";

/// The layout of `proxy.js`; the day is not padded.
#[derive(Debug, Clone, Copy)]
pub struct ProxyJs;

impl Style for ProxyJs {
    fn prefix(&self, now: &Zoned, event: &Metadata<'_>, line: &mut String) {
        let time = now.strftime("%-d %b %H:%M:%S");
        let written = if event.target() == PLAIN {
            write!(line, "{time} - ")
        } else {
            write!(
                line,
                "{time} - {}: [{}] ",
                level(*event.level()),
                process::id()
            )
        };
        written.expect("writing to a string cannot fail");
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}
