//! Chunks of native histograms: what is written is read back, and what Prometheus would write is read.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod integers;

use std::sync::Arc;

use promql::{
    histogram::{CounterResetHint, FloatHistogram, HistogramParts, Span},
    storage::{is_stale, stale_marker},
};
use promxy::{
    remote::{
        RemoteError,
        chunks::{Content, open, pack},
        messages::Chunk,
    },
    series::{Native, Samples},
};
use proptest::prelude::*;

use self::integers::{Bits, integers, pack_integers};

/// Reads all chunks, floats and histograms apart.
fn unpack(chunks: &[Chunk]) -> Result<Samples<Native>, RemoteError> {
    let mut all = Samples::default();
    for chunk in chunks {
        match open(chunk)? {
            Content::Floats(floats) => all.floats.extend(floats),
            Content::Histograms(histograms) => {
                for sample in histograms {
                    let (time, histogram) = sample?;
                    all.histograms.push((time, Arc::new(histogram)));
                }
            }
        }
    }
    Ok(all)
}

fn histogram(text: &str) -> Native {
    Arc::new(FloatHistogram::from_text(text).unwrap())
}

fn of_histograms(histograms: Vec<(i64, Native)>) -> Samples<Native> {
    let floats = Vec::new();
    Samples { floats, histograms }
}

/// What a histogram is made of, its hint aside.
fn shape(histogram: &FloatHistogram) -> String {
    let parts = HistogramParts {
        hint: CounterResetHint::Unknown,
        ..histogram.to_parts()
    };
    format!("{parts:?}")
}

#[test]
fn layouts_and_resets_cut_chunks_and_hints_come_back_as_storages_have_them() {
    let f = |written: &[&str], expected: &[(&str, usize)]| {
        let histograms = written.iter().zip(0..);
        let histograms = histograms.map(|(text, at)| (at * 1000, histogram(text)));
        let chunks = pack(&of_histograms(histograms.collect()));
        let read = chunks.iter().map(|chunk| {
            let samples = unpack(std::slice::from_ref(chunk)).unwrap();
            let (first, last) = (&samples.histograms[0], samples.histograms.last().unwrap());
            assert_eq!((chunk.min_time_ms, chunk.max_time_ms), (first.0, last.0));
            let later = samples.histograms.iter().skip(1);
            for (_, later) in later {
                let is_gauge = first.1.hint == CounterResetHint::Gauge;
                let expected = if is_gauge {
                    CounterResetHint::Gauge
                } else {
                    CounterResetHint::NotReset
                };
                assert_eq!(later.hint, expected);
            }
            (format!("{:?}", first.1.hint), samples.histograms.len())
        });
        let read: Vec<(String, usize)> = read.collect();
        let expected = expected
            .iter()
            .map(|(hint, length)| ((*hint).to_owned(), *length));
        assert_eq!(read, expected.collect::<Vec<_>>(), "{written:?}");
    };
    // Growing counters are one chunk, whether somebody has said so or not.
    f(
        &[
            "{{count:1 buckets:[1]}}",
            "{{count:2 buckets:[2]}}",
            "{{count:3 counter_reset_hint:not_reset buckets:[3]}}",
        ],
        &[("Unknown", 3)],
    );
    // A bucket more is another layout.
    f(
        &["{{count:1 buckets:[1]}}", "{{count:2 buckets:[1 1]}}"],
        &[("Unknown", 1), ("Unknown", 1)],
    );
    // What is lower than before was reset, though nobody has said so.
    f(
        &[
            "{{count:5 buckets:[5]}}",
            "{{count:2 buckets:[2]}}",
            "{{count:4 buckets:[4]}}",
        ],
        &[("Unknown", 1), ("Reset", 2)],
    );
    f(
        &[
            "{{count:1 buckets:[1]}}",
            "{{count:2 counter_reset_hint:reset buckets:[2]}}",
        ],
        &[("Unknown", 1), ("Reset", 1)],
    );
    f(
        &[
            "{{count:5 counter_reset_hint:gauge buckets:[5]}}",
            "{{count:2 counter_reset_hint:gauge buckets:[2]}}",
            "{{count:3 buckets:[3]}}",
        ],
        &[("Gauge", 2), ("Unknown", 1)],
    );
    // Other bounds, another schema, another zero bucket.
    f(
        &[
            "{{schema:-53 count:1 custom_values:[1 2.5] buckets:[1]}}",
            "{{schema:-53 count:2 custom_values:[1 2.5] buckets:[2]}}",
            "{{schema:-53 count:3 custom_values:[1 3] buckets:[3]}}",
            "{{schema:2 count:3 buckets:[3]}}",
            "{{schema:2 count:4 z_bucket:1 z_bucket_w:0.001 buckets:[3]}}",
        ],
        // Counts under bounds that are not the same cannot be compared bucket by bucket, so the engine sees a reset there.
        &[("Unknown", 2), ("Reset", 1), ("Reset", 1), ("Unknown", 1)],
    );
    f(
        &["{{count:1 buckets:[1]}}"; 300],
        &[("Unknown", 120), ("Unknown", 120), ("Unknown", 60)],
    );
}

