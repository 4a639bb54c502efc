//! What can be seen of rules and alerts: `api_rules_alerts.jsonl`, line by line, and what is said of them at the start.
//!
//! Rules are not evaluated. Parameters are judged as in the original, and lists are empty.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test says what it expected; counts are shown"
)]

mod support;

use std::fs;

use tempfile::TempDir;

use support::{Promxy, golden, recorded::Case};

/// Lines whose answer has rules, alerts or Alertmanagers in the original, and what is answered instead.
const EMPTY: &[(&str, &str)] = &[
    ("rules", GROUPS),
    ("type_alert", GROUPS),
    ("type_record", GROUPS),
    ("type_upper", GROUPS),
    ("rule_name", GROUPS),
    ("rule_name_two", GROUPS),
    ("rule_group", GROUPS),
    ("file", GROUPS),
    ("match", GROUPS),
    ("match_tmpl", GROUPS),
    ("exclude_alerts", GROUPS),
    ("group_limit1", GROUPS),
    ("alerts", r#"{"alerts":[]}"#),
    (
        "alertmanagers",
        r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#,
    ),
];

const GROUPS: &str = r#"{"groups":[]}"#;

/// Lines that cannot be the same, with the reason.
const OTHERWISE: &[(&str, u16, &str)] = &[
    (
        "group_next",
        400,
        "there is no group before which the token stands",
    ),
    ("status_config", 200, "another test reads this page"),
    ("status_flags", 200, "S16: the flags by their names"),
];

#[test]
fn parameters_of_rules_are_judged_as_recorded() {
    let promxy = Promxy::start("", &[]);
    let cases: Vec<Case> = golden("api_rules_alerts.jsonl");
    let mut same = 0;
    let mut failures = Vec::new();
    for case in &cases {
        let got = promxy.send(&case.request.method, &case.request.target, &[], b"");
        let empty = EMPTY.iter().find(|(id, _)| *id == case.id);
        let otherwise = OTHERWISE.iter().find(|(id, _, _)| *id == case.id);
        let text = got.text();
        let is_right = if let Some((_, data)) = empty {
            got.status == 200 && text == format!(r#"{{"status":"success","data":{data}}}"#)
        } else if let Some((_, status, _)) = otherwise {
            got.status == *status && got.body != case.response.body.bytes()
        } else {
            same += 1;
            Some(got.status) == case.response.status && got.body == case.response.body.bytes()
        };
        if !is_right {
            failures.push(format!("{}: {} {text}", case.id, got.status));
        }
    }
    println!(
        "api_rules_alerts.jsonl: {same} of {} the same, {} empty because rules are not evaluated, {} otherwise",
        cases.len(),
        EMPTY.len(),
        OTHERWISE.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(same + EMPTY.len() + OTHERWISE.len(), cases.len());
}

#[test]
fn a_start_says_that_rules_are_not_evaluated() {
    let folder = TempDir::new().unwrap();
    let rules = "groups:\n- name: a\n  rules:\n  - {alert: X, expr: up == 0}\n  - {alert: Y, expr: up == 0}\n";
    fs::write(folder.path().join("a.yml"), rules).unwrap();
    let config = "rule_files: ['*.yml']\nalerting: {alertmanagers: [{static_configs: [{targets: ['a:1']}]}]}\n";
    let promxy = Promxy::start_in(folder, config, &[], &[]);
    for line in [
        "level=warning msg=\"Alerting rules are configured but no remote_write endpoint is configured.\"",
        "level=warning msg=\"rules are not evaluated by this version\" alerting=2 recording=0",
        "level=warning msg=\"alertmanagers are not notified by this version\"",
    ] {
        promxy.program.wait_for_line(line);
    }
}
