//! Log lines in the originals' formats, over `tracing`.
//!
//! People grep these logs, so each tool keeps its original's line layout: a [`Style`] turns one event into one line. The
//! fields of an event follow its text as ` key=value`. One event is one write, so lines of threads never mix.

pub mod logrus;

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub use jiff::Zoned;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{Layer, Registry, layer::Context, layer::SubscriberExt as _};

/// The layout of a log line.
pub trait Style: Send + Sync + 'static {
    /// Writes what stands before the text of an event: time, level, process.
    fn prefix(&self, now: &Zoned, event: &Metadata<'_>, line: &mut String);
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Go's package `log`: `2006/01/02 15:04:05 text` in local time, without a level.
#[derive(Debug, Clone, Copy)]
pub struct GoLog;

impl Style for GoLog {
    fn prefix(&self, now: &Zoned, _event: &Metadata<'_>, line: &mut String) {
        line.push_str(&go_log_time(now));
        line.push(' ');
    }
}

fn go_log_time(now: &Zoned) -> String {
    now.strftime("%Y/%m/%d %H:%M:%S").to_string()
}

/// Makes `style` the layout of all log lines of this process, from `level` up.
///
/// The first call wins: a later one changes nothing.
pub fn init(style: impl Style, stream: Stream, level: LevelFilter) {
    let subscriber = Registry::default().with(Lines { style, stream }.with_filter(level));
    // An error means that a subscriber is set already.
    let _first = tracing::subscriber::set_global_default(subscriber).is_ok();
}

struct Lines<S> {
    style: S,
    stream: Stream,
}

impl<S: Style, R: Subscriber> Layer<R> for Lines<S> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, R>) {
        let mut line = String::with_capacity(128);
        self.style
            .prefix(&Zoned::now(), event.metadata(), &mut line);
        let mut text = Text::default();
        event.record(&mut text);
        line.push_str(&text.message);
        line.push_str(&text.fields);
        line.push('\n');
        // A log that cannot be written has nowhere to say so.
        let _written = match self.stream {
            Stream::Stdout => io::stdout().write_all(line.as_bytes()),
            Stream::Stderr => io::stderr().write_all(line.as_bytes()),
        }
        .is_ok();
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("writing to a string cannot fail");
    }
}

/// Lets one log line through per interval and counts the others.
///
/// For events that a peer can cause at any rate.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    last: Mutex<Option<Instant>>,
    suppressed: AtomicU64,
}

impl Throttle {
    /// Makes a throttle that lets the first event through, and then one per `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: Mutex::new(None),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Returns how many events were held back since the last that was let through, if this one may be logged.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        // A lock that another thread holds, or that a panic poisoned, means that a line is being written just now.
        if let Ok(mut last) = self.last.try_lock()
            && last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval)
        {
            *last = Some(now);
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_log_lines_start_with_date_and_time() {
        let now: Zoned = "2026-03-07T04:05:06[UTC]".parse().unwrap();
        assert_eq!(go_log_time(&now), "2026/03/07 04:05:06");
    }

    #[test]
    fn throttle_admits_one_event_per_interval_and_counts_the_rest() {
        let throttle = Throttle::new(Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(throttle.admit_at(start), Some(0));
        assert_eq!(throttle.admit_at(start), None);
        assert_eq!(throttle.admit_at(start + Duration::from_millis(999)), None);
        assert_eq!(throttle.admit_at(start + Duration::from_secs(1)), Some(2));
        assert_eq!(throttle.admit_at(start + Duration::from_secs(5)), Some(0));
    }
}
