//! What recorded runs against Kubernetes need: its answers, recorded in its protobuf, as the same answers in JSON; and files.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::testing::pki::{Authority, Issued};

/// A recorded answer.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) status: u16,
    body_hex: Option<String>,
    body: Option<String>,
}

impl Recorded {
    /// Returns the answer in JSON. The recorded pods say nothing of readiness, as real ones do: those that run are ready.
    pub(crate) fn decoded(&self) -> Value {
        if let Some(body) = &self.body {
            return serde_json::from_str(body).unwrap_or_else(|_| json!(body));
        }
        let hex = self.body_hex.as_ref().unwrap();
        let bytes: Vec<_> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let Some(message) = bytes.strip_prefix(b"k8s\0") else {
            return serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(hex));
        };
        let unknown = Message::read(message);
        let raw = &unknown.messages(2)[0];
        match unknown.messages(1)[0].text(2).unwrap().as_str() {
            "Endpoints" => {
                json!({"kind": "Endpoints", "apiVersion": "v1", "subsets": raw.map(2, subset)})
            }
            "PodList" => json!({"kind": "PodList", "apiVersion": "v1", "items": raw.map(2, pod)}),
            "Status" => {
                json!({"kind": "Status", "apiVersion": "v1", "message": raw.text(3), "code": raw.number(6)})
            }
            other => panic!("an answer of kind {other}"),
        }
    }
}

fn subset(one: &Message) -> Value {
    let address = |one: &Message| json!({"ip": one.text(1)});
    let port = |one: &Message| json!({"name": one.text(1), "port": one.number(2), "protocol": one.text(3)});
    json!({
        "addresses": one.map(1, address),
        "notReadyAddresses": one.map(2, address),
        "ports": one.map(3, port),
    })
}

fn pod(one: &Message) -> Value {
    let port = |one: &Message| json!({"name": one.text(1), "containerPort": one.number(3).unwrap_or(0), "protocol": one.text(4)});
    let container =
        |one: &Message| json!({"name": one.text(1).unwrap_or_default(), "ports": one.map(6, port)});
    let containers = one.messages(2).first().map(|spec| spec.map(2, container));
    let status = one.messages(3).first().map(|status| {
        let phase = status.text(1);
        let ready = if phase.as_deref() == Some("Running") {
            "True"
        } else {
            "False"
        };
        json!({
            "phase": phase,
            "podIP": status.text(6),
            "conditions": [{"type": "Ready", "status": ready}],
        })
    });
    json!({"metadata": {}, "spec": {"containers": containers.unwrap_or_default()}, "status": status})
}

/// The files of a scenario; what the recording describes only in words is ours.
pub(crate) fn write_files(
    scenario: &str,
    recorded: &BTreeMap<String, String>,
    folder: &Path,
    authority: &Authority,
    client: &Issued,
) {
    let token = if scenario == "auth-tokenfile-and-token" {
        "file-token"
    } else {
        "tok-1\n"
    };
    let recorded = recorded.iter();
    let recorded = recorded.map(|(name, text)| (name.as_str(), text.as_str()));
    let ca = authority.pem();
    let ours = [
        ("tokfile", token),
        ("ca.pem", &ca),
        ("ca.crt", &ca),
        ("cli.pem", &client.certificate),
        ("cli.key", &client.key),
    ];
    for (name, text) in recorded.chain(ours) {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// Puts certificates in the place of the words for them.
pub(crate) fn with_certificates(config: &str, authority: &Authority, client: &Issued) -> String {
    let certificates = [
        ("ca.pem", &authority.pem()),
        ("cli.pem", &client.certificate),
        ("cli.key", &client.key),
    ];
    let texts = certificates.into_iter();
    texts.fold(config.to_owned(), |config, (name, pem)| {
        config.replace(&format!("<base64 of {name}>"), &STANDARD.encode(pem))
    })
}

/// The fields of a protobuf message: numbers, and what has a length.
struct Message(Vec<(u64, Result<u64, Vec<u8>>)>);

impl Message {
    fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => Ok(varint(&mut bytes)),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Err(value.to_vec())
                }
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, value));
        }
        Self(fields)
    }

    fn messages(&self, field: u64) -> Vec<Self> {
        let all = self.0.iter().filter(|(number, _)| *number == field);
        all.map(|(_, value)| Self::read(value.as_ref().unwrap_err()))
            .collect()
    }

    fn map(&self, field: u64, f: impl Fn(&Self) -> Value) -> Vec<Value> {
        self.messages(field).iter().map(f).collect()
    }

    fn text(&self, field: u64) -> Option<String> {
        let (_, value) = self.0.iter().find(|(number, _)| *number == field)?;
        Some(String::from_utf8(value.clone().unwrap_err()).unwrap())
    }

    fn number(&self, field: u64) -> Option<u64> {
        let (_, value) = self.0.iter().find(|(number, _)| *number == field)?;
        value.clone().ok()
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
