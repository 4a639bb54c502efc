//! Requests that a query becomes, and recorded ones, in one form.

use promql::{Engine, EngineOptions, parser::ParserOptions, testing::block_on};
use promxy::{
    config::Groups,
    plan::{Fetch, Settings, plan},
    query::{Select, selects},
    servergroup::time_range::Grid,
};
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Sent {
    target: String,
    #[serde(default)]
    body_params: Vec<(String, serde_json::Value)>,
}

/// Reads the times of a request from its parameters.
pub(crate) fn grid(param: impl Fn(&str) -> Option<String>) -> Grid {
    let time = |name: &str| seconds(param(name).as_ref());
    if param("time").is_some() {
        return Grid::instant(time("time"));
    }
    Grid {
        start: time("start"),
        end: time("end"),
        step: time("step"),
    }
}

/// Reads a time as the API does: whole seconds, and the rest to the nearest millisecond.
fn seconds(text: Option<&String>) -> i64 {
    let seconds: f64 = text.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    seconds.trunc() as i64 * 1000 + (seconds.fract() * 1000.0).round() as i64
}

/// A request on one line: what is asked, when.
pub(crate) fn line(target: &str, text: &str, grid: Grid) -> String {
    let second = |millis: i64| millis as f64 / 1000.0;
    if grid.is_instant() {
        format!("{target} {text} @{}", second(grid.start))
    } else {
        format!(
            "{target} {text} @{}..{}/{}",
            second(grid.start),
            second(grid.end),
            second(grid.step)
        )
    }
}

/// A request to every group.
pub(crate) enum Request {
    Query(Fetch),
    Raw {
        selector: String,
        start: i64,
        end: i64,
    },
}

/// Lists all requests of a query.
pub(crate) fn requests(text: &str, grid: Grid) -> Option<Vec<Request>> {
    let engine = Engine::new(EngineOptions::new(ParserOptions::v3_5()));
    let query = if grid.is_instant() {
        engine.instant_query(text, grid.start)
    } else {
        engine.range_query(text, grid.start, grid.end, grid.step)
    };
    let query = query.ok()?;
    let settings = Settings {
        default_step_ms: 60_000,
        groups: Groups::Overlapping,
        loses_labels: false,
        is_histogram: &|_| false,
    };
    let plan = plan(query.expr(), grid, settings);
    let raw = block_on(selects(&query, &plan)).unwrap().into_iter();
    let raw = raw.map(
        |Select {
             matchers,
             start,
             end,
         }| {
            let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
            let selector = format!("{{{}}}", matchers.join(","));
            Request::Raw {
                selector,
                start,
                end,
            }
        },
    );
    Some(
        plan.fetches
            .into_iter()
            .map(Request::Query)
            .chain(raw)
            .collect(),
    )
}

pub(crate) fn sent_line(sent: &Sent) -> String {
    let param = |name: &str| {
        sent.body_params
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.as_str())
            .map(str::to_owned)
    };
    let group: String = sent.target.chars().take(1).collect();
    line(&group, &param("query").unwrap_or_default(), grid(param))
}
