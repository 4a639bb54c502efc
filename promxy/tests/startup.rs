//! Starts of the real binary against those of the original: exit codes, fatal lines, what listens.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

#[path = "support/refused_flags.rs"]
mod refused_flags;
mod support;

use std::{fs, net::TcpListener};

use serde::Deserialize;
use serde_json::Value;
use shared::testing::{eventually, process::Program};
use tempfile::TempDir;

use refused_flags::REFUSED_FLAGS;
use support::{
    bytes_of,
    client::request,
    golden, groups, spawn,
    stub::{Reply, Stub},
};

#[derive(Deserialize)]
struct Start {
    id: String,
    argv: Vec<String>,
    exit_code: Value,
    #[serde(default)]
    stdout: String,
    stderr_masked: Option<String>,
    stderr: String,
}

/// Starts that end otherwise than the original's, or in other words, with the reason. Beside those of [`REFUSED_FLAGS`].
const DEVIATIONS: &[(&str, &str)] = &[
    ("c_null", "S20: a group that is null is refused"),
    ("version", "another version"),
    ("version_short", "another version"),
    ("help_short", "the help has our words"),
    ("wc_missing_ref", "the message about the file has our words"),
    ("wc_bad", "the message about the file has our words"),
    ("wc_users", "the message about the file has our words"),
    ("wc_bad_yaml", "the message about the file has our words"),
    ("wc_hdr", "the message about the file has our words"),
    ("wc_unknown", "the message about the file has our words"),
];

