//! Queries: evaluating, formatting, parsing.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use promql::{SampleStats, parser};

use super::{Answered, Success, error::ApiError, json, params, pieces::Pieces};
use crate::{
    message::{Request, form::Form},
    query::{Outcome, Params, QueryFailure, QueryFailureKind, Timings},
    state::State,
    telemetry::query_log::{self, Entry},
};

/// How many times a range may have, less one.
const MOST_STEPS: i64 = 11_000;

/// The times of a query. Milliseconds since 1970; a step of zero stands for one time.
#[derive(Clone, Copy)]
struct Times {
    start: i64,
    end: i64,
    step: i64,
}

/// Evaluates a query at one time.
pub(super) async fn instant(state: &State, request: &Request) -> Answered {
    let form = &request.form;
    let limit = params::limit(form)?;
    let time = params::time_or(form, "time", Timestamp::now().as_millisecond())?;
    let times = Times {
        start: time,
        end: time,
        step: 0,
    };
    let params = params_of(state, request, limit)?;
    evaluate(state, request, times, params).await
}

/// Evaluates a query at evenly spaced times.
pub(super) async fn range(state: &State, request: &Request) -> Answered {
    let form = &request.form;
    let limit = params::limit(form)?;
    let time =
        |name: &str| params::time(form.get(name)).map_err(|reason| ApiError::invalid(name, reason));
    let (start, end) = (time("start")?, time("end")?);
    if end < start {
        let reason = "end timestamp must not be before start time";
        return Err(ApiError::invalid("end", reason));
    }
    let step = params::duration(form.get("step"));
    let step = step.map_err(|reason| ApiError::invalid("step", reason))?;
    if step <= 0 {
        return Err(ApiError::invalid(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if i128::from(end - start) * 1_000_000 / i128::from(step) > i128::from(MOST_STEPS) {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let params = params_of(state, request, limit)?;
    // Times are in milliseconds, so a finer step would be none.
    let step = (step / 1_000_000).max(1);
    evaluate(state, request, Times { start, end, step }, params).await
}

fn params_of(state: &State, request: &Request, limit: Option<usize>) -> Result<Params, ApiError> {
    Ok(Params {
        timeout: params::timeout(&request.form)?,
        lookback_ms: params::lookback(&request.form)?,
        limit,
        headers: state.forwarded(&request.headers),
    })
}

async fn evaluate(state: &State, request: &Request, times: Times, params: Params) -> Answered {
    let text = request.form.get("query");
    let evaluated = run(state, text, times, params).await;
    let (error, timings, stats) = match &evaluated {
        Ok(outcome) => (None, outcome.timings, outcome.stats),
        Err(failure) => (
            Some(failure.message.as_str()),
            Timings::default(),
            SampleStats::default(),
        ),
    };
    let is_a_query =
        !matches!(&evaluated, Err(failure) if failure.kind == QueryFailureKind::BadData);
    if is_a_query {
        state.telemetry.engine.end(&timings, stats.total);
        let entry = Entry {
            query: text,
            start: times.start,
            end: times.end,
            step: times.step,
            error,
            timings,
            stats,
            client: (request.peer.ip(), request.method.as_str(), &request.path),
        };
        if state.query_log.write(&entry).is_err() {
            state.telemetry.engine.log_failed();
        }
    }
    match evaluated {
        Ok(outcome) => {
            let stats = if request.form.get("stats").is_empty() {
                String::new()
            } else {
                query_log::stats(&outcome.timings, &outcome.stats)
            };
            let pieces = Pieces::new(outcome.value, &stats, &outcome.annotations);
            Ok(Some(Success::Value(pieces)))
        }
        Err(failure) => Err(refusal(failure)),
    }
}

/// Waits for a place where there are places, and evaluates.
async fn run(
    state: &State,
    text: &str,
    times: Times,
    mut params: Params,
) -> Result<Outcome, QueryFailure> {
    let began = Instant::now();
    let limit = [params.timeout, state.flags.query_timeout];
    let limit: Option<Duration> = limit.into_iter().flatten().min();
    let out_of_time = |doing: &str| {
        let message = format!("query timed out in {doing}");
        QueryFailure::new(QueryFailureKind::Timeout, message)
    };
    if limit.is_some_and(|limit| limit.is_zero()) {
        // What cannot be parsed is told nevertheless.
        parser::parse(text, &params::LANGUAGE)
            .map_err(|error| QueryFailure::new(QueryFailureKind::BadData, error.to_string()))?;
        return Err(out_of_time("query execution"));
    }
    let _place = match &state.active_queries {
        None => None,
        Some(queries) => Some(
            queries
                .enter(text, limit)
                .await
                .ok_or_else(|| out_of_time("query queue"))?,
        ),
    };
    let _running = state.telemetry.engine.begin();
    let queue = began.elapsed();
    params.timeout = limit.map(|limit| limit.saturating_sub(queue));
    let queries = &state.queries;
    let mut outcome = if times.step == 0 {
        queries.instant(text, times.start, &params).await?
    } else {
        let Times { start, end, step } = times;
        queries.range(text, start, end, step, &params).await?
    };
    outcome.timings.queue += queue;
    Ok(outcome)
}

fn refusal(failure: QueryFailure) -> ApiError {
    let QueryFailure {
        kind,
        message,
        annotations,
    } = failure;
    if kind == QueryFailureKind::BadData {
        return ApiError::invalid("query", message);
    }
    let (status, kind) = kind.http();
    ApiError::new(status, kind, message).with(annotations)
}

/// Writes a query as Prometheus' formatter does.
pub(super) fn format(form: &Form) -> Answered {
    let query = parser::parse(form.get("query"), &params::LANGUAGE)
        .map_err(|error| ApiError::invalid("query", error))?;
    Ok(Some(Success::plain(json::quoted(&query.pretty()))))
}
