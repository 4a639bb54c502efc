//! The HTTP API against what the original answered, with servers that answer as the recorded ones did.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

#[path = "api_recorded/deviations.rs"]
mod deviations;
#[path = "api_recorded/prepare.rs"]
mod prepare;
mod support;

use serde_json::Value;

use deviations::Deviation;
use prepare::{asks_for_time, is_query, prepared};
use support::{
    client::Response,
    golden, groups,
    recorded::{Case, Replay},
    unpacked,
};

/// What became of the cases of a file.
struct Tally {
    file: &'static str,
    same: usize,
    /// Decided, not recorded, not yet.
    deviating: [usize; 2],
    met: Vec<&'static str>,
    failures: Vec<String>,
}

impl Tally {
    fn new(file: &'static str) -> Self {
        Self {
            file,
            same: 0,
            deviating: [0; 2],
            met: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Judges an answer by how it differs and what the tables say.
    fn add(
        &mut self,
        case: &Case,
        response: &Response,
        unmatched: &[String],
        difference: Option<String>,
    ) {
        let name = format!("{}:{}", self.file, case.id);
        let known = deviations::of(&name);
        self.met.extend(known.map(|known| known.case));
        match (difference, known) {
            (None, None) => self.same += 1,
            (Some(_), Some(known)) if is_as_told(known, response) => {
                let tables = [deviations::DECIDED, deviations::NOT_RECORDED];
                let table = tables
                    .iter()
                    .position(|table| table.iter().any(|row| row.case == known.case));
                self.deviating[table.unwrap()] += 1;
            }
            (Some(_), Some(known)) => self.failures.push(format!(
                "{name} deviates otherwise than its row tells ({})\ngot {}\n{}",
                known.row,
                response.status,
                unpacked(response)
            )),
            (None, Some(known)) => {
                let text = format!("{name} does not deviate any more ({})", known.row);
                self.failures.push(text);
            }
            (Some(difference), None) => self.failures.push(format!(
                "{name} ({})\n{difference}\nunmatched: {unmatched:#?}",
                case.request.target
            )),
        }
    }

    /// Prints the counts, and fails if an answer is otherwise than recorded or told, or if a row has no case.
    fn end(mut self, cases: usize) {
        let prefix = format!("{}:", self.file);
        for row in deviations::all().filter(|row| row.case.starts_with(&prefix)) {
            if !self.met.contains(&row.case) {
                self.failures.push(format!("{} is no case", row.case));
            }
        }
        let [decided, not_recorded] = self.deviating;
        println!(
            "{}: {} of {cases} the same, {decided} decided otherwise, {not_recorded} not recorded",
            self.file, self.same
        );
        assert!(
            self.failures.is_empty(),
            "{} fail:\n{}",
            self.failures.len(),
            self.failures.join("\n\n")
        );
    }
}

/// Whether an answer is what the row of a deviation says.
fn is_as_told(known: &Deviation, response: &Response) -> bool {
    let headers: String = response
        .headers
        .iter()
        .map(|(name, value)| name.clone() + ": " + value + "\n")
        .collect();
    let has = headers.contains(known.has) || unpacked(response).contains(known.has);
    known.status == response.status && has
}

/// Runs all cases of a file and prints how many answers are the same.
fn replay(file: &'static str) {
    let cases: Vec<Case> = golden(file);
    let replay = Replay::start(&[]);
    let mut tally = Tally::new(file.split('.').next().unwrap());
    for case in &cases {
        if case.response.status.is_none() {
            continue;
        }
        let case = prepared(tally.file, case, &cases);
        let (response, unmatched) = replay.run(&case);
        let difference = difference(&case, &response);
        tally.add(&case, &response, &unmatched, difference);
    }
    tally.end(cases.len());
}

/// Compares status, headers and body.
fn difference(case: &Case, response: &Response) -> Option<String> {
    let expected = &case.response;
    let expected_body = String::from_utf8_lossy(&expected.body.bytes()).into_owned();
    let body = unpacked(response);
    let mut out: Vec<String> = Vec::new();
    if expected.status != Some(response.status) {
        out.push(format!(
            "status: expected {:?}, got {}\n",
            expected.status, response.status
        ));
    }
    let path = case.request.target.split('?').next().unwrap();
    let mut expected_headers = expected.headers.clone();
    if deviations::FOR_OTHER_ORIGINS.contains(&path) {
        expected_headers.push(("Vary".to_owned(), "Origin".to_owned()));
    }
    for (name, value) in &expected_headers {
        let name = name.to_lowercase();
        if matches!(
            name.as_str(),
            "date" | "content-length" | "transfer-encoding" | "connection"
        ) {
            continue;
        }
        if response.header(&name) != Some(value) {
            out.push(format!(
                "{name}: expected {value:?}, got {:?}\n",
                response.header(&name)
            ));
        }
    }
    for name in [
        "access-control-allow-origin",
        "content-encoding",
        "allow",
        "location",
        "vary",
    ] {
        let is_expected = expected_headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name));
        if !is_expected && response.header(name).is_some() {
            out.push(format!(
                "{name}: not expected, got {:?}\n",
                response.header(name)
            ));
        }
    }
    if case.request.method != "HEAD" && normal(case, &expected_body) != normal(case, &body) {
        out.push(format!("body: expected\n{expected_body}\ngot\n{body}\n"));
    }
    (!out.is_empty()).then(|| out.concat())
}

