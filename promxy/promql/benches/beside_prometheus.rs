//! What queries cost here and in a Prometheus server: processor time and memory, on the same data, as the table of
//! `BENCHMARKS.md`.
//!
//! `PROMETHEUS3_BIN` names the server, `PROMTOOL_BIN` the tool that writes its blocks, unless it lies beside that server or the
//! one of `PROMETHEUS_BIN`; without them there is nothing to do. The server runs on one processor (`GOMAXPROCS=1`) and answers
//! one request after the other, with one series of each result (`limit=1`), so that hardly anything is spent on writing JSON;
//! what a request costs in itself is taken off. Here the series lie in memory as columns, there in blocks as compressed chunks,
//! as each likes it best. Native histograms are sent to a server of their own.
//!
//! Memory is by how much a process grows while it answers: here one that does nothing else, there one that is told to collect
//! garbage all the time and to give everything back (`GOGC=10`, `GOMEMLIMIT=1MiB`), which is as little as it can do with.
//!
//! `cargo bench -p promql --bench beside_prometheus --features testing -- WORD...` runs the queries that have all the words. The
//! word `threads` alone compares one thread with two instead, by the clock; `time` or `memory` among the words compares nothing
//! else and leaves the other cells empty. Memory is measured first, and how far that is stands on the standard error.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a bench prints its table and ends where it cannot go on"
)]

use std::error::Error;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use promql::parser::ParserOptions;
use promql::storage::SeriesData;
use promql::testing::{MemoryStorage, block_on};
use promql::{CancelToken, Engine, EngineOptions};

mod cases;
mod server;
mod shapes;

use cases::{CASES, Case, NATIVE};
use server::remote_write::request;
use server::{Memory, Prometheus, encoded, memory, processor_time};

/// Processor time that is spent on a query at least, so that clocks of ten milliseconds do.
const ENOUGH: Duration = Duration::from_millis(400);

/// When the data begins, in seconds since 1970.
const BEGIN: i64 = 1_700_000_000;

/// Tells this program to do nothing but evaluate one case, and say by how much it grew.
const GROW: &str = "PROMQL_BENCH_GROW";

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(index) = std::env::var_os(GROW) {
        let index: usize = index.to_string_lossy().parse()?;
        let cases = CASES.iter().chain(NATIVE);
        println!(
            "{}",
            growth_of(cases.into_iter().nth(index).ok_or("no such case")?)
        );
        return Ok(());
    }
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    if words == ["threads"] {
        compare_threads();
        return Ok(());
    }
    let (Some(server), Some(tool)) = (std::env::var_os("PROMETHEUS3_BIN"), promtool()) else {
        println!("PROMETHEUS3_BIN is not set, or there is no promtool: nothing to compare with");
        return Ok(());
    };
    let (server, tool) = (Path::new(&server), tool.as_path());
    let folder = std::env::temp_dir().join("promql-beside-prometheus");
    let (blocks, histograms) = (folder.join("data"), folder.join("histograms"));
    fs::create_dir_all(&folder)?;
    if !blocks.exists() {
        write_blocks(&shapes::numbers(), &folder, tool)?;
    }
    if !histograms.exists() {
        send_histograms(&shapes::native(), server, &histograms)?;
    }
    let without = |what: &str| words.iter().all(|word| word != what);
    let wanted = Wanted {
        time: without("memory"),
        memory: without("time"),
    };
    let queries: Vec<&String> = words
        .iter()
        .filter(|w| !["time", "memory"].contains(&w.as_str()))
        .collect();
    let chosen = |(_, case): &(usize, &Case)| {
        queries
            .iter()
            .all(|word| case.query.contains(word.as_str()))
    };
    let numbers: Vec<_> = CASES.iter().enumerate().filter(chosen).collect();
    let native = NATIVE.iter().enumerate();
    let native = native.map(|(index, case)| (CASES.len() + index, case));
    let native: Vec<_> = native.filter(chosen).collect();
    println!(
        "| query | steps | time | Prometheus | share | goal | memory | Prometheus | share |\n|---|---|---|---|---|---|---|---|---|"
    );
    compare(server, &blocks, &numbers, wanted)?;
    compare(server, &histograms, &native, wanted)
}

/// Returns where promtool is: where `PROMTOOL_BIN` says, or beside one of the servers.
fn promtool() -> Option<PathBuf> {
    let beside =
        |server: &str| Some(PathBuf::from(std::env::var_os(server)?).with_file_name("promtool"));
    let places = [
        std::env::var_os("PROMTOOL_BIN").map(PathBuf::from),
        beside("PROMETHEUS3_BIN"),
        beside("PROMETHEUS_BIN"),
    ];
    places.into_iter().flatten().find(|place| place.exists())
}

type Numbered = (usize, &'static Case);

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    time: bool,
    memory: bool,
}

