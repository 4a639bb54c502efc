//! Log lines as logrus writes them without a terminal: `time="2026-11-20T20:24:27Z" level=info msg="text" `.
//!
//! People grep and parse these, so quoting and the blank at the end are the original's. The fields of an event follow as
//! `key=value`, quoted where logrus quotes.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
};

use shared::logging::Zoned;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{Layer, Registry, layer::Context, layer::SubscriberExt as _};

/// The target of errors that end the process; logrus has a level for them.
pub const FATAL: &str = "fatal";

/// Makes logrus' layout that of all log lines, from `level` up, on standard error. The first call wins.
pub fn init(level: LevelFilter) {
    let subscriber = Registry::default().with(Logrus.with_filter(level));
    // An error means that a subscriber is set already.
    let _first = tracing::subscriber::set_global_default(subscriber).is_ok();
}

struct Logrus;

impl<S: Subscriber> Layer<S> for Logrus {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        let now = Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        let now = now
            .strip_suffix("+00:00")
            .map_or_else(|| now.clone(), |utc| format!("{utc}Z"));
        let level = level_name(metadata.target(), *metadata.level());
        let line = format!(
            "time=\"{now}\" level={level} msg={} {}\n",
            quoted(&text.message),
            text.fields
        );
        // A log that cannot be written has nowhere to say so.
        let _written = io::stderr().write_all(line.as_bytes()).is_ok();
    }
}

fn level_name(target: &str, level: Level) -> &'static str {
    match level {
        _ if target == FATAL => "fatal",
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), &format!("{value:?}"));
    }
}

impl Text {
    fn put(&mut self, name: &str, value: &str) {
        if name == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        let plain = !value.is_empty()
            && value
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"-._/@^+".contains(&c));
        let value = if plain {
            value.to_owned()
        } else {
            quoted(value)
        };
        write!(self.fields, "{name}={value} ").expect("writing to a string cannot fail");
    }
}

/// Go's `%q` for log texts, but that a line feed stays one only as `\n`: one event is one line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                write!(out, "\\x{:02x}", c as u32).expect("writing to a string cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_go_does() {
        let f = |text: &str, expected: &str| assert_eq!(quoted(text), expected);
        f("plain [http://a:1]", r#""plain [http://a:1]""#);
        f("missing unit in \"10\"\n", r#""missing unit in \"10\"\n""#);
        f("\u{1}", r#""\x01""#);
    }

    #[test]
    fn fields_are_quoted_only_where_needed() {
        let mut text = Text::default();
        text.put("message", "m");
        text.put("line", "3");
        text.put("reason", "no host");
        assert_eq!(text.message, "m");
        assert_eq!(text.fields, "line=3 reason=\"no host\" ");
    }
}
