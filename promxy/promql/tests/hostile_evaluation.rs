//! Queries that ask for more than anybody can compute: all end soon after their time is over, or before.
//!
//! `PROMQL_HOSTILE` is how many random queries there are, and raises the limit of samples to Prometheus' own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it ran"
)]

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use promql::annotations::Severity;
use promql::parser::ParserOptions;
use promql::testing::{EngineSubject, MemoryStorage, Script, block_on, run};
use promql::{CancelToken, Engine, EngineOptions, Outcome, QueryError};

mod random_queries;

use random_queries::Writer;

/// How long a query may take.
const TIME: Duration = Duration::from_millis(100);

/// How much longer it may take until it notices, on a busy machine and without optimisation.
const PATIENCE: Duration = Duration::from_secs(60);

/// Series of all kinds: many, long, short-lived, wide histograms, info metrics that change.
fn script() -> String {
    let mut lines = vec!["load 10s".to_owned()];
    let mut add = |line: String| lines.push(line);
    add("  long{job=\"j\", instance=\"0\"} 0+0.37x5000".to_owned());
    add(
        "  bumpy{job=\"j\", instance=\"0\"} 0+3x1000 1+0.1x1000 stale 7-0.3x500 NaN Inf 2x300"
            .to_owned(),
    );
    for i in 0..300 {
        add(format!(
            "  many{{l=\"{i}\", g=\"{}\", job=\"j\", instance=\"{i}\"}} {i}+0.{i}x30",
            i % 3
        ));
        add(format!(
            "  churn{{l=\"{i}\", job=\"j\", instance=\"0\"}} _x{i} {i} stale"
        ));
        add(format!(
            "  target_info{{v=\"{i}\", job=\"j\", instance=\"0\"}} _x{i} 1 stale"
        ));
        add(format!(
            "  h_bucket{{l=\"{}\", le=\"{i}\"}} 0+{i}x30 5+{}x30",
            i % 2,
            300 - i
        ));
    }
    add("  h_bucket{l=\"0\", le=\"+Inf\"} 0+400x60".to_owned());
    let bounds: Vec<String> = (0..300).map(|i| i.to_string()).collect();
    let counts = ["1"; 300].join(" ");
    let wide = format!(
        "{{{{schema:-53 count:300 sum:5 custom_values:[{}] buckets:[{counts}]}}}}",
        bounds.join(" ")
    );
    let other = wide.replace("[0 1 ", "[0.5 1 ");
    add(format!(
        "  n{{l=\"0\", job=\"j\", instance=\"0\"}} {wide}x40 {other}x40"
    ));
    let exponential = "{{schema:3 count:60 sum:7 buckets:[1 2 3 4 5 6 7 8 9 15]}}";
    add(format!(
        "  n{{l=\"1\"}} {exponential}+{exponential}x100 {exponential}+{exponential}x100"
    ));
    lines.join("\n")
}

