//! Random queries over groups with labels of their own give what the engine gives on all of their series.

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
    queries,
};
use promql::{parser::ParserOptions, testing::MemoryStorage};
use promxy::{
    config::Groups,
    labels::{self, Labels},
    servergroup::time_range::Grid,
};

/// Metrics of two groups, without the labels of the groups. What a group has, the other need not have.
const SERIES: [&str; 2] = [
    r#"
load 15s
  a{g="x", i="1"} 0+3x40 stale 5 7 _x10 1+1x30
  a{g="x", i="2"} 10 20 _ _ 5 NaN -3 Inf 2+2x60
  a{g="y", i="1"} 1x20 0x20 4x40
  b{g="x", i="1"} 5-1x80
  only{g="x"} 1+1x80
  h_bucket{g="x", le="1"} 0+1x80
  h_bucket{g="x", le="5"} 0+2x80
  h_bucket{g="x", le="+Inf"} 0+3x80
  n{g="x"} {{schema:1 count:3 sum:4 buckets:[1 2]}}+{{schema:1 count:3 sum:4 buckets:[1 2]}}x40 _x5 {{schema:1 count:1 sum:1 buckets:[1]}}x10
"#,
    r#"
load 15s
  a{g="x", i="1"} 100-1x80
  a{g="z", i="3"} _x20 3+0.5x50
  b{g="x", i="1"} 7+2x30 _x8 1x20
  b{g="y", i="1"} _x20 7+0.5x50
  h_bucket{g="x", le="1"} 0+2x80
  h_bucket{g="x", le="5"} 0+3x80
  h_bucket{g="x", le="+Inf"} 0+5x80
  n{g="x"} {{schema:1 count:2 sum:3 buckets:[1 1]}}x60
"#,
];

/// Writes random expressions.
struct Writer(fastrand::Rng);

impl Writer {
    fn pick<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[self.0.usize(..choices.len())]
    }

    fn shift(&mut self) -> &'static str {
        self.pick(&[
            "",
            "",
            "",
            "",
            " offset 1m",
            " offset -45s",
            " @ 300",
            " @ start()",
            " @ end() offset 30s",
        ])
    }

    fn selector(&mut self) -> String {
        let selector = self.pick(&[
            "a",
            "a",
            "b",
            "n",
            "only",
            "none",
            "a{i=\"1\"}",
            "a{az=\"1\"}",
            "b{az!=\"1\"}",
            "{g=\"x\",__name__=~\"a|b\"}",
            "h_bucket",
        ]);
        selector.to_owned()
    }

    fn scalar(&mut self) -> String {
        match self.0.u8(..4) {
            0 => "time()".to_owned(),
            1 => format!(
                "scalar({}{})",
                self.pick(&["only", "b{g=\"y\"}", "none"]),
                self.shift()
            ),
            _ => self.pick(&["2", "-1", "0.5", "0", "1e3"]).to_owned(),
        }
    }

    fn range(&mut self, depth: u8) -> String {
        let window = self.pick(&["30s", "1m", "2m30s", "5m", "7m"]);
        if depth > 0 && self.0.u8(..2) == 0 {
            let step = self.pick(&["", "20s", "1m", "45s"]);
            format!(
                "({})[{window}:{step}]{}",
                self.vector(depth - 1),
                self.shift()
            )
        } else {
            format!("{}[{window}]{}", self.selector(), self.shift())
        }
    }

    fn vector(&mut self, depth: u8) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.shift());
        }
        let inner = depth - 1;
        match self.0.u8(..12) {
            0 | 1 => {
                let function = self.pick(&[
                    "rate",
                    "increase",
                    "delta",
                    "irate",
                    "sum_over_time",
                    "avg_over_time",
                    "max_over_time",
                    "count_over_time",
                    "last_over_time",
                    "changes",
                    "deriv",
                    "present_over_time",
                    "absent_over_time",
                ]);
                format!("{function}({})", self.range(inner))
            }
            2 => format!("predict_linear({}, 60)", self.range(inner)),
            3 => {
                let function = self.pick(&[
                    "abs",
                    "-",
                    "timestamp",
                    "ceil",
                    "minute",
                    "histogram_count",
                    "absent",
                    "sort",
                    "+",
                    "",
                ]);
                format!("{function}({})", self.vector(inner))
            }
            4..=7 => {
                let operation = self.pick(&[
                    "sum",
                    "avg",
                    "min",
                    "max",
                    "count",
                    "group",
                    "stddev",
                    "stdvar",
                    "quantile,0.3",
                    "count_values,\"v\"",
                ]);
                let by = self.pick(&[
                    "",
                    " by (g)",
                    " without (i)",
                    " by (az)",
                    " by (i, g)",
                    " without (az, g)",
                ]);
                match operation.split_once(',') {
                    Some((operation, param)) => {
                        format!("{operation}{by} ({param}, {})", self.vector(inner))
                    }
                    None => format!("{operation}{by} ({})", self.vector(inner)),
                }
            }
            8 => {
                let operator = self.pick(&[
                    "+", "-", "*", "/", ">", "<= bool", "==", "and", "or", "unless",
                ]);
                let matching = self.pick(&[
                    " on (g, i, az)",
                    " ignoring (le)",
                    "",
                    " on (g) group_left ()",
                ]);
                let matching = if matches!(operator, "and" | "or" | "unless") {
                    ""
                } else {
                    matching
                };
                format!(
                    "({}) {operator}{matching} ({})",
                    self.vector(inner),
                    self.vector(inner)
                )
            }
            9 => format!(
                "({}) {} {}",
                self.vector(inner),
                self.pick(&["*", ">", "-", "== bool"]),
                self.scalar()
            ),
            10 => format!(
                "{} {} {}",
                self.scalar(),
                self.pick(&["*", "<", "-"]),
                self.selector()
            ),
            _ => format!(
                "label_replace({}, \"z\", \"$1\", \"az\", \"(.*)\")",
                self.vector(inner)
            ),
        }
    }
}

#[test]
fn random_queries_give_what_the_engine_gives() {
    let parser = ParserOptions::v3_5();
    let mut alone = MemoryStorage::new();
    let mut groups = Vec::new();
    for (number, mut load) in SERIES.map(load).into_iter().enumerate() {
        let mut storage = MemoryStorage::new();
        storage.load(&load);
        let added: Labels = [("az", number.to_string())].into_iter().collect();
        for series in &mut load.series {
            series.labels = labels::with(&series.labels, &added);
        }
        alone.load(&load);
        groups.push(Group {
            labels: added,
            replicas: vec![storage; 2],
        });
    }
    let queries = queries(
        Arc::new(Servers::new(groups, parser)),
        Groups::Overlapping,
        parser,
    );
    let mut comparison = Comparison::new(parser);
    for seed in 0..6000 {
        let mut writer = Writer(fastrand::Rng::with_seed(seed));
        let depth = writer.0.u8(..4);
        let text = writer.vector(depth);
        let grid = match seed % 3 {
            0 => Grid::instant(600_000),
            1 => Grid {
                start: 90_000,
                end: 900_000,
                step: 35_000,
            },
            _ => Grid {
                start: 0,
                end: 1_300_000,
                step: 60_000,
            },
        };
        comparison.compare(&format!("seed {seed}"), (&text, grid), &queries, &alone);
    }
    comparison.conclude();
}
