//! The configuration file and the command line against what the original said of them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

#[path = "support/refused_flags.rs"]
mod refused_flags;

use std::{ffi::OsString, fs, path::Path};

use promql::format::quote;
use promxy::{
    config::{check, parse},
    flags::{Answer, Flags},
};
use refused_flags::REFUSED_FLAGS;
use serde::Deserialize;
use shared::testing::golden;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/surface");

#[derive(Deserialize)]
struct CheckRun {
    id: String,
    argv: Vec<String>,
    exit_code: u8,
    stdout: String,
    stderr_masked: String,
    yaml: Option<String>,
}

/// Runs whose answer differs from the recorded one, with the reason.
const CHECK_DEVIATIONS: [(&str, &str); 6] = [
    (
        "bad_indent",
        "YAML syntax errors have another library's words",
    ),
    (
        "tab_indent",
        "YAML syntax errors have another library's words",
    ),
    (
        "with_json_log_format",
        "YAML syntax errors have another library's words",
    ),
    (
        "with_log_level_error",
        "YAML syntax errors have another library's words",
    ),
    (
        "null_server_group",
        "S20: a group that is null is refused, not a crash later",
    ),
    ("full_example", "the file was not recorded"),
];

#[test]
fn check_config_says_what_the_original_says() {
    let runs: Vec<CheckRun> = golden::json_lines(format!("{GOLDEN}/check_config.jsonl"));
    let folder = tempfile::tempdir().unwrap();
    for run in &runs {
        if let Some(yaml) = &run.yaml {
            fs::write(folder.path().join(format!("{}.yaml", run.id)), yaml).unwrap();
        }
    }
    let (mut same, mut deviating) = (0, 0);
    for run in &runs {
        let flags = Flags::parse(words(&run.argv), |_| None).unwrap();
        assert!(flags.check_config);
        let verdict = check(&folder.path().join(&flags.config));
        let shown = |text: &str| text.replace(&format!("{}/", folder.path().display()), "");
        let line = |message: &String| {
            format!(
                "time=\"<TIME>\" level=fatal msg={}\n",
                quote(shown(message).as_bytes())
            )
        };
        let stderr = verdict.fatal.as_ref().map(line).unwrap_or_default();
        let found = (verdict.status, shown(&verdict.stdout), stderr);
        let expected = (run.exit_code, run.stdout.clone(), run.stderr_masked.clone());
        if CHECK_DEVIATIONS.iter().any(|(id, _)| *id == run.id) {
            assert_ne!(found, expected, "{} does not deviate any more", run.id);
            let is_syntax = verdict
                .fatal
                .is_some_and(|text| text.contains("yaml: line"));
            assert!(is_syntax || run.exit_code == 0, "{}: {:?}", run.id, found);
            deviating += 1;
        } else {
            assert_eq!(
                found,
                expected,
                "{}\n{}",
                run.id,
                run.yaml.as_deref().unwrap_or("")
            );
            same += 1;
        }
    }
    println!(
        "check_config.jsonl: {same} of {} the same, {deviating} in the table of deviations",
        runs.len()
    );
    assert_eq!(deviating, CHECK_DEVIATIONS.len());
}

#[derive(Deserialize)]
struct ClientStep {
    step: String,
    config: String,
    status_config_http_client: String,
}

/// S17: values that may be secrets are not shown. What the page shows in place of a recorded line.
const MASKED: [(&str, &str); 8] = [
    ("      Host: h.example", "      Host: <secret>"),
    ("      User-Agent: custom", "      User-Agent: <secret>"),
    ("      X-Scope-OrgID: t1", "      X-Scope-OrgID: <secret>"),
    ("      dedup: \"true\"", "      dedup: <secret>"),
    ("      nocache: \"1\"", "      nocache: <secret>"),
    ("    X-Key: topsecret", "    X-Key: <secret>"),
    ("    token: topsecret", "    token: <secret>"),
    (
        "    Authorization: topsecret",
        "    Authorization: <secret>",
    ),
];

