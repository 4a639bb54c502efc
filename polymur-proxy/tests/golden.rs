//! Every capture of the real proxy, replayed through the real binary: requests header by header and bodies decompressed,
//! log lines, standard output, exit status. What deviates on purpose stands in `DEVIATIONS`, with its row of the table of
//! fixes, and in the README under Differences.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it counted and fails where it stands"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::PathBuf,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use shared::testing::{golden as load, process::Program, wire::connect};
use support::{
    Certificates, command,
    gateway::{Action, Gateway, Request, Tls, answer},
    golden, loopback, numbered, port, spawn,
};

/// A deliberate deviation: which captures, which row of the table of fixes, and what is different.
struct Deviation {
    row: &'static str,
    cases: &'static [&'static str],
    change: Change,
}

enum Change {
    /// More words on the command line, which give the original's behaviour back where ours is a matter of time.
    Words(&'static [&'static str]),
    /// The batch of each request that failed arrives once more.
    Again,
    /// No batch arrives more or less, but these log lines come instead of those.
    Log {
        not: &'static [&'static str],
        but: &'static [&'static str],
    },
    /// Ends with this status.
    Exit(i64),
    /// Requests to the first path go to the second, or not at all.
    Path(&'static str, Option<&'static str>),
    /// What follows a line that is too long arrives too.
    TooLong,
    /// Redirected requests are repeated as they were.
    SameMethod,
    /// Batches are not sent at all any more: they were empty.
    NoBatches,
}

use Change::{Again, Exit, Log, NoBatches, Path, SameMethod, TooLong, Words};

/// Everywhere besides: batches without lines are not posted (row 11), what was kept in an outage is posted as separate
/// requests (row 6), and the last line of the log says what became of all lines (row 15).
const DEVIATIONS: &[Deviation] = &[
    Deviation {
        row: "7: batches that the gateway cannot take now are sent again",
        cases: &[
            "failure/ingest_408",
            "failure/ingest_429",
            "failure/ingest_500",
            "failure/ingest_502",
            "failure/ingest_503",
            "failure/ingest_503_retry_after",
            "failure/ingest_504",
            "failure/ingest_close",
            "failure/ingest_rst",
            "failure/ingest_truncated_reply",
            "failure/quiet_mode",
            "failure/rst_mid_body",
        ],
        change: Again,
    },
    Deviation {
        row: "7: with Retry-After, after that time",
        cases: &["failure/ingest_503_retry_after"],
        change: Words(&["-http-timeout=20s"]),
    },
    Deviation {
        row: "8: 401 is held; here for no time",
        cases: &["failure/ingest_401", "failure/ingest_401_all"],
        change: Words(&["-key-hold=0s"]),
    },
    Deviation {
        row: "9: no garbage in front of the next batch after a reset",
        cases: &["failure/rst_mid_body"],
        change: Log {
            not: &[
                "[worker #N] gateway]: Post \"http://localhost:P/ingest\": readfrom tcp A->A: write tcp A->A: write: connection reset by peer",
            ],
            but: &[
                "[worker #N] gateway]: Post \"http://localhost:P/ingest\": write tcp A->A: write: connection reset by peer",
                "[worker #N] gateway]: Post \"http://localhost:P/ingest\": read tcp A->A: read: connection reset by peer",
            ],
        },
    },
    Deviation {
        row: "10: a gateway that hangs is given up; here after a second",
        cases: &[
            "timing/gateway_hangs",
            "queue/cap_2_stalled",
            "queue/backpressure",
        ],
        change: Words(&["-http-timeout=1s"]),
    },
    Deviation {
        row: "12: slashes at the end of the address are cut",
        cases: &["startup/gw_trailing_slash"],
        change: Path("//", Some("/")),
    },
    Deviation {
        row: "13: redirects repeat the POST",
        cases: &[
            "startup/ping_redirect_301",
            "startup/ping_redirect_302",
            "startup/ping_redirect_303",
            "startup/ping_redirect_loop",
            "failure/ingest_redirect_302",
        ],
        change: SameMethod,
    },
    Deviation {
        row: "13: redirects to other hosts are not followed",
        cases: &["failure/redirect_other_host"],
        change: Log {
            not: &["[worker #N] D [gateway] key is valid"],
            but: &[
                "[worker #N] gateway]: Post \"http://localhost:P/ingest\": redirect to another host is not followed: http://A/stolen",
            ],
        },
    },
    Deviation {
        row: "16: a line that is too long costs only itself",
        cases: &[
            "ingest/long_line_65535_crlf",
            "ingest/long_line_65536",
            "ingest/long_line_70000",
        ],
        change: TooLong,
    },
    Deviation {
        row: "16: it is logged",
        cases: &[
            "ingest/long_line_65535_crlf",
            "ingest/long_line_65536",
            "ingest/long_line_70000",
            "ingest/long_noeol_65536",
        ],
        change: Log {
            not: &[],
            but: &["skipped a line of more than 65536 bytes who=A lines=1 held_back=0"],
        },
    },
    Deviation {
        row: "11: an empty batch is not posted",
        cases: &["ingest/idle_conn_connect_close"],
        change: NoBatches,
    },
    Deviation {
        row: "22: a negative capacity is refused",
        cases: &["queue/cap_negative"],
        change: Exit(2),
    },
    Deviation {
        row: "22: workers below one are refused",
        cases: &["cli/workers_0", "cli/workers_negative"],
        change: Exit(2),
    },
    Deviation {
        row: "27: a certificate that is in -cert itself may have its name as common name",
        cases: &["tls/self_nosan"],
        change: Exit(0),
    },
    Deviation {
        row: "27: a certificate that is in -cert itself may have its name as common name",
        cases: &["tls/self_nosan"],
        change: Log {
            not: &[
                "Post \"https://localhost:P/ping\": tls: failed to verify certificate: x509: certificate relies on legacy Common Name field, use SANs instead",
            ],
            but: &[
                "Connection to gateway https://localhost:P successful",
                "HTTP writer #N started",
                "Metrics listener started: A",
                "Runstats started: A",
                "Shutting down",
                "the server's certificate has its name only as common name, which is deprecated: accepted because the certificate itself is trusted name=\"localhost\"",
            ],
        },
    },
    Deviation {
        row: "20: the resolver's address is not known here",
        cases: &["startup/gw_nxdomain", "tls/http_proxy_env_cert"],
        change: Log { not: &[], but: &[] },
    },
];

