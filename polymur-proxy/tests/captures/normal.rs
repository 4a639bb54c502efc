//! What differs on every run taken out of log lines, request heads and own metrics, and how two of a kind are compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Makes two log lines equal that differ only in what differs on every run.
pub(crate) fn normal(line: &str) -> String {
    let line = line
        .get(20..)
        .filter(|_| line.as_bytes().get(4) == Some(&b'/') && line.as_bytes().get(13) == Some(&b':'))
        .unwrap_or(line);
    let mut out = String::new();
    for word in line.split(' ') {
        if !out.is_empty() || line.starts_with(' ') {
            out.push(' ');
        }
        out.push_str(&normal_word(word));
    }
    // The first word is not preceded by a blank.
    out
}

pub(crate) fn normal_word(word: &str) -> String {
    let starts_with_digit = word.starts_with(|c: char| c.is_ascii_digit());
    if starts_with_digit
        && (word.ends_with("ms") || word.ends_with("µs") || word.ends_with('s'))
        && !word.contains(':')
    {
        return "D".to_owned();
    }
    if let Some(number) = word.strip_prefix('#')
        && number
            .trim_end_matches(']')
            .chars()
            .all(|c| c.is_ascii_digit())
    {
        return word.replace(number.trim_end_matches(']'), "N");
    }
    if word.len() == 20 && word.ends_with('Z') && word.contains('T') {
        return "TIME".to_owned();
    }
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find("127.0.0.1:") {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        out.push('A');
        rest = found
            .trim_start_matches("127.0.0.1:")
            .trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out.push_str(rest);
    match out.split_once("localhost:") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}localhost:P{after}")
        }
        None => out,
    }
}

/// Lines that say nothing about behaviour, or are there on all our runs.
pub(crate) fn is_background(line: &str) -> bool {
    line.starts_with("Last ")
        || line.starts_with("drained ")
        || line.starts_with("(capture note")
        || line.contains("sending batch (0 data points)")
        || line.contains(" more identical lines left out")
}

pub(crate) fn log_of(lines: impl IntoIterator<Item = impl AsRef<str>>) -> BTreeSet<String> {
    let normal = lines.into_iter().map(|line| normal(line.as_ref()));
    normal.filter(|line| !is_background(line)).collect()
}

pub(crate) fn recorded_log(capture: &Value) -> BTreeSet<String> {
    let lines = capture["stderr"].as_array().unwrap();
    log_of(lines.iter().map(|line| line[1].as_str().unwrap()))
}

/// What differs between two sets, in words.
pub(crate) fn difference(
    what: &str,
    expected: &BTreeSet<String>,
    got: &BTreeSet<String>,
) -> Vec<String> {
    let missing = expected
        .difference(got)
        .map(|line| format!("{what} missing: {line:?}"));
    let unexpected = got
        .difference(expected)
        .map(|line| format!("{what} unexpected: {line:?}"));
    missing.chain(unexpected).collect()
}

pub(crate) fn count(batches: &[Vec<u8>]) -> BTreeMap<&[u8], usize> {
    let mut counts = BTreeMap::new();
    for batch in batches {
        *counts.entry(batch.as_slice()).or_default() += 1;
    }
    counts
}

pub(crate) fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let head: String = text.chars().take(80).collect();
    format!("{} bytes {head:?}", bytes.len())
}

/// Returns the head with the numbers replaced that are those of a run.
pub(crate) fn normal_head(head: &str, port_of_capture: Option<u16>, port: u16) -> String {
    let lines = head.split("\r\n").map(|line| {
        if line.starts_with("Content-Length: ") && line != "Content-Length: 0" {
            return "Content-Length: N".to_owned();
        }
        let recorded = port_of_capture.map_or(String::new(), |port| format!(":{port}"));
        let line = line.replace(&format!(":{port}"), ":P");
        if recorded.is_empty() {
            line
        } else {
            line.replace(&recorded, ":P")
        }
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

/// Returns a batch with names of own metrics only, sorted: their values and their host are those of a run, and the
/// original's order is random.
pub(crate) fn normal_batch(batch: &[u8]) -> Vec<u8> {
    if memchr::memmem::find(batch, b".polymur.runtime.").is_none() {
        return batch.to_vec();
    }
    let text = String::from_utf8(batch.to_vec()).unwrap();
    let mut names: Vec<&str> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words.len(), 3, "{line}");
            assert!(words[1].parse::<f64>().is_ok(), "{line}");
            assert!(words[2].parse::<u64>().is_ok(), "{line}");
            let (_, name) = words[0].split_once(".polymur.").unwrap();
            name
        })
        .collect();
    names.sort_unstable();
    names.join("\n").into_bytes()
}
