//! What is parsed, printed and parsed again is the same query; the tests have the same check for random queries.

#![no_main]

#[path = "../../tests/round_trip/mod.rs"]
mod round_trip;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _: bool = round_trip::check(text);
});
