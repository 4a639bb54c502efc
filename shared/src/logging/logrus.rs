//! Lines as Go's `logrus` writes them: `time="2006-01-02T15:04:05Z" level=info msg="..." key=value` on standard error.
//!
//! The fields are sorted, and a value is quoted when it holds anything but letters, digits and `-._/@^+`. On a terminal the
//! line is `INFO[0000] msg   key=value` in colour, or has the time in place of the seconds. [`Layout::Json`] is an object per line. A field that Rust cannot name, or that has logrus' own spelling
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
    /// `fatal` alone.
    Fatal,
    /// `error` and above.
    Error,
    /// `warning` and above.
    Warning,
    /// `info` and above.
    Normal,
    /// `debug` too.
    Debug,
    /// `trace` too.
    Trace,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Keys and values; on a terminal in colour, with the seconds since the start.
    Text,
    /// The same, on a terminal with the time.
    TextWithTime,
    /// A JSON object.
    Json,
}

static DETAIL: AtomicU8 = AtomicU8::new(Detail::Normal as u8);

/// Makes this the layout of all log lines of the process, on standard error. The first layout that is set wins.
pub fn init() {
    init_as(Layout::Text);
}

/// As [`init`], with lines of another look.
pub fn init_as(layout: Layout) {
    let layer = Logrus {
        terminal: io::stderr().is_terminal(),
        layout,
        started: Instant::now(),
    };
    let subscriber = Registry::default().with(layer);
    // An error means that a subscriber is set already.
    let _first = tracing::subscriber::set_global_default(subscriber).is_ok();
}

/// Says which lines are shown, now that it is known.
pub fn set_detail(detail: Detail) {
    DETAIL.store(detail as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

struct Logrus {
    terminal: bool,
    layout: Layout,
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
        let line = match self.layout {
            Layout::Json => entry.json(level, &Zoned::now()),
            Layout::Text if self.terminal => {
                let seconds = self.started.elapsed().as_secs();
                entry.coloured(level, &format!("{seconds:04}"))
            }
            Layout::TextWithTime if self.terminal => entry.coloured(level, &time(&Zoned::now())),
            Layout::Text | Layout::TextWithTime => entry.plain(level, &Zoned::now()),
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
    let is_fatal = metadata.target() == FATAL;
    let detail = DETAIL.load(Ordering::Relaxed);
    let least = [
        None,
        Some(Level::ERROR),
        Some(Level::WARN),
        Some(Level::INFO),
        Some(Level::DEBUG),
        Some(Level::TRACE),
    ];
    let least = least.get(usize::from(detail)).copied().flatten();
    let least = if library {
        least.min(Some(Level::WARN))
    } else {
        least
    };
    is_fatal || least.is_some_and(|least| *metadata.level() <= least)
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
    fields: BTreeMap<&'static str, Value>,
}

/// What a field holds.
struct Value {
    text: String,
    /// Whether JSON has it without quotes: numbers, `true` and `false`.
    is_bare: bool,
}

impl Entry {
    fn plain(&self, level: &str, now: &Zoned) -> String {
        let mut line = format!("time=\"{}\" level={level}", time(now));
        // logrus leaves an empty message out.
        if !self.message.is_empty() {
            push(&mut line, "msg", &self.message);
        }
        for (name, value) in &self.fields {
            push(&mut line, name, &value.text);
        }
        line.push('\n');
        line
    }

    fn json(&self, level: &str, now: &Zoned) -> String {
        let time = time(now);
        let own = [("level", level), ("msg", &self.message), ("time", &time)];
        let own = own.map(|(name, text)| (name, text, false));
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| (*name, value.text.as_str(), value.is_bare));
        let mut all: Vec<_> = fields.chain(own).collect();
        all.sort_by_key(|(name, ..)| *name);
        let mut line = String::from("{");
        for (name, text, is_bare) in all {
            if line.len() > 1 {
                line.push(',');
            }
            json_string(&mut line, name);
            line.push(':');
            if is_bare {
                line.push_str(text);
            } else {
                json_string(&mut line, text);
            }
        }
        line.push_str("}\n");
        line
    }

    fn coloured(&self, level: &str, time: &str) -> String {
        let colour = match level {
            "debug" | "trace" => 37,
            "warning" => 33,
            "error" | "fatal" => 31,
            _ => 36,
        };
        let short: String = level.to_uppercase().chars().take(4).collect();
        let mut line = format!(
            "\u{1b}[{colour}m{short}\u{1b}[0m[{time}] {:<44} ",
            self.message
        );
        for (name, value) in &self.fields {
            let value = quoted(&value.text);
            write!(line, "\u{1b}[{colour}m{name}\u{1b}[0m={value} ").expect("a string takes all");
        }
        line.push('\n');
        line
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"), false);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned(), false);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.to_string(), true);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.to_string(), true);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.to_string(), true);
    }
}

impl Entry {
    fn put(&mut self, field: &Field, text: String, is_bare: bool) {
        match field.name() {
            "message" => self.message = text,
            name => {
                self.fields.insert(name, Value { text, is_bare });
            }
        }
    }
}

/// Writes a string as Go's `encoding/json` does.
fn json_string(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if (c as u32) < 0x20 || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                write!(line, "\\u{:04x}", c as u32).expect("a string takes all");
            }
            c => line.push(c),
        }
    }
    line.push('"');
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

    fn text(text: &str) -> Value {
        Value {
            text: text.to_owned(),
            is_bare: false,
        }
    }

    #[test]
    fn a_json_line_has_its_keys_sorted() {
        let mut entry = Entry {
            message: "a <b>".into(),
            fields: [("address", text("127.0.0.1:1"))].into(),
        };
        let is_bare = true;
        let text = "false".to_owned();
        entry.fields.insert("zoom", Value { text, is_bare });
        let now: Zoned = "2026-03-07T04:05:06[UTC]".parse().unwrap();
        assert_eq!(
            entry.json("info", &now),
            "{\"address\":\"127.0.0.1:1\",\"level\":\"info\",\"msg\":\"a \\u003cb\\u003e\",\
             \"time\":\"2026-03-07T04:05:06Z\",\"zoom\":false}\n"
        );
    }

    #[test]
    fn a_line_is_quoted_and_sorted_as_logrus_has_it() {
        let entry = Entry {
            message: "HTTP server listening".into(),
            fields: [
                ("error", text("say \"no\"\n")),
                ("address", text("127.0.0.1:1")),
                ("service", text("veneur-global")),
                ("empty", text("")),
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
            fields: [("port", text("1"))].into(),
        };
        let line = entry.coloured("info", "0007");
        assert!(
            line.starts_with("\u{1b}[36mINFO\u{1b}[0m[0007] starting server"),
            "{line}"
        );
        assert!(line.ends_with("\u{1b}[36mport\u{1b}[0m=1 \n"), "{line}");
    }
}
