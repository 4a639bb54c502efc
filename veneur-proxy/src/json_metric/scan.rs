//! The keys and values of one element.
//!
//! The text has been parsed before, so it is known to be JSON; here its parts are found, with no copy unless a string has
//! escapes. On any other text the answers are meaningless, but there are answers.

use std::{borrow::Cow, fmt};

use super::JsonMetric;

/// The type of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    /// Tells it by the first character.
    pub(crate) fn of(value: &str) -> Self {
        match value.as_bytes().first() {
            Some(b'"') => Self::String,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Bool,
            _ => Self::Number,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}

/// The keys that a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Name,
    Type,
    Tagstring,
    Tags,
    Value,
}

impl Key {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Name, "name"),
        (Self::Type, "type"),
        (Self::Tagstring, "tagstring"),
        (Self::Tags, "tags"),
        (Self::Value, "value"),
    ];

    /// Reads a key with its quotes: letter case does not matter, and neither do the two letters that Unicode folds into
    /// ASCII.
    fn read(quoted: &str) -> Option<Self> {
        let written = string(quoted);
        let fold = |c: char| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        };
        Self::ALL
            .into_iter()
            .find(|(_, name)| *written == **name || written.chars().map(fold).eq(name.chars()))
            .map(|(key, _)| key)
    }
}

/// Reads an element: an object or null.
pub(crate) fn element(text: &str) -> Result<JsonMetric<'_>, String> {
    let mut metric = JsonMetric {
        text,
        name: Cow::Borrowed(""),
        kind: Cow::Borrowed(""),
        tagstring: Cow::Borrowed(""),
        blank: true,
    };
    let (mut tags, mut value_present) = (false, false);
    match Kind::of(text) {
        Kind::Object => {}
        Kind::Null => return Ok(metric),
        kind => return Err(format!("{kind} is not a metric")),
    }
    for (key, value) in members(text) {
        let (field, name) = match key {
            Key::Tags => {
                tags = is_list_of_tags(value)?;
                continue;
            }
            Key::Value => {
                value_present = is_value(value)?;
                continue;
            }
            Key::Name => (&mut metric.name, "name"),
            Key::Type => (&mut metric.kind, "type"),
            Key::Tagstring => (&mut metric.tagstring, "tagstring"),
        };
        match Kind::of(value) {
            // Null leaves what an earlier key of the same name has set.
            Kind::Null => {}
            Kind::String => *field = string(value),
            kind => return Err(format!("\"{name}\" is {kind}, not a string")),
        }
    }
    metric.blank = !tags
        && !value_present
        && metric.name.is_empty()
        && metric.kind.is_empty()
        && metric.tagstring.is_empty();
    Ok(metric)
}

/// Returns the known keys of an object with their values' texts, in order.
pub(crate) fn members(object: &str) -> impl Iterator<Item = (Key, &str)> {
    let mut values = Values::of(object);
    std::iter::from_fn(move || {
        let key = values.next()?;
        Some((key, values.next()?))
    })
    .filter_map(|(key, value)| Some((Key::read(key)?, value)))
}

/// Returns the texts of an array's elements.
pub(crate) fn elements(array: &str) -> impl Iterator<Item = &str> {
    Values::of(array)
}