fn deviations(case: &str) -> impl Iterator<Item = &'static Deviation> {
    DEVIATIONS
        .iter()
        .filter(move |deviation| deviation.cases.contains(&case))
}

// --- What a capture says -------------------------------------------------------------------------------------------

fn bytes_of(value: &Value) -> Vec<u8> {
    if let Some(text) = value.get("text").and_then(Value::as_str) {
        return text.as_bytes().to_vec();
    }
    if let Some(text) = value.get("b64").and_then(Value::as_str) {
        return load::bytes(text);
    }
    // A long one: the numbered points, or a line of x between two others.
    let length = value["len"].as_u64().unwrap() as usize;
    let head = value["head"].as_str().unwrap();
    let tail = value["tail"].as_str().unwrap();
    if let Some(first) = head.strip_prefix("m.") {
        let first = first.split(' ').next().unwrap().parse().unwrap();
        let mut points = numbered(first..first + 20_000);
        points.truncate(length);
        assert!(points.ends_with(tail.as_bytes()), "{tail}");
        return points;
    }
    if let Some(filler) = head.chars().last()
        && head.ends_with(&String::from(filler).repeat(20))
    {
        let lead = head.trim_end_matches(filler);
        let end = tail.trim_start_matches(filler);
        let middle = String::from(filler).repeat(length - lead.len() - end.len());
        return [lead, &middle, end].concat().into_bytes();
    }
    // Random lines that were not kept: as many others, of the same length in all.
    let last = tail.trim_end().rsplit(' ').nth(1).unwrap();
    let lines: usize = last.parse::<usize>().unwrap() + 1;
    let mut x = 1_u64;
    let mut out = Vec::with_capacity(length);
    for number in 0..lines {
        let end = length * (number + 1) / lines;
        let (start, point) = (format!("r.{number}."), format!(" {number} 1500000000\n"));
        out.extend_from_slice(start.as_bytes());
        while out.len() + point.len() < end {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            out.push(b'a' + (x % 26) as u8);
        }
        out.extend_from_slice(point.as_bytes());
    }
    out
}

/// The batches of the recorded requests, those without lines left out; each gzip member was a batch.
fn recorded_batches(requests: &[Value]) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    for request in requests {
        let members = request.get("gzip_members").and_then(Value::as_array);
        for member in members.into_iter().flatten() {
            let decoded = bytes_of(&member["decoded"]);
            if !decoded.is_empty() {
                batches.push(decoded);
            }
        }
    }
    batches
}

/// What the gateway did with each request, in order; for pings and for the rest.
fn script(case: &str, requests: &[Value]) -> Vec<(String, Action)> {
    let action = |request: &Value| {
        let response = request.get("response").filter(|value| value.is_object());
        let written = response.map(|response| {
            let headers = response["headers"].as_object();
            let headers: Vec<(String, String)> = headers
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect();
            let body = response["body"].as_str().unwrap();
            let encoded = headers.iter().any(|(name, _)| name == "Content-Encoding");
            let body: Vec<u8> = if encoded {
                body.chars().map(|c| c as u8).collect()
            } else {
                body.as_bytes().to_vec()
            };
            (
                answer(response["status"].as_u64().unwrap() as u16, &headers, &body),
                headers,
            )
        });
        let name = request["server_action"].as_str().unwrap_or("resp");
        match (name, written) {
            ("resp", Some((bytes, headers)))
                if headers.contains(&("Connection".to_owned(), "close".to_owned())) =>
            {
                Action::AnswerAndClose(bytes)
            }
            ("resp", Some((bytes, _))) => Action::Answer(bytes),
            ("delay", _) => Action::After(
                Duration::from_secs(3),
                Box::new(Action::status(200, "key is valid\n")),
            ),
            ("hang", _) => Action::Hang,
            ("close", _) => Action::Close,
            ("rst", _) => Action::Reset,
            ("raw" | "raw_close", _) => raw(case),
            (early, _) if early.starts_with("('resp_close', 413") => {
                Action::Early(answer(413, &[], b"too big\n"))
            }
            ("('rst_after', 1000)", _) => Action::ResetWithin(1_000),
            (other, _) => panic!("{case}: {other}"),
        }
    };
    requests
        .iter()
        .map(|request| {
            (
                request["path"].as_str().unwrap().to_owned(),
                action(request),
            )
        })
        .collect()
}

/// Bytes that the captures describe in words only.
fn raw(case: &str) -> Action {
    match case {
        "startup/ping_garbage" => Action::AnswerAndClose(b"hello there\r\n".to_vec()),
        "startup/ping_truncated" | "failure/ingest_truncated_reply" => {
            Action::AnswerAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec())
        }
        "failure/reply_chunked" => Action::Answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n1\r\n\n\r\n0\r\n\r\n".to_vec(),
        ),
        other => panic!("{other} has an answer that nobody has described"),
    }
}