/// Queries whose work once grew with the square of something, or was not looked at while it was done, or took memory that
/// did not count.
fn known() -> Vec<String> {
    let mut queries: Vec<String> = [
        // A remark for every step.
        "quantile_over_time(time(), long[1h])",
        "max_over_time(quantile_over_time(time(), long[1h])[4000000s:1s])",
        "max_over_time(histogram_quantile(time(), h_bucket)[4000000s:1s])",
        "max_over_time(histogram_quantile(-time(), n)[4000000s:1s])",
        "sum_over_time(histogram_quantiles(h_bucket, 'q', time() / 1e10, 1 - time() / 1e10)[1000000s:1s])",
        // Series that all meet each other.
        "many + on () many",
        "many * on () group_left churn",
        "many + on () group_left (l) churn",
        "count_over_time((many + on () group_left churn)[40000s:1s])",
        "count_over_time((churn + on (job) churn)[40000s:1s])",
        "many * on () group_left vector(1) + on () group_right vector(2)",
        // What does not change is repeated.
        "sum_over_time((many @ 100)[4000000s:1s])",
        "count_over_time((n @ 100)[4000000s:1s])",
        "sum_over_time((long @ 100 + many @ 100)[400000s:1s])",
        // Parameters that are no numbers at steps where there is nothing.
        "max_over_time(topk(scalar(none), churn)[4000000s:1s])",
        "max_over_time(limit_ratio(scalar(none), churn)[4000000s:1s])",
        "max_over_time(topk(2, many)[400000s:1s])",
        "count_over_time(count_values('v', long)[4000000s:1s])",
        "count_over_time(count_values('v', n)[400000s:1s])",
        "count_over_time(info(long)[4000000s:1s])",
        "count_over_time(info(many, {v=~'.*'})[40000s:1s])",
        // Windows of everything at every step.
        "count_over_time(stddev_over_time((long + 0.1)[50000s:1s])[50000s:1s])",
        "count_over_time(mad_over_time((bumpy % 1.7)[50000s:1s])[50000s:1s])",
        "count_over_time(double_exponential_smoothing(long[50000s], 0.1, 0.1)[500000s:1s])",
        "count_over_time(predict_linear(long[50000s], 9)[500000s:1s])",
        "resets(resets(n[30000s])[30000s:1s])",
        "changes(changes(n[30000s])[30000s:1s])",
        "last_over_time(irate(n[30000s])[30000s:1s])",
        "count_over_time(sum_over_time(n[30000s])[30000s:1s])",
        "count_over_time(avg_over_time(n[30000s])[30000s:1s])",
        "count_over_time(rate(n[30000s])[30000s:1s])",
        "count_over_time(absent_over_time(churn[30000s])[3000000s:1s])",
        "sum(max_over_time(max_over_time(max_over_time(long[1m:1s])[1h:1s])[1d:1s]))",
        "count_over_time((time() ^ 0.37 ^ time() ^ 0.91)[4000000s:1s])",
        "count_over_time(day_of_year()[4000000s:1s])",
        "histogram_quantile(0.5, rate(h_bucket[1h])) or count_over_time(histogram_fraction(0, 9, h_bucket)[400000s:1s])",
    ]
    .map(str::to_owned)
    .to_vec();
    let nested = |depth: usize, open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let listed = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("l{i}")).collect();
        names.join(", ")
    };
    let long = "x".repeat(200_000);
    queries.extend([
        nested(50_000, "info(", "long", ")"),
        nested(
            40,
            "label_replace(",
            "many",
            ", 'l', '$1$1$1$1', 'l', '(.*)')",
        ),
        nested(40, "label_join(", "many", ", 'l', 'xx', 'l', 'l')"),
        nested(3_000, "label_replace(", "many", ", 'l', '$1', 'l', '(.*)')"),
        // Every time a regular expression that nobody wants any more.
        nested(
            2_000,
            "label_replace(",
            "count_over_time(stddev_over_time(long[50000s])[500000s:1s])",
            r", 'l', '$1', 'l', '(\\pL{20}|.*)')",
        ),
        format!("many + on (g) group_left ({}) vector(1)", listed(50_000)),
        format!("sum by ({}) (many)", listed(50_000)),
        format!("sort_by_label(many, '{}')", listed(50_000).replace(", ", "', '")),
        format!("absent(none{{{}}})", listed(20_000).replace(',', "='x',").replacen("l19999", "l19999='x'", 1)),
        // All of its labels go to each.
        format!("many * on () group_left (big) label_replace(vector(1), 'big', '{long}', '', '')"),
        format!("label_replace(label_replace(many, 'big', '{long}', '', ''), 'l', '$1', 'big', '((x?){{500}}(x?){{500}})*y')"),
        // Numbers that wait for each other.
        nested(2_000, "(time() + ", "time()", ")"),
        format!("sum_over_time({}[4000000s:1s])", nested(2_000, "(time() + ", "time()", ")")),
        // A remark for every step, in the last line of many.
        format!("{}histogram_quantile(time(), h_bucket)", "# \n".repeat(100_000)),
    ]);
    queries
}

/// Writes random queries with long ranges and short steps.
impl Writer {
    fn scalar(&mut self, depth: u8) -> String {
        match self.0.u8(..6) {
            0 => "time()".to_owned(),
            1 => "(time() / 1e5)".to_owned(),
            2 if depth > 0 => format!("scalar({})", self.vector(depth - 1)),
            3 => "scalar(none)".to_owned(),
            _ => self.pick(&["0.5", "-1", "7", "1e300"]).to_owned(),
        }
    }

    fn range(&mut self, depth: u8) -> String {
        let shift = self.pick(&[
            "",
            "",
            "",
            " offset 1h",
            " offset -1h",
            " @ 3000",
            " @ end()",
        ]);
        if depth == 0 || self.0.bool() {
            let selector = self.pick(&["long", "bumpy", "many", "churn", "n", "h_bucket"]);
            let window = self.pick(&["1m", "1h", "1d", "1y"]);
            return format!("{selector}[{window}]{shift}");
        }
        let range = self.pick(&["5m", "3h", "1d", "30d", "2000000s"]);
        let step = self.pick(&["1ms", "100ms", "1s", "10s", "1m", ""]);
        format!("({})[{range}:{step}]{shift}", self.vector(depth - 1))
    }

