//! Addresses from a file, one per line. The file is read again in every round, so that an edit needs no signal.
//!
//! Blank lines and comments (`#` at the start or after white space) are skipped; a line that is no address is reported with its
//! number. Pinned by `tests/golden/mpp/locators/endpoints-file.json`.

use std::{fmt, io, path::PathBuf};

use super::{Found, LocateError};
use crate::endpoint::Endpoint;

/// The longest file that is read: beyond it something else was meant.
const LONGEST: u64 = 16 << 20;

/// A file of addresses.
#[derive(Debug)]
pub struct FileLocator {
    path: PathBuf,
}

impl FileLocator {
    /// Looks at nothing yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) async fn locate(&self) -> Result<Found, LocateError> {
        let failed = |reason| LocateError::File {
            path: self.path.display().to_string(),
            reason,
        };
        let length = tokio::fs::metadata(&self.path).await.map_err(failed)?.len();
        if length > LONGEST {
            return Err(failed(io::Error::other("too long for a list of addresses")));
        }
        let bytes = tokio::fs::read(&self.path).await.map_err(failed)?;
        let found = parse(&String::from_utf8_lossy(&bytes));
        if found.endpoints.is_empty() && found.skipped.is_empty() {
            return Err(LocateError::Empty);
        }
        Ok(found)
    }
}

impl fmt::Display for FileLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As Go prints the original's struct.
        write!(f, "&{{{}}}", self.path.display())
    }
}

/// Reads the text of an endpoints file.
pub fn parse(text: &str) -> Found {
    let mut found = Found::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in text.split(['\n', '\r']).enumerate() {
        // Numbers as editors count: a carriage return before a line feed does not start a line.
        let line = without_comment(line).trim();
        if line.is_empty() {
            continue;
        }
        match Endpoint::parse(line) {
            Ok(endpoint) => found.endpoints.push(endpoint),
            Err(reason) => found
                .skipped
                .push(format!("line {}: {reason}", line_number(text, number))),
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    let is_comment = |at: &usize| {
        line.get(..*at)
            .and_then(|before| before.chars().next_back())
            .is_none_or(char::is_whitespace)
    };
    let start = line.match_indices('#').map(|(at, _)| at).find(is_comment);
    start.and_then(|at| line.get(..at)).unwrap_or(line)
}

/// The number of the line, from 1, in which part `part` of the text (split at each line feed and carriage return) lies.
fn line_number(text: &str, part: usize) -> usize {
    let mut ends = text.bytes().zip(text.bytes().skip(1).chain([0]));
    let mut seen = 0;
    let mut number = 1;
    while seen < part {
        let Some((byte, next)) = ends.next() else {
            break;
        };
        if byte == b'\n' || byte == b'\r' {
            seen += 1;
            if !(byte == b'\r' && next == b'\n') {
                number += 1;
            }
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        parse(text)
            .endpoints
            .iter()
            .map(|endpoint| endpoint.address().to_owned())
            .collect()
    }

    #[test]
    fn lines_are_trimmed_and_comments_skipped() {
        let f = |text: &str, expected: &[&str]| assert_eq!(addresses(text), expected, "{text:?}");
        f("http://a:1\nhttp://b:2", &["http://a:1", "http://b:2"]);
        f(
            "\u{feff}http://a:1\r\nhttp://b:2\r\n",
            &["http://a:1", "http://b:2"],
        );
        f("\n \n# all\n\thttp://a:1\t\n", &["http://a:1"]);
        f("a:1 # first\nb:2#c", &["http://a:1"]);
        f("a:1\na:1", &["http://a:1", "http://a:1"]);
    }

    #[test]
    fn a_bad_line_is_reported_with_its_number_and_skipped() {
        let found = parse("http://a:1\r\n\r\nhttp://[::1\r\nb:2\nftp://c\n");
        assert_eq!(found.endpoints.len(), 2);
        assert!(
            found.skipped[0].starts_with("line 3: not a URL"),
            "{:?}",
            found.skipped
        );
        assert!(
            found.skipped[1].starts_with("line 5: scheme"),
            "{:?}",
            found.skipped
        );
    }
}
