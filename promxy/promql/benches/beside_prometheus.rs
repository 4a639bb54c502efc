//! What queries cost here and in a Prometheus server: processor time, on the same data, as a table in Markdown.
//!
//! `PROMETHEUS3_BIN` names the server, `PROMTOOL_BIN` the tool that writes its blocks; without them there is nothing to do. The
//! server runs on one processor (`GOMAXPROCS=1`) and answers one request after the other, with one series of each result
//! (`limit=1`), so that hardly anything is spent on writing JSON; what a request costs in itself is taken off. Here the series
//! lie in memory as columns, there in blocks as compressed chunks, as each likes it best.
//!
//! `cargo bench -p promql --bench beside_prometheus --features testing -- WORD...` runs the queries that have all the words. The
//! word `threads` alone compares one thread with two instead, by the clock.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its table and ends where it cannot go on"
)]

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use promql::parser::ParserOptions;
use promql::storage::SeriesData;
use promql::testing::{MemoryStorage, block_on};
use promql::{CancelToken, Engine, EngineOptions};

mod cases;
mod shapes;

use cases::{CASES, Case};

/// Processor time that is spent on a query at least, so that clocks of ten milliseconds do.
const ENOUGH: Duration = Duration::from_millis(400);

/// When the data begins, in seconds since 1970.
const BEGIN: i64 = 1_700_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let series = shapes::all();
    if words == ["threads"] {
        compare_threads(&series);
        return Ok(());
    }
    let (Some(server), Some(tool)) = (
        std::env::var_os("PROMETHEUS3_BIN"),
        std::env::var_os("PROMTOOL_BIN"),
    ) else {
        println!("PROMETHEUS3_BIN or PROMTOOL_BIN is not set: nothing to compare with");
        return Ok(());
    };
    let folder = std::env::temp_dir().join("promql-beside-prometheus");
    let blocks = folder.join("data");
    if !blocks.exists() {
        fs::create_dir_all(&folder)?;
        write_blocks(&series, &folder, Path::new(&tool))?;
    }
    let prometheus = Prometheus::start(Path::new(&server), &blocks)?;
    let overhead = prometheus.cost("/api/v1/status/buildinfo")?;
    println!("| query | steps | ours | Prometheus | share | goal |\n|---|---|---|---|---|---|");
    let chosen = |case: &&Case| words.iter().all(|word| case.query.contains(word.as_str()));
    for case in CASES.iter().filter(chosen) {
        let ours = cost_here(&storage(&series, case.query), case);
        let theirs = prometheus.cost(&path(case))?.saturating_sub(overhead);
        let share = ours.as_secs_f64() / theirs.as_secs_f64();
        let verdict = if share <= case.goal {
            ""
        } else {
            " **missed**"
        };
        println!(
            "| `{}` | {} | {} | {} | {:.1} % | {:.0} %{verdict} |",
            case.query,
            case.steps,
            milliseconds(ours),
            milliseconds(theirs),
            share * 100.0,
            case.goal * 100.0
        );
    }
    Ok(())
}

/// Returns a storage of the metrics that a query names: that in memory has no index.
fn storage(series: &[SeriesData], query: &str) -> MemoryStorage {
    let words = query.split(|c: char| !c.is_alphanumeric() && c != '_');
    let words: Vec<&str> = words.collect();
    let is_named = |series: &&SeriesData| words.contains(&series.labels.metric_name());
    MemoryStorage::of_series(series.iter().filter(is_named).cloned().collect())
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
fn times(case: &Case) -> (i64, i64) {
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

/// Returns the processor time of a process, from the fields of `stat` that count hundredths of a second.
fn processor_time(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    let hundredths: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(hundredths * 10)
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
fn compare_threads(series: &[SeriesData]) {
    println!("| query | one thread | two threads |\n|---|---|---|");
    for query in SHARED {
        let storage = storage(series, query);
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
    let (start, end) = times(case);
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

/// A server on the blocks, which ends with this value.
struct Prometheus {
    process: Child,
    port: u16,
}

impl Prometheus {
    fn start(server: &Path, blocks: &Path) -> Result<Self, Box<dyn Error>> {
        let config = blocks.with_file_name("prometheus.yml");
        fs::write(&config, "global: {}\n")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new(server)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", blocks.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--storage.tsdb.retention.time=100y", "--query.timeout=20m"])
            .args(["--query.max-samples=500000000", "--log.level=error"])
            .arg("--enable-feature=promql-experimental-functions")
            .env("GOMAXPROCS", "1")
            .stderr(Stdio::null())
            .spawn()?;
        let prometheus = Self { process, port };
        for _ in 0..600 {
            if prometheus
                .get("/-/ready")
                .is_ok_and(|answer| answer.contains("200 OK"))
            {
                return Ok(prometheus);
            }
            sleep(Duration::from_millis(200));
        }
        Err("Prometheus does not get ready".into())
    }

    fn get(&self, path: &str) -> Result<String, Box<dyn Error>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: prometheus\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn cost(&self, path: &str) -> Result<Duration, Box<dyn Error>> {
        let process = self.process.id().to_string();
        let once = || {
            let answer = self.get(path)?;
            if answer.contains("\"status\":\"success\"") {
                return Ok(());
            }
            Err(format!("{path}: {answer}").into())
        };
        repeated(once, || processor_time(&process))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if self.process.kill().is_ok() {
            let _status = self.process.wait();
        }
    }
}

/// Returns where the server answers a case.
fn path(case: &Case) -> String {
    let (start, end) = times(case);
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

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("strings take everything");
        }
    }
    encoded
}