#[test]
fn a_stale_marker_ends_its_chunk_and_has_no_buckets() {
    let mut stale = FloatHistogram::clone(&histogram("{{}}"));
    stale.sum = stale_marker();
    let stale = Arc::new(stale);
    let one = histogram("{{schema:1 count:3 sum:4 buckets:[1 2]}}");
    let samples = [&one, &one, &stale, &stale, &one, &stale];
    let samples = samples.iter().zip(0..);
    let samples = samples.map(|(histogram, at)| (at * 7, Arc::clone(histogram)));
    let samples = of_histograms(samples.collect());
    let chunks = pack(&samples);
    assert_eq!(chunks.len(), 2);
    let read = unpack(&chunks).unwrap();
    assert_eq!(read.histograms.len(), 6);
    for ((time, read), (expected_time, expected)) in read.histograms.iter().zip(&samples.histograms)
    {
        assert_eq!(time, expected_time);
        assert_eq!(is_stale(read.sum), is_stale(expected.sum));
        assert_eq!(read.sum.to_bits(), expected.sum.to_bits());
        assert!(read.equals(expected));
    }
    // A marker that begins a chunk has an empty layout.
    let alone = unpack(&pack(&of_histograms(vec![(5, stale)]))).unwrap();
    assert!(is_stale(alone.histograms[0].1.sum));
}

#[test]
fn floats_and_histograms_take_turns_in_the_order_of_time() {
    let one = histogram("{{count:1 buckets:[1]}}");
    let samples = Samples {
        floats: vec![(1, 1.0), (2, 2.0), (5, 5.0), (9, 9.0)],
        histograms: [3, 4, 5, 6, 7].map(|at| (at, Arc::clone(&one))).to_vec(),
    };
    let chunks = pack(&samples);
    let times: Vec<_> = chunks
        .iter()
        .map(|chunk| (chunk.kind, chunk.min_time_ms, chunk.max_time_ms))
        .collect();
    // Of the two at 5, the float stays.
    assert_eq!(
        times,
        [(1, 1, 2), (3, 3, 4), (1, 5, 5), (3, 6, 7), (1, 9, 9)]
    );
}

