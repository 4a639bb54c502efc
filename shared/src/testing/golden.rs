//! Loading data that was recorded from the originals.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::de::DeserializeOwned;

/// Reads a JSON file.
#[track_caller]
pub fn json<T: DeserializeOwned>(path: impl AsRef<Path>) -> T {
    let path = path.as_ref();
    let text = fs::read(path).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
}

/// Reads a file with one JSON value per line.
#[track_caller]
pub fn json_lines<T: DeserializeOwned>(path: impl AsRef<Path>) -> Vec<T> {
    let path = path.as_ref();
    let text =
        fs::read_to_string(path).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()));
    let parse = |line| {
        serde_json::from_str(line)
            .unwrap_or_else(|reason| panic!("{}: {reason}: {line}", path.display()))
    };
    text.lines().map(parse).collect()
}

/// Decodes base64, the form in which golden files hold bytes.
#[track_caller]
pub fn bytes(base64: &str) -> Vec<u8> {
    STANDARD
        .decode(base64)
        .unwrap_or_else(|reason| panic!("not base64: {reason}: {base64}"))
}
