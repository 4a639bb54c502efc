//! Queries over groups whose rules change labels give what the engine gives on the series that the rules make.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it compared"
)]

mod in_memory;

use std::sync::Arc;

use in_memory::{
    Group, Servers,
    comparison::{Comparison, load},
    forwarded, queries,
};
use promql::{parser::ParserOptions, testing::MemoryStorage};
use promxy::{
    config::Groups,
    labels::{self, Labels, metric_relabel::MetricRule},
    servergroup::time_range::Grid,
};

/// What two groups have.
const SERIES: [&str; 2] = [
    r#"
load 15s
  a{job="api", i="1", room="Attic"} 0+3x40
  a{job="api", i="2", room="hall"} 10 20 _ _ 5 2+2x40
  a{job="web", i="3", room="Attic"} 1x20 0x20
  b{job="api", i="1", room="Attic"} 5-1x40
  c{az="p", i="1"} 1+1x40
  c{az="q", i="2"} 7+2x40
  c{az="q", i="3"} 3x40
"#,
    r#"
load 15s
  a{job="api", i="4", room="hall"} 100-1x40
  a{job="db", i="5", room="Attic"} _x5 3+0.5x40
  b{job="db", i="5", room="hall"} 7+2x40
"#,
];

type Rules = &'static [(&'static str, &'static str, &'static str)];

/// Rules of the first group and of the second.
const RULES: [(Rules, Rules); 12] = [
    (&[("replace", "job", "j")], &[]),
    (&[("replace", "job", "j"), ("labeldrop", "job", "")], &[]),
    (
        &[("replace", "job", "j"), ("labeldrop", "job", "")],
        &[("replace", "job", "j"), ("labeldrop", "job", "")],
    ),
    // Series stay apart without the label.
    (&[("labeldrop", "job", "")], &[]),
    (&[("labeldrop", "job", ""), ("replace", "i", "job")], &[]),
    (&[("replace", "i", "job")], &[("lowercase", "room", "r")]),
    (
        &[("lowercase", "room", "room")],
        &[("uppercase", "room", "room")],
    ),
    (
        &[("uppercase", "room", "r"), ("labeldrop", "room", "")],
        &[],
    ),
    // A label that the group adds.
    (&[("replace", "az", "zone"), ("labeldrop", "az", "")], &[]),
    (&[("replace", "__name__", "metric")], &[]),
    (&[("replace", "job", "__name__")], &[]),
    (
        &[
            ("replace", "job", "j"),
            ("replace", "i", "j"),
            ("labeldrop", "i", ""),
        ],
        &[],
    ),
];

const OPERATIONS: [&str; 15] = [
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "group",
    "stddev",
    "quantile|0.3, ",
    "topk|1, ",
    "bottomk|2, ",
    "count_values|\"v\", ",
    "count_values|\"j\", ",
    "count_values|\"job\", ",
    "count_values|(\"az\"), ",
    "",
];

const GROUPINGS: [&str; 19] = [
    "",
    " by (j)",
    " by (job)",
    " by (j, job)",
    " by (i)",
    " by (room)",
    " by (r)",
    " by (az)",
    " by (zone)",
    " by (metric)",
    " by (__name__)",
    " without ()",
    " without (j)",
    " without (job)",
    " without (j, job)",
    " without (i)",
    " without (i, room, r)",
    " without (zone, az)",
    " without (metric, i)",
];

const ARGUMENTS: [&str; 12] = [
    "a",
    "a{i!=\"2\"}",
    "a > 4",
    "a * 2",
    "rate(a[2m])",
    "max_over_time(b[1m])",
    "a{job=\"api\"}",
    "{__name__=~\"a|b\",j=\"api\"}",
    "a{room=\"ATTIC\"}",
    "{metric=\"b\"}",
    "abs(a offset 1m)",
    // Has a label of its own where the group adds one.
    "c",
];

const GRIDS: [Grid; 2] = [
    Grid {
        start: 240_000,
        end: 240_000,
        step: 0,
    },
    Grid {
        start: 0,
        end: 600_000,
        step: 75_000,
    },
];

/// The same series, with the labels that a group of this number with these rules gives them.
fn storages(
    number: usize,
    added: &Labels,
    rules: &[MetricRule],
    alone: &mut MemoryStorage,
) -> MemoryStorage {
    let mut load = load(SERIES[number]);
    let mut storage = MemoryStorage::new();
    storage.load(&load);
    for series in &mut load.series {
        series.labels = forwarded(&labels::with(&series.labels, added), rules);
    }
    alone.load(&load);
    storage
}

fn rules(rules: Rules) -> Vec<MetricRule> {
    let rule = |r: &(&str, &str, &str)| MetricRule::new(r.0, r.1, r.2).unwrap();
    rules.iter().map(rule).collect()
}

fn texts() -> Vec<String> {
    let mut texts = Vec::new();
    for operation in OPERATIONS {
        for argument in ARGUMENTS {
            if operation.is_empty() {
                texts.push(argument.to_owned());
                continue;
            }
            let (name, parameter) = operation.split_once('|').unwrap_or((operation, ""));
            let groupings = GROUPINGS.iter();
            texts.extend(groupings.map(|by| format!("{name}{by} ({parameter}{argument})")));
        }
    }
    texts
}

#[test]
fn labels_that_rules_change_group_as_they_do_in_the_answer() {
    let parser = ParserOptions::v3_5();
    let mut comparison = Comparison::new(parser);
    for (first, second) in RULES {
        let mut alone = MemoryStorage::new();
        let mut groups = Vec::new();
        let relabel = vec![rules(first), rules(second)];
        for (number, rules) in relabel.iter().enumerate() {
            let added: Labels = [("az", format!("z{number}"))].into_iter().collect();
            let storage = storages(number, &added, rules, &mut alone);
            groups.push(Group {
                labels: added,
                replicas: vec![storage; 2],
            });
        }
        let mut servers = Servers::new(groups, parser);
        servers.relabel = relabel;
        let queries = queries(Arc::new(servers), Groups::Overlapping, parser);
        for (text, grid) in texts().iter().zip(GRIDS.iter().cycle()) {
            let name = format!("{first:?} {second:?}");
            comparison.compare(&name, (text, *grid), &queries, &alone);
        }
    }
    assert_eq!(comparison.refused, 0);
    comparison.conclude();
}
