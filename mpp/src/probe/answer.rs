//! The answer of Prometheus' query API, as far as it decides something.

use serde::Deserialize;
use serde_json::Value;

/// An answer to an instant query.
#[derive(Debug, Deserialize)]
pub struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

impl Answer {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|reason| format!("bad_response: {reason}"))
    }

    /// Says whether it is a result of any kind; an empty vector is one.
    pub fn check(&self) -> Result<(), String> {
        let data = self.data()?;
        match data.kind.as_str() {
            "vector" | "matrix" | "scalar" | "string" if data.result.is_array() => Ok(()),
            kind => Err(format!("unexpected value type {kind:?}")),
        }
    }

    /// Returns the samples of a vector that has some, as Prometheus' Go client prints them: `{} => 1 @[1795199547.787]`.
    pub fn vector_text(&self) -> Result<String, String> {
        let data = self.data()?;
        let samples = match &data.result {
            Value::Array(samples) if data.kind == "vector" => samples,
            _ => return Err(format!("expected a vector, got {:?}", data.kind)),
        };
        if samples.is_empty() {
            return Err("no data at that time".to_owned());
        }
        let lines: Option<Vec<String>> = samples.iter().map(sample_text).collect();
        lines
            .map(|lines| lines.join("\n"))
            .ok_or_else(|| "a sample without value and time".to_owned())
    }

    fn data(&self) -> Result<&Data, String> {
        match &self.data {
            Some(data) if self.status == "success" => Ok(data),
            _ if self.error.is_empty() => Err(format!("status {:?}", self.status)),
            _ => Err(self.error.clone()),
        }
    }
}

fn sample_text(sample: &Value) -> Option<String> {
    let value = sample.get("value")?;
    let (time, number) = (value.get(0)?, value.get(1)?.as_str()?);
    let labels = sample.get("metric").and_then(Value::as_object);
    let name = labels
        .and_then(|labels| labels.get("__name__"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter(|(label, _)| *label != "__name__")
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    Some(format!(
        "{name}{{{}}} => {number} @[{time}]",
        pairs.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_result_is_viable_and_an_error_is_not() {
        let f = |body: &str, expected: bool| {
            let got = Answer::parse(body.as_bytes()).and_then(|answer| answer.check());
            assert_eq!(got.is_ok(), expected, "{body}: {got:?}");
        };
        f(
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            true,
        );
        f(
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#,
            true,
        );
        f(
            r#"{"status":"error","errorType":"execution","error":"x"}"#,
            false,
        );
        f(r#"{"status":"success"}"#, false);
        f("<html>", false);
    }

    #[test]
    fn a_vector_is_shown_as_the_original_shows_it() {
        let f = |body: &str, expected: Option<&str>| {
            let got = Answer::parse(body.as_bytes()).and_then(|answer| answer.vector_text());
            assert_eq!(got.ok().as_deref(), expected, "{body}");
        };
        f(
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1795199547.787,"1"]}]}}"#,
            Some("{} => 1 @[1795199547.787]"),
        );
        f(
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1,"0"]}]}}"#,
            Some("up{job=\"a\"} => 0 @[1]"),
        );
        f(
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            None,
        );
        f(
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#,
            None,
        );
    }
}
