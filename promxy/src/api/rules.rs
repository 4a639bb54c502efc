//! Rules and alerts: their parameters are checked, and there are none yet.

use super::{Answered, Success, error::ApiError, params};
use crate::message::Request;

/// Lists the groups of rules.
pub(super) fn rules(request: &Request) -> Answered {
    let form = &request.form;
    params::selectors(form).map_err(ApiError::bad_data)?;
    let kind = form.get("type").to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        let kind = promql::format::quote(kind.as_bytes());
        return Err(ApiError::invalid(
            "type",
            format!("not supported value {kind}"),
        ));
    }
    let exclude = form.get("exclude_alerts");
    if !is_bool(exclude) {
        let value = promql::format::quote(exclude.as_bytes());
        return Err(ApiError::invalid(
            "exclude_alerts",
            format!(
                "error converting exclude_alerts: strconv.ParseBool: parsing {value}: invalid syntax"
            ),
        ));
    }
    let (most, token) = (form.get("group_limit"), form.get("group_next_token"));
    if most.is_empty() && !token.is_empty() {
        return Err(ApiError::invalid(
            "group_next_token",
            "group_limit needs to be present in order to paginate over the groups",
        ));
    }
    if !most.is_empty() {
        let most = params::integer(most, "strconv.ParseInt").map_err(|reason| {
            let reason = format!("group_limit needs to be a valid number: {reason}");
            ApiError::invalid("group_limit", reason)
        })?;
        if most <= 0 {
            return Err(ApiError::invalid(
                "group_limit",
                "group_limit needs to be greater than 0",
            ));
        }
    }
    if !token.is_empty() {
        return Err(ApiError::invalid(
            "group_next_token",
            format!("invalid group_next_token '{token}'. were rule groups changed?"),
        ));
    }
    Ok(Some(Success::plain(r#"{"groups":[]}"#)))
}

/// Whether Go's `strconv.ParseBool` reads a text, or there is none.
fn is_bool(text: &str) -> bool {
    const WORDS: [&str; 13] = [
        "", "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
    ];
    WORDS.contains(&text)
}
