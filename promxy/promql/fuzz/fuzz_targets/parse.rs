//! No text harms the parsers and the printers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use promql::parser::{ParserOptions, parse, parse_selector, parse_series};

fuzz_target!(|text: &str| {
    for options in [ParserOptions::v3_14().with_all_features(), ParserOptions::v3_5()] {
        match parse(text, &options) {
            Ok(expr) => {
                let printed = expr.to_string();
                assert!(expr.pretty().len() >= printed.len());
                assert!(expr.to_json().ends_with('}'));
            }
            Err(error) => assert!(error.span().end <= text.len() && !error.to_string().is_empty()),
        }
        let _: Result<_, _> = parse_selector(text, &options);
    }
    let _: Result<_, _> = parse_series(text);
});
