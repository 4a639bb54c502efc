//! Signatures of requests to AWS, version 4, as Prometheus' client makes them for query services.

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use jiff::{Timestamp, tz::TimeZone};

use super::{
    credential::value,
    error::{ClientError, Kind},
};
use crate::config::secret::Secret;

/// What requests are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The region, `us-east-1`.
    pub region: String,
    /// The service, `aps`.
    pub service: String,
    /// The name of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: Secret,
    /// The token of a session, if the key is a temporary one.
    pub session_token: Option<Secret>,
}

/// Headers that are not signed, because something on the way may change or add them.
const UNSIGNED: [&str; 6] = [
    "authorization",
    "accept-encoding",
    "expect",
    "transfer-encoding",
    "user-agent",
    "x-amzn-trace-id",
];

/// Adds the headers of a signature made at `now`.
pub(super) fn sign(
    settings: &Settings,
    request: &mut Request<Bytes>,
    now: Timestamp,
) -> Result<(), ClientError> {
    let time = now
        .to_zoned(TimeZone::UTC)
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let (date, _) = time.split_once('T').unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert("x-amz-date", value(&time, "X-Amz-Date")?);
    if let Some(token) = &settings.session_token {
        headers.insert(
            "x-amz-security-token",
            value(token.reveal(), "X-Amz-Security-Token")?,
        );
    }
    let (names, canonical) = canonical(request)?;
    let scope = format!(
        "{date}/{}/{}/aws4_request",
        settings.region, settings.service
    );
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashed}");
    let mut key = format!("AWS4{}", settings.secret_key.reveal()).into_bytes();
    for part in [date, &settings.region, &settings.service, "aws4_request"] {
        key = code(&key, part);
    }
    let signature = hex(&code(&key, &text));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        settings.access_key
    );
    let authorization = value(&authorization, "Authorization")?;
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, authorization);
    Ok(())
}

/// Returns the names of the signed headers, and the request in the form that is signed.
fn canonical(request: &Request<Bytes>) -> Result<(String, String), ClientError> {
    let uri = request.uri();
    let authority = uri
        .authority()
        .ok_or_else(|| ClientError::new(Kind::Request, "http: no Host in request URL"))?;
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let mut headers = vec![
        ("host".to_owned(), host.to_owned()),
        (
            "content-length".to_owned(),
            request.body().len().to_string(),
        ),
    ];
    if request.body().is_empty() {
        headers.truncate(1);
    }
    for name in request.headers().keys() {
        let is_known = headers.iter().any(|(known, _)| known == name.as_str());
        if UNSIGNED.contains(&name.as_str()) || is_known {
            continue;
        }
        let values = request.headers().get_all(name).iter();
        let values: Vec<&str> = values
            .filter_map(|value: &HeaderValue| value.to_str().ok())
            .map(str::trim)
            .collect();
        headers.push((name.as_str().to_owned(), values.join(",")));
    }
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let mut query: Vec<(&str, &str)> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    query.sort_unstable();
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", value.replace('+', "%20")))
        .collect();
    let mut text = format!(
        "{}\n{}\n{}\n",
        request.method(),
        encode(uri.path()),
        query.join("&")
    );
    for (name, value) in &headers {
        text = text + name + ":" + value + "\n";
    }
    let body = hex(digest::digest(&digest::SHA256, request.body()).as_ref());
    text = text + "\n" + &names + "\n" + &body;
    Ok((names, text))
}

/// Percent-encodes a path, which is encoded already, once more: all services but S3 want it so.
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    encoded
}

fn code(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
        .as_ref()
        .to_vec()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(query: &str, now: &str) -> String {
        let settings = Settings {
            region: "us-east-1".to_owned(),
            service: "aps".to_owned(),
            access_key: "AKID".to_owned(),
            secret_key: Secret::new("SECRET"),
            session_token: None,
        };
        let mut request = Request::post("http://127.0.0.1:25201/api/v1/query")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("user-agent", "not signed")
            .body(Bytes::from(query.to_owned()))
            .unwrap();
        sign(&settings, &mut request, now.parse().unwrap()).unwrap();
        assert_eq!(request.headers()["x-amz-date"], "20261120T205145Z");
        request.headers()["authorization"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    // Both were recorded from the original (`http_client.jsonl`).
    #[test]
    fn signatures_are_those_of_the_original() {
        let f = |query: &str, signature: &str| {
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKID/20261120/us-east-1/aps/aws4_request, \
                 SignedHeaders=content-length;content-type;host;x-amz-date, Signature={signature}"
            );
            assert_eq!(signed(query, "2026-11-20T20:51:45Z"), expected);
        };
        f(
            "query=up&time=1795207905.194",
            "9a8d3faa0ceb72c5399da544b330fbb4e78537f362c45a1d45d4d03580ba7582",
        );
        f(
            "query=%7B__name__%3D%22up%22%7D%5B10s%5D&time=1795207905.259",
            "d8f021c0c651cc1b1136147f26a40bcb006462de5eb020955866109cc57f1a33",
        );
    }
}