/// Returns a body without what cannot be the same: timings, the time where none was asked for, values of the machine, an order
/// that is random in the original, exemplars of replicas one after another or by time (D31). Everything else stays text.
fn normal(case: &Case, body: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(body) else {
        return body.to_owned();
    };
    let target = case.request.target.as_str();
    let has_stats = value.pointer("/data/stats/timings").is_some();
    if has_stats {
        *value.pointer_mut("/data/stats").unwrap() = Value::Null;
    }
    let path = target.split('?').next().unwrap();
    let mut is_changed = has_stats;
    if is_query(path) && !asks_for_time(case) {
        mask_times(&mut value);
        is_changed = true;
    }
    let is_unordered = path.ends_with("/series") || path.ends_with("/query_exemplars");
    if is_unordered && let Some(Value::Array(list)) = value.pointer_mut("/data") {
        for series in list.iter_mut() {
            if let Some(Value::Array(exemplars)) = series.get_mut("exemplars") {
                exemplars.sort_by_key(|exemplar| exemplar["timestamp"].to_string());
            }
        }
        list.sort_by_key(Value::to_string);
        is_changed = true;
    }
    let of_the_machine = deviations::OF_THE_MACHINE
        .iter()
        .find(|(end, _)| path.ends_with(end));
    for key in of_the_machine.map_or(&[][..], |(_, keys)| keys) {
        let value = &mut value["data"][key];
        *value = if value.is_string() { "text" } else { "number" }.into();
        is_changed = true;
    }
    if let Some(Value::Array(list)) = value.pointer_mut("/data/result")
        && !target.contains("sort")
        && list.iter().all(|entry| entry.get("metric").is_some())
    {
        list.sort_by_key(|entry| entry["metric"].to_string());
        is_changed = true;
    }
    if is_changed {
        value.to_string()
    } else {
        body.to_owned()
    }
}

fn mask_times(value: &mut Value) {
    match value {
        Value::Array(pair) if pair.len() == 2 && pair[0].is_number() => pair[0] = Value::Null,
        Value::Array(list) => list.iter_mut().for_each(mask_times),
        Value::Object(map) => map.values_mut().for_each(mask_times),
        _ => {}
    }
}

#[test]
fn queries_are_answered_as_recorded() {
    replay("api_query.jsonl.gz");
}

#[test]
fn range_queries_are_answered_as_recorded() {
    replay("api_query_range.jsonl");
}

#[test]
fn series_and_labels_are_answered_as_recorded() {
    replay("api_series_labels.jsonl");
}

#[test]
fn the_rest_of_the_api_is_answered_as_recorded() {
    replay("api_misc.jsonl");
}