/// Decodes a string with its quotes; half a surrogate pair becomes U+FFFD.
pub(crate) fn string(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.strip_prefix('"').unwrap_or(quoted);
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut after = escaped.chars();
        match after.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('u') => {
                let (unit, tail) = code_unit(after.as_str());
                after = tail.chars();
                text.push(match (unit, tail.strip_prefix("\\u").map(code_unit)) {
                    (0xd800..=0xdbff, Some((low @ 0xdc00..=0xdfff, tail))) => {
                        after = tail.chars();
                        let pair = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                });
            }
            Some(other) => text.push(other),
            None => {}
        }
        rest = after.as_str();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The four digits behind `\u`, and what follows them.
fn code_unit(text: &str) -> (u32, &str) {
    let (digits, rest) = text.split_at_checked(4).unwrap_or((text, ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0xfffd), rest)
}

/// Whether `tags` is there; wrong if it is no list of strings.
fn is_list_of_tags(value: &str) -> Result<bool, String> {
    match Kind::of(value) {
        Kind::Null => return Ok(false),
        Kind::Array => {}
        kind => return Err(format!("\"tags\" is {kind}, not an array")),
    }
    match elements(value)
        .map(Kind::of)
        .find(|kind| !matches!(kind, Kind::String | Kind::Null))
    {
        Some(kind) => Err(format!("\"tags\" holds {kind}, not a string")),
        None => Ok(true),
    }
}

/// Whether `value` is there; wrong if it is neither base64 nor a list of byte numbers.
fn is_value(value: &str) -> Result<bool, String> {
    match Kind::of(value) {
        Kind::Null => Ok(false),
        Kind::String if is_base64(string(value).as_bytes()) => Ok(true),
        Kind::String => Err("\"value\" is not base64".to_owned()),
        Kind::Array => match elements(value).find(|element| byte(element).is_none()) {
            Some(other) => Err(format!("\"value\" holds {other}, not a byte")),
            None => Ok(true),
        },
        kind => Err(format!("\"value\" is {kind}, not base64")),
    }
}

/// Reads an element of a list of bytes, in which null is 0.
pub(crate) fn byte(element: &str) -> Option<u8> {
    match element {
        "null" => Some(0),
        // Go's parser takes digits alone; Rust's would take a plus sign, which JSON does not have.
        digits => digits.parse().ok(),
    }
}

/// Whether it is base64 in the standard alphabet with padding; line ends may stand anywhere.
fn is_base64(text: &[u8]) -> bool {
    let digits = text.strip_suffix(b"=").unwrap_or(text);
    let digits = digits.strip_suffix(b"=").unwrap_or(digits);
    // Without a branch for each byte, so that many are looked at in one step: values are most of a body.
    let plain = digits.iter().fold(true, |all, byte| all & is_digit(*byte));
    if plain {
        return is_whole(digits.len(), text.len() - digits.len());
    }
    let (mut length, mut padding) = (0, 0);
    for byte in text {
        match byte {
            b'\r' | b'\n' => {}
            b'=' => padding += 1,
            byte if padding == 0 && is_digit(*byte) => length += 1,
            _ => return false,
        }
    }
    is_whole(length, padding)
}

/// Whether it is one of the 64.
fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Whether so many digits and signs of padding can stand for bytes.
fn is_whole(digits: usize, padding: usize) -> bool {
    (digits + padding).is_multiple_of(4) && padding <= 2 && (padding == 0 || digits % 4 >= 2)
}

/// The values in an array, or keys and values in turn in an object.
struct Values<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Values<'a> {
    fn of(container: &'a str) -> Self {
        Self {
            text: container,
            at: 1,
        }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let between = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':');
        let start = self.at
            + bytes
                .get(self.at..)?
                .iter()
                .take_while(|b| between(b))
                .count();
        let end = match bytes.get(start)? {
            b']' | b'}' => return None,
            b'"' => end_of_string(bytes, start),
            b'[' | b'{' => end_of_container(bytes, start),
            _ => {
                let ends = |byte: &u8| between(byte) || matches!(byte, b']' | b'}');
                start + bytes[start..].iter().take_while(|b| !ends(b)).count()
            }
        };
        self.at = end;
        self.text.get(start..end)
    }
}

/// The place after the closing quote of the string at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = bytes
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += found + 1;
        if bytes[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// The place after the closing bracket of the container at `start`.
fn end_of_container(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(bytes, at);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_decoded_as_go_does() {
        let f = |quoted: &str, expected: &str| assert_eq!(string(quoted), expected, "{quoted}");
        f(r#""plain""#, "plain");
        f(r#""a\"\\\/\b\f\n\r\t\u00e9""#, "a\"\\/\u{8}\u{c}\n\r\té");
        f(r#""\ud83d\ude00""#, "😀");
        // Halves of pairs.
        f(r#""\ud83d""#, "\u{fffd}");
        f(r#""\ud83dx\ude00""#, "\u{fffd}x\u{fffd}");
        f(r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀");
    }

    #[test]
    fn keys_match_in_any_letter_case_and_the_last_one_wins() {
        let metric = element(
            "{\"Name\":\"a\",\"nAME\":\"b\",\"name\":null,\"tag\u{17f}tring\":\"t\",\"x\":1}",
        )
        .unwrap();
        assert_eq!(
            (metric.name.as_ref(), metric.tagstring.as_ref()),
            ("b", "t")
        );
    }

    #[test]
    fn base64_is_checked_as_go_does() {
        let f =
            |text: &str, expected: bool| assert_eq!(is_base64(text.as_bytes()), expected, "{text}");
        f("", true);
        f("AQAAAAAAAAA=", true);
        f("AA\n==\r\n", true);
        f("AQ", false);
        f("A===", false);
        f("====", false);
        f("AA=A", false);
        f("_-8=", false);
    }

    #[test]
    fn wrong_types_are_named() {
        let f = |text: &str, expected: &str| assert_eq!(element(text), Err(expected.to_owned()));
        f(r#"{"tags":"x"}"#, "\"tags\" is a string, not an array");
        f(
            r#"{"tags":["x",{}]}"#,
            "\"tags\" holds an object, not a string",
        );
        f(r#"{"value":[1,256]}"#, "\"value\" holds 256, not a byte");
        f(r#"{"value":[1.0]}"#, "\"value\" holds 1.0, not a byte");
        f(r#"{"value":true}"#, "\"value\" is a boolean, not base64");
        f("5", "a number is not a metric");
    }

    #[test]
    fn no_text_makes_the_scanner_panic() {
        for text in [
            "{",
            "{\"",
            "{\"a\\",
            "[]]}",
            "{]}}",
            "{\"name\":\"\\u12",
            "{\"name\":\"\\",
            "[é",
        ] {
            assert!(members(text).count() + elements(text).count() < 10);
            assert!(string(text).len() < 100);
        }
    }
}
