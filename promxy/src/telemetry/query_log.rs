//! The log of queries (`global.query_log_file`): a JSON object for each.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
};

use parking_lot::Mutex;

use jiff::Timestamp;
use promql::SampleStats;

use crate::{api::json, query::Timings};

/// The log, if there is one.
#[derive(Debug, Default)]
pub struct QueryLog(Mutex<Option<File>>);

/// A file that was opened and is not used yet.
#[derive(Debug)]
pub struct Opened(Option<File>);

impl Opened {
    /// Opens a file for appending. `None` asks for no log. The error has the original's words.
    pub fn new(path: Option<&str>) -> Result<Self, String> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                io::ErrorKind::IsADirectory => "is a directory".to_owned(),
                _ => error.to_string(),
            };
            format!("can't create json log file: open {path}: {reason}")
        })?;
        Ok(Self(Some(file)))
    }

    /// Whether queries are to be logged.
    pub fn is_enabled(&self) -> bool {
        self.0.is_some()
    }
}

/// What is logged of a query.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The query.
    pub query: &'a str,
    /// The first time, in milliseconds since 1970.
    pub start: i64,
    /// The last time.
    pub end: i64,
    /// The distance of times; zero for a query of one time.
    pub step: i64,
    /// Why it has no value.
    pub error: Option<&'a str>,
    /// How long it took.
    pub timings: Timings,
    /// What it cost.
    pub stats: SampleStats,
    /// Who asked, by which method, under which path.
    pub client: (IpAddr, &'a str, &'a str),
}

impl QueryLog {
    /// Uses another file from now on.
    pub fn switch(&self, opened: Opened) {
        *self.0.lock() = opened.0;
    }

    /// Writes a line, if there is a log.
    pub fn write(&self, entry: &Entry<'_>) -> io::Result<()> {
        let mut file = self.0.lock();
        match file.as_mut() {
            None => Ok(()),
            Some(file) => file.write_all(entry.line(Timestamp::now()).as_bytes()),
        }
    }
}

impl Entry<'_> {
    fn line(&self, now: Timestamp) -> String {
        let date = |millis: i64| {
            let time = Timestamp::from_millisecond(millis);
            let text = time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
            json::quoted(&text.unwrap_or_default())
        };
        let (peer, method, path) = self.client;
        let mut line = format!(
            r#"{{"time":"{now:.9}","level":"INFO","source":"query_log","msg":"promql query logged","params":{{"end":{},"query":{},"start":{},"step":{}}}"#,
            date(self.end),
            json::quoted(self.query),
            date(self.start),
            self.step / 1000
        );
        if let Some(error) = self.error {
            write!(line, r#","error":{}"#, json::quoted(error))
                .expect("writing to a String cannot fail");
        }
        write!(
            line,
            r#","stats":{},"httpRequest":{{"clientIP":"{}","method":{},"path":{}}}}}"#,
            stats(&self.timings, &self.stats),
            peer.to_canonical(),
            json::quoted(method),
            json::quoted(path)
        )
        .expect("writing to a String cannot fail");
        line.push('\n');
        line
    }
}

/// Writes what a query took and cost, as the API and the log have it.
pub fn stats(timings: &Timings, stats: &SampleStats) -> String {
    let evaluate = timings.evaluate.as_secs_f64();
    let fetch = timings.fetch.as_secs_f64();
    format!(
        r#"{{"timings":{{"evalTotalTime":{},"resultSortTime":0,"queryPreparationTime":{fetch},"innerEvalTime":{evaluate},"execQueueTime":{},"execTotalTime":{}}},"samples":{{"totalQueryableSamples":{},"peakSamples":{}}}}}"#,
        (timings.evaluate + timings.fetch).as_secs_f64(),
        timings.queue.as_secs_f64(),
        timings.total().as_secs_f64(),
        stats.total,
        stats.peak
    )
}
