//! What is expected of a replay, and what was different.

use std::collections::BTreeSet;

use shared::testing::process::Program;

use crate::{
    deviations::{
        Change::{Again, Exit, Http1, Hung, Log, NoBatches, Path, SameMethod, TooLong},
        deviations,
    },
    normal::{count, difference, log_of, normal_batch, normal_head, recorded_log, show},
    recorded::recorded_batches,
    replay::Replay,
    support::gateway::Request,
};

impl Replay<'_> {
    pub(crate) fn expected_exit(&self) -> i64 {
        let changed = deviations(&self.case).find_map(|deviation| match deviation.change {
            Exit(status) => Some(status),
            _ => None,
        });
        changed.unwrap_or_else(|| self.capture["exit_status"].as_i64().unwrap_or(0))
    }

    /// The batches that are to arrive, each as often as it does.
    pub(crate) fn expected_batches(&self, sent: &[Vec<u8>]) -> Vec<Vec<u8>> {
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
                Hung => batches.extend_from_slice(sent),
                _ => {}
            }
        }
        if self.case == "failure/rst_mid_body" || self.case.starts_with("timing/concurrency") {
            // Bodies that were recorded are half garbage, or the capture ended before the last: what was sent is what is to
            // arrive.
            batches = sent.to_vec();
        }
        batches.iter().map(|batch| normal_batch(batch)).collect()
    }

    pub(crate) fn expected_log(&self, batches: &[Vec<u8>]) -> BTreeSet<String> {
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
                Hung => log.extend(
                    [
                        "[worker #N] gateway]: Post \"https://localhost:P/ingest\": context deadline exceeded \
                         (Client.Timeout exceeded while awaiting headers)",
                        "[worker #N] D [gateway] Batch Received",
                    ]
                    .map(str::to_owned),
                ),
                Exit(2) => log.clear(),
                _ => {}
            }
        }
        if self.capture["exit_status"].is_null() {
            // The capture was ended some other way.
            log.insert("Shutting down".to_owned());
        }
        if batches.is_empty() {
            log.retain(|line| !line.starts_with("[worker"));
        }
        log
    }

    pub(crate) fn compare_batches(&self, expected: &[Vec<u8>], got: &[Vec<u8>]) -> Vec<String> {
        // Bodies that a gateway did not read cannot be compared.
        if matches!(self.case.as_str(), "failure/early_413") {
            return Vec::new();
        }
        let again =
            deviations(&self.case).any(|deviation| matches!(deviation.change, Again | Hung));
        if again && expected.len() == got.len() {
            // Which of them meets which failure depends on when it is sent again.
            let distinct = |batches: &[Vec<u8>]| batches.iter().cloned().collect::<BTreeSet<_>>();
            let same = distinct(expected) == distinct(got);
            let wrong = (!same).then(|| "other batches than expected".to_owned());
            return wrong.into_iter().collect();
        }
        if self.case.starts_with("metrics/") {
            // How many of them there are depends on when the end comes.
            let distinct = |batches: &[Vec<u8>]| batches.iter().cloned().collect::<BTreeSet<_>>();
            let same = distinct(expected) == distinct(got);
            let wrong = (!same).then(|| "other own metrics than recorded".to_owned());
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

    pub(crate) fn compare_heads(
        &self,
        requests: &[Request],
        expected_batches: &[Vec<u8>],
    ) -> Vec<String> {
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
            if deviations(&self.case).any(|deviation| matches!(deviation.change, Http1)) {
                head = head.replace("client/2.0", "client/1.1");
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

    pub(crate) fn compare_logs(
        &self,
        program: &Program,
        expected_batches: &[Vec<u8>],
    ) -> Vec<String> {
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
        let mut got = log_of(stderr);
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
}

pub(crate) fn batches_of(requests: &[Request]) -> Vec<Vec<u8>> {
    let posts = requests
        .iter()
        .filter(|request| !request.path().ends_with("/ping"));
    posts
        .filter_map(|request| request.text().filter(|text| !text.is_empty()))
        .map(|text| normal_batch(&text))
        .collect()
}