#[test]
fn chunks_of_unknown_kinds_are_told_from_broken_ones() {
    let chunk = |kind, data: &[u8]| Chunk {
        kind,
        data: data.to_vec(),
        ..Chunk::default()
    };
    let refused = |chunk: &Chunk| unpack(std::slice::from_ref(chunk)).unwrap_err();
    assert_eq!(refused(&chunk(7, &[])), RemoteError::UnknownChunk(7));
    for kind in [2, 3] {
        assert_eq!(
            refused(&chunk(kind, &[0, 1])),
            RemoteError::Chunk("too short")
        );
        assert_eq!(
            refused(&chunk(kind, &[0, 1, 0])),
            RemoteError::Chunk("too short")
        );
        // A schema that there is not.
        let mut writer = Bits::default();
        writer.put(0, 8);
        writer.signed_varbit(60);
        writer.put(0, 200);
        let mut data = vec![0, 1, 0];
        data.extend(writer.bytes());
        assert!(matches!(
            refused(&chunk(kind, &data)),
            RemoteError::Histogram(_)
        ));
        // Four billion buckets, and nothing in them.
        let mut writer = Bits::default();
        writer.put(0, 8);
        writer.signed_varbit(0);
        writer.varbit(1);
        writer.varbit(u64::from(u32::MAX));
        writer.put(0, 400);
        let mut data = vec![0xff, 0xff, 0];
        data.extend(writer.bytes());
        assert_eq!(
            refused(&chunk(kind, &data)),
            RemoteError::Chunk("more buckets than there are counts")
        );
        // As many spans.
        let mut writer = Bits::default();
        writer.put(0, 8);
        writer.signed_varbit(0);
        writer.varbit(u64::from(u32::MAX));
        let mut data = vec![0xff, 0xff, 0];
        data.extend(writer.bytes());
        assert_eq!(
            refused(&chunk(kind, &data)),
            RemoteError::Chunk("a list is too long")
        );
    }
}