/// The recorded files, as far as their names and messages tell what was in them.
fn write_files(folder: &TempDir, port: u16) {
    let good = groups(&[&[port]]);
    let with = |more: &str| format!("{good}{more}");
    let group = |keys: &str| format!("promxy:\n  server_groups:\n  - {keys}\n");
    let nobody = shared::testing::wire::free_tcp_port();
    let sources = |source: &str| group(source);
    let rules = |kind: &str, expr: &str| {
        format!("groups:\n- name: a\n  rules:\n  - {kind}\n    expr: {expr}\n")
    };
    let files = [
        ("good.yml", good.clone()),
        ("c_al.yml", with("rule_files: [alerts.yml]\n")),
        ("alerts.yml", rules("alert: X", "up == 0")),
        ("bad_rules.yml", rules("alert: X", "sum(")),
        ("rec.yml", rules("record: x", "vector(1)")),
        (
            "dup_group.yml",
            rules("alert: X", "up == 0") + "- name: a\n",
        ),
        (
            "bad_tmpl.yml",
            rules("alert: X", "up == 0") + "    annotations: {a: '{{ $x }}'}\n",
        ),
        (
            "unknown_rule_key.yml",
            rules("alert: X", "up == 0") + "    foo: bar\n",
        ),
        ("c_badrules.yml", with("rule_files: [bad_rules.yml]\n")),
        ("c_rec.yml", with("rule_files: [rec.yml]\n")),
        ("c_dup.yml", with("rule_files: [dup_group.yml]\n")),
        ("c_tmpl.yml", with("rule_files: [bad_tmpl.yml]\n")),
        ("c_unk.yml", with("rule_files: [unknown_rule_key.yml]\n")),
        ("c_glob.yml", with("rule_files: ['[a']\n")),
        ("c_missrules.yml", with("rule_files: [nosuch.yml]\n")),
        (
            "c_ca.yml",
            group(
                "http_client: {tls_config: {ca_file: /nonexistent.pem}}\n    static_configs: [{targets: ['a:1']}]",
            ),
        ),
        ("c_null.yml", group("null")),
        ("c_empty.yml", String::new()),
        ("c_zero.yml", group("static_configs: [{targets: []}]")),
        (
            "c_url.yml",
            group(&format!(
                "static_configs: [{{targets: ['http://127.0.0.1:{port}/']}}]"
            )),
        ),
        ("badsd.json", "[{nope".to_owned()),
        (
            "c_file_bad.yml",
            sources("file_sd_configs: [{files: [badsd.json]}]"),
        ),
        (
            "c_droppedall.yml",
            group(
                "static_configs: [{targets: ['a:1']}]\n    relabel_configs: [{action: drop, source_labels: [__address__], regex: '.*'}]",
            ),
        ),
        (
            "c_noaddr.yml",
            group(
                "static_configs: [{targets: ['a:1']}]\n    relabel_configs: [{action: labeldrop, regex: __address__}]",
            ),
        ),
        (
            "c_filter.yml",
            group(&format!(
                "static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n    label_filter: {{dynamic_labels: [job]}}"
            )),
        ),
        (
            "c_filter_dead.yml",
            group(&format!(
                "static_configs: [{{targets: ['127.0.0.1:{nobody}']}}]\n    label_filter: {{dynamic_labels: [job]}}"
            )),
        ),
        ("c_dead.yml", groups(&[&[nobody]])),
        (
            "c_rw_dup.yml",
            with(
                "remote_write: [{name: a, url: 'http://127.0.0.1:9/w'}, {name: a, url: 'http://127.0.0.1:9/v'}]\n",
            ),
        ),
        (
            "c_qlog.yml",
            good.replace(
                "global:\n",
                "global:\n  query_log_file: /nonexistent/x.log\n",
            ),
        ),
        (
            "c_qlog_ok.yml",
            good.replace("global:\n", "global:\n  query_log_file: q.log\n"),
        ),
        (
            "c_am_bad.yml",
            with(
                "alerting: {alertmanagers: [{scheme: https, tls_config: {ca_file: /nonexistent}, static_configs: [{targets: ['a:1']}]}]}\n",
            ),
        ),
        (
            "c_rw_path.yml",
            with("remote_write: [{url: 'http://127.0.0.1:9/w'}]\n"),
        ),
        ("c_nosd.yml", group("scheme: http")),
        (
            "c_file_missing.yml",
            sources("file_sd_configs: [{files: [nosuch.json]}]"),
        ),
        (
            "c_dns.yml",
            sources("dns_sd_configs: [{names: [nosuch.invalid], type: A, port: 1}]"),
        ),
        (
            "c_http.yml",
            sources(&format!(
                "http_sd_configs: [{{url: 'http://127.0.0.1:{nobody}/sd'}}]"
            )),
        ),
        (
            "c_consul.yml",
            sources(&format!(
                "consul_sd_configs: [{{server: '127.0.0.1:{nobody}'}}]"
            )),
        ),
        ("c_k8s.yml", sources("kubernetes_sd_configs: [{role: pod}]")),
        (
            "c_k8s2.yml",
            sources(&format!(
                "kubernetes_sd_configs: [{{role: pod, api_server: 'http://127.0.0.1:{nobody}'}}]"
            )),
        ),
        (
            "c_mixed.yml",
            group(&format!(
                "static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n  - http_sd_configs: [{{url: 'http://127.0.0.1:{nobody}/sd'}}]"
            )),
        ),
        (
            "wc_missing_ref.yml",
            "tls_server_config: {cert_file: nosuch.pem, key_file: nosuch.key}\n".to_owned(),
        ),
        ("wc_bad.yml", "foo: bar\n".to_owned()),
        ("wc_empty.yml", String::new()),
        (
            "wc_users.yml",
            "basic_auth_users: {alice: plain}\n".to_owned(),
        ),
        ("wc_bad_yaml.yml", "tls_server_config: [\n".to_owned()),
        (
            "wc_hdr.yml",
            "http_server_config: {headers: {Foo: bar}}\n".to_owned(),
        ),
        (
            "wc_unknown.yml",
            "basic_auth_users: {}\nfoo: bar\n".to_owned(),
        ),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
}

#[test]
fn starts_end_as_recorded() {
    let starts: Vec<Start> = golden("startup.jsonl");
    let stub = Stub::start(|asked| {
        Reply::json(if asked.path().ends_with("/values") {
            r#"{"status":"success","data":["demo"]}"#
        } else {
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#
        })
    });
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let mut failures = Vec::new();
    let (mut same, mut deviating) = (0, 0);
    for start in &starts {
        let folder = TempDir::new().unwrap();
        write_files(&folder, stub.port);
        let ours = |word: &String| {
            word.replace("127.0.0.1:25150", "127.0.0.1:0")
                .replace("127.0.0.1:25001", &format!("127.0.0.1:{taken_port}"))
        };
        let argv: Vec<String> = start.argv.iter().map(ours).collect();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let program = spawn(folder.path(), &argv, &[]);
        let got = Ending::of(program, taken_port);
        let expected = Ending::recorded(start);
        let mut decided = DEVIATIONS.iter().chain(&REFUSED_FLAGS);
        let is_decided = decided.any(|(id, _)| *id == start.id);
        match (got == expected, is_decided) {
            (true, false) => same += 1,
            (false, true) => deviating += 1,
            (true, true) => failures.push(format!("{} does not deviate any more", start.id)),
            (false, false) => failures.push(format!(
                "{} {:?}\nexpected {expected:#?}\ngot {got:#?}",
                start.id, start.argv
            )),
        }
    }
    println!(
        "startup.jsonl: {same} of {} starts the same, {deviating} in the table of deviations",
        starts.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert_eq!(deviating, DEVIATIONS.len() + REFUSED_FLAGS.len());
}

/// How a start ended.
#[derive(Debug, PartialEq)]
enum Ending {
    /// Listening. This is so at once, however long the original took (S8, S11).
    Answers { healthy: u16 },
    /// With a code, errors without their times, and what was on standard output.
    Exit {
        code: Value,
        errors: Vec<String>,
        stdout: String,
    },
}

impl Ending {
    fn recorded(start: &Start) -> Self {
        if start.exit_code.is_string() {
            return Self::Answers { healthy: 200 };
        }
        let stderr = start.stderr_masked.as_ref().unwrap_or(&start.stderr);
        Self::Exit {
            code: start.exit_code.clone(),
            errors: errors(stderr),
            stdout: start.stdout.trim_end().to_owned(),
        }
    }

    /// Waits until the program listens or ends.
    fn of(mut program: Program, taken_port: u16) -> Self {
        let listens = eventually("an address or an end", || {
            let stderr = program.stderr();
            let line = stderr.into_iter().find(|l| l.contains("Listening on"));
            line.map(Some).or(program.exited().map(|_| None))
        });
        let Some(line) = listens else {
            let code = program.wait().code().map_or(Value::Null, Value::from);
            let stderr = program.stderr().join("\n");
            return Self::Exit {
                code,
                errors: errors(&stderr.replace(&taken_port.to_string(), "25001")),
                stdout: program.stdout().join("\n"),
            };
        };
        let address = line.split("127.0.0.1:").nth(1).unwrap();
        let port: String = address.chars().take_while(char::is_ascii_digit).collect();
        let bytes = bytes_of("GET", "/-/healthy", &[], b"");
        let healthy = request(port.parse().unwrap(), &bytes).unwrap().status;
        Self::Answers { healthy }
    }
}

/// Returns the lines of a log that are errors, without their times.
fn errors(log: &str) -> Vec<String> {
    let telling = |line: &&str| !line.contains("level=info") && !line.contains("level=warning");
    let timeless = |line: &str| match line.split_once(" level=") {
        Some((_, rest)) => rest.to_owned(),
        None => line.to_owned(),
    };
    log.lines().filter(telling).map(timeless).collect()
}

#[test]
fn check_config_prints_its_verdict() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("c.yaml"), groups(&[&[1]])).unwrap();
    let mut program = spawn(folder.path(), &["--check-config", "--config=c.yaml"], &[]);
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(
        program.stdout(),
        ["c.yaml if valid promxy config file syntax"]
    );
    let mut program = spawn(folder.path(), &["--check-config", "--config=d.yaml"], &[]);
    assert_eq!(program.wait().code(), Some(1));
    let stderr = program.stderr().join("\n");
    assert!(
        stderr.ends_with("level=fatal msg=\"Error loading cfg: error loading config: open d.yaml: no such file or directory\""),
        "{stderr}"
    );
}

