//! What the proxy says about itself.

use std::{env, fmt::Write as _, thread};

use jiff::Timestamp;
use promql::parser::parse_selector;

use super::{Answered, Success, error::ApiError, json, params};
use crate::{message::form::Form, state::State};

/// The whole configuration, without secrets.
pub(super) fn config(state: &State) -> String {
    let page = json::quoted(&state.live().config.page());
    format!(r#"{{"yaml":{page}}}"#)
}

/// Names and values of all flags.
pub(super) fn flags(state: &State) -> Success {
    let mut flags = state.flags.listing();
    flags.sort_unstable();
    let mut data = String::from("{");
    for (name, value) in flags {
        if data.len() > 1 {
            data.push(',');
        }
        json::string(name, &mut data);
        data.push(':');
        json::string(&value, &mut data);
    }
    data.push('}');
    Success::plain(data)
}

/// The process. Keys that speak of Go say how many tasks and threads there are.
pub(super) fn runtime_info(state: &State) -> Success {
    let folder = env::current_dir().map(|path| path.display().to_string());
    let reload = state.telemetry.reload.last();
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut data = String::new();
    write!(
        data,
        r#"{{"startTime":"{}","CWD":{},"hostname":{},"serverTime":"{}","reloadConfigSuccess":{},"lastConfigTime":"{:.0}","corruptionCount":0,"goroutineCount":{tasks},"GOMAXPROCS":{threads},"GOMEMLIMIT":{},"GOGC":"","GODEBUG":"","storageRetention":""}}"#,
        state.started,
        json::quoted(&folder.unwrap_or_default()),
        json::quoted(&state.hostname),
        Timestamp::now(),
        reload.is_successful,
        reload.succeeded_at,
        i64::MAX,
    )
    .expect("writing to a String cannot fail");
    Success::plain(data)
}

/// What is scraped, which is nothing.
pub(super) fn targets(form: &Form) -> Success {
    let state = form.get("state").to_lowercase();
    let counts = match state.as_str() {
        "" | "any" | "dropped" => "{}",
        _ => "null",
    };
    Success::plain(format!(
        r#"{{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{counts}}}"#
    ))
}

/// Metadata by target, of which there is none.
pub(super) fn targets_metadata(form: &Form) -> Answered {
    let limit = form.get("limit");
    if !limit.is_empty() && params::integer(limit, "strconv.Atoi").is_err() {
        return Err(ApiError::bad_data("limit must be a number"));
    }
    let target = form.get("match_target");
    if !target.is_empty() {
        parse_selector(target, &params::LANGUAGE)
            .map_err(|error| ApiError::invalid("match_target", error))?;
    }
    Ok(Some(Success::plain("[]")))
}

/// The store, which is empty.
pub(super) fn tsdb(form: &Form) -> Answered {
    let limit = form.get("limit");
    if !limit.is_empty()
        && params::integer(limit, "")
            .ok()
            .is_none_or(|limit| limit < 1)
    {
        return Err(ApiError::bad_data("limit must be a positive number"));
    }
    // The number of chunks is what Go makes of "not a number"; clients have seen no other.
    let data = r#"{"headStats":{"numSeries":0,"numLabelPairs":0,"chunkCount":-9223372036854775808,"minTime":0,"maxTime":0},"seriesCountByMetricName":[],"labelValueCountByLabelName":[],"memoryInBytesByLabelName":[],"seriesCountByLabelValuePair":[]}"#;
    Ok(Some(Success::plain(data)))
}