#[test]
fn faults_of_servers_are_answered_as_recorded() {
    let cases: Vec<Case> = golden("faults.jsonl.gz");
    let mut tally = Tally::new("faults");
    let mut kinds: Vec<&str> = cases
        .iter()
        .map(|case| case.id.split('/').next().unwrap())
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let replay = Replay::with(&[], |ports| fault_config(kind, ports));
        for case in cases
            .iter()
            .filter(|case| case.id.split('/').next() == Some(kind))
        {
            let case = prepared(tally.file, case, &cases);
            let (response, unmatched) = replay.run(&case);
            let difference = fault_difference(&case, &response);
            tally.add(&case, &response, &unmatched, difference);
        }
    }
    tally.end(cases.len());
}

/// Returns the configuration of a run of faults.
fn fault_config(kind: &str, ports: &[u16]) -> String {
    let nobody = shared::testing::wire::free_tcp_port();
    let config = match kind {
        "dead_b" => groups(&[&ports[..2], &[nobody]]),
        "dead_replica_a2" => groups(&[&[ports[0], nobody], &ports[2..]]),
        _ => groups(&[&ports[..2], &ports[2..]]),
    };
    let ignore = "    ignore_error: true\n";
    let downgrade = "    downgrade_error: true\n";
    let (a, b) = match kind {
        "ignore_b" => ("", ignore.to_owned()),
        "downgrade_b" => ("", downgrade.to_owned()),
        "ignore_and_downgrade_b" => ("", format!("{ignore}{downgrade}")),
        "ignore_a_and_b" => (ignore, ignore.to_owned()),
        "timeout_1s" => ("    timeout: 1s\n", "    timeout: 1s\n".to_owned()),
        _ => ("", String::new()),
    };
    let config = config.replace("  - name: group-b", &format!("{a}  - name: group-b"));
    // Only the main set-up was recorded with external labels.
    let config = if kind == "default" || kind == "timeout_1s" {
        config
    } else {
        config.replace("  external_labels:\n    source: promxy-2\n", "")
    };
    format!("{config}{b}")
}

/// Compares the status and the message up to the kind of error; whole bodies of successes, warnings up to their kind.
fn fault_difference(case: &Case, response: &Response) -> Option<String> {
    let expected = String::from_utf8_lossy(&case.response.body.bytes()).into_owned();
    let got = unpacked(response);
    if case.response.status == Some(response.status)
        && shortened(case, &expected) == shortened(case, &got)
    {
        return None;
    }
    Some(format!(
        "expected {:?}\n{expected}\ngot {}\n{got}",
        case.response.status, response.status
    ))
}

fn shortened(case: &Case, body: &str) -> String {
    let short = |text: &str| {
        // Whoever fails first is told (D41), in the original the first group.
        if case.id.contains("/all/") {
            return short(text).replace("ord=1", "ord=0");
        }
        short(text)
    };
    if body.starts_with("error in ") {
        return short(body);
    }
    let Ok(mut value) = serde_json::from_str::<Value>(body) else {
        // A page of samples: their times move with the clock.
        let line = |line: &str| match line.rsplit_once(' ') {
            Some((line, time)) if time.parse::<i64>().is_ok() => line.to_owned(),
            _ => short(line),
        };
        return body.lines().map(line).collect::<Vec<_>>().join("\n");
    };
    if let Some(Value::String(text)) = value.get_mut("error") {
        *text = short(text);
    }
    if let Some(Value::Array(warnings)) = value.get_mut("warnings") {
        for warning in warnings {
            *warning = short(warning.as_str().unwrap()).into();
        }
    }
    normal(case, &value.to_string())
}

/// Cuts a message behind the target, or behind what kind of error it is where that is one of Prometheus'.
fn short(text: &str) -> String {
    const KINDS: [&str; 7] = [
        "bad_data",
        "execution",
        "timeout",
        "canceled",
        "internal",
        "not_found",
        "unavailable",
    ];
    let Some((before, behind)) = text.split_once("error in target=") else {
        return text.to_owned();
    };
    let (target, rest) = behind.split_once(": ").unwrap_or((behind, ""));
    let target = target.rsplit_once(':').map_or(target, |(host, _)| host);
    let kind = rest.split(':').next().unwrap();
    let kind = if KINDS.contains(&kind) { kind } else { "" };
    format!("{before}error in target={target}: {kind}")
}
