//! One request to the server of a source.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

use crate::http::client::Client;

/// What came back.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Gets `url` within `limit`, and not more than `largest` bytes of it.
pub(super) async fn get(
    client: &Client,
    url: &str,
    headers: &[(&'static str, &str)],
    limit: Duration,
    largest: usize,
) -> Result<Reply, String> {
    let mut request = Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let failed = |reason: &dyn std::fmt::Display| format!("Get \"{url}\": {reason}");
    let request = request.body(Bytes::new()).map_err(|error| failed(&error))?;
    let asked = async {
        let response = client.send(request, Some(limit)).await;
        let (head, body) = response.map_err(|error| failed(&error))?.into_parts();
        let body = Limited::new(body, largest).collect().await;
        let body = body.map_err(|error| failed(&error))?.to_bytes();
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
        })
    };
    timeout(limit, asked)
        .await
        .unwrap_or_else(|_| Err(failed(&"context deadline exceeded")))
}

impl Reply {
    /// Prints the status as Go does.
    pub(super) fn status_text(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or_default();
        format!("{} {reason}", self.status.as_u16())
    }
}
