//! Files by pattern, in Go's language: `*`, `?`, `[a-z]`, `[^a-z]` and `\` within one part of a path.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A pattern is none: a bracket is not closed, or nothing follows a backslash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A piece of a pattern.
enum Piece {
    Any,
    One,
    Char(char),
    /// Whether one of the ranges has to hold the character, or none of them.
    Class(bool, Vec<(char, char)>),
}

/// Lists the files of a pattern, each folder's in the order of names. A file that cannot be seen is not there.
pub(super) fn glob(pattern: &str) -> Result<Vec<PathBuf>, Malformed> {
    let parts = pattern.split('/').filter(|part| !part.is_empty());
    let parts: Vec<(&str, Vec<Piece>)> = parts
        .map(|part| Ok((part, pieces(part)?)))
        .collect::<Result<_, Malformed>>()?;
    let root = if pattern.starts_with('/') { "/" } else { "" };
    let mut found = vec![PathBuf::from(root)];
    for (part, pieces) in &parts {
        found = if part.contains(['*', '?', '[', '\\']) {
            found
                .iter()
                .flat_map(|folder| within(folder, pieces))
                .collect()
        } else {
            let joined = found.iter().map(|folder| folder.join(part));
            joined.filter(|path| path.exists()).collect()
        };
    }
    found.retain(|path| !path.as_os_str().is_empty());
    Ok(found)
}

fn within(folder: &Path, pieces: &[Piece]) -> Vec<PathBuf> {
    let place = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = fs::read_dir(place) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| matches(pieces, name)).collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

fn pieces(part: &str) -> Result<Vec<Piece>, Malformed> {
    let mut pieces = Vec::new();
    let mut chars = part.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => Piece::Char(chars.next().ok_or(Malformed)?),
            '[' => class(&mut chars)?,
            c => Piece::Char(c),
        });
    }
    Ok(pieces)
}

fn class(chars: &mut std::str::Chars<'_>) -> Result<Piece, Malformed> {
    let is_within = !chars.as_str().starts_with('^');
    if !is_within {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        if chars.as_str().starts_with(']') && !ranges.is_empty() {
            chars.next();
            return Ok(Piece::Class(is_within, ranges));
        }
        let first = class_char(chars)?;
        let mut last = first;
        if chars.as_str().starts_with('-') {
            chars.next();
            last = class_char(chars)?;
        }
        ranges.push((first, last));
    }
}

fn class_char(chars: &mut std::str::Chars<'_>) -> Result<char, Malformed> {
    match chars.next().ok_or(Malformed)? {
        '-' | ']' => Err(Malformed),
        '\\' => chars.next().ok_or(Malformed),
        c => Ok(c),
    }
}

/// Whether a name fits. After a mismatch only the last `*` takes one more character, so it costs at most length times length.
fn matches(pieces: &[Piece], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut piece, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let fits = match pieces.get(piece) {
            None if at == name.len() => return true,
            None => false,
            Some(Piece::Any) => {
                retry = Some((piece, at));
                piece += 1;
                continue;
            }
            Some(piece) => name.get(at).is_some_and(|c| piece.fits(*c)),
        };
        if fits {
            (piece, at) = (piece + 1, at + 1);
            continue;
        }
        match retry {
            Some((star, taken)) if taken < name.len() => {
                retry = Some((star, taken + 1));
                (piece, at) = (star + 1, taken + 1);
            }
            _ => return false,
        }
    }
}

impl Piece {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Char(own) => *own == c,
            Self::Class(is_within, ranges) => {
                ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&c))
                    == *is_within
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_go() {
        let f = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(
                matches(&pieces(pattern).unwrap(), name),
                expected,
                "{pattern} {name}"
            );
        };
        f("*.yml", "a.yml", true);
        f("*.yml", "a.yaml", false);
        f("a*b*c", "aXbYbZc", true);
        f("a*b*c", "aXbYbZ", false);
        f("*", "", true);
        f("?", "", false);
        f("[a-c]x", "bx", true);
        f("[^a-c]x", "bx", false);
        f(r"\*", "*", true);
        f(r"[\]]", "]", true);
        for wrong in ["[a", "[]", "[]a]", "[-]", "[a-]", r"a\", "[x-"] {
            assert!(pieces(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_come_in_order_and_missing_ones_not_at_all() {
        let folder = tempfile::TempDir::new().unwrap();
        for name in ["b.yml", "a.yml", "c.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let place = folder.path().display();
        let names = |pattern: String| -> Vec<String> {
            let found = glob(&pattern).unwrap();
            let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            found.iter().map(name).collect()
        };
        assert_eq!(names(format!("{place}/*.yml")), ["a.yml", "b.yml"]);
        assert_eq!(names(format!("{place}/c.txt")), ["c.txt"]);
        assert!(names(format!("{place}/d.txt")).is_empty());
        assert_eq!(glob("x/[a"), Err(Malformed));
    }
}
