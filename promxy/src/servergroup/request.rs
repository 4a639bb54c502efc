//! Requests to targets, before they have a target: paths, parameters, and how both are written.
//!
//! Parameters are written as Go's `url.Values` writes them, sorted by name, because proxies and caches behind may look at them.

use std::fmt::Write as _;

/// What a request is for, as the label `call` of its metrics names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    LabelValues,
    LabelNames,
    Query,
    QueryRange,
    Series,
    Raw,
    Exemplars,
}

impl Call {
    /// All calls, in the order of their numbers.
    pub(crate) const ALL: [Self; 7] = [
        Self::LabelValues,
        Self::LabelNames,
        Self::Query,
        Self::QueryRange,
        Self::Series,
        Self::Raw,
        Self::Exemplars,
    ];

    /// Returns the name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LabelValues => "label_values",
            Self::LabelNames => "label_names",
            Self::Query => "query",
            Self::QueryRange => "query_range",
            Self::Series => "series",
            Self::Raw => "get_value",
            Self::Exemplars => "query_exemplars",
        }
    }
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// As a form, and as a query string to servers that take no forms.
    Form,
    /// As a query string.
    Get,
}

/// A request to the API of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiRequest {
    pub(crate) call: Call,
    pub(crate) method: Method,
    /// Behind the target's URL, with a slash in front, escaped.
    pub(crate) path: String,
    pub(crate) params: Vec<(&'static str, String)>,
    /// Whether the answer may be packed.
    pub(crate) is_packed: bool,
}

impl ApiRequest {
    /// Starts a request with a form.
    pub(crate) fn form(call: Call, path: &str) -> Self {
        Self::new(call, Method::Form, path.to_owned())
    }

    /// Starts a request with a query string.
    pub(crate) fn get(call: Call, path: String) -> Self {
        Self::new(call, Method::Get, path)
    }

    fn new(call: Call, method: Method, path: String) -> Self {
        let params = Vec::new();
        Self {
            call,
            method,
            path,
            params,
            is_packed: true,
        }
    }

    /// Asks for an answer that is not packed, if that is what is wanted.
    pub(crate) fn plain_if(mut self, is_plain: bool) -> Self {
        self.is_packed = !is_plain;
        self
    }

    /// Adds a parameter.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.params.push((name, value.into()));
        self
    }

    /// Adds a time, if there is one.
    pub(crate) fn with_time(self, name: &'static str, millis: Option<i64>) -> Self {
        match millis {
            Some(millis) => self.with(name, seconds(millis)),
            None => self,
        }
    }

    /// Writes the parameters and those that every request has.
    pub(crate) fn encoded(&self, always: &[(String, String)]) -> String {
        let own = self
            .params
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let always = always
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        encode(own.chain(always))
    }
}

/// Writes parameters, sorted by name; those of one name stay in their order.
pub(crate) fn encode<'a>(params: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut params: Vec<(&str, &str)> = params.collect();
    params.sort_by_key(|(name, _)| *name);
    let mut text = String::new();
    for (name, value) in params {
        if !text.is_empty() {
            text.push('&');
        }
        escape(name, Space::Plus, &mut text);
        text.push('=');
        escape(value, Space::Plus, &mut text);
    }
    text
}

/// Writes a word as one segment of a path.
pub(crate) fn segment(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    escape(word, Space::Percent, &mut text);
    text
}

/// How a space is written.
#[derive(Clone, Copy)]
enum Space {
    Plus,
    Percent,
}

fn escape(text: &str, space: Space, out: &mut String) {
    for byte in text.bytes() {
        match (byte, space) {
            (b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~', _) => {
                out.push(char::from(byte));
            }
            (b' ', Space::Plus) => out.push('+'),
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
}

/// Writes milliseconds as seconds with as few decimals as it takes.
pub(crate) fn seconds(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let (whole, rest) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let decimals = format!("{rest:03}");
    format!("{sign}{whole}.{}", decimals.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_no_more_decimals_than_needed() {
        let f = |millis: i64, expected: &str| assert_eq!(seconds(millis), expected);
        f(1_700_000_000_000, "1700000000");
        f(1_700_000_699_500, "1700000699.5");
        f(1_795_207_829_797, "1795207829.797");
        f(-50, "-0.05");
        f(0, "0");
        f(i64::MIN, "-9223372036854775.808");
    }

    #[test]
    fn parameters_are_sorted_and_escaped_as_go_does() {
        let request = ApiRequest::form(Call::Query, "/api/v1/query")
            .with("time", "1")
            .with("query", r#"{__name__="up"}[10s] ~/é"#);
        let always = [("foo".to_owned(), "b c".to_owned())];
        assert_eq!(
            request.encoded(&always),
            "foo=b+c&query=%7B__name__%3D%22up%22%7D%5B10s%5D+~%2F%C3%A9&time=1"
        );
        assert_eq!(segment("a b/c"), "a%20b%2Fc");
    }
}