// --- Comparing -----------------------------------------------------------------------------------------------------

/// Makes two log lines equal that differ only in what differs on every run.
fn normal(line: &str) -> String {
    let line = line
        .get(20..)
        .filter(|_| line.as_bytes().get(4) == Some(&b'/') && line.as_bytes().get(13) == Some(&b':'))
        .unwrap_or(line);
    let mut out = String::new();
    for word in line.split(' ') {
        if !out.is_empty() || line.starts_with(' ') {
            out.push(' ');
        }
        out.push_str(&normal_word(word));
    }
    // The first word is not preceded by a blank.
    out
}

fn normal_word(word: &str) -> String {
    let starts_with_digit = word.starts_with(|c: char| c.is_ascii_digit());
    if starts_with_digit
        && (word.ends_with("ms") || word.ends_with("µs") || word.ends_with('s'))
        && !word.contains(':')
    {
        return "D".to_owned();
    }
    if let Some(number) = word.strip_prefix('#')
        && number
            .trim_end_matches(']')
            .chars()
            .all(|c| c.is_ascii_digit())
    {
        return word.replace(number.trim_end_matches(']'), "N");
    }
    if word.len() == 20 && word.ends_with('Z') && word.contains('T') {
        return "TIME".to_owned();
    }
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find("127.0.0.1:") {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        out.push('A');
        rest = found
            .trim_start_matches("127.0.0.1:")
            .trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out.push_str(rest);
    match out.split_once("localhost:") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}localhost:P{after}")
        }
        None => out,
    }
}

/// Lines that say nothing about behaviour, or are there on all our runs.
fn is_background(line: &str) -> bool {
    line.starts_with("Last ")
        || line.starts_with("drained ")
        || line.starts_with("(capture note")
        || line.contains("sending batch (0 data points)")
        || line.contains(" more identical lines left out")
}

fn log_of<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let normal = lines.into_iter().map(normal);
    normal.filter(|line| !is_background(line)).collect()
}

fn recorded_log(capture: &Value) -> BTreeSet<String> {
    let lines = capture["stderr"].as_array().unwrap();
    log_of(lines.iter().map(|line| line[1].as_str().unwrap()))
}

/// What differs between two sets, in words.
fn difference(what: &str, expected: &BTreeSet<String>, got: &BTreeSet<String>) -> Vec<String> {
    let missing = expected
        .difference(got)
        .map(|line| format!("{what} missing: {line:?}"));
    let unexpected = got
        .difference(expected)
        .map(|line| format!("{what} unexpected: {line:?}"));
    missing.chain(unexpected).collect()
}

fn count(batches: &[Vec<u8>]) -> BTreeMap<&[u8], usize> {
    let mut counts = BTreeMap::new();
    for batch in batches {
        *counts.entry(batch.as_slice()).or_default() += 1;
    }
    counts
}

fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let head: String = text.chars().take(80).collect();
    format!("{} bytes {head:?}", bytes.len())
}

