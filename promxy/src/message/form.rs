//! Parameters of requests, read as Go's `net/http` reads them.
//!
//! Values of the body come before those of the URL. A pair with a broken escape is left out alone, and so is one with a semicolon,
//! which separates nothing.

use http::{HeaderMap, Method, header::CONTENT_TYPE};

/// Names and values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the parameters of a URL, and those of a body if it is a form and the method has one.
    pub fn read(method: &Method, headers: &HeaderMap, query: &str, body: &[u8]) -> Self {
        let mut pairs = Vec::new();
        if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
            let kind = headers
                .get(CONTENT_TYPE)
                .and_then(|kind| kind.to_str().ok());
            let kind = kind.unwrap_or_default();
            let (media_type, parameters) = kind.split_once(';').unwrap_or((kind, ""));
            match media_type.trim().to_ascii_lowercase().as_str() {
                "application/x-www-form-urlencoded" => {
                    read_pairs(&String::from_utf8_lossy(body), &mut pairs);
                }
                "multipart/form-data" => read_parts(parameters, body, &mut pairs),
                _ => {}
            }
        }
        read_pairs(query, &mut pairs);
        Self(pairs)
    }

    /// Returns the first value of a name, empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        let mut named = self.0.iter().filter(|(key, _)| key == name);
        named.next().map_or("", |(_, value)| value.as_str())
    }

    /// Returns all values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }

    /// Writes all pairs as a URL has them.
    pub fn encoded(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            if !out.is_empty() {
                out.push('&');
            }
            encode(name, &mut out);
            out.push('=');
            encode(value, &mut out);
        }
        out
    }
}

fn read_pairs(text: &str, pairs: &mut Vec<(String, String)>) {
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if pair.contains(';') {
            continue;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(name), Some(value)) = (decode(name), decode(value)) {
            pairs.push((name, value));
        }
    }
}

/// Undoes the escapes of a parameter; `None` if one is broken.
fn decode(text: &str) -> Option<String> {
    let bytes = unescape(text.as_bytes(), Plus::IsSpace)?;
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// What a plus sign stands for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Plus {
    /// A space, as in parameters.
    IsSpace,
    /// Itself, as in paths.
    IsItself,
}

/// Undoes percent escapes; `None` if one is broken.
pub(crate) fn unescape(text: &[u8], plus: Plus) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(*bytes.next()?).to_digit(16)?;
                let low = char::from(*bytes.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            b'+' if plus == Plus::IsSpace => b' ',
            byte => byte,
        });
    }
    Some(out)
}

fn encode(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            byte => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
}

/// Reads the parts of a `multipart/form-data` body that are no files.
fn read_parts(parameters: &str, body: &[u8], pairs: &mut Vec<(String, String)>) {
    let Some(boundary) = parameter(parameters, "boundary") else {
        return;
    };
    let body = String::from_utf8_lossy(body);
    // The first boundary has no line before it.
    let body = format!("\r\n{body}");
    let delimiter = format!("\r\n--{boundary}");
    for part in body.split(delimiter.as_str()).skip(1) {
        if part.starts_with("--") {
            return;
        }
        let Some((head, value)) = part.split_once("\r\n\r\n") else {
            continue;
        };
        let disposition = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-disposition")
                .then_some(value)
        });
        let disposition = disposition.unwrap_or_default();
        if parameter(disposition, "filename").is_none()
            && let Some(name) = parameter(disposition, "name")
        {
            pairs.push((name, value.to_owned()));
        }
    }
}

/// Returns a parameter of a header's value.
fn parameter(header: &str, name: &str) -> Option<String> {
    header.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"').to_owned();
        key.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn form(kind: &'static str, query: &str, body: &str) -> Form {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        Form::read(&Method::POST, &headers, query, body.as_bytes())
    }

    #[test]
    fn values_of_the_body_come_first() {
        let form = form(
            "application/x-www-form-urlencoded; charset=utf-8",
            "query=2&a=1",
            "query=1+%2B&x=",
        );
        assert_eq!(form.get("query"), "1 +");
        assert_eq!(form.all("query").collect::<Vec<_>>(), ["1 +", "2"]);
        assert_eq!((form.get("a"), form.get("x"), form.get("y")), ("1", "", ""));
        assert_eq!(form.encoded(), "query=1+%2B&x=&query=2&a=1");
    }

    #[test]
    fn broken_pairs_are_left_out_and_other_bodies_are_none() {
        assert_eq!(
            form("text/plain", "query=%zz&a=1;b=2&c", "query=1").encoded(),
            "c="
        );
    }

    #[test]
    fn parts_are_parameters_unless_they_are_files() {
        let body = "--x\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nup\r\n\
                    --x\r\ncontent-disposition: form-data; name=f; filename=\"f\"\r\n\r\nz\r\n--x--\r\n";
        assert_eq!(
            form("multipart/form-data; boundary=x", "", body).encoded(),
            "query=up"
        );
        assert_eq!(form("multipart/form-data", "", body).encoded(), "");
    }
}
