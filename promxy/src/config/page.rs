//! The configuration as text: `/api/v1/status/config`.
//!
//! The tables of [`super::schema`] say what is shown and in which order; the form is that of the original's YAML library, which
//! quotes what would otherwise read as something else (`"1"`, `"y"`, `""`). Secrets are shown as `<secret>`.

use promql::SignedDuration;
use shared::config::duration::format_nanos;

use super::{
    go_url,
    schema::{Field, Item, Kind, Section, Shown},
    time::write_rfc3339,
    yaml::{Meaning, meaning},
};

const SECRET: &str = "<secret>";

/// Writes a whole configuration.
pub(super) fn page(section: &Section) -> String {
    let mut page = String::new();
    write_section(section, 0, &mut page);
    page
}

fn is_shown(field: &Field, item: &Item) -> bool {
    match field.shown {
        Shown::Always => true,
        Shown::Filled => !item.is_zero(),
        Shown::Changed => *item != field.default_item(),
    }
}

/// Writes the keys of a section, each on lines of its own, indented by `indent` spaces.
fn write_section(section: &Section, indent: usize, out: &mut String) {
    for (field, item) in section
        .entries()
        .filter(|(field, item)| is_shown(field, item))
    {
        write_entry(field.key, item, field.kind, indent, out);
    }
    for (key, item) in &section.others {
        write_entry(key, item, Kind::Any, indent, out);
    }
}

fn write_entry(key: &str, item: &Item, kind: Kind, indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
    out.push_str(&word(key));
    out.push(':');
    match item {
        Item::List(items) if matches!(kind, Kind::FlowList(_)) || items.is_empty() => {
            let words: Vec<String> = items.iter().map(|item| scalar(item, Kind::Text)).collect();
            out.push_str(" [");
            out.push_str(&words.join(", "));
            out.push_str("]\n");
        }
        Item::List(items) => {
            out.push('\n');
            let kind = match kind {
                Kind::List(kind) => *kind,
                Kind::Sections(schema) => Kind::Section(schema),
                _ => Kind::Any,
            };
            for item in items {
                write_list_item(item, kind, indent, out);
            }
        }
        Item::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
        Item::Map(entries) => {
            out.push('\n');
            write_map(entries, kind, indent + 2, out);
        }
        Item::Section(section) if section.is_blank() => out.push_str(" {}\n"),
        Item::Section(section) => {
            out.push('\n');
            write_section(section, indent + 2, out);
        }
        item => {
            out.push(' ');
            out.push_str(&scalar(item, kind));
            out.push('\n');
        }
    }
}

fn write_map(entries: &[(String, Item)], kind: Kind, indent: usize, out: &mut String) {
    let kind = match kind {
        Kind::Lists => Kind::List(&Kind::Text),
        Kind::SectionMap(schema) => Kind::Section(schema),
        Kind::Any => Kind::Any,
        _ => Kind::Text,
    };
    for (key, item) in entries {
        write_entry(key, item, kind, indent, out);
    }
}

/// Writes an item behind a dash, which stands as far left as the list's key.
fn write_list_item(item: &Item, kind: Kind, indent: usize, out: &mut String) {
    let mut inner = String::new();
    match item {
        Item::Section(section) => write_section(section, indent + 2, &mut inner),
        Item::Map(entries) => write_map(entries, kind, indent + 2, &mut inner),
        Item::List(items) => {
            for item in items {
                write_list_item(item, Kind::Any, indent + 2, &mut inner);
            }
        }
        _ => {}
    }
    out.extend(std::iter::repeat_n(' ', indent));
    out.push_str("- ");
    if inner.is_empty() {
        out.push_str(&scalar(item, kind));
        out.push('\n');
    } else {
        out.push_str(inner.trim_start());
    }
}

/// Writes what is neither list nor map.
fn scalar(item: &Item, kind: Kind) -> String {
    match item {
        Item::Null if matches!(kind, Kind::MaybeBool) => "false".to_owned(),
        Item::Null => "null".to_owned(),
        Item::Secret(secret) if secret.is_empty() => "null".to_owned(),
        Item::Secret(_) => SECRET.to_owned(),
        Item::Text(url) if matches!(kind, Kind::Url) => word(&go_url::redacted(url)),
        Item::Text(text) => word(text),
        Item::Bool(flag) => flag.to_string(),
        Item::Int(number) => number.to_string(),
        Item::Float(number) => promql::format::general(*number),
        Item::GoDuration(nanos) => format_nanos(*nanos),
        Item::Duration(duration) => SignedDuration::to_string(duration),
        Item::Time(millis) => write_rfc3339(*millis),
        Item::List(_) => "[]".to_owned(),
        Item::Map(_) | Item::Section(_) => "{}".to_owned(),
    }
}

/// Writes a string so that it reads back as one.
pub(crate) fn word(text: &str) -> String {
    if text.contains('\n') || text.chars().any(char::is_control) {
        return promql::format::quote(text.as_bytes());
    }
    if !matches!(meaning(text), Meaning::Text) {
        return format!("\"{text}\"");
    }
    let is_indicator = |c: char| "-?:,[]{}#&*!|>'\"%@`".contains(c);
    let starts_like_syntax = match text.as_bytes() {
        [b'-' | b'?' | b':'] | [b'-' | b'?' | b':', b' ', ..] => true,
        [b'-' | b'?' | b':', ..] => text.starts_with("---"),
        _ => text.starts_with(is_indicator),
    };
    let holds_syntax = text.contains(": ") || text.contains(" #") || text.ends_with(':');
    let is_padded = text.starts_with(' ') || text.ends_with(' ');
    if starts_like_syntax || holds_syntax || is_padded {
        return format!("'{}'", text.replace('\'', "''"));
    }
    text.to_owned()
}

impl Section {
    /// Whether the page would show none of its keys.
    fn is_blank(&self) -> bool {
        self.others.is_empty() && !self.entries().any(|(field, item)| is_shown(field, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_would_mean_something_else() {
        let f = |text: &str, expected: &str| assert_eq!(word(text), expected);
        f("a b", "a b");
        f("", "\"\"");
        f("y", "\"y\"");
        f("1", "\"1\"");
        f("2020-01-01", "\"2020-01-01\"");
        f(";", ";");
        f("$1", "$1");
        f("<secret>", "<secret>");
        f("*.yml", "'*.yml'");
        f("a: b", "'a: b'");
        f("it's: x", "'it''s: x'");
        f("-x", "-x");
        f("- x", "'- x'");
        f("a\nb", "\"a\\nb\"");
    }
}