    fn vector(&mut self, depth: u8) -> String {
        if depth == 0 {
            let selectors = [
                "long",
                "bumpy",
                "many",
                "churn",
                "n",
                "h_bucket",
                "many @ 100",
                "n @ 700",
                "vector(time())",
                "{__name__=~'.+'}",
            ];
            return self.pick(&selectors).to_owned();
        }
        let inner = depth - 1;
        match self.0.u8(..11) {
            0..=2 => {
                let range = self.range(inner);
                self.over_time(&range)
            }
            3 => match self.0.u8(..3) {
                0 => format!(
                    "quantile_over_time({}, {})",
                    self.scalar(inner),
                    self.range(inner)
                ),
                1 => format!(
                    "predict_linear({}, {})",
                    self.range(inner),
                    self.scalar(inner)
                ),
                _ => format!(
                    "double_exponential_smoothing({}, 0.3, 0.6)",
                    self.range(inner)
                ),
            },
            4 => {
                let functions = [
                    "exp",
                    "-",
                    "timestamp",
                    "day_of_year",
                    "histogram_count",
                    "histogram_stddev",
                    "absent",
                    "sort",
                    "info",
                    "histogram_avg",
                ];
                format!("{}({})", self.pick(&functions), self.vector(inner))
            }
            5 => {
                let op = self.pick(&["sum", "avg", "min", "count", "stddev", "group"]);
                let by = self.pick(&["", " by (l)", " without (l)"]);
                format!("{op}{by} ({})", self.vector(inner))
            }
            6 => {
                let op = self.pick(&["topk", "bottomk", "quantile", "limitk", "limit_ratio"]);
                let by = self.pick(&["", " by (l)"]);
                format!("{op}{by} ({}, {})", self.scalar(inner), self.vector(inner))
            }
            7 => {
                let op = self.pick(&["+", "/", ">", "== bool", "and", "or", "unless", "^"]);
                let matching = self.pick(&[
                    "",
                    " on ()",
                    " on (l)",
                    " on () group_left ()",
                    " on (g) group_right (l)",
                ]);
                let is_set = matches!(op, "and" | "or" | "unless");
                let matching = if is_set && matching.contains("group") {
                    ""
                } else {
                    matching
                };
                format!(
                    "({}) {op}{matching} ({})",
                    self.vector(inner),
                    self.vector(inner)
                )
            }
            8 => format!(
                "({}) {} {}",
                self.vector(inner),
                self.pick(&["^", ">", "*"]),
                self.scalar(inner)
            ),
            9 => {
                let (q, other) = (self.scalar(inner), self.scalar(inner));
                match self.0.u8(..3) {
                    0 => format!("histogram_quantile({q}, {})", self.vector(inner)),
                    1 => format!(
                        "histogram_quantiles({}, 'q', {q}, {other})",
                        self.vector(inner)
                    ),
                    _ => format!("histogram_fraction({q}, {other}, {})", self.vector(inner)),
                }
            }
            _ => match self.0.u8(..3) {
                0 => format!(
                    "label_replace({}, 'l', '$1$1', 'l', '(.*)')",
                    self.vector(inner)
                ),
                1 => format!(
                    "label_join({}, 'l', '-', 'l', 'g', 'l')",
                    self.vector(inner)
                ),
                _ => format!("count_values('v', {})", self.vector(inner)),
            },
        }
    }
}

/// Runs a query whose time is over after [`TIME`]. Returns how long it took to notice, and its error if it has one.
fn run_out(
    engine: &Engine,
    storage: &MemoryStorage,
    text: &str,
    range: bool,
) -> (Duration, Option<QueryError>) {
    let cancel = CancelToken::default();
    let (done, ended) = channel();
    let evaluation = thread::spawn({
        let (engine, storage, text) = (engine.clone(), storage.clone(), text.to_owned());
        let cancel = cancel.clone();
        move || {
            let query = if range {
                engine.range_query(&text, 0, 5_500_000, 500)
            } else {
                engine.instant_query(&text, 2_500_000)
            };
            let outcome = match query {
                Ok(query) => {
                    let outcome = block_on(query.run(&storage, &cancel));
                    drop(outcome.annotations.warnings(&text));
                    drop(outcome.annotations.infos(&text));
                    outcome.value.map(|_| outcome.annotations)
                }
                Err(error) => Err(error),
            };
            let ended = Instant::now();
            drop(done.send((outcome.err(), ended)));
        }
    });
    let begin = Instant::now();
    let first = ended.recv_timeout(TIME);
    cancel.time_out();
    let shown: String = text.chars().take(200).collect();
    let (error, end) = first
        .or_else(|_| ended.recv_timeout(PATIENCE))
        .unwrap_or_else(|_| panic!("does not end: {shown}"));
    evaluation.join().unwrap();
    (end.saturating_duration_since(begin + TIME), error)
}