/// Returns the head with the numbers replaced that are those of a run.
fn normal_head(head: &str, port_of_capture: Option<u16>, port: u16) -> String {
    let lines = head.split("\r\n").map(|line| {
        if line.starts_with("Content-Length: ") && line != "Content-Length: 0" {
            return "Content-Length: N".to_owned();
        }
        let recorded = port_of_capture.map_or(String::new(), |port| format!(":{port}"));
        let line = line.replace(&format!(":{port}"), ":P");
        if recorded.is_empty() {
            line
        } else {
            line.replace(&recorded, ":P")
        }
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

// --- Replaying -----------------------------------------------------------------------------------------------------

/// One capture and what it takes to replay it.
struct Replay<'a> {
    case: String,
    capture: Value,
    certificates: &'a Certificates,
    words: Vec<String>,
    /// As recorded, and as used now.
    gateway_port: Option<(u16, u16)>,
    lines_port: u16,
    stat_port: u16,
}

impl<'a> Replay<'a> {
    fn new(case: &str, certificates: &'a Certificates) -> Self {
        let capture: Value = load::json(golden(&format!("{case}.json")));
        let [lines_port, stat_port, gateway_port] = std::array::from_fn(|_| port());
        let mut replay = Self {
            case: case.to_owned(),
            words: Vec::new(),
            gateway_port: None,
            lines_port,
            stat_port,
            certificates,
            capture: Value::Null,
        };
        for word in capture["argv"].as_array().unwrap() {
            let word = word
                .as_str()
                .unwrap()
                .replace("/certs/", &format!("{}/", certificates.folder().display()));
            let word = if word.starts_with("-listen-addr=") {
                format!("-listen-addr=127.0.0.1:{lines_port}")
            } else if word.starts_with("-stat-addr=") {
                format!("-stat-addr=127.0.0.1:{stat_port}")
            } else if let Some(recorded) = port_in(&word).filter(|port| *port > 20_000) {
                replay.gateway_port = Some((recorded, gateway_port));
                word.replace(&format!(":{recorded}"), &format!(":{gateway_port}"))
            } else {
                word
            };
            replay.words.push(word);
        }
        for deviation in deviations(case) {
            if let Words(words) = deviation.change {
                replay
                    .words
                    .extend(words.iter().map(|word| (*word).to_owned()));
            }
        }
        replay.capture = capture;
        replay
    }

    fn requests(&self) -> &[Value] {
        self.capture["requests"]
            .as_array()
            .map_or(&[], Vec::as_slice)
    }

    fn spawn(&self) -> Program {
        let mut command = command();
        for (name, value) in self.capture["env"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap().replace(
                "/certs/",
                &format!("{}/", self.certificates.folder().display()),
            );
            command.env(name, value);
        }
        spawn(command.args(&self.words))
    }

    /// The gateway as recorded; `None` where nobody listened.
    fn gateway(&self) -> Option<Gateway> {
        let (_, port) = self.gateway_port?;
        let connected = self.capture["connections"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        let seen = self
            .capture
            .get("requests_seen_by_a_Go_net_http_server")
            .is_some();
        if !connected && !seen {
            return None;
        }
        let script = script(&self.case, self.requests());
        let played = Mutex::new(vec![false; script.len()]);
        Some(Gateway::start_at(
            loopback(port),
            self.tls(),
            move |path, _| {
                let mut played = played.lock().unwrap();
                let ping = path.ends_with("/ping");
                let next = script.iter().enumerate().position(|(at, (recorded, _))| {
                    !played[at] && recorded.ends_with("/ping") == ping
                });
                match next {
                    Some(at) => {
                        played[at] = true;
                        script[at].1.clone()
                    }
                    None if ping => Action::status(200, "key is valid\n"),
                    None => Action::received(),
                }
            },
        ))
    }

    fn tls(&self) -> Option<Tls> {
        let flag = self.words.iter().find(|word| word.starts_with("-gateway="));
        if !flag?.contains("https://") {
            return None;
        }
        let name = self.case.strip_prefix("tls/").unwrap_or_default();
        let shown = match name {
            "self_ca_true" => "self_ca",
            "self_leaf" | "self_nosan" | "wronghost" | "expired" => name,
            "nosan_ca" => "nosan",
            _ => "server",
        };
        if name == "tls12" {
            let read =
                |end: &str| fs::read(self.certificates.path(&format!("server.{end}"))).unwrap();
            return Some(Tls::new(
                &read("pem"),
                &read("key"),
                &[&rustls::version::TLS12],
            ));
        }
        Some(self.certificates.server(shown))
    }

    fn expected_exit(&self) -> i64 {
        let changed = deviations(&self.case).find_map(|deviation| match deviation.change {
            Exit(status) => Some(status),
            _ => None,
        });
        changed.unwrap_or_else(|| self.capture["exit_status"].as_i64().unwrap_or(0))
    }

    /// The batches that are to arrive, each as often as it does.
    fn expected_batches(&self, sent: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut batches = recorded_batches(self.requests());
        for deviation in deviations(&self.case) {
            match deviation.change {
                Again => {
                    let failed = self.requests().iter().filter(|request| {
                        let status = request["response"]["status"].as_u64();
                        let broken = request["server_action"] != "resp";
                        broken
                            || status
                                .is_some_and(|status| [408, 429].contains(&status) || status >= 500)
                    });
                    batches.extend(recorded_batches(&failed.cloned().collect::<Vec<_>>()));
                }
                // The tail of the batch, which the long line took with it.
                TooLong => {
                    let whole = sent.concat();
                    let lines = whole.split_inclusive(|byte| *byte == b'\n');
                    let fit = lines.filter(|line| line.len() <= 65_536).map(|line| {
                        let text = line.strip_suffix(b"\n").unwrap_or(line);
                        [text.strip_suffix(b"\r").unwrap_or(text), b"\n"].concat()
                    });
                    batches = vec![fit.collect::<Vec<_>>().concat()];
                }
                SameMethod => {
                    let moved = self.requests().iter().filter(|request| {
                        request["response"]["status"] == 302 && request["path"] == "/ingest"
                    });
                    batches.extend(recorded_batches(&moved.cloned().collect::<Vec<_>>()));
                }
                NoBatches => batches.clear(),
                _ => {}
            }
        }
        if self.case == "failure/rst_mid_body" {
            // The bodies that were recorded are half garbage: what was sent is what is to arrive.
            batches = sent.to_vec();
        }
        batches
    }

    fn expected_log(&self, batches: &[Vec<u8>]) -> BTreeSet<String> {
        let mut log = recorded_log(&self.capture);
        for deviation in deviations(&self.case) {
            match deviation.change {
                Log { not, but } => {
                    log.retain(|line| !not.contains(&line.as_str()));
                    log.extend(but.iter().map(|line| (*line).to_owned()));
                }
                Again if !self.words.iter().any(|word| word == "-verbose=false") => {
                    log.insert("[worker #N] D [gateway] Batch Received".to_owned());
                }
                TooLong => {
                    log.retain(|line| !line.contains("sending batch ("));
                    let lines = memchr::memchr_iter(b'\n', &batches[0]).count();
                    log.insert(format!("[worker #N] sending batch ({lines} data points)"));
                }
                Exit(2) => log.clear(),
                _ => {}
            }
        }
        if batches.is_empty() {
            log.retain(|line| !line.starts_with("[worker"));
        }
        log
    }

    /// Plays the clients one after another; each waits until the gateway has heard of it.
    fn play(&self, gateway: Option<&Gateway>) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for client in self.capture["clients"].as_array().into_iter().flatten() {
            let Some(steps) = client.get("steps").and_then(Value::as_array) else {
                continue;
            };
            let before = gateway.map_or(0, Gateway::ingests);
            let mut stream = connect(loopback(self.lines_port));
            let mut bytes = Vec::new();
            for step in steps {
                let (name, value) = step.as_object().unwrap().iter().next().unwrap();
                match name.as_str() {
                    "send" => {
                        let piece = bytes_of(value);
                        bytes.extend_from_slice(&piece);
                        // The original may hang up in the middle.
                        let _sent = stream.write_all(&piece).is_ok();
                    }
                    "sleep" => thread::sleep(Duration::from_secs_f64(value[0].as_f64().unwrap())),
                    "shut" => drop(stream.shutdown(Shutdown::Write)),
                    "recv" => {
                        stream
                            .set_read_timeout(Some(shared::testing::PATIENCE))
                            .unwrap();
                        let got = stream.read(&mut [0; 16]).unwrap_or(0);
                        assert_eq!(got, 0, "{}: nothing is ever written back", self.case);
                    }
                    "rst" => socket2::SockRef::from(&stream)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap(),
                    other => panic!("{}: {other}", self.case),
                }
            }
            drop(stream);
            let arrives = !bytes.is_empty() && !self.case.contains("noeol_65536");
            if let Some(gateway) = gateway.filter(|_| arrives) {
                shared::testing::eventually(&format!("{}: a request", self.case), || {
                    (gateway.ingests() > before).then_some(())
                });
            }
            sent.push(bytes);
        }
        sent
    }

    /// Replays it, and returns what is different from what was recorded.
    fn run(&self) -> Vec<String> {
        let odd = [
            "tls/plain_server_nocert",
            "tls/tls11",
            "startup/gw_http_to_tls",
        ];
        let is_odd = odd.contains(&self.case.as_str());
        let (silent, gateway) = if is_odd {
            (Some(self.silent_server()), None)
        } else {
            (None, self.gateway())
        };
        let mut program = self.spawn();
        let lives = self.expected_exit() == 0;
        let mut sent = Vec::new();
        if lives {
            program.wait_for_line("Runstats started");
            self.wait_until_listening(&mut program);
            sent = self.play(gateway.as_ref());
        }
        let expected = self.expected_batches(&sent);
        let arrived = || -> Vec<Vec<u8>> {
            let requests = gateway.as_ref().map(Gateway::requests).unwrap_or_default();
            batches_of(&requests)
        };
        if lives {
            let deadline = Instant::now() + shared::testing::PATIENCE;
            while arrived().len() < expected.len() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
            }
            if self.case == "console/metrics_flush_only" {
                program.wait_for_line("polymur.rate");
            }
            program.signal(Signal::SIGINT);
        }
        let the_end = format!("{}: the end", self.case);
        shared::testing::eventually(&the_end, || program.exited());
        let status = program.wait();
        drop(silent);

        let mut wrong = Vec::new();
        if status.code().map(i64::from) != Some(self.expected_exit()) {
            wrong.push(format!(
                "exit: expected {}, got {status}",
                self.expected_exit()
            ));
        }
        let requests = gateway.as_ref().map(Gateway::requests).unwrap_or_default();
        wrong.extend(self.compare_batches(&expected, &batches_of(&requests)));
        wrong.extend(self.compare_heads(&requests, &expected));
        wrong.extend(self.compare_logs(&program, &expected));
        wrong
    }

    /// A proxy that has ended instead says why.
    fn wait_until_listening(&self, program: &mut Program) {
        shared::testing::eventually(&self.case, || {
            let ended = program.exited();
            assert!(ended.is_none(), "{}: {:#?}", self.case, program.stderr());
            let listening = |port| TcpStream::connect(loopback(port)).is_ok();
            // The plaintext listener would count a connection; it is bound after this one.
            listening(self.stat_port).then_some(())
        });
    }

    fn compare_batches(&self, expected: &[Vec<u8>], got: &[Vec<u8>]) -> Vec<String> {
        // Bodies that a gateway did not read cannot be compared.
        if matches!(self.case.as_str(), "failure/early_413") {
            return Vec::new();
        }
        let again = deviations(&self.case).any(|deviation| matches!(deviation.change, Again));
        if again && expected.len() == got.len() {
            // Which of them meets which failure depends on when it is sent again.
            let distinct = |batches: &[Vec<u8>]| batches.iter().cloned().collect::<BTreeSet<_>>();
            let same = distinct(expected) == distinct(got);
            let wrong = (!same).then(|| "other batches than expected".to_owned());
            return wrong.into_iter().collect();
        }
        let (expected, got) = (count(expected), count(got));
        let mut wrong = Vec::new();
        for (batch, times) in &expected {
            let arrived = got.get(batch).copied().unwrap_or(0);
            if arrived != *times {
                wrong.push(format!(
                    "batch expected {times} times, got {arrived}: {}",
                    show(batch)
                ));
            }
        }
        for batch in got.keys().filter(|batch| !expected.contains_key(*batch)) {
            wrong.push(format!("batch unexpected: {}", show(batch)));
        }
        wrong
    }

    fn compare_heads(&self, requests: &[Request], expected_batches: &[Vec<u8>]) -> Vec<String> {
        let Some((recorded_port, port)) = self.gateway_port else {
            return Vec::new();
        };
        let same_method =
            deviations(&self.case).any(|deviation| matches!(deviation.change, SameMethod));
        let slashes = deviations(&self.case).find_map(|deviation| match deviation.change {
            Path(from, to) => Some((from, to.unwrap_or_default())),
            _ => None,
        });
        let mut expected: BTreeSet<String> = BTreeSet::new();
        for request in self.requests() {
            let mut head =
                normal_head(request["head"].as_str().unwrap(), Some(recorded_port), port);
            if same_method && head.starts_with("GET ") {
                head = head.replace("GET ", "POST ").replace(
                    "User-Agent: Go-http-client/1.1\r\n",
                    "User-Agent: Go-http-client/1.1\r\nContent-Length: L\r\n",
                );
            }
            if let Some((from, to)) = slashes {
                head = head.replacen(&format!("POST {from}"), &format!("POST {to}"), 1);
            }
            expected.insert(head);
        }
        let mut got: BTreeSet<String> = BTreeSet::new();
        for request in requests {
            let mut head = normal_head(&request.head, Some(recorded_port), port);
            if same_method
                && !["/ping ", "/ingest "]
                    .iter()
                    .any(|path| head.contains(path))
            {
                head = head
                    .replace("Content-Length: 0", "Content-Length: L")
                    .replace("Content-Length: N", "Content-Length: L");
            }
            got.insert(head);
        }
        if expected_batches.is_empty() {
            expected.retain(|head| !head.contains("/ingest "));
        }
        match deviations(&self.case).find_map(|deviation| match deviation.change {
            Exit(status) => Some(status),
            _ => None,
        }) {
            // It does not get as far as a ping.
            Some(2) => expected.clear(),
            // It gets further than the original, with an ordinary ping.
            Some(_) => expected.clone_from(&got),
            None => {}
        }
        difference("head", &expected, &got)
    }

    fn compare_logs(&self, program: &Program, expected_batches: &[Vec<u8>]) -> Vec<String> {
        let mut expected = self.expected_log(expected_batches);
        let folder = format!("{}/", self.certificates.folder().display());
        let stderr: Vec<String> = program
            .stderr()
            .iter()
            .map(|line| line.replace(&folder, "/certs/"))
            .map(|line| match self.gateway_port {
                Some((recorded, port)) => {
                    line.replace(&format!(".invalid:{port}"), &format!(".invalid:{recorded}"))
                }
                None => line,
            })
            .collect();
        let mut got = log_of(stderr.iter().map(String::as_str));
        if self.expected_exit() == 2 {
            got.clear();
        }
        if self.case == "startup/gw_nxdomain" || self.case == "tls/http_proxy_env_cert" {
            expected = expected
                .into_iter()
                .map(|line| line.replace(" on RESOLVER:53", ""))
                .collect();
        }
        if self.case == "failure/rst_mid_body" {
            // Which of the two ends of the connection is looked at first is a race, in the original too.
            let either = |line: &String| {
                line.contains("connection reset by peer") || line.contains("broken pipe")
            };
            assert!(got.iter().any(either), "{got:?}");
            expected.retain(|line| !either(line));
            got.retain(|line| !either(line));
        }
        if self.case == "tls/expired" {
            // Another time, of another certificate.
            assert!(
                expected
                    .iter()
                    .any(|line| line.contains("TIME is after TIME"))
            );
        }
        difference("log", &expected, &got)
    }

    /// A listener that never speaks TLS, or refuses the version.
    fn silent_server(&self) -> thread::JoinHandle<()> {
        let (_, port) = self.gateway_port.unwrap();
        let listener = shared::testing::eventually("the port", || {
            std::net::TcpListener::bind(loopback(port)).ok()
        });
        let refuses = self.case == "tls/tls11";
        let resets = self.case == "startup/gw_http_to_tls";
        thread::spawn(move || {
            let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
            let mut hello = [0; 16_384];
            let _read = stream.read(&mut hello).unwrap();
            if refuses {
                // Fatal alert 70: protocol version.
                stream.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).unwrap();
            }
            if resets {
                return socket2::SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            }
            // Until the other side hangs up.
            while matches!(stream.read(&mut hello), Ok(1..)) {}
        })
    }
}

