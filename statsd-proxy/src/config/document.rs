//! A configuration file as a tree that keeps the order of its keys, and typed reading from it.
//!
//! Order matters twice: in go-statsd-proxy's dialect keys differ in letter case only and the last one wins; in that of
//! `proxy.js` the console prints the file's keys in order. Reading collects every problem with the path of its key
//! (`nodes[2].port`), so that one look at the log is enough to mend a file.

use std::{cell::RefCell, fmt, ops::RangeInclusive, time::Duration};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use shared::config::duration;

/// A JSON value. Objects keep their keys in order, equal ones too.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number that is no integer",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// What is wrong with a file, and what deserves a look.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) errors: RefCell<Vec<String>>,
    pub(crate) warnings: RefCell<Vec<String>>,
}

impl Problems {
    pub(crate) fn error(&self, problem: String) {
        self.errors.borrow_mut().push(problem);
    }

    pub(crate) fn warn(&self, problem: String) {
        self.warnings.borrow_mut().push(problem);
    }
}

/// Whether keys that differ in letter case are the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyCase {
    /// As in Go's `encoding/json`.
    Ignored,
    /// As in JavaScript.
    Significant,
}

/// One object of the file, read key by key. A key that nobody has read is reported as unknown by [`Section::finish`].
#[derive(Debug)]
pub(crate) struct Section<'a> {
    entries: &'a [(String, Value)],
    path: String,
    case: KeyCase,
    read: RefCell<Vec<&'static str>>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// Starts at the top of a file. Go takes `null` for an empty object.
    pub(crate) fn top(value: &'a Value, case: KeyCase, problems: &'a Problems) -> Option<Self> {
        let entries: &[_] = match value {
            Value::Object(entries) => entries,
            Value::Null if case == KeyCase::Ignored => &[],
            other => {
                problems.error(format!("expected an object, found {}", other.kind()));
                return None;
            }
        };
        Some(Self {
            entries,
            path: String::new(),
            case,
            read: RefCell::default(),
            problems,
        })
    }

    /// Returns the path of a key of this section.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Reports what is wrong with a key.
    pub(crate) fn error(&self, key: &str, problem: impl fmt::Display) {
        self.problems
            .error(format!("{}: {problem}", self.path_of(key)));
    }

    /// Reports what the user should know of a key.
    pub(crate) fn warn(&self, key: &str, remark: impl fmt::Display) {
        self.problems
            .warn(format!("{}: {remark}", self.path_of(key)));
    }

    /// Returns whether the key stands in the file with a value other than null.
    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    pub(crate) fn text(&self, key: &'static str) -> Option<&'a str> {
        self.typed(key, "a string", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A string, or nothing for a value of another type that another reader will look at.
    pub(crate) fn text_or_other(&self, key: &'static str) -> Option<&'a str> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn boolean(&self, key: &'static str) -> Option<bool> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    pub(crate) fn integer(&self, key: &'static str) -> Option<i64> {
        self.typed(key, "an integer", |value| match value {
            Value::Integer(number) => Some(*number),
            _ => None,
        })
    }

    pub(crate) fn integer_in(&self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let number = self.integer(key)?;
        if range.contains(&number) {
            return Some(number);
        }
        self.error(
            key,
            format_args!(
                "{number} is not between {} and {}",
                range.start(),
                range.end()
            ),
        );
        None
    }

    pub(crate) fn port(&self, key: &'static str) -> Option<u16> {
        self.integer_in(key, 0..=65_535).map(|port| port as u16)
    }

    /// A duration: text as Go writes them (`1.5s`), or a whole number of milliseconds.
    pub(crate) fn duration(&self, key: &'static str) -> Option<Duration> {
        let parsed = match self.value(key)? {
            Value::Integer(millis) => u64::try_from(*millis)
                .map(Duration::from_millis)
                .map_err(|_| "is negative".to_owned()),
            Value::Text(text) => match duration::parse_nanos(text) {
                Ok(nanos) => u64::try_from(nanos)
                    .map(Duration::from_nanos)
                    .map_err(|_| "is negative".to_owned()),
                Err(reason) => Err(reason.to_string()),
            },
            other => Err(format!(
                "expected a duration such as \"10s\", or milliseconds, found {}",
                other.kind()
            )),
        };
        parsed.map_err(|reason| self.error(key, reason)).ok()
    }

    pub(crate) fn section(&self, key: &'static str) -> Option<Self> {
        let entries = self.typed(key, "an object", |value| match value {
            Value::Object(entries) => Some(entries.as_slice()),
            _ => None,
        })?;
        Some(self.inner(entries, self.path_of(key)))
    }

    pub(crate) fn sections(&self, key: &'static str) -> Option<Vec<Self>> {
        let items = self.typed(key, "an array", |value| match value {
            Value::Array(items) => Some(items),
            _ => None,
        })?;
        let item = |(index, item): (usize, &'a Value)| {
            let path = format!("{}[{index}]", self.path_of(key));
            match item {
                Value::Object(entries) => Some(self.inner(entries, path)),
                // Go leaves an element that is null as it was: empty.
                Value::Null if self.case == KeyCase::Ignored => Some(self.inner(&[], path)),
                other => {
                    self.problems.error(format!(
                        "{path}: expected an object, found {}",
                        other.kind()
                    ));
                    None
                }
            }
        };
        Some(items.iter().enumerate().filter_map(item).collect())
    }

    /// Takes note of keys that the original knows and that mean nothing here.
    pub(crate) fn ignore(&self, keys: &[&'static str], why: &str) {
        for key in keys {
            if self.has(key) {
                self.warn(key, why);
            }
        }
    }

    /// Warns about keys that nobody has read.
    pub(crate) fn finish(&self) {
        let read = self.read.borrow();
        for (key, _) in self.entries {
            if !read.iter().any(|known| self.same(known, key)) {
                self.warn(key, "unknown key, ignored");
            }
        }
    }

    fn inner(&self, entries: &'a [(String, Value)], path: String) -> Self {
        Self {
            entries,
            path,
            case: self.case,
            read: RefCell::default(),
            problems: self.problems,
        }
    }

    fn typed<T>(
        &self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let typed = read(value);
        if typed.is_none() {
            self.error(
                key,
                format_args!("expected {expected}, found {}", value.kind()),
            );
        }
        typed
    }

    /// The last value of the key that is not null.
    fn value(&self, key: &'static str) -> Option<&'a Value> {
        self.read.borrow_mut().push(key);
        let same = |(name, value): &&(String, Value)| self.same(key, name) && *value != Value::Null;
        self.entries.iter().rev().find(same).map(|(_, value)| value)
    }

    fn same(&self, known: &str, written: &str) -> bool {
        match self.case {
            KeyCase::Ignored => known.eq_ignore_ascii_case(written),
            KeyCase::Significant => known == written,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested(MAX_DEPTH).deserialize(deserializer)
    }
}

/// Deeper files are refused, before they can exhaust the stack.
const MAX_DEPTH: u8 = 32;

/// Reads a value in which objects and arrays may be nested this deep.
#[derive(Clone, Copy)]
struct Nested(u8);

impl Nested {
    fn inner<E: Error>(self) -> Result<Self, E> {
        self.0
            .checked_sub(1)
            .map(Self)
            .ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = array.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut entries = Vec::new();
        while let Some(key) = object.next_key::<String>()? {
            entries.push((key, object.next_value_seed(inner)?));
        }
        Ok(Value::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_key_wins_whatever_its_letter_case() {
        let value: Value = serde_json::from_str(r#"{"Port": 1, "PORT": 2, "port": null}"#).unwrap();
        let problems = Problems::default();
        let section = Section::top(&value, KeyCase::Ignored, &problems).unwrap();
        assert_eq!(section.port("port"), Some(2));
        let section = Section::top(&value, KeyCase::Significant, &problems).unwrap();
        assert_eq!(section.port("PORT"), Some(2));
        assert_eq!(section.port("port"), None);
    }

    #[test]
    fn problems_name_the_path_of_their_key() {
        let text = r#"{"nodes": [{"port": 1}, {"port": "2", "colour": 3}], "a": 1.5, "b": 99}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let problems = Problems::default();
        let top = Section::top(&value, KeyCase::Ignored, &problems).unwrap();
        for node in top.sections("nodes").unwrap() {
            node.port("port");
            node.finish();
        }
        top.integer("a");
        top.integer_in("b", 1..=9);
        assert_eq!(
            problems.errors.into_inner(),
            [
                "nodes[1].port: expected an integer, found a string",
                "a: expected an integer, found a number that is no integer",
                "b: 99 is not between 1 and 9",
            ]
        );
        assert_eq!(
            problems.warnings.into_inner(),
            ["nodes[1].colour: unknown key, ignored"]
        );
    }

    #[test]
    fn durations_are_go_text_or_milliseconds() {
        let value: Value =
            serde_json::from_str(r#"{"a": "1.5s", "b": 250, "c": "-1s", "d": "1x"}"#).unwrap();
        let problems = Problems::default();
        let top = Section::top(&value, KeyCase::Ignored, &problems).unwrap();
        assert_eq!(top.duration("a"), Some(Duration::from_millis(1_500)));
        assert_eq!(top.duration("b"), Some(Duration::from_millis(250)));
        assert_eq!((top.duration("c"), top.duration("d")), (None, None));
        let errors = [
            "c: is negative",
            "d: time: unknown unit \"x\" in duration \"1x\"",
        ];
        assert_eq!(problems.errors.into_inner(), errors);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(100_000);
        assert!(serde_json::from_str::<Value>(&deep).is_err());
        assert!(json5::from_str::<Value>(&deep).is_err());
    }
}
