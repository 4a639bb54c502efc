//! Queries that are ended while they are evaluated. How far they came is counted, not timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::CancelToken;
use crate::error::{QueryError, Stage};
use crate::histogram::{FloatHistogram, HistogramParts, Span};
use crate::labels::Labels;
use crate::parser::{CounterResetHint, ParserOptions};
use crate::storage::{Samples, SeriesData};
use crate::testing::{MemoryStorage, block_on};
use crate::{Engine, EngineOptions, Outcome, Prepared};

/// How often evaluation asked whether to go on, and at which time of asking the query is to end, if at any.
#[derive(Debug, Default)]
pub(super) struct Asked {
    times: AtomicU64,
    end_at: AtomicU64,
}

impl Asked {
    pub(super) fn once(&self, token: &CancelToken) {
        let times = self.times.fetch_add(1, Ordering::Relaxed) + 1;
        if times == self.end_at.load(Ordering::Relaxed) {
            token.cancel();
        }
    }
}

fn asked(token: &CancelToken) -> u64 {
    token.asked.times.load(Ordering::Relaxed)
}

fn series(name: &str, number: usize, bound: &str, samples: Samples) -> SeriesData {
    let number = number.to_string();
    let labels: Labels = [("__name__", name), ("l", &number), ("le", bound)]
        .into_iter()
        .collect();
    SeriesData {
        labels,
        samples: Arc::new(samples),
    }
}

/// Numbers that are of no unit in common, so that sums over windows have nothing to share.
fn numbers(count: i64) -> Samples {
    let size = |i: i64| 10f64.powi((i % 40) as i32 - 20);
    Samples {
        timestamps: (0..count).map(|i| i * 1000).collect(),
        values: (0..count)
            .map(|i| (i % 101) as f64 * 0.3 * size(i))
            .collect(),
        ..Samples::default()
    }
}

fn native(time: i64) -> FloatHistogram {
    FloatHistogram::new(HistogramParts {
        schema: 0,
        zero_threshold: 0.0,
        zero_count: 0.0,
        count: 3.0 * time as f64,
        sum: time as f64,
        positive_spans: vec![Span {
            offset: 0,
            length: 2,
        }],
        positive_counts: vec![time as f64, 2.0 * time as f64],
        negative_spans: Vec::new(),
        negative_counts: Vec::new(),
        custom_values: Vec::new(),
        hint: CounterResetHint::Unknown,
    })
    .unwrap()
}

/// `one` is a single long series, `t` the same in a form that windows in lock step take, `n` has native histograms, `many` are
/// many short series and `h` are two classic histograms.
fn storage() -> MemoryStorage {
    let mut all = vec![series("one", 0, "", numbers(6_000))];
    let tame = Samples {
        values: (0..6_000).map(|i| 0.1 * f64::from(i % 101)).collect(),
        ..numbers(6_000)
    };
    all.push(series("t", 0, "", tame));
    all.push(series(
        "n",
        0,
        "",
        Samples {
            histogram_timestamps: (0..6_000).map(|i| i * 1000).collect(),
            histograms: (0..6_000).map(|i| native(i).into()).collect(),
            ..Samples::default()
        },
    ));
    for i in 0..600 {
        all.push(series("many", i, "", numbers(6)));
        all.push(series("h", i % 2, &i.to_string(), numbers(600)));
    }
    MemoryStorage::of_series(all)
}

fn prepared(storage: &MemoryStorage, query: &str, steps: i64) -> Prepared {
    let options = ParserOptions::v3_14().with_all_features();
    let engine = Engine::new(EngineOptions::new(options));
    let query = engine.range_query(query, 0, (steps - 1) * 1000, 1000);
    let token = CancelToken::default();
    let Ok(prepared) = block_on(query.unwrap().prepare(storage, None, &token)) else {
        panic!("storage in memory answers")
    };
    prepared
}

