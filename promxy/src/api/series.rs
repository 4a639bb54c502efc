//! Series, label names and label values.

use super::{Answered, Success, error::ApiError, json, params, write_json};
use crate::{
    message::{Request, form::Form},
    state::State,
    upstream::{Answer, Asked},
};

/// What is said when there was more.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

/// Lists series.
pub(super) async fn series(state: &State, request: &Request) -> Answered {
    let form = &request.form;
    if form.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let asked = Asked {
        selectors: Vec::new(),
        limit: params::limit(form)?.map(|limit| limit as u64),
        start: params::time_if_given(form, "start")?,
        end: params::time_if_given(form, "end")?,
    };
    let selectors =
        params::selectors(form).map_err(|reason| ApiError::invalid("match[]", reason))?;
    let asked = Asked { selectors, ..asked };
    let asker = state.asker(&request.headers);
    let answer = state.upstream().series(&asked, &asker).await?;
    let answer = cut(answer, asked.limit);
    let data = write_json::label_sets(&answer.data);
    Ok(Some(Success::new(data, answer.annotations)))
}

/// Lists label names.
pub(super) async fn names(state: &State, request: &Request) -> Answered {
    let asked = asked(&request.form)?;
    let asker = state.asker(&request.headers);
    let answer = state.upstream().label_names(&asked, &asker).await?;
    Ok(Some(words(cut(answer, asked.limit))))
}

/// Lists the values of a label.
pub(super) async fn values(state: &State, request: &Request) -> Answered {
    let invalid = || {
        let name = promql::format::quote(&request.open);
        ApiError::bad_data(format!("invalid label name: {name}"))
    };
    let name = std::str::from_utf8(&request.open).map_err(|_| invalid())?;
    let name = unescaped(name).unwrap_or_else(|| name.to_owned());
    if name.is_empty() {
        return Err(invalid());
    }
    let asked = asked(&request.form)?;
    let asker = state.asker(&request.headers);
    let answer = state.upstream().label_values(&name, &asked, &asker).await?;
    Ok(Some(words(cut(answer, asked.limit))))
}

fn asked(form: &Form) -> Result<Asked, ApiError> {
    Ok(Asked {
        limit: params::limit(form)?.map(|limit| limit as u64),
        start: params::time_if_given(form, "start")?,
        end: params::time_if_given(form, "end")?,
        selectors: params::selectors(form).map_err(ApiError::bad_data)?,
    })
}

fn cut<T>(mut answer: Answer<Vec<T>>, limit: Option<u64>) -> Answer<Vec<T>> {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    if let Some(limit) = limit.filter(|limit| answer.data.len() > *limit) {
        answer.data.truncate(limit);
        let warning = TRUNCATED.to_owned();
        answer.annotations.add_warnings([warning]);
    }
    answer
}

fn words(answer: Answer<Vec<String>>) -> Success {
    let mut data = String::from("[");
    for word in &answer.data {
        if data.len() > 1 {
            data.push(',');
        }
        json::string(word, &mut data);
    }
    data.push(']');
    Success::new(data, answer.annotations)
}

/// Undoes the escapes that stand for characters in names that old clients cannot write: `U__a_2e_b` for `a.b`.
fn unescaped(name: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = name.strip_prefix("U__")?;
    while let Some((plain, behind)) = rest.split_once('_') {
        out.push_str(plain);
        if let Some(behind) = behind.strip_prefix('_') {
            out.push('_');
            rest = behind;
            continue;
        }
        let (code, behind) = behind.split_once('_')?;
        out.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read() {
        let f = |name: &str, expected: Option<&str>| {
            assert_eq!(unescaped(name).as_deref(), expected, "{name}");
        };
        f("U__a_2e_b", Some("a.b"));
        f("U__a__b", Some("a_b"));
        f("U___e9_", Some("é"));
        f("U__a_zz_", None);
        f("job", None);
    }
}
