//! Metadata of metrics, and exemplars.

use std::fmt::Write as _;

use promql::parser::{self, NodeKind};

use super::{Answered, Success, error::ApiError, json, params, write_json};
use crate::{
    labels::Labels,
    message::Request,
    state::State,
    upstream::{Asked, Exemplars, Metadata},
};

/// Says what is known of metrics.
pub(super) async fn metadata(state: &State, request: &Request) -> Result<String, ApiError> {
    let form = &request.form;
    let limit = |name: &str, text: &str| -> Result<Option<u64>, ApiError> {
        // Below zero, as when nothing is said, stands for all.
        let number = match text {
            "" => return Ok(None),
            text => params::integer(text, "strconv.Atoi"),
        };
        let number = number.map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
        Ok(u64::try_from(number).ok())
    };
    let most = limit("limit", form.get("limit"))?;
    let most_each = limit("limit_per_metric", form.get("limit_per_metric"))?;
    let most_each = most_each.filter(|most| *most > 0).unwrap_or(u64::MAX);
    let asker = state.asker(&request.headers);
    let metric = form.get("metric");
    let metrics = state.upstream().metadata(metric, most, &asker).await?;
    let mut data = String::from("{");
    let most = usize::try_from(most.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    for (name, entries) in metrics.into_iter().take(most) {
        if data.len() > 1 {
            data.push(',');
        }
        json::string(&name, &mut data);
        data.push_str(":[");
        let most_each = usize::try_from(most_each).unwrap_or(usize::MAX);
        for (position, Metadata { kind, help, unit }) in entries.iter().take(most_each).enumerate()
        {
            data.push_str(if position == 0 {
                r#"{"type":"#
            } else {
                r#",{"type":"#
            });
            json::string(kind, &mut data);
            data.push_str(r#","help":"#);
            json::string(help, &mut data);
            data.push_str(r#","unit":"#);
            json::string(unit, &mut data);
            data.push('}');
        }
        data.push(']');
    }
    data.push('}');
    Ok(data)
}

/// Returns the exemplars of all series that a query selects.
pub(super) async fn exemplars(state: &State, request: &Request) -> Answered {
    let form = &request.form;
    let start = params::time_if_given(form, "start")?;
    let end = params::time_if_given(form, "end")?;
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        return Err(ApiError::bad_data(
            "end timestamp must not be before start timestamp",
        ));
    }
    let query = parser::parse(form.get("query"), &params::LANGUAGE)
        .map_err(|error| ApiError::bad_data(error.to_string()))?;
    let selectors = query.nodes().filter_map(|(_, node)| match &node.kind {
        NodeKind::Vector(selector) => Some(selector.matchers.clone()),
        _ => None,
    });
    let asked = Asked {
        selectors: selectors.collect(),
        start,
        end,
        limit: None,
    };
    if asked.selectors.is_empty() {
        return Ok(None);
    }
    let asker = state.asker(&request.headers);
    let found = state.upstream().exemplars(&asked, &asker).await?;
    Ok(Some(Success::plain(write_exemplars(&found))))
}

fn write_exemplars(found: &[Exemplars]) -> String {
    let mut data = String::from("[");
    for (position, Exemplars { series, exemplars }) in found.iter().enumerate() {
        data.push_str(if position == 0 {
            r#"{"seriesLabels":"#
        } else {
            r#",{"seriesLabels":"#
        });
        write_labels(series, &mut data);
        data.push_str(r#","exemplars":["#);
        for (position, exemplar) in exemplars.iter().enumerate() {
            data.push_str(if position == 0 {
                r#"{"labels":"#
            } else {
                r#",{"labels":"#
            });
            write_labels(&exemplar.labels, &mut data);
            data.push_str(r#","value":""#);
            write_json::write_number(exemplar.value, &mut data);
            let (sign, millis) = (exemplar.timestamp < 0, exemplar.timestamp.unsigned_abs());
            let sign = if sign { "-" } else { "" };
            write!(data, r#"","timestamp":{sign}{}"#, millis / 1000)
                .expect("writing to a String cannot fail");
            if !millis.is_multiple_of(1000) {
                write!(data, ".{:03}", millis % 1000).expect("writing to a String cannot fail");
            }
            data.push('}');
        }
        data.push_str("]}");
    }
    data.push(']');
    data
}

fn write_labels(labels: &Labels, out: &mut String) {
    out.push('{');
    for (position, (name, value)) in labels.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        json::string(name, out);
        out.push(':');
        json::string(value, out);
    }
    out.push('}');
}
