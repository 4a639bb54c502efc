//! Golden data as the tests want it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses its part"
)]

use std::{fs, path::PathBuf};

use serde::Deserialize;
use shared::testing::golden;
use veneur_proxy::wire;

/// The path of a golden file.
pub fn path(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden", file]
        .iter()
        .collect()
}

/// The bytes of a golden file.
#[track_caller]
pub fn bytes(file: &str) -> Vec<u8> {
    fs::read(path(file)).unwrap_or_else(|reason| panic!("{file}: {reason}"))
}

/// Messages that are each preceded by a length of four bytes.
pub fn delimited(file: &str) -> Vec<Vec<u8>> {
    let bytes = bytes(file);
    let mut rest = &bytes[..];
    let mut messages = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (message, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        messages.push(message.to_vec());
        rest = after;
    }
    assert!(rest.is_empty(), "{file}");
    messages
}

/// The messages that local veneurs sent, by version.
pub fn captured_grpc() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let list = |version| {
        let bytes = bytes(&format!("local-captures/{version}-grpc/metriclist.bin"));
        let metrics = wire::read_list(&bytes).unwrap();
        (
            version,
            metrics
                .iter()
                .map(|metric| metric.message().to_vec())
                .collect(),
        )
    };
    vec![
        list("v1.9.0"),
        list("v13.2.0"),
        (
            "v14",
            delimited("local-captures/v14-grpc/metrics.delimited.bin"),
        ),
    ]
}

/// The single metrics with unusual encodings.
pub fn odd_metrics() -> Vec<Vec<u8>> {
    #[derive(Deserialize)]
    struct Odd {
        hex: String,
    }
    golden::json_lines::<Odd>(path("inputs/odd.metrics.jsonl"))
        .iter()
        .map(|odd| hex(&odd.hex))
        .collect()
}

/// Decodes hexadecimal digits.
pub fn hex(digits: &str) -> Vec<u8> {
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
