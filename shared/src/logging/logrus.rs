//! Lines as Go's `logrus` writes them: `time="2006-01-02T15:04:05Z" level=info msg="..." key=value` on standard error.
//!
//! The fields are sorted, and a value is quoted when it holds anything but letters, digits and `-._/@^+`. On a terminal the
//! line is `INFO[0000] msg   key=value` in colour. A field that Rust cannot name, or that has logrus' own spelling
//! (`errorType`), is written as a string literal in the event: `error!("errorType" = ...)`.
//!
//! An event whose target is [`FATAL`] is shown as logrus' level `fatal`; ending the process is up to the caller.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::{AtomicU8, Ordering},
    time::Instant,
};

use jiff::Zoned;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, Registry, layer::Context, layer::SubscriberExt as _};

/// The target of events that are shown as `fatal`.
pub const FATAL: &str = "fatal";

/// Which lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// `info` and above.
    Normal,
    /// `debug` too.
    Debug,
}

static DETAIL: AtomicU8 = AtomicU8::new(0);

/// Makes this the layout of all log lines of the process, on standard error. The first layout that is set wins.
pub fn init() {
    let layer = Logrus {
        terminal: io::stderr().is_terminal(),
        started: Instant::now(),
    };
    let subscriber = Registry::default().with(layer);
    // An error means that a subscriber is set already.
    let _first = tracing::subscriber::set_global_default(subscriber).is_ok();
}

/// Says which lines are shown, now that it is known.
pub fn set_detail(detail: Detail) {
    DETAIL.store(u8::from(detail == Detail::Debug), Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

struct Logrus {
    terminal: bool,
    started: Instant,
}

impl<R: Subscriber> Layer<R> for Logrus {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, R>) -> bool {
        shown(metadata)
    }

    fn register_callsite(
        &self,
        metadata: &'static Metadata<'static>,
    ) -> tracing::subscriber::Interest {
        if shown(metadata) {
            tracing::subscriber::Interest::always()
        } else {
            tracing::subscriber::Interest::never()
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, R>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        let level = level(event.metadata());
        let line = if self.terminal {
            entry.coloured(level, self.started.elapsed().as_secs())
        } else {
            entry.plain(level, &Zoned::now())
        };
        // A log that cannot be written has nowhere to say so.
        let _written = io::stderr().write_all(line.as_bytes()).is_ok();
    }
}

/// Lines of libraries are shown from `warning` up: the original's libraries are silent.
fn shown(metadata: &Metadata<'_>) -> bool {
    let library = ["h2", "hyper", "rustls", "reqwest", "tower", "kube", "tonic"]
        .iter()
        .any(|name| metadata.target().starts_with(name));
    let least = match DETAIL.load(Ordering::Relaxed) {
        _ if library => Level::WARN,
        0 => Level::INFO,
        _ => Level::DEBUG,
    };
    *metadata.level() <= least
}

fn level(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        _ if metadata.target() == FATAL => "fatal",
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// What an event says.
#[derive(Default)]
struct Entry {
    message: String,
    fields: BTreeMap<&'static str, String>,
}

impl Entry {
    fn plain(&self, level: &str, now: &Zoned) -> String {
        let mut line = format!("time=\"{}\" level={level}", time(now));
        // logrus leaves an empty message out.
        if !self.message.is_empty() {
            push(&mut line, "msg", &self.message);
        }
        for (name, value) in &self.fields {
            push(&mut line, name, value);
        }
        line.push('\n');
        line
    }

    fn coloured(&self, level: &str, seconds: u64) -> String {
        let colour = match level {
            "debug" | "trace" => 37,
            "warning" => 33,
            "error" | "fatal" => 31,
            _ => 36,
        };
        let short: String = level.to_uppercase().chars().take(4).collect();
        let mut line = format!(
            "\u{1b}[{colour}m{short}\u{1b}[0m[{seconds:04}] {:<44} ",
            self.message
        );
        for (name, value) in &self.fields {
            let value = quoted(value);
            write!(line, "\u{1b}[{colour}m{name}\u{1b}[0m={value} ").expect("a string takes all");
        }
        line.push('\n');
        line
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => {
                self.fields.insert(name, value.to_owned());
            }
        }
    }
}

fn push(line: &mut String, name: &str, value: &str) {
    line.push(' ');
    line.push_str(name);
    line.push('=');
    line.push_str(&quoted(value));
}

fn quoted(value: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if value.chars().all(plain) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                write!(out, "\\x{:02x}", u32::from(c)).expect("a string takes all");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Cow::Owned(out)
}

fn time(now: &Zoned) -> String {
    if now.offset().is_zero() {
        now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_quoted_and_sorted_as_logrus_has_it() {
        let entry = Entry {
            message: "HTTP server listening".into(),
            fields: [
                ("error", "say \"no\"\n".to_owned()),
                ("address", "127.0.0.1:1".to_owned()),
                ("service", "veneur-global".to_owned()),
                ("empty", String::new()),
            ]
            .into(),
        };
        let now: Zoned = "2026-03-07T04:05:06[UTC]".parse().unwrap();
        assert_eq!(
            entry.plain("info", &now),
            "time=\"2026-03-07T04:05:06Z\" level=info msg=\"HTTP server listening\" \
             address=\"127.0.0.1:1\" empty= error=\"say \\\"no\\\"\\n\" service=veneur-global\n"
        );
        let east: Zoned = "2026-03-07T04:05:06[+02:00]".parse().unwrap();
        assert_eq!(time(&east), "2026-03-07T04:05:06+02:00");
    }

    #[test]
    fn a_terminal_gets_colours_and_seconds() {
        let entry = Entry {
            message: "starting server".into(),
            fields: [("port", "1".to_owned())].into(),
        };
        let line = entry.coloured("info", 7);
        assert!(
            line.starts_with("\u{1b}[36mINFO\u{1b}[0m[0007] starting server"),
            "{line}"
        );
        assert!(line.ends_with("\u{1b}[36mport\u{1b}[0m=1 \n"), "{line}");
    }
}
