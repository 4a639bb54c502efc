//! The metrics in the body of `POST /import`, each as the text that was received. Pure.
//!
//! An element is routed by three strings and forwarded as it came: `value` is checked, because the original refuses a
//! request with a bad one, but not decoded. What the original's JSON decoder takes is taken here too (keys in any letter
//! case, the last of two equal keys, lone surrogates, bytes that are not UTF-8); the spec's section 6 has the list.
//!
//! * [`body`](ImportBody): content encoding, size limit and text
//! * [`error`](ImportError): every refusal with its status and its text
//! * `scan`: keys and values of an element, and which of them are wrong

mod body;
mod error;
pub(crate) mod scan;

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize as _, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;

pub use self::{body::ImportBody, error::ImportError};

/// An element of an `/import` body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonMetric<'a> {
    /// The element as received, to be forwarded.
    pub text: &'a str,
    /// The name; empty if it is missing.
    pub name: Cow<'a, str>,
    /// The type as received: in any letter case, and perhaps none that exists.
    pub kind: Cow<'a, str>,
    /// The tags as they are routed, which need not agree with `tags`.
    pub tagstring: Cow<'a, str>,
    /// Whether nothing is set in it. Such an element is forwarded, but a request needs another one beside it.
    pub blank: bool,
}

/// Reads the first JSON value of `text`, which has to be an array of metrics, and shows them to `visit`; what follows it is not
/// looked at.
fn read<'a>(text: &'a str, visit: impl FnMut(JsonMetric<'a>)) -> Result<(), ImportError> {
    let start = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let mut json = serde_json::Deserializer::from_str(text);
    let outcome = match start.as_bytes().first() {
        None => return Err(ImportError::Eof),
        Some(b'[') => json.deserialize_seq(Elements(visit)),
        // A value of another type is refused as such only if it is whole.
        Some(b'{' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => {
            <&RawValue>::deserialize(&mut json).map(|value| match scan::Kind::of(value.get()) {
                scan::Kind::Null => Ok(Seen::default()),
                kind => Err(ImportError::Type(format!(
                    "the body is an array of metrics, not {kind}"
                ))),
            })
        }
        Some(_) => {
            let first = start.chars().next().unwrap_or_default();
            return Err(ImportError::Syntax(format!(
                "invalid character {first:?} looking for beginning of value"
            )));
        }
    };
    let seen = match outcome {
        Ok(seen) => seen?,
        Err(reason) if reason.is_eof() => return Err(ImportError::UnexpectedEof),
        Err(reason) => return Err(ImportError::Syntax(format!("invalid JSON: {reason}"))),
    };
    match seen {
        Seen { any: false, .. } => Err(ImportError::Empty),
        Seen { filled: false, .. } => Err(ImportError::AllBlank),
        Seen { .. } => Ok(()),
    }
}

/// What there was in an array.
#[derive(Debug, Default)]
struct Seen {
    /// An element.
    any: bool,
    /// One that is not blank.
    filled: bool,
}

/// Writes the body that carries these metrics to a destination: the elements as received, and a line feed after the
/// array as the original has it.
pub fn write_body<'a>(metrics: impl IntoIterator<Item = &'a JsonMetric<'a>>, body: &mut Vec<u8>) {
    body.push(b'[');
    let mut first = true;
    for metric in metrics {
        if !first {
            body.push(b',');
        }
        first = false;
        body.extend_from_slice(metric.text.as_bytes());
    }
    body.extend_from_slice(b"]\n");
}

/// Shows the elements; the first wrong one is an inner error, so that broken JSON behind it still comes first.
struct Elements<F>(F);

impl<'de, F: FnMut(JsonMetric<'de>)> Visitor<'de> for Elements<F> {
    type Value = Result<Seen, ImportError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of metrics")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut seen = Seen::default();
        let mut wrong = None;
        let mut place = 0;
        while let Some(element) = elements.next_element::<&RawValue>()? {
            match scan::element(element.get()) {
                Ok(metric) => {
                    seen.any = true;
                    seen.filled |= !metric.blank;
                    (self.0)(metric);
                }
                Err(reason) if wrong.is_none() => {
                    wrong = Some(ImportError::Type(format!("metric {place}: {reason}")));
                }
                Err(_) => {}
            }
            place += 1;
        }
        Ok(wrong.map_or(Ok(seen), Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_forwarded_as_received() {
        let text = r#" [ {"NAME" : "a","x":[1,{"y":"]"}], "type":"counter"} ,null, {"name":"b"}] trailing"#;
        let mut metrics = Vec::new();
        read(text, |metric| metrics.push(metric)).unwrap();
        assert_eq!(metrics[0].name, "a");
        assert_eq!(metrics[0].kind, "counter");
        assert!(metrics[1].blank);
        let mut body = Vec::new();
        write_body(&metrics[..2], &mut body);
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "[{\"NAME\" : \"a\",\"x\":[1,{\"y\":\"]\"}], \"type\":\"counter\"},null]\n"
        );
    }

    #[test]
    fn what_breaks_the_text_comes_before_what_is_wrong_in_it() {
        let f = |text: &str, expected: &str| {
            let refused = read(text, |_| {}).unwrap_err();
            assert_eq!(refused.to_string(), expected, "{text}");
        };
        f(r#"[{"name":1},{"name":"a""#, "unexpected EOF");
        f(
            r#"[{"name":1},{"name":2}]"#,
            "metric 0: \"name\" is a number, not a string",
        );
        f("  ", "EOF");
        f("{\"a\":", "unexpected EOF");
        f("{}", "the body is an array of metrics, not an object");
        f("]", "invalid character ']' looking for beginning of value");
        f(
            "[{\"name\":\"a\nb\"}]",
            "invalid JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 11",
        );
    }
}