fn masked(page: &str) -> String {
    let lines = page.lines().flat_map(|line| [masked_line(line), "\n"]);
    lines.collect()
}

fn masked_line(line: &str) -> &str {
    let mask = MASKED.iter().find(|(shown, _)| *shown == line);
    mask.map_or(line, |(_, mask)| mask)
}

#[test]
fn the_configuration_page_of_each_http_client_is_the_originals() {
    let steps: Vec<ClientStep> = golden::json_lines(format!("{GOLDEN}/http_client.jsonl"));
    for step in &steps {
        let labels = if step
            .status_config_http_client
            .contains("__path_prefix__: /sl")
        {
            ", labels: {__path_prefix__: /sl, x: static, y: static}"
        } else {
            ""
        };
        let text = format!(
            "promxy:\n  server_groups:\n  - static_configs: [{{targets: ['127.0.0.1:25201']{labels}}}]\n{}",
            step.config
        );
        let page = parse(&text)
            .unwrap_or_else(|e| panic!("{}: {e}", step.step))
            .config
            .page();
        let (_, groups) = page.split_once("promxy:\n").unwrap();
        // The recorded pages are cut, mostly behind the groups; a line that was cut says nothing.
        let whole_lines = step.status_config_http_client.rsplit_once('\n').unwrap().0;
        let expected = masked(whole_lines);
        assert!(
            groups.starts_with(&expected),
            "{}: expected\n{expected}\ngot\n{groups}",
            step.step
        );
    }
    println!(
        "http_client.jsonl: {} of {} pages the same but for masked values",
        steps.len(),
        steps.len()
    );
}