/// Queries, how many steps they have and how often they have to ask at least.
const LONG: &[(&str, i64, u64)] = &[
    ("stddev_over_time(one[1h])", 6_000, 500),
    ("stddev_over_time(t[1h])", 6_000, 100),
    ("double_exponential_smoothing(t[1h], 0.5, 0.5)", 6_000, 100),
    ("avg_over_time(one[1h])", 6_000, 500),
    ("sum_over_time(t[1h])", 6_000, 5_000),
    ("deriv(one[1h])", 6_000, 500),
    ("predict_linear(t[1h], 60)", 6_000, 500),
    ("rate(t[1h])", 6_000, 5_000),
    ("max_over_time(t[1h])", 6_000, 5_000),
    ("quantile_over_time(0.5, t[1h])", 6_000, 5_000),
    ("mad_over_time(t[1m])", 6_000, 5_000),
    ("rate(n[1m])", 2_000, 1_900),
    ("sum_over_time(n[1m])", 2_000, 1_900),
    ("sum_over_time(exp(t)[6000s:1s])", 1, 8),
    ("one", 6_000, 80),
    ("timestamp(one)", 6_000, 5),
    ("exp(one)", 6_000, 80),
    ("one ^ one", 6_000, 80),
    ("n + n", 2_000, 1_900),
    ("histogram_quantile(0.9, n)", 2_000, 1_900),
    ("histogram_quantile(0.9, h)", 600, 1_000),
    ("histogram_fraction(0, 1, h)", 600, 1_000),
    ("histogram_avg(n)", 2_000, 1_900),
    ("quantile(0.5, one)", 6_000, 5_000),
    ("topk(1, one)", 6_000, 5_000),
    ("count_values('v', one)", 6_000, 5_000),
    ("sum(many)", 6, 1_200),
    ("-many", 6, 1_200),
    ("label_replace(many, 'x', '$1', 'l', '(.*)')", 6, 1_200),
    ("label_join(many, 'x', '-', 'l', 'l')", 6, 1_200),
    ("many + many", 6, 2_000),
    ("many + on () group_left vector(1)", 6, 1_200),
    ("many and many", 6, 2_000),
    ("many or on () many", 6, 2_000),
    ("vector(1) + on () group_right many", 6, 1_200),
];

#[test]
fn a_query_that_is_cancelled_ends_when_it_is_next_asked() {
    let storage = storage();
    for (query, steps, least) in LONG {
        let whole = CancelToken::default();
        let outcome: Outcome = prepared(&storage, query, *steps).evaluate(&whole);
        assert!(outcome.value.is_ok(), "{query}: {:?}", outcome.value);
        assert!(asked(&whole) >= *least, "{query} asks {}", asked(&whole));

        for share in [10, 2] {
            let token = CancelToken::default();
            let end_at = asked(&whole) / share + 1;
            token.asked.end_at.store(end_at, Ordering::Relaxed);
            let outcome = prepared(&storage, query, *steps).evaluate(&token);
            let error = Err(QueryError::Canceled(Stage::Evaluation));
            assert_eq!(outcome.value.map(|_| ()), error, "{query}");
            assert_eq!(asked(&token), end_at, "{query} goes on");
        }
    }
}

/// A way of ending a query.
type End = fn(&CancelToken);

#[test]
fn another_thread_ends_a_query_in_the_middle_of_a_series() {
    let count = 200_000;
    let storage = MemoryStorage::of_series(vec![series("one", 0, "", numbers(count))]);
    let ends: [(End, &str); 2] = [
        (
            CancelToken::cancel,
            "query was canceled in expression evaluation",
        ),
        (
            CancelToken::time_out,
            "query timed out in expression evaluation",
        ),
    ];
    for (end, text) in ends {
        // Twenty billion samples to look at, none of which can be looked at for two windows.
        let prepared = prepared(&storage, "avg_over_time(one[200000s])", count);
        let token = CancelToken::default();
        let evaluated = token.clone();
        let evaluation = thread::spawn(move || prepared.evaluate(&evaluated));
        while asked(&token) < 300 {
            thread::yield_now();
        }
        end(&token);
        let outcome = evaluation.join().unwrap();
        assert_eq!(outcome.value.map(|_| ()).unwrap_err().to_string(), text);
        // The whole would ask for every group of eight windows.
        assert!(asked(&token) < 20_000, "asked {} times", asked(&token));
    }
}