/// Shows what cases cost here and there, each in a line as soon as all of it is known.
fn compare(
    server: &Path,
    data: &Path,
    cases: &[Numbered],
    wanted: Wanted,
) -> Result<(), Box<dyn Error>> {
    if cases.is_empty() {
        return Ok(());
    }
    // One server after the other, since the data can be that of one only.
    let grown = if wanted.memory {
        growths(server, data, cases)?
    } else {
        vec!["| |".to_owned(); cases.len()]
    };
    let prometheus = if wanted.time {
        let prometheus = Prometheus::start(server, data, Memory::Usual)?;
        prometheus.rest();
        let overhead = prometheus.cost("/api/v1/status/buildinfo")?;
        Some((prometheus, overhead))
    } else {
        None
    };
    for ((_, case), grown) in cases.iter().zip(grown) {
        let spent = match &prometheus {
            Some((prometheus, overhead)) => times(prometheus, *overhead, case)?,
            None => "| | |".to_owned(),
        };
        let steps = match case.steps {
            1_000 => "1,000".to_owned(),
            steps => steps.to_string(),
        };
        println!("| `{}` | {steps} | {spent} | {grown} |", case.query);
    }
    Ok(())
}

/// Returns what a case costs here and there, as cells of a table.
fn times(
    prometheus: &Prometheus,
    overhead: Duration,
    case: &Case,
) -> Result<String, Box<dyn Error>> {
    let ours = cost_here(&storage(case.query), case);
    let theirs = prometheus.cost(&path(case))?.saturating_sub(overhead);
    let share = ours.as_secs_f64() / theirs.as_secs_f64();
    let verdict = if share <= case.goal {
        ""
    } else {
        " **missed**"
    };
    Ok(format!(
        "{} | {} | {:.1} % | {:.0} %{verdict}",
        milliseconds(ours),
        milliseconds(theirs),
        share * 100.0,
        case.goal * 100.0
    ))
}

/// Below, growth says little: a process may still have had room.
const GROWTH_TO_SPEAK_OF: u64 = 1_000_000;

/// Returns by how much processes grow that evaluate cases, each as cells of a table. Says how far it is on the standard error.
fn growths(server: &Path, data: &Path, cases: &[Numbered]) -> Result<Vec<String>, Box<dyn Error>> {
    let prometheus = Prometheus::start(server, data, Memory::Tight)?;
    prometheus.rest();
    let overhead = prometheus.growth("/api/v1/status/buildinfo")?;
    eprintln!("a request alone: {}", megabytes(overhead));
    let mut cells = Vec::with_capacity(cases.len());
    for (index, case) in cases {
        let child = Command::new(std::env::current_exe()?)
            .env(GROW, index.to_string())
            // What is given back is given back to the system.
            .env("MALLOC_MMAP_THRESHOLD_", "16384")
            .env("MALLOC_TRIM_THRESHOLD_", "0")
            .env("MALLOC_TOP_PAD_", "0")
            .output()?;
        let ours: u64 = String::from_utf8_lossy(&child.stdout).trim().parse()?;
        let theirs = prometheus.growth(&path(case))?;
        let share = ours as f64 / theirs.max(1) as f64;
        let verdict = if share > 0.5 && theirs >= GROWTH_TO_SPEAK_OF {
            " **missed**"
        } else {
            ""
        };
        let share = match theirs {
            0 => "–".to_owned(),
            _ => format!("{:.0} %{verdict}", share * 100.0),
        };
        let cell = format!("{} | {} | {share}", megabytes(ours), megabytes(theirs));
        eprintln!("`{}`, {} steps: {cell}", case.query, case.steps);
        cells.push(cell);
    }
    Ok(cells)
}

/// Returns by how many bytes this process grows while it evaluates a case. It has done so before on few series, so that the
/// program itself is in memory.
fn growth_of(case: &Case) -> u64 {
    let storage = storage(case.query);
    let few: Vec<SeriesData> = storage.series().iter().step_by(97).cloned().collect();
    let few = MemoryStorage::of_series(few);
    for _ in 0..2 {
        evaluate(&few, case, 1).unwrap();
    }
    let process = std::process::id();
    let before = memory(process, "VmRSS");
    // Forgets how large the process has been.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    evaluate(&storage, case, 1).unwrap();
    memory(process, "VmHWM").saturating_sub(before)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

/// Sends native histograms to a server, which keeps them in a folder.
fn send_histograms(
    series: &[SeriesData],
    server: &Path,
    folder: &Path,
) -> Result<(), Box<dyn Error>> {
    const STEPS_AT_A_TIME: i64 = 20;
    let prometheus = Prometheus::start(server, folder, Memory::Usual)?;
    for first in (0..shapes::SAMPLES).step_by(STEPS_AT_A_TIME as usize) {
        let times =
            [first, first + STEPS_AT_A_TIME].map(|step| (BEGIN + step * shapes::STEP) * 1000);
        let parts = series.iter().filter_map(|series| {
            let samples = &series.samples;
            let [from, to] =
                times.map(|time| samples.histogram_timestamps.partition_point(|t| *t < time));
            let stamped = samples.histogram_timestamps[from..to].iter().copied();
            let histograms = samples.histograms[from..to].iter().map(AsRef::as_ref);
            (from < to).then(|| (&series.labels, stamped.zip(histograms).collect()))
        });
        prometheus.write(&request(parts))?;
    }
    Ok(())
}

/// Returns a storage of the metrics that a query names: that in memory has no index.
fn storage(query: &str) -> MemoryStorage {
    let words = query.split(|c: char| !c.is_alphanumeric() && c != '_');
    let words: Vec<&str> = words.collect();
    let mut series = Vec::new();
    for metric in shapes::NUMBERS.iter().chain(&shapes::NATIVE) {
        if words.contains(metric) {
            series.extend(shapes::of(metric));
        }
    }
    MemoryStorage::of_series(series)
}

fn milliseconds(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        0.0..0.1 => format!("{millis:.3} ms"),
        0.1..10.0 => format!("{millis:.2} ms"),
        _ => format!("{millis:.0} ms"),
    }
}

