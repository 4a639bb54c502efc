//! The recorded Marathon with its logins.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde_json::json;
use shared::{testing::pki::Authority, tls::server::Clients};

use super::{
    api::{Api, Asked, Journal},
    tls::server_config,
};

/// The login that the recorded clients have.
pub(crate) const LOGINS: [u16; 2] = [24091, 24093];

/// The recorded Marathon (24090), its second member (24092), the logins (24091; 24093 with TLS) and a Marathon with TLS (24094).
pub(crate) struct Cluster {
    journal: Journal,
    pub(crate) servers: BTreeMap<u16, Api>,
    /// The token was replaced; that of before is refused.
    pub(crate) rotated: Arc<AtomicBool>,
}

impl Cluster {
    /// Answers as in the scenario, with tasks on `port`.
    pub(crate) fn start(scenario: &str, port: u16, authority: &Authority) -> Self {
        let (journal, rotated) = (Journal::default(), Arc::<AtomicBool>::default());
        let apps = {
            let (name, rotated) = (scenario.to_owned(), Arc::clone(&rotated));
            move |asked: &Asked| marathon(&name, asked, rotated.load(Relaxed), port)
        };
        let login = {
            let (name, rotated) = (scenario.to_owned(), Arc::clone(&rotated));
            move |_: &Asked| match (name.as_str(), rotated.load(Relaxed)) {
                ("login-401", _) => (401, "no".to_owned()),
                ("login-no-token", _) => (200, "{}".to_owned()),
                ("login-not-json", _) => (200, "nope".to_owned()),
                (_, false) | ("token-refresh-still-401", _) => {
                    (200, json!({"token": "tok-A"}).to_string())
                }
                (_, true) => (200, json!({"token": "tok-B"}).to_string()),
            }
        };
        let tls = || Some(server_config(authority, Clients::Ignored));
        let servers = BTreeMap::from([
            (24090, Api::start_as(24090, &journal, None, apps.clone())),
            (24092, Api::start_as(24092, &journal, None, apps.clone())),
            (24094, Api::start_as(24094, &journal, tls(), apps)),
            (24091, Api::start_as(24091, &journal, None, login.clone())),
            (24093, Api::start_as(24093, &journal, tls(), login)),
        ]);
        // The first member of the list is the one that is down.
        servers[&24090].set_down(scenario == "url-list");
        Self {
            journal,
            servers,
            rotated,
        }
    }

    /// Puts our ports in the place of the recorded ones.
    pub(crate) fn real(&self, text: &str) -> String {
        let servers = self.servers.iter();
        servers.fold(text.to_owned(), |text, (recorded, api)| {
            text.replace(
                &format!("127.0.0.1:{recorded}"),
                &format!("127.0.0.1:{}", api.port),
            )
        })
    }

    /// What was asked so far; rounds that ask the same count once.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let mut asked = self.journal.lock().unwrap().clone();
        asked.dedup();
        asked
    }
}

fn marathon(scenario: &str, asked: &Asked, rotated: bool, port: u16) -> (u16, String) {
    let app = |hosts: &[&str]| {
        let tasks = hosts
            .iter()
            .map(|host| json!({"host": host, "ports": [port, port + 1], "state": "TASK_STAGING"}));
        json!({"app": {"id": "x", "tasks": tasks.collect::<Vec<_>>()}}).to_string()
    };
    let unauthorized = || {
        let text = json!({"message": "Invalid username or password."});
        (401, text.to_string())
    };
    let target = asked.line.split(' ').nth(1).unwrap_or_default();
    let (_, id) = target.split_once("/v2/apps/").unwrap_or(("", ""));
    let old = asked.header("authorization") == "token=tok-A";
    match (scenario, target.ends_with("/ping"), id) {
        ("ping-503", true, _) => (503, "no".to_owned()),
        ("ping-404", true, _) => (404, "pong\n".to_owned()),
        (_, true, _) => (200, "pong\n".to_owned()),
        ("apps-500", ..) => (500, "no".to_owned()),
        ("401-without-secret", ..) => unauthorized(),
        ("token-refresh", ..) if rotated && old => unauthorized(),
        ("token-refresh-still-401", ..) if rotated => unauthorized(),
        (_, _, "prom" | "staging") => (200, app(&["127.0.0.1", "127.0.0.2"])),
        (_, _, "infra/prom") => (200, app(&["127.0.0.3"])),
        (_, _, "empty") => (200, app(&[])),
        (_, _, "noports") => (
            200,
            json!({"app": {"tasks": [{"host": "127.0.0.1", "ports": []}]}}).to_string(),
        ),
        (_, _, id) => (
            404,
            json!({"message": format!("App '/{id}' does not exist")}).to_string(),
        ),
    }
}
