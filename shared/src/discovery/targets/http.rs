//! A list of targets behind a URL, as Prometheus' `http_sd`.

use std::time::Duration;

use super::{Ask, Group, Publisher, Source, document, poll, request};
use crate::http::client::Client;

/// How long an answer may take if it is asked for less often.
const LONGEST: Duration = Duration::from_secs(60);

/// The list.
#[derive(Debug)]
pub struct Http {
    /// Where it is.
    pub url: String,
    /// How often it is read.
    pub refresh: Duration,
    /// What it is read with.
    pub client: Client,
}

impl Source for Http {
    const KIND: &'static str = "http";

    async fn follow(self, publisher: Publisher) {
        poll(&publisher, self.refresh, self).await;
    }
}

impl Ask for Http {
    async fn ask(&mut self) -> Result<Vec<std::sync::Arc<Group>>, String> {
        let interval = self.refresh.as_secs_f64().to_string();
        let headers = [
            ("accept", "application/json"),
            ("x-prometheus-refresh-interval-seconds", interval.as_str()),
        ];
        let limit = self.refresh.clamp(Duration::from_secs(1), LONGEST);
        let reply =
            request::get(&self.client, &self.url, &headers, limit, document::LARGEST).await?;
        if reply.status != ::http::StatusCode::OK {
            return Err(format!(
                "server returned HTTP status {}",
                reply.status_text()
            ));
        }
        let kind = reply.headers.get(::http::header::CONTENT_TYPE);
        let kind = kind.map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
        let kind = kind.unwrap_or_default();
        if !is_json(&kind) {
            return Err(format!("unsupported content type {kind:?}"));
        }
        let parsed = document::from_json(&reply.body)?;
        Ok(document::groups(parsed, "__meta_url", &self.url))
    }
}

/// Whether a content type is JSON in UTF-8, and says nothing else.
fn is_json(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let Some(rest) = kind.strip_prefix("application/json") else {
        return false;
    };
    let Some(parameter) = rest.strip_prefix(';') else {
        return rest.is_empty();
    };
    matches!(
        parameter.trim_start(),
        "charset=utf-8" | "charset=\"utf-8\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_in_utf_8_is_taken() {
        let f = |kind: &str, expected: bool| assert_eq!(is_json(kind), expected, "{kind}");
        f("application/json", true);
        f("Application/JSON; charset=UTF-8", true);
        f("application/json;charset=\"utf-8\"", true);
        f("application/json; charset=latin1", false);
        f("application/json2", false);
        f("text/html", false);
        f("", false);
    }
}
