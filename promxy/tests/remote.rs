//! Remote read against what a Prometheus server sent.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

use promxy::remote::{
    RemoteError, decode, encode,
    frames::Frames,
    messages::{ReadRequest, ReadResponse},
    xor,
};
use proptest::prelude::*;
use prost::Message as _;
use serde::Deserialize;
use shared::testing::golden;

const MOST: usize = 1 << 20;

#[derive(Deserialize)]
struct Step {
    id: String,
    request: Request,
    prometheus: Answer,
}

#[derive(Deserialize)]
struct Request {
    body: Body,
}

#[derive(Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Bytes { base64: String },
    Text { text: String },
    Plain(String),
}

impl Body {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes { base64 } => golden::bytes(base64),
            Self::Text { text } | Self::Plain(text) => text.as_bytes().to_vec(),
        }
    }
}

#[test]
fn recorded_answers_of_a_server_are_read() {
    let steps: Vec<Step> = golden::json_lines(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/surface/remote_read.jsonl"
    ));
    let (mut messages, mut streams, mut samples, mut refused) = (0, 0, 0, 0);
    let mut plain = None;
    for step in &steps {
        let answer = &step.prometheus;
        let body = answer.body.bytes();
        if answer.status == 400 {
            let text = String::from_utf8(body).unwrap();
            let request = decode::<ReadRequest>(&request_bytes(&step.request.body), MOST);
            assert_eq!(format!("{}\n", request.unwrap_err()), text, "{}", step.id);
            refused += 1;
        } else if answer.status == 200
            && answer
                .headers
                .iter()
                .any(|(_, value)| value.contains("streamed"))
        {
            let mut frames = Frames::new(MOST);
            let mut found = Vec::new();
            for part in body.chunks(7) {
                frames.push(part);
                while let Some(frame) = frames.take().unwrap() {
                    for chunk in frame
                        .chunked_series
                        .iter()
                        .flat_map(|series| &series.chunks)
                    {
                        let read = xor::read(&chunk.data).unwrap();
                        assert_eq!(
                            (read[0].0, read[read.len() - 1].0),
                            (chunk.min_time_ms, chunk.max_time_ms)
                        );
                        found.extend(read);
                    }
                }
            }
            assert!(frames.is_at_end());
            samples += found.len();
            streams += 1;
        } else if answer.status == 200 {
            let response: ReadResponse = decode(&body, MOST).unwrap();
            assert_eq!(
                decode::<ReadResponse>(&encode(&response), MOST).unwrap(),
                response
            );
            let plain_bytes = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
            assert_eq!(
                response.encode_to_vec(),
                plain_bytes,
                "{}: no field is lost",
                step.id
            );
            plain = plain.or(Some(response));
            messages += 1;
        }
    }
    assert!(plain.is_some());
    println!(
        "remote_read.jsonl: {messages} messages and {streams} streams with {samples} samples read, {refused} requests refused, of {}",
        steps.len()
    );
    assert_eq!((messages, streams), (7, 2));
}

fn request_bytes(body: &Body) -> Vec<u8> {
    match body {
        Body::Plain(text) => golden::bytes(text),
        other => other.bytes(),
    }
}

/// Packs samples as Prometheus does, for the test of reading.
fn pack(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    let put = |bits: &mut Vec<bool>, value: u64, width: u32| {
        bits.extend((0..width).rev().map(|bit| value >> bit & 1 == 1));
    };
    let varint = |bits: &mut Vec<bool>, mut value: u64| {
        while value >= 0x80 {
            bits.extend((0..8).rev().map(|bit| (value as u8 | 0x80) >> bit & 1 == 1));
            value >>= 7;
        }
        bits.extend((0..8).rev().map(|bit| (value as u8) >> bit & 1 == 1));
    };
    let (mut time, mut delta, mut value) = (0i64, 0i64, 0u64);
    for (number, (at, sample)) in samples.iter().enumerate() {
        let next = sample.to_bits();
        match number {
            0 => {
                varint(&mut bits, ((at << 1) ^ (at >> 63)) as u64);
                put(&mut bits, next, 64);
            }
            1 => {
                delta = at - time;
                varint(&mut bits, delta as u64);
            }
            _ => {
                let change = (at - time) - delta;
                delta = at - time;
                let fits = |width: u32| {
                    -((1i64 << (width - 1)) - 1) <= change && change <= 1 << (width - 1)
                };
                if change == 0 {
                    put(&mut bits, 0, 1);
                } else if let Some((ones, width)) = [(1, 14), (2, 17), (3, 20)]
                    .into_iter()
                    .find(|(_, width)| fits(*width))
                {
                    put(&mut bits, (1 << (ones + 1)) - 2, ones + 1);
                    put(&mut bits, change as u64 & ((1 << width) - 1), width);
                } else {
                    put(&mut bits, 0b1111, 4);
                    put(&mut bits, change as u64, 64);
                }
            }
        }
        if number > 0 {
            let changed = value ^ next;
            if changed == 0 {
                put(&mut bits, 0, 1);
            } else {
                let (leading, trailing) =
                    (changed.leading_zeros().min(31), changed.trailing_zeros());
                let width = 64 - leading - trailing;
                put(&mut bits, 0b11, 2);
                put(&mut bits, u64::from(leading), 5);
                put(&mut bits, u64::from(width) & 63, 6);
                put(&mut bits, changed >> trailing, width);
            }
        }
        (time, value) = (*at, next);
    }
    let mut chunk = (samples.len() as u16).to_be_bytes().to_vec();
    chunk.extend(bits.chunks(8).map(|byte| {
        byte.iter()
            .enumerate()
            .fold(0u8, |sum, (at, bit)| sum | u8::from(*bit) << (7 - at))
    }));
    chunk
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packed_samples_are_read_back(start in -1000i64..1_700_000_000_000, steps in prop::collection::vec((prop_oneof![Just(15_000i64), 0i64..40_000, 0i64..9_000_000_000], prop_oneof![Just(1.0f64), any::<f64>()]), 0..60)) {
        let mut time = start;
        let samples: Vec<(i64, f64)> = steps.iter().map(|(step, value)| { time += step; (time, *value) }).collect();
        let read = xor::read(&pack(&samples)).unwrap();
        prop_assert_eq!(format!("{read:?}"), format!("{samples:?}"));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _either_way = xor::read(&bytes).is_ok();
        let _either_way = decode::<ReadRequest>(&bytes, MOST).is_ok();
        let mut frames = Frames::new(MOST);
        frames.push(&bytes);
        let _either_way = frames.take().is_ok();
    }
}

#[test]
fn messages_that_unpack_to_more_than_the_limit_are_refused() {
    let packed = snap::raw::Encoder::new()
        .compress_vec(&vec![0; 10_000])
        .unwrap();
    assert_eq!(
        decode::<ReadRequest>(&packed, 9_999),
        Err(RemoteError::TooLarge)
    );
}
