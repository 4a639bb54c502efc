//! Asking, and comparing answers.

use std::{collections::HashMap, net::SocketAddr};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::patience::PATIENCE;

/// How far apart numbers may be that were added up in another order, relative to their size.
const ROUNDING: f64 = 1e-12;

/// Posts a form and returns the body of the answer.
pub(crate) async fn post(
    proxy: SocketAddr,
    endpoint: &str,
    parameters: &HashMap<String, String>,
) -> anyhow::Result<String> {
    let form: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    let form = form.join("&");
    let request = format!(
        "POST /api/v1/{endpoint} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut answer = String::new();
    timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(proxy).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    })
    .await??;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without an end of its head")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    ensure!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    Ok(body.to_owned())
}

fn escape(text: &str) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(escape).collect()
}

/// Whether an answer has the data that is expected: the same series in any order, the same times, and the same numbers but for
/// rounding.
pub(crate) fn is_equal(expected: &str, answer: &str) -> anyhow::Result<bool> {
    let expected: Value = serde_json::from_str(expected)?;
    let answer: Value = serde_json::from_str(answer)?;
    let answer = &answer["data"];
    if expected["resultType"] != answer["resultType"] {
        return Ok(false);
    }
    let (expected, answer) = (series(&expected), series(answer));
    let is_same = expected.len() == answer.len()
        && expected.iter().all(|(labels, points)| {
            let same = answer.get(labels);
            same.is_some_and(|found| is_near(points, found))
        });
    Ok(is_same && !expected.is_empty())
}

/// Returns the series of an answer by their labels.
fn series(data: &Value) -> HashMap<String, &Value> {
    let all = data["result"].as_array().map_or(&[][..], Vec::as_slice);
    let key = |series: &Value| series["metric"].to_string();
    let points = |series: &'_ Value| {
        if series["values"].is_null() {
            "value"
        } else {
            "values"
        }
    };
    all.iter()
        .map(|one| (key(one), &one[points(one)]))
        .collect()
}

fn is_near(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_near(a, b))
        }
        (Value::String(a), Value::String(b)) if a != b => {
            let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else {
                return false;
            };
            (a - b).abs() <= ROUNDING * a.abs().max(b.abs())
        }
        _ => a == b,
    }
}