/// Returns the first and the last time that a case asks for, in seconds after the beginning.
fn edges(case: &Case) -> (i64, i64) {
    let end = (shapes::SAMPLES - 1) * shapes::STEP;
    (end - (case.steps - 1) * shapes::STEP, end)
}

/// Repeats something until it has cost enough, and returns what it costs once.
fn repeated(
    mut once: impl FnMut() -> Result<(), Box<dyn Error>>,
    spent: impl Fn() -> Duration,
) -> Result<Duration, Box<dyn Error>> {
    let before = spent();
    let mut times = 0;
    loop {
        once()?;
        times += 1;
        let cost = spent().saturating_sub(before);
        if cost >= ENOUGH {
            return Ok(cost / times);
        }
    }
}

/// Big queries whose selectors and ranges several threads can share.
const SHARED: [&str; 6] = [
    "stddev_over_time(g[1d])",
    "deriv(g[1d])",
    "rate(a1000[1m])",
    "sum(rate(a1000[1m]))",
    "histogram_quantile(0.9, rate(h[5m]))",
    "a1000",
];

/// Shows the fastest of some runs on one thread and on two.
fn compare_threads() {
    println!("| query | one thread | two threads |\n|---|---|---|");
    for query in SHARED {
        let storage = storage(query);
        let case = Case::new(1.0, 1_000, query);
        let [mut one, mut two] = [Duration::MAX; 2];
        for _ in 0..15 {
            for (threads, best) in [(1, &mut one), (2, &mut two)] {
                let begin = Instant::now();
                evaluate(&storage, &case, threads).unwrap();
                *best = begin.elapsed().min(*best);
            }
        }
        let [one, two] = [one, two].map(milliseconds);
        println!("| `{query}` | {one} | {two} |");
    }
}

fn cost_here(storage: &MemoryStorage, case: &Case) -> Duration {
    let once = || evaluate(storage, case, 1);
    repeated(once, || processor_time("self")).unwrap()
}

fn evaluate(storage: &MemoryStorage, case: &Case, threads: usize) -> Result<(), Box<dyn Error>> {
    let mut options = EngineOptions::new(ParserOptions::v3_5());
    options.parser.experimental_functions = true;
    let engine = Engine::new(options);
    let (start, end) = edges(case);
    let (start, end) = ((BEGIN + start) * 1000, (BEGIN + end) * 1000);
    let query = match case.steps {
        1 => engine.instant_query(case.query, end),
        _ => engine.range_query(case.query, start, end, shapes::STEP * 1000),
    };
    let cancel = CancelToken::default();
    let prepared = block_on(query?.prepare(storage, None, &cancel))?;
    let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
    let outcome = black_box(prepared.evaluate_on(threads, &cancel));
    outcome.value.map(|_| ()).map_err(Into::into)
}

/// Writes all series as text and has blocks made of it.
fn write_blocks(series: &[SeriesData], folder: &Path, tool: &Path) -> Result<(), Box<dyn Error>> {
    let text = folder.join("data.om");
    let mut out = BufWriter::new(File::create(&text)?);
    let mut metric = String::new();
    for series in series {
        let name = series.labels.metric_name();
        if metric != name {
            name.clone_into(&mut metric);
            writeln!(out, "# TYPE {name} gauge")?;
        }
        let labels: Vec<String> = series
            .labels
            .iter()
            .filter(|(name, _)| *name != "__name__")
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let labels = labels.join(",");
        let samples = series.samples.timestamps.iter().zip(&series.samples.values);
        for (time, value) in samples {
            writeln!(out, "{name}{{{labels}}} {value:?} {}", time / 1000)?;
        }
    }
    writeln!(out, "# EOF")?;
    out.into_inner()?.sync_all()?;
    let made = Command::new(tool)
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .arg(&text)
        .arg(folder.join("data"))
        .stdout(Stdio::null())
        .status()?;
    fs::remove_file(text)?;
    if made.success() {
        Ok(())
    } else {
        Err(format!("promtool: {made}").into())
    }
}

/// Returns where the server answers a case.
fn path(case: &Case) -> String {
    let (start, end) = edges(case);
    let (start, end) = (BEGIN + start, BEGIN + end);
    let query = encoded(case.query);
    match case.steps {
        1 => format!("/api/v1/query?query={query}&time={end}&limit=1"),
        _ => format!(
            "/api/v1/query_range?query={query}&start={start}&end={end}&step={}&limit=1",
            shapes::STEP
        ),
    }
}