/// Histograms of any layout, some of which keep that of the one before.
fn floats() -> impl Strategy<Value = Vec<(i64, Native)>> {
    let count = || prop_oneof![Just(1.0), 0.0..1e9, any::<f64>()];
    let spans = || prop::collection::vec((0i32..5, 1u32..6), 0..4);
    let bounds = prop_oneof![
        prop::collection::vec(0u32..40_000_000, 0..12).prop_map(|all| all
            .into_iter()
            .map(|bound| f64::from(bound) / 1000.0)
            .collect()),
        prop::collection::vec(-1e6..1e6f64, 0..12),
    ];
    let layout = (
        prop_oneof![Just(-53i32), -4i32..=8],
        prop_oneof![Just(0.0), Just(f64::exp2(-128.0)), 0.0..1.0],
        -20i32..20,
        spans(),
        spans(),
        bounds,
    );
    let sample = (
        prop_oneof![Just(15_000i64), 0i64..1 << 40],
        prop::collection::vec(count(), 60),
        count(),
        any::<f64>(),
        prop_oneof![
            Just(CounterResetHint::Unknown),
            Just(CounterResetHint::NotReset),
            Just(CounterResetHint::Reset),
            Just(CounterResetHint::Gauge)
        ],
        layout,
        any::<bool>(),
    );
    prop::collection::vec(sample, 1..12).prop_map(|samples| {
        let mut time = -5_000;
        let mut kept = None;
        let made = samples
            .into_iter()
            .map(|(step, counts, count, sum, hint, layout, keeps)| {
                time += step;
                let layout = kept.take().filter(|_| keeps).unwrap_or(layout);
                kept = Some(layout.clone());
                let (schema, zero_threshold, first, positive, negative, mut bounds) = layout;
                let is_custom = schema == -53;
                bounds.sort_by(f64::total_cmp);
                bounds.dedup();
                bounds.retain(|bound: &f64| *bound != 0.0);
                let mut counts = counts.into_iter();
                let mut side = |mut spans: Vec<(i32, u32)>| {
                    if is_custom {
                        spans = vec![(0, bounds.len() as u32 + 1)];
                    } else if let Some(span) = spans.first_mut() {
                        span.0 = first;
                    }
                    let spans = spans.into_iter();
                    let spans: Vec<Span> = spans
                        .map(|(offset, length)| Span { offset, length })
                        .collect();
                    let buckets: u32 = spans.iter().map(|span| span.length).sum();
                    let counts: Vec<f64> = counts.by_ref().take(buckets as usize).collect();
                    (spans, counts)
                };
                let (positive_spans, positive_counts) = side(positive);
                let (negative_spans, negative_counts) = if is_custom {
                    (Vec::new(), Vec::new())
                } else {
                    side(negative)
                };
                let parts = HistogramParts {
                    schema,
                    zero_threshold: if is_custom { 0.0 } else { zero_threshold },
                    zero_count: if is_custom { 0.0 } else { count / 2.0 },
                    count,
                    sum,
                    positive_spans,
                    positive_counts,
                    negative_spans,
                    negative_counts,
                    custom_values: if is_custom { bounds } else { Vec::new() },
                    hint,
                };
                (time, Arc::new(FloatHistogram::new(parts).unwrap()))
            });
        made.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_histograms_are_read_back_whatever_their_layouts(samples in floats()) {
        let read = unpack(&pack(&of_histograms(samples.clone()))).unwrap();
        prop_assert_eq!(read.histograms.len(), samples.len());
        let mut before: Option<&Native> = None;
        for ((time, read), (written_time, written)) in read.histograms.iter().zip(&samples) {
            prop_assert_eq!(time, written_time);
            if is_stale(written.sum) {
                prop_assert!(is_stale(read.sum));
            } else {
                prop_assert_eq!(shape(read), shape(written));
                // Whoever computes with them sees resets where they were.
                if let Some(before) = before {
                    let f = |histogram: &FloatHistogram| histogram.detect_reset(before, promql::parser::Compat::V3_5);
                    let is_gauge = written.hint == CounterResetHint::Gauge;
                    let knew = written.hint == CounterResetHint::NotReset && read.hint == CounterResetHint::Unknown;
                    prop_assert!(is_gauge || knew || f(read) == f(written));
                }
            }
            before = Some(written).filter(|written| !is_stale(written.sum));
        }
    }

    #[test]
    fn integer_histograms_as_servers_write_them_are_read(samples in integers(), header in prop_oneof![Just(0u8), Just(0x40), Just(0x80), Just(0xc0)]) {
        let read = unpack(&[pack_integers(header, &samples)]).unwrap();
        prop_assert_eq!(read.histograms.len(), samples.len());
        for (place, ((time, read), written)) in read.histograms.iter().zip(&samples).enumerate() {
            prop_assert_eq!(*time, written.time);
            if is_stale(written.sum) {
                continue;
            }
            let parts = read.to_parts();
            let counts = |side: &[i64]| side.iter().map(|count| *count as f64).collect::<Vec<_>>();
            prop_assert_eq!(parts.count, written.count as f64);
            prop_assert_eq!(parts.zero_count, written.zero as f64);
            prop_assert_eq!(parts.sum.to_bits(), written.sum.to_bits());
            prop_assert_eq!(parts.positive_counts, counts(&written.sides[0]));
            prop_assert_eq!(parts.negative_counts, counts(&written.sides[1]));
            prop_assert_eq!(parts.zero_threshold, f64::exp2(-128.0));
            let hint = match (header, place) {
                (0xc0, _) => CounterResetHint::Gauge,
                (_, 1..) => CounterResetHint::NotReset,
                (0x80, _) => CounterResetHint::Reset,
                _ => CounterResetHint::Unknown,
            };
            prop_assert_eq!(parts.hint, hint);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 1i32..5) {
        let chunk = Chunk { kind, data: bytes, ..Chunk::default() };
        let _either_way = unpack(&[chunk]).is_ok();
    }

    #[test]
    fn good_chunks_with_a_changed_byte_are_read_or_refused(samples in floats(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for mut chunk in pack(&of_histograms(samples)) {
            let at = at.index(chunk.data.len());
            chunk.data[at] = byte;
            for kind in [2, 3] {
                chunk.kind = kind;
                let _either_way = unpack(std::slice::from_ref(&chunk)).is_ok();
            }
        }
    }
}