#[test]
fn whatever_is_asked_ends_when_its_time_is_over() {
    let wanted = std::env::var("PROMQL_HOSTILE").ok();
    let count: usize = wanted.as_ref().map_or(60, |count| count.parse().unwrap());
    let options = |base: ParserOptions| {
        let mut options = EngineOptions::new(base.with_all_features());
        if wanted.is_none() {
            options.max_samples = 5_000_000;
        }
        options
    };
    let engines =
        [ParserOptions::v3_14(), ParserOptions::v3_5()].map(|base| Engine::new(options(base)));
    let mut subject = EngineSubject::new(engines[0].clone());
    assert!(run(&Script::parse(&script()).unwrap(), &mut subject).is_empty());
    let mut writer = Writer(fastrand::Rng::with_seed(20_266 + count as u64));
    let known = known().into_iter();
    let random: Vec<String> = (0..count).map(|_| writer.vector(4)).collect();
    let (mut answered, mut timed_out, mut refused) = (0, 0, 0);
    let mut slowest = (Duration::ZERO, String::new());
    for (index, query) in known.chain(random).enumerate() {
        for range in [false, true] {
            let (late, error) = run_out(&engines[index % 2], &subject.storage, &query, range);
            match &error {
                None => answered += 1,
                Some(QueryError::Timeout(_)) => timed_out += 1,
                Some(_) => refused += 1,
            }
            let shown: String = query.chars().take(300).collect();
            if late > Duration::from_secs(1) {
                println!("{late:?} late: {shown} {range} {error:?}");
            }
            if late > slowest.0 {
                slowest = (late, shown);
            }
        }
    }
    println!(
        "{answered} answered, {timed_out} timed out, {refused} refused; the latest {slowest:?}"
    );
    assert!(timed_out > 10);
}

/// An engine that knows all series and gives up at so many samples.
fn limited(max_samples: u64) -> EngineSubject {
    let engine = Engine::new(EngineOptions {
        max_samples,
        ..EngineOptions::new(ParserOptions::v3_14().with_all_features())
    });
    let mut subject = EngineSubject::new(engine);
    assert!(run(&Script::parse(&script()).unwrap(), &mut subject).is_empty());
    subject
}

/// Evaluates a query at so many steps of a second.
fn outcome(subject: &EngineSubject, query: &str, steps: i64) -> Outcome {
    let query = subject
        .engine
        .range_query(query, 0, (steps - 1) * 1000, 1000);
    block_on(
        query
            .unwrap()
            .run(&subject.storage, &CancelToken::default()),
    )
}

#[test]
fn of_countless_remarks_few_are_kept_and_ten_shown() {
    let subject = limited(100_000);
    let query = "quantile_over_time(time() + 2, long[1m])";
    let few = outcome(&subject, query, 4_000);
    assert!(few.value.is_ok());
    assert_eq!(few.annotations.texts(Severity::Warning, query).len(), 4_000);
    let shown = few.annotations.warnings(query);
    assert_eq!(shown.len(), 11);
    assert_eq!(shown[10], "3990 more warning annotations omitted");
    assert_eq!(
        outcome(&subject, query, 20_000).value.err(),
        Some(QueryError::TooManySamples)
    );
}

#[test]
fn all_that_a_query_makes_counts_for_the_limit() {
    let subject = limited(1_000_000);
    let waiting = "(time() + ".repeat(300) + "1" + &")".repeat(300);
    let growing =
        "label_replace(".repeat(26) + "vector(1)" + &", 'l', 'x$1$1', 'l', '(.*)')".repeat(26);
    let queries = [
        // One value, repeated at every step.
        "count(many @ 100 + time())",
        // A column for every pair of series that ever meet.
        "count(many + on () group_left () churn)",
        // A column for every quantile.
        "count(histogram_quantiles(h_bucket, 'q', time() / 1e10, time() / 2e10, time() / 3e10))",
        // All of a label for every series.
        "many + on () group_left (big) label_replace(vector(1), 'big', 'LONG', '', '')",
        &waiting,
        &growing,
    ];
    let long = "x".repeat(100_000);
    for query in queries {
        let query = query.replace("LONG", &long);
        let shown: String = query.chars().take(100).collect();
        let error = outcome(&subject, &query, 4_001).value.err();
        assert_eq!(error, Some(QueryError::TooManySamples), "{shown}");
    }
}
