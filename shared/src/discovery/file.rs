//! Members that a file lists, one address per line.
//!
//! A line is an address as it stands, without the white space around it. Empty lines and comments (`#` at the start of a
//! line, or after white space) are nothing. A change is found by reading the file again, once per interval and on request:
//! that also follows what watching misses, such as a mounted configuration map whose links are swapped.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

use super::{Answer, Error, Lookup, Member};

/// The label that says how many lines name a member; absent for one.
pub const LINES: &str = "__meta_file_lines";

/// The label that says which file a member is from, as Prometheus names it.
pub const PATH: &str = "__meta_filepath";

/// How much of a file is read; a longer one is refused.
const LARGEST: u64 = 16 << 20;

/// A file with one member per line.
#[derive(Debug, Clone)]
pub struct Lines {
    path: PathBuf,
}

impl Lines {
    /// Makes a source of the lines of `path`. The file need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Lookup for Lines {
    async fn look_up(&mut self) -> Result<Answer, Error> {
        let path = self.path.clone();
        let read = spawn_blocking(move || read(&path)).await;
        let path = self.path.display().to_string();
        let bytes = match read {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(reason)) => return Err(Error::File { path, reason }),
            Err(ended) => {
                let reason = io::Error::other(ended);
                return Err(Error::File { path, reason });
            }
        };
        Ok(parse(&bytes, &path))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        let text = format!("longer than {LARGEST} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Reads the members that `bytes` list. A line that cannot be an address is skipped and reported with its number.
fn parse(bytes: &[u8], path: &str) -> Answer {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut skipped = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        match address(line) {
            Ok(Some(address)) => *times.entry(address).or_default() += 1,
            Ok(None) => {}
            Err(problem) => skipped.push(format!("{path}:{number}: {problem}")),
        }
    }
    let member = |(address, times): (&str, usize)| {
        let mut member = Member::new(address);
        member.labels.insert(PATH.to_owned(), path.to_owned());
        if times > 1 {
            member.labels.insert(LINES.to_owned(), times.to_string());
        }
        member
    };
    Answer {
        members: times.into_iter().map(member).collect(),
        version: None,
        skipped,
    }
}

fn address(line: &[u8]) -> Result<Option<&str>, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?.trim();
    let mut words = line.split_whitespace();
    match words.next() {
        None => Ok(None),
        Some(word) if word.starts_with('#') => Ok(None),
        Some(word) if word.chars().any(char::is_control) => Err("a control character"),
        Some(word) => match words.next() {
            Some(next) if !next.starts_with('#') => Err("white space within an address"),
            _ => Ok(Some(word)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_address_or_nothing_or_reported_with_its_number() {
        let f = |text: &[u8], members: &[&str], skipped: &[&str]| {
            let answer = parse(text, "f");
            let addresses: Vec<_> = answer.members.iter().map(|m| m.address.as_str()).collect();
            assert_eq!(addresses, members, "{text:?}");
            assert_eq!(answer.skipped, skipped, "{text:?}");
        };
        f(b"", &[], &[]);
        f(
            b"http://b:9090\nhttp://a:9090",
            &["http://a:9090", "http://b:9090"],
            &[],
        );
        // Line ends of any kind, also the last; blanks and tabs around; empty lines.
        f(b"a:1\r\n\r\n \tb:2 \r\n", &["a:1", "b:2"], &[]);
        // A byte order mark.
        f("\u{feff}a:1\n".as_bytes(), &["a:1"], &[]);
        // Comments; a '#' within an address is part of it.
        f(
            b"# all\na:1 # first\n  #b:2\nhttp://c/#d\n",
            &["a:1", "http://c/#d"],
            &[],
        );
        // Lines that cannot be addresses take no other line with them.
        f(
            b"a:1 b:2\n\xff\nc:3\nd\0:4\n",
            &["c:3"],
            &[
                "f:1: white space within an address",
                "f:2: not UTF-8",
                "f:4: a control character",
            ],
        );
    }

    #[test]
    fn a_repeated_line_is_one_member_that_knows_how_often() {
        let answer = parse(b"a:1\nb:2\na:1\n", "f");
        let lines: Vec<_> = answer.members.iter().map(|m| m.labels.get(LINES)).collect();
        assert_eq!(lines, [Some(&"2".to_owned()), None]);
        assert!(
            answer
                .members
                .iter()
                .all(|m| m.labels.get(PATH).is_some_and(|path| path == "f"))
        );
    }
}