#[derive(Deserialize)]
struct ApiStep {
    id: String,
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    body: Body,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct ConfigAnswer {
    data: ConfigData,
}

#[derive(Deserialize)]
struct ConfigData {
    yaml: String,
}

#[test]
fn a_recorded_page_read_as_a_file_gives_the_same_page() {
    let steps: Vec<ApiStep> = golden::json_lines(format!("{GOLDEN}/api_rules_alerts.jsonl"));
    let step = steps
        .iter()
        .find(|step| step.id == "status_config")
        .unwrap();
    let answer: ConfigAnswer = serde_json::from_str(&step.response.body.text).unwrap();
    assert_eq!(
        parse(&answer.data.yaml).unwrap().config.page(),
        answer.data.yaml
    );
}

#[derive(Deserialize)]
struct Start {
    id: String,
    argv: Vec<String>,
    stderr_masked: Option<String>,
    stderr: String,
}

#[test]
fn flags_are_judged_as_by_the_original() {
    let starts: Vec<Start> = golden::json_lines(format!("{GOLDEN}/startup.jsonl"));
    let (mut same, mut deviating) = (0, 0);
    for start in &starts {
        let stderr = start.stderr_masked.as_ref().unwrap_or(&start.stderr);
        let judged = match Flags::parse(words(&start.argv), |_| None) {
            Ok(flags) => flags
                .settle("host")
                .err()
                .map(|e| format!("time=\"<TIME>\" level=fatal msg={}\n", quote(e.as_bytes()))),
            Err(Answer::Wrong(line)) => Some(format!("{line}\n")),
            Err(Answer::Help(_)) => {
                assert_eq!(start.id, "help_short");
                None
            }
            Err(Answer::Version) => {
                assert!(start.id.starts_with("version"));
                None
            }
        };
        // Of the recorded lines, those that are about flags; the rest is about the files.
        let is_about_flags = |line: &str| {
            stderr.lines().count() == 1 && !line.starts_with("time=")
                || [
                    "log level",
                    "storage.path",
                    "AccessLogDestination",
                    "CORS regex",
                    "external URL",
                ]
                .iter()
                .any(|word| line.contains("level=fatal") && line.contains(word))
        };
        let lines = stderr.lines().filter(|line| is_about_flags(line));
        let expected: String = lines.flat_map(|line| [line, "\n"]).collect();
        if REFUSED_FLAGS.iter().any(|(id, _)| *id == start.id) {
            assert!(
                judged.is_some_and(|line| line.contains("level=fatal") && line != expected),
                "{}",
                start.id
            );
            deviating += 1;
        } else {
            assert_eq!(
                judged.unwrap_or_default(),
                expected,
                "{} {:?}",
                start.id,
                start.argv
            );
            same += 1;
        }
    }
    println!(
        "startup.jsonl: {same} of {} command lines the same, {deviating} in the table of deviations",
        starts.len()
    );
    assert_eq!(deviating, REFUSED_FLAGS.len());
}

#[test]
fn headers_come_from_the_environment_unless_a_flag_names_some() {
    let f = |argv: &[&str], variable: Option<&str>, expected: &[&str]| {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let flags = Flags::parse(words(&argv), |name| {
            assert_eq!(name, "PROXY_HEADERS");
            variable.map(str::to_owned)
        });
        assert_eq!(flags.unwrap().proxy_headers, expected);
    };
    f(&[], None, &[]);
    // S12: a list may have commas.
    f(&[], Some("X-A, X-B"), &["X-A", "X-B"]);
    f(
        &["--proxy-headers=X-A", "--proxy-headers", "X-B"],
        Some("X-C"),
        &["X-A", "X-B"],
    );
}

#[test]
fn prefixes_come_from_the_external_url() {
    let f = |argv: &[&str], expected: (&str, &str)| {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let settings = Flags::parse(words(&argv), |_| None)
            .unwrap()
            .settle("host")
            .unwrap();
        assert_eq!(
            (
                settings.external_url.as_str(),
                settings.route_prefix.as_str()
            ),
            expected
        );
    };
    f(&[], ("http://host:8082", ""));
    f(
        &["--web.external-url=http://x.example:99/px/"],
        ("http://x.example:99/px", "/px"),
    );
    f(
        &[
            "--web.external-url=http://x.example/px",
            "--web.route-prefix=/",
        ],
        ("http://x.example/px", ""),
    );
    f(&["--web.route-prefix=rp/"], ("http://host:8082", "/rp"));
}

#[test]
fn what_passes_in_silence_in_the_original_is_a_warning_here() {
    let text = "foo: 1\nscrape_configs: []\npromxy:\n  server_groups:\n  - timeout: 5\n    name: a\n    name: b\n    http_client: {bar: x}\n    static_configs: [{targets: [a:1]}]\n  - labels: {}\n";
    assert_eq!(
        parse(text).unwrap().warnings,
        [
            "foo: unknown key, ignored",
            "promxy.server_groups[0].timeout: 5 without a unit means nanoseconds",
            "promxy.server_groups[0].name: given more than once; line 6 does not count",
            "promxy.server_groups[0].http_client.bar: unknown key, ignored",
            "scrape_configs: has no effect here",
            "promxy.server_groups[1]: no discovery, so no targets",
            "promxy.server_groups[1]: same labels as promxy.server_groups[0]; aggregates take equal series of both for copies, set promxy.groups to overlapping if they are, to disjoint if not",
        ]
    );
}

#[test]
fn kinds_of_discovery_that_are_not_here_are_refused() {
    let text = "promxy: {server_groups: [{ec2_sd_configs: [{region: x}]}]}";
    let error = parse(text).unwrap_err().to_string();
    assert_eq!(
        error,
        "error unmarshaling config: promxy.server_groups[0].ec2_sd_configs: this kind of discovery is not supported here"
    );
}

fn words(argv: &[String]) -> Vec<OsString> {
    std::iter::once("promxy".into())
        .chain(argv.iter().map(OsString::from))
        .collect()
}

#[test]
fn hostile_files_are_errors() {
    for text in [
        "[",
        "a: *b",
        "{a: {a: {a: ",
        "\u{0}",
        "&a [*a]",
        "? [x]\n: y",
        "a: &x [*x]",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
    assert!(promxy::config::load(Path::new("/nonexistent")).is_err());
}