fn batches_of(requests: &[Request]) -> Vec<Vec<u8>> {
    let posts = requests
        .iter()
        .filter(|request| !request.path().ends_with("/ping"));
    posts
        .filter_map(|request| request.text().filter(|text| !text.is_empty()))
        .collect()
}

fn port_in(word: &str) -> Option<u16> {
    word.strip_prefix("-gateway=")?;
    let (_, after) = word.rsplit_once(':')?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Replays captures, some at a time, and fails with all that is different.
#[track_caller]
fn replay_all(folder: &str, left_out: &[&str]) {
    let certificates = Certificates::new();
    let cases: Vec<String> = cases(folder)
        .into_iter()
        .filter(|case| !left_out.contains(&case.as_str()))
        .collect();
    let next = Mutex::new(cases.iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().unwrap().next() else {
                        return;
                    };
                    let wrong = Replay::new(case, &certificates).run();
                    let mut failures = failures.lock().unwrap();
                    failures.extend(wrong.into_iter().map(|text| format!("{case}: {text}")));
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let deviating: BTreeSet<_> = cases
        .iter()
        .flat_map(|case| deviations(case))
        .map(|deviation| deviation.row)
        .collect();
    println!(
        "{folder}: {} captures replayed, deviations: {deviating:#?}",
        cases.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn cases(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(golden(folder)).unwrap();
    let paths = entries.map(|entry| -> PathBuf { entry.unwrap().path() });
    let mut names: Vec<String> = paths
        .map(|path| format!("{folder}/{}", path.file_stem().unwrap().to_str().unwrap()))
        .collect();
    names.sort();
    names
}

#[test]
fn startup_is_as_recorded() {
    replay_all("startup", &[]);
}

#[test]
fn ingest_is_as_recorded() {
    replay_all("ingest", &[]);
}

#[test]
fn tls_is_as_recorded() {
    replay_all(
        "tls",
        &[
            // In `tls.rs`, with two servers each.
            "tls/http_proxy_env_nocert",
            "tls/http_proxy_env_nocert_proxyside",
            // Our handshake has a limit (row 10), which `tls.rs` shows.
            "tls/plain_server_withcert",
            // Row 24: HTTP/1.1 everywhere; requests are those of `http1_with_cert`.
            "tls/http1_with_cert",
            "tls/http2_without_cert",
        ],
    );
}

#[test]
fn failures_are_as_recorded_or_fixed() {
    replay_all(
        "failure",
        &[
            // Gateways that go and come back: in `outages`.
            "failure/outage_clean_close_then_refused",
            "failure/outage_no_cert_flag",
            "failure/outage_refused_workers1",
            "failure/outage_refused_workers3",
            "failure/outage_wrong_certificate",
            "failure/stale_keepalive",
        ],
    );
}

#[test]
fn queues_are_as_recorded() {
    replay_all(
        "queue",
        &[
            // Gateways that hang (row 10): in `outage.rs`, as `a_full_queue_makes_senders_wait_by_default`.
            "queue/backpressure",
            "queue/cap_2_stalled",
            "queue/cap_2_recovers",
        ],
    );
}

#[test]
fn the_ticker_is_as_recorded() {
    replay_all(
        "timing",
        &[
            // Row 11: they post batches without lines only.
            "timing/five_idle_conns",
            // Row 10: in `outage.rs` and `shutdown.rs`.
            "timing/gateway_hangs",
            // The connections that a gateway sees: in `connections_are_kept`.
            "timing/concurrency_workers_1",
            "timing/concurrency_workers_3",
            "timing/concurrency_workers_8",
            "timing/idle_keepalive_cert",
            "timing/idle_keepalive_nocert",
        ],
    );
}

/// Row 23: as many connections are kept as there are workers; and one that the gateway has closed costs nothing.
#[test]
fn connections_are_kept() {
    for workers in [1, 3, 8] {
        let gateway = Gateway::start(None, |path, _| match path {
            "/ping" => Action::status(200, "key is valid\n"),
            _ => Action::After(Duration::from_millis(50), Box::new(Action::received())),
        });
        let proxy = support::Proxy::start(&[&gateway.flag(), &format!("-workers={workers}")]);
        for round in 1..=3 {
            for number in 0..12 {
                proxy.send(format!("k{number} 1 1\n").as_bytes());
            }
            support::wait_for_count("lines", 12 * round, || gateway.taken_lines());
        }
        let connections: BTreeSet<usize> = gateway
            .requests()
            .iter()
            .map(|request| request.connection)
            .collect();
        assert!(connections.len() <= workers, "{workers}: {connections:?}");
    }
}

#[test]
fn a_kept_connection_that_the_gateway_closes_loses_nothing_and_logs_nothing() {
    // failure/stale_keepalive
    let gateway = Gateway::start(None, |path, number| match (path, number) {
        ("/ping", _) => Action::status(200, "key is valid\n"),
        // Says that it keeps the connection, and closes it.
        (_, 1) => Action::AnswerAndClose(answer(200, &[], b"Batch Received\n")),
        _ => Action::received(),
    });
    let proxy = support::Proxy::start(&[&gateway.flag(), "-workers=1"]);
    proxy.send(b"before.x 0 1500000000\n");
    support::wait_for_count("batches", 1, || proxy.metric("batches_sent_total"));
    proxy.send(b"after.x 0 1500000000\n");
    support::wait_for_count("batches", 2, || proxy.metric("batches_sent_total"));
    assert_eq!(proxy.metric("batch_retries_total{reason=\"closed\"}"), 0);
}

#[test]
fn workers_below_one_are_refused() {
    replay_all("cli", &["cli/flags"]);
}

/// Clients as the captures of outages describe them, and gateways that go and come back.
#[test]
fn outages_lose_nothing_as_recorded() {
    let certificates = Certificates::new();
    let cases = [
        ("failure/outage_clean_close_then_refused", "held", 3, 2),
        ("failure/outage_no_cert_flag", "held", 3, 2),
        ("failure/outage_refused_workers1", "lost", 3, 4),
        ("failure/outage_refused_workers3", "lost", 5, 4),
        ("failure/outage_wrong_certificate", "held", 3, 2),
        ("v1.0.0/outage_refused_workers1", "lost", 3, 4),
    ];
    for (case, word, missed, after) in cases {
        let replay = Replay::new(case, &certificates);
        let (_, gateway_port) = replay.gateway_port.unwrap();
        let friendly = |path: &str, _: usize| match path {
            "/ping" => Action::status(200, "key is valid\n"),
            _ => Action::received(),
        };
        let start = |certificate: &str| {
            let tls = certificates.server(certificate);
            Gateway::start_at(loopback(gateway_port), Some(tls), friendly)
        };
        let mut program = replay.spawn();
        let first = {
            let gateway = start("server");
            replay.wait_until_listening(&mut program);
            let send = |name: &str, number: usize| {
                let line = format!("{name}.x {number} 1500000000\n");
                connect(loopback(replay.lines_port))
                    .write_all(line.as_bytes())
                    .unwrap();
            };
            send("before", 0);
            support::wait_for_count(case, 1, || gateway.taken_lines());
            gateway.taken()
        };
        let wrong = case
            .ends_with("wrong_certificate")
            .then(|| start("self_leaf"));
        let send = |name: String, number: usize| {
            let line = format!("{name}.x {number} 1500000000\n");
            connect(loopback(replay.lines_port))
                .write_all(line.as_bytes())
                .unwrap();
        };
        for number in 0..missed {
            send(format!("{word}{number}"), number);
        }
        let reason = match wrong {
            Some(_) => {
                "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            }
            None => "connect: connection refused",
        };
        program.wait_for_line(reason);
        drop(wrong);
        let gateway = start("server");
        for number in 0..after {
            send(format!("after{number}"), number);
        }
        let arrived = || [first.clone(), gateway.taken()].concat();
        // The original lost a batch that met a connection being closed, and the tag of 2016 all of them; we do not.
        let expected = 1 + missed + after;
        support::wait_for_count(case, expected as u64, || {
            memchr::memchr_iter(b'\n', &arrived()).count() as u64
        });
        let mut lines: Vec<String> = String::from_utf8(arrived())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        let mut recorded: Vec<String> = recorded_batches(replay.requests())
            .into_iter()
            .map(|batch| String::from_utf8(batch).unwrap().trim_end().to_owned())
            .collect();
        recorded.sort();
        recorded.dedup();
        if word == "lost" {
            assert!(
                recorded.iter().all(|line| lines.contains(line)),
                "{case}: {recorded:?} {lines:?}"
            );
        } else {
            assert_eq!(lines, recorded, "{case}");
        }
        // Row 6: each batch is a request of its own.
        for request in gateway.requests() {
            assert!(recorded_members(&request.body) <= 1, "{case}");
        }
        program.signal(Signal::SIGINT);
        assert_eq!(program.wait().code(), Some(0), "{case}");
        // The bracket that is missing in the original is missing here.
        let log = log_of(
            program
                .stderr()
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        let failures = log.iter().filter(|line| line.contains(reason));
        for line in failures {
            assert!(
                line.starts_with("[worker #N] gateway]: Post \"https://localhost:P/ingest\": "),
                "{case}: {line}"
            );
        }
    }
    println!("{} outages replayed", cases.len());
}

/// How many gzip members a body has.
fn recorded_members(body: &[u8]) -> usize {
    let mut rest = body;
    let mut members = 0;
    while !rest.is_empty() {
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        decoder.read_to_end(&mut Vec::new()).unwrap();
        rest = decoder.into_inner();
        members += 1;
    }
    members
}

/// The real gateway's replies, as recorded, against the gateway that the tests here use in its place.
#[test]
fn the_gateway_of_these_tests_answers_as_the_real_one() {
    let capture: Value = load::json(golden("e2e/trailing_slash.json"));
    assert_eq!(capture["case"], "e2e/trailing_slash");
    let gateway = Gateway::start(None, |_, _| Action::Real("123"));
    let ask = |path: &str, key: &str, body: &[u8]| {
        let mut stream = support::open(gateway.address);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nX-Polymur-Key: {key}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let status = reply.split(' ').nth(1).unwrap_or("none").to_owned();
        let text = reply
            .split_once("\r\n\r\n")
            .map_or("", |(_, text)| text)
            .to_owned();
        (status, text)
    };
    let f = |path: &str, key: &str, body: &[u8], status: &str, text: &str| {
        assert_eq!(
            ask(path, key, body),
            (status.to_owned(), text.to_owned()),
            "{path} {key}"
        );
    };
    let good = load::bytes(
        "H4sIAAAAAAAA/wAiAN3/bS4wIDAgMTUwMDAwMDAwMAptLjEgMSAxNTAwMDAwMDAxCgMA25ItsSIAAAA=",
    );
    f("/ping", "123", b"", "200", "key is valid\n");
    f("/ping", "wrong", b"", "401", "invalid key");
    f("/ingest", "wrong", &good, "401", "invalid key");
    f("/ingest", "123", &good, "200", "Batch Received\n");
    f(
        "/ingest",
        "123",
        &[good.clone(), good.clone()].concat(),
        "200",
        "Batch Received\n",
    );
    f("/ingest", "123", &good[..40], "400", "Batch Malformed\n");
    f("/ingest", "123", b"", "none", "");
    f("/ingest", "123", b"no gzip at all", "none", "");
    f("//ping", "123", b"", "301", "");
    f("/ping/", "123", b"", "404", "404 page not found\n");
}

/// Real proxy against real gateway: ours against a gateway that does the same, with what arrived compared.
#[test]
fn end_to_end_captures_deliver_what_was_recorded_or_more() {
    let certificates = Certificates::new();
    for (case, https, cert) in [
        ("e2e/http_plain", false, false),
        ("e2e/https_cert_http11", true, true),
        // Row 24: HTTP/1.1 here.
        ("e2e/https_system_roots_http2", true, false),
        // Row 12: every batch was lost.
        ("e2e/trailing_slash", true, true),
    ] {
        let capture: Value = load::json(golden(&format!("{case}.json")));
        let tls = https.then(|| certificates.server("server"));
        let gateway = Gateway::start(tls, |_, _| Action::Real("123"));
        let slash = if case.ends_with("slash") { "/" } else { "" };
        let [lines, stat] = [port(), port()];
        let mut words = vec![
            format!("{}{slash}", gateway.flag()),
            "-api-key=123".to_owned(),
            format!("-listen-addr=127.0.0.1:{lines}"),
            format!("-stat-addr=127.0.0.1:{stat}"),
        ];
        let ca = certificates.path("ca.pem").display().to_string();
        let mut started = command();
        if cert {
            words.push(format!("-cert={ca}"));
        } else if https {
            started.env("SSL_CERT_FILE", ca);
        }
        let program = spawn(started.args(&words));
        connect(loopback(stat));
        connect(loopback(lines))
            .write_all(&numbered(0..1_000))
            .unwrap();
        support::wait_for_count(case, 1_000, || gateway.taken_lines());
        program.wait_for_line("[gateway] Batch Received");
        let recorded = capture["proxy_stderr"].as_array().unwrap();
        let recorded = log_of(recorded.iter().map(|line| line[1].as_str().unwrap()));
        let got = log_of(
            program
                .stderr()
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        for line in ["::: Polymur-proxy :::", "HTTP writer #N started"] {
            assert!(
                recorded.contains(line) && got.contains(line),
                "{case}: {line}"
            );
        }
    }
}