#[test]
fn version_and_help_go_to_standard_output() {
    let folder = TempDir::new().unwrap();
    let mut program = spawn(folder.path(), &["--version"], &[]);
    assert_eq!(program.wait().code(), Some(0));
    assert!(program.stdout()[0].starts_with("promxy, version "));
    let mut program = spawn(folder.path(), &["-h"], &[]);
    assert_eq!(program.wait().code(), Some(1));
    assert!(
        program
            .stdout()
            .join("\n")
            .contains("--query.max-concurrency")
    );
}

#[test]
fn a_group_without_a_first_state_is_told_by_ready_and_others_answer() {
    let stub = Stub::start(|_| {
        Reply::json(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#)
    });
    let nobody = shared::testing::wire::free_tcp_port();
    let config = format!(
        "promxy:\n  server_groups:\n  - static_configs: [{{targets: ['127.0.0.1:{}']}}]\n  - name: waits\n    http_sd_configs: [{{url: 'http://127.0.0.1:{nobody}/sd'}}]\n",
        stub.port
    );
    let promxy = support::Promxy::start(&config, &[]);
    let ready = promxy.get("/-/ready");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("waits"), "{}", ready.text());
    assert_eq!(promxy.get("/-/healthy").status, 200);
    assert_eq!(promxy.metrics("prometheus_ready"), ["prometheus_ready 0"]);
    assert_eq!(promxy.get("/api/v1/query?query=1").status, 200);
}
