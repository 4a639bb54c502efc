//! No query panics, whatever it asks of a few series.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use promql::parser::ParserOptions;
use promql::testing::{EngineSubject, MemoryStorage, Script, block_on, run};
use promql::{CancelToken, Engine, EngineOptions};

const SERIES: &str = r#"
load 15s
  a{g="x", i="1"} 0+3x40 stale 5 7 _x10 1+1x30
  a{g="x", i="2"} 10 20 _ _ 5 NaN -3 Inf 2+2x60
  b{g="y", i="1"} _x20 7+0.5x50
  h_bucket{g="x", le="1"} 0+1x80
  h_bucket{g="x", le="+Inf"} 0+3x80
  n{g="x"} {{schema:1 count:3 sum:4 buckets:[1 2]}}+{{schema:1 count:3 sum:4 buckets:[1 2]}}x40 _x5 {{schema:1 count:1 sum:1 buckets:[1]}}x10
"#;

fn options(base: ParserOptions) -> EngineOptions {
    EngineOptions {
        max_samples: 20_000,
        ..EngineOptions::new(base.with_all_features())
    }
}

static STORAGE: LazyLock<MemoryStorage> = LazyLock::new(|| {
    let mut subject = EngineSubject::new(Engine::new(options(ParserOptions::v3_14())));
    let script = Script::parse(SERIES).expect("the script is valid");
    assert!(run(&script, &mut subject).is_empty());
    subject.storage
});

fuzz_target!(|text: &str| {
    for base in [ParserOptions::v3_14(), ParserOptions::v3_5()] {
        let engine = Engine::new(options(base));
        let queries = [
            engine.instant_query(text, 600_000),
            engine.range_query(text, 0, 1_200_000, 150_000),
        ];
        for query in queries.into_iter().flatten() {
            drop(block_on(query.run(&*STORAGE, &CancelToken::default())));
        }
    }
});
